"""The light client of opera-reward: wire models, errors, sync and async clients, CLI. httpx and pydantic only.

    from opera_client import RewardClient

The whole error tree is in `opera_client.errors`, every wire model in `opera_client.wire`.
"""

from opera_client._async import DEFAULT_TIMEOUT, AsyncRewardClient, ClientOptions
from opera_client._client import RewardClient
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
