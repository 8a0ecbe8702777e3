"""Plans what fits the model: trajectories whose contexts are too long are left out, and their neighbours planned.

Encoding refuses a response that does not fit by itself. What a reward puts around it (another's answer, an opened
thought) is known only once it is planned. Knows no reward by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from opera_client.errors import ContextTooLong
from opera_service.rewards.for_group import for_group
from opera_service.rewards.registry import AnyReward
from opera_service.scoring.tree import TokenTree, TreeBuilder
from opera_service.trajectories.encoded import EncodedGroup


@dataclass(frozen=True)
class Planned:
    """A group on a token tree."""

    group: EncodedGroup
    """Without the trajectories that are in `errors`."""
    plan: Any = None
    tree: TokenTree | None = None
    """None when there is nothing to score: a reward that reads no log-probs, or nobody is left."""
    errors: Mapping[int, ContextTooLong] = field(default_factory=dict)
    """By position in the group that was given."""

    @property
    def length(self) -> int:
        """Tokens of the longest context with its target, on either model."""
        return 0 if self.tree is None else self.tree.longest


def plan_fitting(reward: AnyReward, group: EncodedGroup, longest: int) -> Planned:
    """Plan the group without those whose contexts and targets have more than `longest` tokens together."""

    def planned(places: list[int]) -> Planned:
        part = group.only(places)
        builder = TreeBuilder()
        plan = for_group(reward, part).plan(part, builder)
        return Planned(part, plan, builder.build() if builder.num_queries else None)

    kept, errors = list(range(len(group.trajectories))), dict[int, ContextTooLong]()
    while kept:
        found = planned(kept)
        if found.length <= longest:
            return replace(found, errors=errors)
        tokens = [one.response_tokens for one in group.trajectories]
        out = _too_long(kept, tokens, lambda places: planned(places).length <= longest)
        errors |= dict.fromkeys(out, _error(reward, found.length, longest))
        kept = [at for at in kept if at not in errors]
    return Planned(group.only([]), errors=errors)


def _too_long(kept: list[int], tokens: Sequence[int], fits: Callable[[list[int]], bool]) -> list[int]:
    """Return who is to be left out: all who do not fit alone, else the fewest of the longest responses."""
    if alone := [at for at in kept if not fits([at])]:
        return alone
    longest_first = sorted(kept, key=lambda at: -tokens[at])
    few, many = 1, len(kept) - 1
    while few < many:
        middle = (few + many) // 2
        if fits(sorted(longest_first[middle:])):
            many = middle
        else:
            few = middle + 1
    return longest_first[:few]


def _error(reward: AnyReward, length: int, longest: int) -> ContextTooLong:
    return ContextTooLong(
        f"the contexts that {reward.name} reads have up to {length} tokens, the model takes {longest}; shorten "
        "the response, or serve the model with a longer context"
    )
