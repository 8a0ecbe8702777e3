"""Why a group says nothing, in words, from the flags of its trajectories."""

from __future__ import annotations

from collections.abc import Sequence

from opera_client.wire import TrajectoryResult

_UNREADABLE = {
    "think_missing": "without a think block",
    "think_unclosed": "with a think block that is never closed",
    "empty_answer": "without an answer",
}


def message_of(results: Sequence[TrajectoryResult]) -> str | None:
    """Return what keeps the scored members from being told apart, and the remedy; None where they can be."""
    flags = [set(one.flags) for one in results if one.status == "ok"]
    if not flags:
        return None
    if all("no_spread" in own for own in flags):
        return (
            "the members cannot be told apart by more than this scorer's noise, so all get the same reward; if "
            "most groups are like this, sample at a higher temperature or take a larger scorer"
        )
    if not all("uninformative" in own for own in flags):
        return None
    counts = {why: sum(flag in own for own in flags) for flag, why in _UNREADABLE.items()}
    if not all("format_gate" in own for own in flags) or not any(counts.values()):
        if len(flags) == 1:
            only = "one member" if len(results) == 1 else f"one member that could be scored, of {len(results)}"
            return (
                f"the group has {only}, and this reward compares members with each other; sample at least two "
                "responses a prompt, and send them as one group"
            )
        return "nothing that this reward reads tells the members apart; look at the responses"
    told = ", ".join(f"{count} {why}" for why, count in counts.items() if count)
    return (
        f"no response of the group can be read ({told}, of {len(flags)}); where the policy does not think, set "
        "think.mode to optional or none"
    )
