"""OPERA rewards in verl: whole groups from its agent loop, or one sample at a time from its reward managers.

    +actor_rollout_ref.rollout.agent.agent_loop_manager_class=opera_adapters.verl.OperaAgentLoopManager

The names below are loaded when verl asks for them, so that each works where another's part of verl is missing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from opera_adapters._missing import need

need("verl", "verl")

if TYPE_CHECKING:
    from opera_adapters.verl.logs import LoggingReplayBuffer, LoggingReplayBufferAsync
    from opera_adapters.verl.members import OperaRewardManager, compute_score
    from opera_adapters.verl.rollout import OperaAgentLoopManager
    from opera_adapters.verl.weights import OperaCheckpointCallback

__all__ = [
    "LoggingReplayBuffer",
    "LoggingReplayBufferAsync",
    "OperaAgentLoopManager",
    "OperaCheckpointCallback",
    "OperaRewardManager",
    "compute_score",
]

_HOMES = {
    "LoggingReplayBuffer": "logs",
    "LoggingReplayBufferAsync": "logs",
    "OperaAgentLoopManager": "rollout",
    "OperaCheckpointCallback": "weights",
    "OperaRewardManager": "members",
    "compute_score": "members",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"opera_adapters.verl has no {name!r}, only {', '.join(__all__)}")
    return getattr(import_module(f"opera_adapters.verl.{_HOMES[name]}"), name)
