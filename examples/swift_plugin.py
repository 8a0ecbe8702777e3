"""OPERA rewards in ms-swift: a plugin that hands its batches to `OperaReward`.

    opera-reward serve --model Qwen/Qwen3-0.6B &
    swift rlhf --rlhf_type grpo --external_plugins examples/swift_plugin.py --reward_funcs opera ...

The dataset needs a column `reference`. docs/trainers/ms-swift.md has the rest.
"""

from __future__ import annotations

from typing import Any

from swift.rewards import AsyncORM, orms

from opera_adapters.reward import OperaReward


class Opera(AsyncORM):
    """ms-swift passes completions first and prompts only inside `messages`."""

    def __init__(self, args: Any = None, **kwargs: Any) -> None:
        """Take the size of a group from ms-swift's own arguments; `OPERA_REWARD_URL` says where the service is."""
        super().__init__(args, **kwargs)
        size = getattr(args, "num_generations", None)
        self.reward = OperaReward(num_generations=size, on_failure="constant")  # ms-swift reads None as 0

    async def __call__(self, completions: list[str], messages: list[list[dict[str, str]]], **columns: Any) -> Any:
        """Return a number a completion."""
        turns = columns.pop("response_token_ids", None) or []
        ids = [one[0] for one in turns] if turns and all(one and len(one) == 1 for one in turns) else None
        return await self.reward([asked[:-1] for asked in messages], completions, ids, **columns)


orms["opera"] = Opera
