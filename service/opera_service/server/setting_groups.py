"""The fields of the settings, group by group, as `serve --help` shows them.

A class is a group: the first line of its docstring is the title, the rest says how to size what is in it. They
know names, ranges and units; not what they configure.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from opera_client.wire import WeightVersion
from opera_service.api.key_ring import UNSENDABLE, can_travel
from opera_service.engines.vllm.settings import VllmSettings
from opera_service.observability.logs import LogFormat


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _sendable(keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    if not all(can_travel(key.get_secret_value()) for key in keys):
        raise ValueError(UNSENDABLE)
    return keys


Keys = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split), AfterValidator(_sendable)]
Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Folders = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split)]


class Address(BaseModel):
    """Address"""

    host: str = Field("127.0.0.1", description="The address to listen on; 0.0.0.0 means all interfaces.")
    port: int = Field(8000, ge=0, le=65535, description="The port to listen on; 0 picks a free one.")
    ssl_certfile: Path | None = Field(
        None, description="The certificate chain in PEM; with it the service speaks https."
    )
    ssl_keyfile: Path | None = Field(
        None, description="The certificate's private key in PEM, unless the certificate's file holds it."
    )
    cors_origin: Texts = Field((), description="The origins whose web pages may call, separated by commas.")


class Access(BaseModel):
    """Who may call

    Without any key the service listens on this machine only, unless --allow-open says otherwise.
    """

    api_keys: Keys = Field((), description="The accepted keys, separated by commas. Without any, nobody is asked.")
    api_key_file: Path | None = Field(
        None, description="A file with one accepted key a line. It is read again when it changes."
    )
    admin_keys: Keys = Field(
        (), description="The keys that may also replace the scorer's weights, separated by commas."
    )
    admin_key_file: Path | None = Field(
        None, description="A file with one admin key a line. It is read again when it changes."
    )
    allow_open: bool = Field(
        False, description="Let everybody in without a key, also on addresses that other machines reach."
    )
    open_metrics: bool = Field(
        False, description="Let GET /metrics in without a key, for collectors that send none."
    )


class Model(BaseModel):
    """Model and engine

    The engine decides the speed; the defaults fit a laptop's CPU. On a GPU choose `--engine vllm`.
    """

    engine: Literal["dummy", "torch", "vllm", "vllm-http"] = Field(
        "torch", description="The engine that computes log-probabilities. `dummy` needs no model and is for tests."
    )
    model: str | None = Field(
        None,
        description="The causal language model that scores: a folder, a GGUF file, a Hugging Face id, `smollm2`"
        " (see `fetch-model`), or `demo`, the embedded model, which is the default.",
    )
    weight_version: WeightVersion = Field(
        "0", description="The name of the weights that are loaded first. Every answer carries it."
    )
    second_model: str | None = Field(
        None,
        description="A second, frozen model that some rewards compare with (`implicit_prm`): a folder, a GGUF"
        " file, a Hugging Face id, `smollm2` or `demo`. Torch computes it, in `dtype`; it needs memory for its"
        " weights, and must have the served model's tokens.",
    )
    second_device: str = Field(
        "auto", description="The second model's device: `auto` (the first GPU if there is one), `cpu`, `cuda:1`, …"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = Field(
        "auto",
        description="The number format of the weights. `auto`: float32 on a CPU, the checkpoint's on a GPU.",
    )
    device: str = Field("auto", description="The torch engine's device: `auto`, `cpu`, `cuda`, `cuda:1`, …")
    route: Literal["auto", "tree_sdpa", "flex", "kv_fork", "kept_trunks", "naive"] = Field(
        "auto",
        description="How the torch engine computes token trees. `auto` takes what fits the model and device.",
    )
    route_measure_s: float | None = Field(
        None,
        ge=0,
        description="Seconds that `auto` may take at the start to find the fastest route for each size. 0 measures"
        " nothing and takes the first that is right; the default is 0.7 on a CPU and 0 on a GPU.",
    )
    max_batch_tokens: int | None = Field(
        None,
        ge=1,
        description="The distinct tokens of one engine call. More need more device memory and fill it better; the"
        " engine has a default of its own.",
    )
    encode_threads: int = Field(
        3,
        ge=1,
        le=1024,
        description="Threads that tokenise requests and read scores. Two feed one engine; one run may hold all"
        " but one.",
    )
    engine_stall_s: float = Field(
        300.0,
        gt=0,
        description="An engine that has work and shows no sign of life for so many seconds is replaced. Take more"
        " than the longest batch lasts.",
    )
    trust_remote_code: bool = Field(False, description="Run the Python code that comes with the model.")
    dummy_token_seconds: float = Field(
        0.0, ge=0, description="The dummy engine sleeps so many seconds per token, for load tests."
    )


class Vllm(BaseModel):
    """vLLM

    `--vllm.NAME VALUE` sets any argument of vLLM's engine. OPERA_VLLM__NAME and the key `vllm:` do the same.
    """

    vllm: VllmSettings = Field(VllmSettings(), description="The arguments of vLLM's engine.")
    vllm_url: str | None = Field(
        None, description="The address of the running vLLM server that --engine vllm-http asks."
    )
    vllm_api_key: SecretStr | None = Field(None, description="The key that the vLLM server wants.")
    vllm_api_key_file: Path | None = Field(None, description="A file that holds the vLLM server's key.")


class NewWeights(BaseModel):
    """New weights for the scorer

    A trainer pushes weights with an admin key. Plan disk for two files, and memory as --weights-mode says.
    """

    weights_mode: Literal["shadow", "in_place"] = Field(
        "shadow",
        description="How new weights replace those that serve. `shadow` needs their memory twice while they load;"
        " `in_place` needs it once, and scores nothing meanwhile.",
    )
    policy_root: Folders = Field(
        (),
        description="The folders that POST /policy/load may read, separated by commas. By default none.",
    )
    spool_dir: Path | None = Field(
        None, description="The folder where pushed weights are kept. The default is a temporary folder."
    )
    max_weights_gb: float = Field(
        64.0, gt=0, description="The largest file in GiB that PUT /policy/weights takes; 413 refuses a larger one."
    )
    canary_tolerance: float = Field(
        0.05,
        gt=0,
        description="The nats by which the canary's log-probability may differ from the sender's own.",
    )


class Requests(BaseModel):
    """The size of one request

    Whatever is larger is refused with 413, before any work is done for it. The client cuts by itself.
    """

    max_body_mb: float = Field(32.0, gt=0, description="The largest body of a request, in MiB.")
    max_groups: int = Field(256, ge=1, description="The groups of one request.")
    max_trajectories: int = Field(
        4096, ge=1, description="The trajectories of one request, or of one group that gathers member by member."
    )
    max_items: int = Field(1024, ge=1, description="The items of one request, or the prompts of a completion.")
    max_branches: int = Field(1024, ge=1, description="The candidates, or the branches to sample, of one item.")
    max_request_tokens: int = Field(
        8 * 2**20, ge=1, description="The distinct tokens that one request may have computed."
    )


class Queue(BaseModel):
    """The queue, connections and the end

    A full queue refuses with the time after which it has room. Take as many requests as drain within the time that
    callers are ready to wait.
    """

    max_queue_requests: int = Field(1024, ge=1, description="The requests that may wait for the engine at a time.")
    max_queue_tokens: int = Field(32 * 2**20, ge=1, description="The distinct tokens that may wait at a time.")
    overload_status: Annotated[Literal["429", "503"], BeforeValidator(str)] = Field(
        "429",
        description="The status of refusals for overload. Take 503 for verl, whose client gives up at a 429.",
    )
    max_connections: int = Field(
        16_384,
        ge=1,
        description="The connections that may be open at a time. Past it, those that are idle or whose body has"
        " stopped are closed, then new ones get 503.",
    )
    head_timeout_s: float = Field(
        10.0,
        gt=0,
        description="The seconds that a connection has to send a request's first line and headers, and that a body"
        " may stop when connections are short.",
    )
    drain_timeout: float = Field(
        30.0, ge=0, description="The seconds that running requests have to finish after SIGTERM."
    )


class Members(BaseModel):
    """Groups that gather member by member

    /reward/member holds members until their group is complete. Take room for all groups that a trainer has in
    flight, twice.
    """

    max_waiting_groups: int = Field(4096, ge=1, description="The groups that may wait for members at a time.")
    max_waiting_members: int = Field(
        65_536, ge=1, description="The places in waiting groups; a group takes all of its places when it opens."
    )
    max_waiting_tokens: int = Field(
        64 * 2**20,
        ge=1,
        description="The tokens that waiting groups may hold. Four characters count as one token.",
    )
    keep_members_s: float = Field(
        600.0, gt=0, description="The seconds that a member keeps its place while nobody waits for it."
    )
    max_kept_answers: int = Field(
        65_536, ge=0, description="The answers that are remembered for members that come again."
    )
    keep_answers_s: float = Field(600.0, ge=0, description="The seconds that such an answer is remembered.")


class Caches(BaseModel):
    """Memory for what was computed before

    A cache is only ever asked on the weights that filled it; 0 turns it off.
    """

    cache_mb: float = Field(
        256.0, ge=0, description="The MiB for scores of token trees; one of 1,000 scored tokens takes about 9 KiB."
    )
    replay_mb: float = Field(
        64.0, ge=0, description="The MiB for answers to requests that carry an Idempotency-Key."
    )
    keep_replays_s: float = Field(
        600.0,
        ge=0,
        description="The seconds that such an answer is kept. Take more than a client's last retry needs.",
    )


class Watching(BaseModel):
    """Logs, audit, live page and traces

    An audit log with texts grows by about what the requests hold.
    """

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "warning", description="How much is logged to stderr; `info` has one line a request."
    )
    log_format: LogFormat = Field(
        "text", description="How lines are written; `json` is one object a line, with the request's id."
    )
    log_prompts: bool = Field(False, description="Let log lines about failures quote what was sent.")
    audit: Path | None = Field(None, description="The SQLite file that every rewarded trajectory is written to.")
    audit_texts: bool = Field(
        False, description="Keep what was sent (texts, token ids) in the audit log, as `audit replay` needs it."
    )
    audit_queue_mb: float = Field(
        64.0,
        gt=0,
        description="The MiB that may wait to be written to the audit log. Past it, entries are lost and counted.",
    )
    ui: bool = Field(False, description="Serve the live page at /ui; it shows texts only with --audit-texts.")
    ui_memory_mb: float = Field(
        256.0,
        gt=0,
        description="The MiB that the live page may keep. With --audit it reads the audit log instead.",
    )
    otlp_endpoint: str | None = Field(
        None, description="Send OpenTelemetry traces to this OTLP/HTTP address, such as http://localhost:4318."
    )


GROUPS: tuple[type[BaseModel], ...] = (
    Address, Access, Model, Vllm, NewWeights, Requests, Queue, Members, Caches, Watching,
)  # fmt: skip
"""In the order of `serve --help`."""
