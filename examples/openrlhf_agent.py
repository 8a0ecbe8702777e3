"""OPERA rewards in OpenRLHF, whole groups and exact token ids.

    opera-reward serve --model Qwen/Qwen3-0.6B &
    python -m openrlhf.cli.train_ppo_ray --train.agent_func_path examples/openrlhf_agent.py \\
        --data.label_key reference --rollout.n_samples_per_prompt 8 --algo.advantage.estimator rloo ...

docs/trainers/openrlhf.md has the rest, and the way without code.
"""

from __future__ import annotations

from opera_adapters import openrlhf


class AgentExecutor(openrlhf.AgentExecutor):
    """OpenRLHF makes one per rollout engine, without arguments."""

    def __init__(self) -> None:
        """Take the address from `OPERA_REWARD_URL`; arguments of your own go here."""
        super().__init__(timeout_s=120)
