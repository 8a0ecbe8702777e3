"""OPERA rewards in TRL: a reward function for GRPO, RLOO and their relatives, and weights that follow the policy.

    trainer = GRPOTrainer(model, reward_funcs=OperaReward("http://localhost:8000"), ...)

The dataset needs the columns `prompt` and `reference`.
"""

from __future__ import annotations

from opera_adapters._missing import need
from opera_adapters.reward import Blocking, OperaReward

need("trl", "trl")
from opera_adapters._policy_sync import PolicySync  # noqa: E402

__all__ = ["Blocking", "OperaReward", "PolicySync"]
