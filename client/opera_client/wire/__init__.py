"""The wire: every request and answer of the service as pydantic models, shared by server and client.

Field names and meanings are the public contract. Unknown fields of a request are refused; NaN never travels.
Token counts are tokens, log-probabilities natural logs, times milliseconds.
"""

from opera_client.wire._base import (
    HALF_CHARACTER,
    THOUGHT_KEYS,
    Detail,
    FirstError,
    Message,
    Prompt,
    Status,
    TokenId,
    TokenIds,
    WeightVersion,
    joined_parts,
)
from opera_client.wire.common import ErrorBody, ErrorDetail, ModelInfo, Timing, Usage
from opera_client.wire.expand import (
    BranchResult,
    ExpandItem,
    ExpandItemResult,
    ExpandRequest,
    ExpandResult,
    ExpandTiming,
    ExpandUsage,
)
from opera_client.wire.hint import HintPart, HintRequest, HintResult
from opera_client.wire.member import MemberRequest, MemberResult, Name
from opera_client.wire.operations import Formula, Health, PresetInfo, RewardInfo, RewardsInfo, ServedModel, Term
from opera_client.wire.policy import Canary, PolicyInfo, PolicyLoadRequest, PolicyLoadResult
from opera_client.wire.problems import first_problem, problem_of
from opera_client.wire.rank import (
    Branching,
    Candidate,
    CandidateResult,
    RankBy,
    RankItem,
    RankItemResult,
    RankRequest,
    RankResult,
)
from opera_client.wire.reference import AnyReference, reference_of, texts_of
from opera_client.wire.reward import (
    Group,
    GroupResult,
    ReferenceResult,
    RewardRequest,
    RewardResult,
    SegmentResult,
    Trajectory,
    TrajectoryResult,
    WeightedReward,
)
from opera_client.wire.score import (
    OtherContext,
    OtherContextResult,
    ScoreItem,
    ScoreItemResult,
    ScoreRequest,
    ScoreResult,
)
from opera_client.wire.turns import StepResult, TokenMask, Turn

__all__ = [
    "HALF_CHARACTER",
    "THOUGHT_KEYS",
    "AnyReference",
    "BranchResult",
    "Branching",
    "Canary",
    "Candidate",
    "CandidateResult",
    "Detail",
    "ErrorBody",
    "ErrorDetail",
    "ExpandItem",
    "ExpandItemResult",
    "ExpandRequest",
    "ExpandResult",
    "ExpandTiming",
    "ExpandUsage",
    "FirstError",
    "Formula",
    "Group",
    "GroupResult",
    "Health",
    "HintPart",
    "HintRequest",
    "HintResult",
    "MemberRequest",
    "MemberResult",
    "Message",
    "ModelInfo",
    "Name",
    "OtherContext",
    "OtherContextResult",
    "PolicyInfo",
    "PolicyLoadRequest",
    "PolicyLoadResult",
    "PresetInfo",
    "Prompt",
    "RankBy",
    "RankItem",
    "RankItemResult",
    "RankRequest",
    "RankResult",
    "ReferenceResult",
    "RewardInfo",
    "RewardRequest",
    "RewardResult",
    "RewardsInfo",
    "ScoreItem",
    "ScoreItemResult",
    "ScoreRequest",
    "ScoreResult",
    "SegmentResult",
    "ServedModel",
    "Status",
    "StepResult",
    "Term",
    "Timing",
    "TokenId",
    "TokenIds",
    "TokenMask",
    "Trajectory",
    "TrajectoryResult",
    "Turn",
    "Usage",
    "WeightVersion",
    "WeightedReward",
    "first_problem",
    "joined_parts",
    "problem_of",
    "reference_of",
    "texts_of",
]
