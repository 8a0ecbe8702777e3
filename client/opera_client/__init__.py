"""The light client of opera-reward: wire models, errors, sync and async clients, CLI. httpx and pydantic only.

    from opera_client import RewardClient

What is named here is imported when it is used, so that an engine alone needs no httpx and no pydantic. The whole
error tree is in `opera_client.errors`, every wire model in `opera_client.wire`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opera_client._async import AsyncRewardClient
    from opera_client._client import RewardClient
    from opera_client._options import DEFAULT_TIMEOUT, ClientOptions
    from opera_client.errors import ClientError, ItemError, OperaError, RequestError, ServiceError
    from opera_client.wire import (
        Candidate,
        ExpandItem,
        ExpandResult,
        Group,
        MemberRequest,
        MemberResult,
        Message,
        RankItem,
        RankResult,
        RewardResult,
        ScoreItem,
        ScoreResult,
        Trajectory,
    )

__all__ = [
    "DEFAULT_TIMEOUT",
    "AsyncRewardClient",
    "Candidate",
    "ClientError",
    "ClientOptions",
    "ExpandItem",
    "ExpandResult",
    "Group",
    "ItemError",
    "MemberRequest",
    "MemberResult",
    "Message",
    "OperaError",
    "RankItem",
    "RankResult",
    "RequestError",
    "RewardClient",
    "RewardResult",
    "ScoreItem",
    "ScoreResult",
    "ServiceError",
    "Trajectory",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        for home in ("errors", "wire", "_options", "_async", "_client"):
            module = import_module(f"opera_client.{home}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
