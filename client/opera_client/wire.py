"""The wire: every request and answer of the service as pydantic models, shared by server and client.

Field names and meanings are the public contract. Unknown fields of a request are refused; NaN never travels.
Token counts are tokens, log-probabilities natural logs, times milliseconds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

TokenId = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
TokenIds = list[TokenId]
WeightVersion = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")]
"""A name of weights: up to 128 printable ASCII characters without spaces, as it travels in headers, too."""
Detail = Literal["reward", "segments", "tokens"]
Status = Literal["ok", "error"]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class _Answer(BaseModel):
    # Answers may grow: an older client ignores what it does not know.
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


def _needs_one(text: object, ids: object, name: str) -> None:
    if text is None and ids is None:
        raise ValueError(f"give `{name}` or `{name}_token_ids`")


class Message(BaseModel):
    """One chat message; further keys (name, tool_calls, …) reach the model's chat template untouched."""

    model_config = ConfigDict(extra="allow", frozen=True)
    role: str
    content: str


Prompt = str | list[Message]


class ErrorDetail(_Answer):
    """Why something was not scored and what to do about it."""

    code: str
    message: str
    retryable: bool = False
    field: str | None = None
    request_id: str | None = None


class ErrorBody(_Answer):
    """The body of every non-2xx answer."""

    error: ErrorDetail


class ModelInfo(_Answer):
    """The model behind a number."""

    name: str
    revision: str
    weight_version: str
    dtype: str
    engine: str


class Usage(_Answer):
    """What an answer cost, in tokens."""

    tokens_naive: int
    """Re-encoding every context from scratch."""
    tokens_computed: int
    """Tokens that really went through the model."""
    scored_tokens: int
    """Log-probabilities read."""


class Timing(_Answer):
    """Where the time of a request went, in milliseconds."""

    encode: float
    queue: float
    engine: float
    total: float


# --- /reward ---------------------------------------------------------------------------------------------


class Trajectory(_Request):
    """A response to the group's prompt: its text, its token ids, or both (then ids are scored, text is shown)."""

    id: str | None = Field(None, description="Unique in its group; the position by default.")
    response: str | None = None
    response_token_ids: TokenIds | None = None

    @model_validator(mode="after")
    def _some_response(self) -> Trajectory:
        _needs_one(self.response, self.response_token_ids, "response")
        return self


class Group(_Request):
    """All trajectories of one prompt in one rollout step, with the known good answer."""

    group_id: str | None = Field(None, description="The position in the request by default.")
    task: Literal["open", "math"] = "open"
    prompt: Prompt | None = None
    prompt_token_ids: TokenIds | None = None
    reference: str | None = None
    reference_token_ids: TokenIds | None = None
    trajectories: list[Trajectory] = Field(min_length=1)

    @model_validator(mode="after")
    def _complete(self) -> Group:
        _needs_one(self.prompt, self.prompt_token_ids, "prompt")
        _needs_one(self.reference, self.reference_token_ids, "reference")
        ids = [trajectory.id for trajectory in self.trajectories if trajectory.id is not None]
        if len(ids) != len(set(ids)):
            twice = next(name for name in ids if ids.count(name) > 1)
            raise ValueError(f"trajectory id {twice!r} appears twice in the group; make ids unique or omit them")
        return self


class RewardRequest(_Request):
    """Score whole groups."""

    reward: str = "opera"
    preset: str = "hardened"
    config: dict[str, Any] = Field(default_factory=dict, description="Overrides single fields of the preset.")
    detail: Detail = "segments"
    timeout_s: float | None = Field(None, gt=0, description="Drop the work unscored after this many seconds.")
    weight_version: str | None = Field(None, description="Refuse (409) when other weights are loaded.")
    run_id: str | None = None
    step: int | None = Field(None, ge=0)
    groups: list[Group] = Field(min_length=1)


class SegmentResult(_Answer):
    """One paragraph of the think block."""

    index: int
    start: int
    """First token of the segment in the response."""
    end: int
    """The boundary: one past the segment's last token, separator included."""
    text: str
    reflective: bool
    mean_logprob: float
    """Mean log-prob of the reference after this segment."""
    gain: float
    """`mean_logprob` after this segment minus before it."""
    credited: bool
    token_logprobs: list[float] | None = None
    """Per reference token, with `detail: tokens`."""


class TrajectoryResult(_Answer):
    """The reward of one trajectory and everything it was computed from, or the error that prevented it."""

    id: str
    status: Status
    reward: float | None = None
    components: dict[str, float] | None = None
    mean_logprob: float | None = None
    sum_logprob: float | None = None
    perplexity: float | None = None
    segments: list[SegmentResult] | None = None
    token_logprobs: list[float] | None = None
    """Per reference token under the final context, with `detail: tokens`."""
    flags: list[str] = Field(default_factory=list)
    error: ErrorDetail | None = None


class GroupResult(_Answer):
    """One group's answer, trajectories in the order of the request."""

    group_id: str
    size: int
    scored: int
    """Trajectories that were scored and ranked among each other; less than `size` when some have errors."""
    initial_mean_logprob: float | None
    """Mean log-prob of the reference before any thought; null when nothing in the group was scored."""
    reference_tokens: int
    trajectories: list[TrajectoryResult]
    diagnostics: dict[str, float] = Field(default_factory=dict)
    """Group-level numbers behind the rewards: for OPERA the calibrated margin, temperature and spread."""


class RewardResult(_Answer):
    """The answer of POST /reward."""

    model: ModelInfo
    reward: str
    preset: str
    config_hash: str
    groups: list[GroupResult]
    usage: Usage
    timing_ms: Timing
    ema_baseline: float | None = None
    """Running mean of the run's log-probs (the authors' `ppl_ema_baseline`); `paper` preset only, a metric."""

    @property
    def rewards(self) -> list[list[float | None]]:
        """Return the rewards, one list a group; None where a trajectory has an error."""
        return [[trajectory.reward for trajectory in group.trajectories] for group in self.groups]


# --- /reward/member --------------------------------------------------------------------------------------

Name = Annotated[str, Field(min_length=1, max_length=512)]


class MemberRequest(Trajectory):
    """One trajectory of a group, sent alone; answered when the group's other members have come, too.

    All members of a group say the same about everything but their trajectory, `member_id`, `wait_s` and
    `timeout_s`.
    """

    id: str | None = Field(None, description="What the answer calls the trajectory; `member_id` by default.")
    reward: str = "opera"
    preset: str = "hardened"
    config: dict[str, Any] = Field(default_factory=dict, description="Overrides single fields of the preset.")
    detail: Detail = "segments"
    timeout_s: float | None = Field(None, gt=0, description="Give up waiting and scoring after this many seconds.")
    weight_version: str | None = Field(None, description="Refuse (409) when other weights are loaded.")
    run_id: str | None = None
    step: int | None = Field(None, ge=0)
    group_id: Name = Field(description="Members with equal run_id, step, group_id, reward and config meet.")
    group_size: int = Field(ge=1, description="Members that make the group complete.")
    member_id: Name = Field(description="The same member again gets the same answer and never counts twice.")
    wait_s: float = Field(60.0, ge=0, le=3600, description="How long to wait for the other members.")
    on_timeout: Literal["partial", "error"] = Field(
        "partial", description="Then reward the members present, or answer 408 `group_incomplete`."
    )
    task: Literal["open", "math"] = "open"
    prompt: Prompt | None = None
    prompt_token_ids: TokenIds | None = None
    reference: str | None = None
    reference_token_ids: TokenIds | None = None

    @model_validator(mode="after")
    def _complete(self) -> MemberRequest:
        _needs_one(self.prompt, self.prompt_token_ids, "prompt")
        _needs_one(self.reference, self.reference_token_ids, "reference")
        return self


class MemberResult(TrajectoryResult):
    """The answer of POST /reward/member: the trajectory's, ranked among `group_size_seen` members.

    `flags` hold `group_partial` when members were missing, `late_member` when others had their answers before.
    """

    group_id: str
    group_size_seen: int
    model: ModelInfo
    config_hash: str


# --- /rank -----------------------------------------------------------------------------------------------

RankBy = Literal["branch", "branch_sum", "sequence", "reference"]


class Candidate(_Request):
    """A candidate continuation given as token ids."""

    token_ids: TokenIds


class Branching(_Request):
    """A prompt and a prefix, after which branches are compared."""

    id: str | None = None
    prompt: Prompt | None = None
    prompt_token_ids: TokenIds | None = None
    prefix: str | None = None
    prefix_token_ids: TokenIds | None = None
    by: RankBy = "branch"
    reference: str | None = None
    reference_token_ids: TokenIds | None = None

    @model_validator(mode="after")
    def _complete(self) -> Branching:
        _needs_one(self.prompt, self.prompt_token_ids, "prompt")
        if self.by == "reference":
            _needs_one(self.reference, self.reference_token_ids, "reference")
        return self


class RankItem(Branching):
    """Candidate branches after one shared prefix."""

    candidates: list[str | Candidate] = Field(min_length=1)


class RankRequest(_Request):
    """Order the candidates of each item, best first."""

    timeout_s: float | None = Field(None, gt=0)
    weight_version: str | None = None
    run_id: str | None = None
    items: list[RankItem] = Field(min_length=1)


class CandidateResult(_Answer):
    """One candidate's log-probability and place."""

    status: Status
    score: float | None = None
    """What the candidates are ordered by."""
    mean_logprob: float | None = None
    sum_logprob: float | None = None
    perplexity: float | None = None
    tokens: int | None = None
    """Tokens the mean is taken over: the branch, prefix + branch, or the reference, as `by` says."""
    rank: int | None = None
    """0 is best."""
    error: ErrorDetail | None = None


class RankItemResult(_Answer):
    """One item's order."""

    id: str
    status: Status
    ranking: list[int]
    """Indices of the scored candidates, best first; ties by index."""
    candidates: list[CandidateResult]
    error: ErrorDetail | None = None


class RankResult(_Answer):
    """The answer of POST /rank."""

    model: ModelInfo
    items: list[RankItemResult]
    usage: Usage
    timing_ms: Timing


# --- /expand ---------------------------------------------------------------------------------------------


class ExpandItem(Branching):
    """Sample branches after one shared prefix."""

    n: int = Field(4, ge=1, le=256, description="Branches to sample.")
    guiding_words: list[str] = Field(
        default_factory=list,
        max_length=256,
        description="Branch i begins with word i % their number, tokenised alone; an empty one leaves it free.",
    )
    stop: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(
        default_factory=list,
        max_length=64,
        description="A branch ends before the first of these texts that it writes, as whole words.",
    )
    max_tokens: int = Field(256, ge=1, le=2**20, description="Sampled tokens, guiding word not counted.")
    temperature: float = Field(1.0, ge=0, le=100, description="0 takes the most likely token.")
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, lt=2**31, description="0 keeps the whole vocabulary.")
    seed: int | None = Field(None, ge=0, lt=2**32, description="The same seed samples the same branches again.")


class ExpandRequest(_Request):
    """Sample branches and order those of each item, best first."""

    timeout_s: float | None = Field(None, gt=0)
    weight_version: str | None = None
    run_id: str | None = None
    items: list[ExpandItem] = Field(min_length=1)


class BranchResult(CandidateResult):
    """One sampled branch; guiding word included, stop text and end token not.

    A branch that ended at once is `ok` with 0 tokens and no score, and stands behind all others.
    """

    text: str
    token_ids: list[int]
    guiding_word: str | None = None
    finish_reason: Literal["stop", "length"]
    stopped_by: str | None = None
    """The stop text, or the text of the model's end token; null when `max_tokens` was reached."""


class ExpandItemResult(_Answer):
    """One item's branches and their order."""

    id: str
    status: Status
    ranking: list[int]
    """Indices of the branches without errors, best first; ties by index, empty ones last."""
    candidates: list[BranchResult]
    """In the order of their guiding words and seeds; empty when nothing could be sampled."""
    error: ErrorDetail | None = None


class ExpandUsage(Usage):
    """What an answer of /expand cost: ranking as everywhere, and sampling."""

    generated_tokens: int
    """Tokens sampled, those behind a stop text included."""


class ExpandTiming(Timing):
    """Where the time of /expand went, in milliseconds."""

    generate: float


class ExpandResult(_Answer):
    """The answer of POST /expand."""

    model: ModelInfo
    items: list[ExpandItemResult]
    usage: ExpandUsage
    timing_ms: ExpandTiming


# --- /score ----------------------------------------------------------------------------------------------


class ScoreItem(_Request):
    """One target after one context."""

    id: str | None = None
    context: str | None = None
    context_token_ids: TokenIds | None = None
    target: str | None = None
    target_token_ids: TokenIds | None = None
    entropy: bool = False

    @model_validator(mode="after")
    def _complete(self) -> ScoreItem:
        _needs_one(self.context, self.context_token_ids, "context")
        _needs_one(self.target, self.target_token_ids, "target")
        return self


class ScoreRequest(_Request):
    """Plain log-probabilities of targets."""

    detail: Detail = "reward"
    timeout_s: float | None = Field(None, gt=0)
    weight_version: str | None = None
    run_id: str | None = None
    items: list[ScoreItem] = Field(min_length=1)


class ScoreItemResult(_Answer):
    """One target's log-probability."""

    id: str
    status: Status
    sum_logprob: float | None = None
    mean_logprob: float | None = None
    perplexity: float | None = None
    tokens: int | None = None
    mean_entropy: float | None = None
    token_ids: list[int] | None = None
    token_logprobs: list[float] | None = None
    token_entropies: list[float] | None = None
    error: ErrorDetail | None = None


class ScoreResult(_Answer):
    """The answer of POST /score."""

    model: ModelInfo
    items: list[ScoreItemResult]
    usage: Usage
    timing_ms: Timing


# --- operations ------------------------------------------------------------------------------------------


class PresetInfo(_Answer):
    """One named configuration of a reward."""

    config: dict[str, Any]
    config_hash: str
    components: list[str]


class RewardInfo(_Answer):
    """One entry of the registry."""

    name: str
    summary: str
    needs: list[str]
    """Any of `reference`, `group`, `outcome`."""
    source: str
    presets: dict[str, PresetInfo]
    config_schema: dict[str, Any]


class RewardsInfo(_Answer):
    """The answer of GET /rewards."""

    rewards: list[RewardInfo]


class ServedModel(ModelInfo):
    """The answer of GET /model."""

    route: str
    vocab_size: int
    max_context: int
    max_batch_tokens: int


class Canary(_Answer):
    """A fixed text and its log-probability: one number that tells weights apart."""

    text: str
    token_ids: list[int]
    mean_logprob: float
    """Mean log-probability of `token_ids[1:]`, each after all before it: minus a causal LM's mean loss on them."""


class PolicyInfo(_Answer):
    """The answer of GET /policy: which weights serve."""

    name: str
    revision: str
    weight_version: str
    loaded_at: datetime
    canary: Canary


class PolicyLoadRequest(_Request):
    """The body of POST /policy/load."""

    path: str = Field(min_length=1)
    """Absolute path of a safetensors file or of a checkpoint's folder, as the service sees it."""
    weight_version: WeightVersion
    canary_logprob: float | None = None
    """What the sender's model gives for the canary; weights that give another number are refused."""


class PolicyLoadResult(PolicyInfo):
    """The answer of PUT /policy/weights and POST /policy/load: the weights that serve now."""

    previous_version: str
    canary_before: float
    """Mean log-probability of the canary on the weights that served before."""
    changed: bool
    """False when these very weights served already under this version."""
    load_s: float
    """Seconds from the last byte received to the swap."""


class Health(_Answer):
    """The answer of the health endpoints."""

    status: Literal["ok", "starting", "draining", "failed"]
    detail: str = ""
    queued_trees: int = 0
    queued_tokens: int = 0
