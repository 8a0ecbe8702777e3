"""GET /policy, PUT /policy/weights, POST /policy/load: which weights serve, and others in their place."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from opera_client.wire._base import Answer, Request, WeightVersion


class Canary(Answer):
    """A fixed text and its log-probability: one number that tells weights apart."""

    text: str
    token_ids: list[int]
    mean_logprob: float
    """Mean log-probability of `token_ids[1:]`, each after all before it: minus a causal LM's mean loss on them."""


class PolicyInfo(Answer):
    """The answer of GET /policy: which weights serve."""

    name: str
    revision: str
    weight_version: str
    loaded_at: datetime
    canary: Canary


class PolicyLoadRequest(Request):
    """The body of POST /policy/load."""

    path: str = Field(min_length=1)
    """Absolute path of a safetensors file, a checkpoint's folder or a LoRA adapter's, as the service sees it."""
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
