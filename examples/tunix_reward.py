"""OPERA rewards in Tunix: the function for `GRPOLearner(reward_fns=opera_reward(num_generations))`.

    opera-reward serve --model google/gemma-3-1b-it &

The dataset needs a key `reference` beside `prompts`. docs/trainers/tunix.md has the rest.
"""

from __future__ import annotations

from opera_adapters.reward import Blocking, OperaReward


def opera_reward(num_generations: int, url: str | None = None) -> Blocking:
    """Return a reward function for groups of `GRPOConfig.num_generations`."""
    # Tunix awaits nothing, reads None as 0, and hands over prompts that have their template already.
    return Blocking(OperaReward(url, num_generations=num_generations, send="text", on_failure="constant"))
