"""What a run did, in one word and one sentence, from the changes of the reward and of its judges. Pure.

A judge rises or falls when the 95 % interval of its change excludes 0, at equal length where that is known. With
several judges one may do so by chance: a run has learnt when at least half of them rise and none falls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from opera_trainer.artefacts import Estimate

Verdict = Literal["learned", "reward only", "nothing", "worse", "mixed", "not judged"]
Way = Literal["up", "down", "flat"]

WORDS: Mapping[Verdict, str] = {
    "learned": "Learned: judges that the reward never sees prefer the trained model's answers.",
    "reward only": "Reward only: what is rewarded rose, and the judges do not see better answers. That is what"
    " reward hacking looks like, or the test is too small to tell.",
    "nothing": "Nothing: neither what is rewarded nor the judges changed by more than chance.",
    "worse": "Worse: judges that the reward never sees prefer the answers from before.",
    "mixed": "Mixed: the judges do not say the same. One that moves alone may do so by chance.",
    "not judged": "Not judged: there is no second reference and no judge, so nobody can say.",
}


def way(change: Estimate | None) -> Way | None:
    """Return where a change goes; None for no change that is known."""
    if change is None:
        return None
    return "up" if change.low > 0 else "down" if change.high < 0 else "flat"


def verdict(reward: Estimate | None, judges: Mapping[str, Estimate | None]) -> Verdict:
    """Return the verdict.

    Args:
        reward: change of what the reward values.
        judges: change by judge, at equal length where that is known.
    """
    ways = [found for one in judges.values() if (found := way(one)) is not None]
    up, down = ways.count("up"), ways.count("down")
    if not ways:
        return "not judged"
    if up and down:
        return "mixed"
    if up and 2 * up >= len(ways):
        return "learned"
    if way(reward) == "up":
        return "reward only"
    if down:
        return "worse"
    return "nothing" if not up else "mixed"
