"""What is fuzzed: readers of bytes that strangers send, each with what must hold whatever the bytes are.

A target takes bytes and raises only where a promise is broken. `SEEDS` are inputs to begin with.
"""

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import safetensors
from pyarrow import parquet as pq
from pydantic import BaseModel
from safetensors.numpy import save

from opera_cli.exits import BadInput
from opera_cli.source import GroupSource, RankSource
from opera_client.errors import InvalidWeights, OperaError, RequestError
from opera_client.wire import (
    ExpandRequest,
    MemberRequest,
    PolicyLoadRequest,
    RankRequest,
    RewardRequest,
    ScoreRequest,
)
from opera_service.api.bounded_json import parse
from opera_service.engines.adapter import read_adapter
from opera_service.engines.checkpoint import INDEX, read_headers
from opera_service.trajectories.encoding_config import SegmentConfig, ThinkConfig
from opera_service.trajectories.segments import paragraphs, spans
from opera_service.trajectories.think import PromptThought, find_thought

MODELS: tuple[type[BaseModel], ...] = (
    RewardRequest, MemberRequest, RankRequest, ScoreRequest, ExpandRequest, PolicyLoadRequest,
)  # fmt: skip


def _is_short(error: OperaError) -> None:
    assert len(error.message) + len(error.field or "") < 2000


def body(data: bytes) -> None:
    """A body is refused in few words, or becomes what pydantic alone makes of it."""
    for model in MODELS:
        try:
            found = parse(data, model)
        except RequestError as error:
            _is_short(error)
        else:
            assert found == model.model_validate_json(data)


def thought(data: bytes) -> None:
    """Think block, paragraphs and segments lie within the response, in order, without overlap."""
    said: tuple[PromptThought, ...] = ("unopened", "open", "closed")
    prompt, data = said[sum(data[:1]) % 3], data[1:]
    found = find_thought(data, ThinkConfig(), prompt=prompt)
    assert 0 <= found.start <= found.end <= len(data)
    assert 0 <= found.close_end <= found.answer <= len(data)
    pieces = paragraphs(data, found.start, found.end, "\n\n")
    assert all(left.end == right.start for left, right in pairwise(pieces))
    assert all(found.start <= piece.start < piece.end <= found.end for piece in pieces)
    ends = np.arange(1, len(data) + 1, dtype=np.int64)
    for rules in (SegmentConfig(), SegmentConfig(min_tokens=0, max_segments=2), SegmentConfig(max_segments=None)):
        cuts = spans(pieces, ends, rules)
        assert len(cuts) <= rules.most
        assert all(left.end <= right.start for left, right in pairwise(cuts))
        assert all(cut.start < cut.end <= found.end for cut in cuts)


def weights(data: bytes) -> None:
    """A safetensors file is refused by name, or has the tensors that the format's own library finds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.safetensors"
        path.write_bytes(data)
        try:
            found = read_headers(path)
        except InvalidWeights as error:
            _is_short(error)
            return
    with suppress(safetensors.SafetensorError):
        theirs = {name: tuple(entry["shape"]) for name, entry in safetensors.deserialize(data)}
        assert {tensor.name: tensor.shape for tensor in found[0].tensors} == theirs


def checkpoint(data: bytes) -> None:
    """A folder's index and an adapter's configuration are read, or refused in few words."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.safetensors").write_bytes(FILE)
        (folder / INDEX).write_bytes(data)
        (folder / "adapter_config.json").write_bytes(data)
        for read in (read_headers, read_adapter):
            try:
                read(folder)
            except InvalidWeights as error:
                _is_short(error)


def _lines(data: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"in{suffix}"
        path.write_bytes(data)
        for kind in (GroupSource, RankSource):
            with suppress(BadInput):
                source = kind(path)
                assert all(source[place] is not None for place in range(len(source)))
                source.close()


def jsonl(data: bytes) -> None:
    """A file of lines is refused by line, or every item of it can be read again."""
    _lines(data, ".jsonl")


def parquet(data: bytes) -> None:
    """The same of Parquet."""
    _lines(data, ".parquet")


FILE = save({"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.int64)})
GROUP = {
    "prompt": "p",
    "reference": "r",
    "trajectories": [{"response": "<think>a</think>b"}, {"response_token_ids": [1]}],
}
FLAT = {
    "group_id": "g",
    "prompt": [{"role": "user", "content": "x"}],
    "reference": "r",
    "response": "y",
    "id": "1",
}
RANK = {"prompt": "p", "prefix": "x", "candidates": ["Wait,", "But"], "by": "branch"}


def _rows(*rows: dict[str, object]) -> bytes:
    out = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows)), out)
    return out.getvalue().to_pybytes()


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


SEEDS: dict[Callable[[bytes], None], list[bytes]] = {
    body: [
        b"", b"{}", b"[", b'{"groups":[0,0]}',
        _json({"groups": [GROUP], "config": {"a": {"b": [1, None]}}, "step": 3}),
        _json({"items": [RANK]}), _json({"items": [{"context": "a", "target": "b"}], "run_id": "r"}),
        _json(GROUP | {"group_id": "g", "group_size": 2, "member_id": "m", "response": "x"}),
        b'{"groups":[{"prompt_token_ids":[-1,1e400,"\\ud800"]}]}', b'{"groups":[],"groups":[]}', b'{"step":NaN}',
    ],
    thought: [
        b"\x00<think>\na.\n\nWait, b\n \n\nc</think>\n\nanswer", b"\x01a\n\nb</think>c", b"",
        b"\x00<think><think>",
        b"\x00</think><think>\r\n\r\na\r\n\r\n\xc2\xa0\n\n\xe3\x80\x80</think>",
    ],
    weights: [FILE, FILE[:-1], FILE + b"x", b"", (2).to_bytes(8, "little") + b"{}", (2**40).to_bytes(8, "little")],
    checkpoint: [
        b"", b"{}", _json({"weight_map": {"a": "model.safetensors"}}), _json({"weight_map": {"a": ["../x"]}}),
        _json({"peft_type": "LORA", "r": 2, "lora_alpha": 16, "alpha_pattern": {"(": 1}, "target_modules": ["q"]}),
        b'{"a":' * 2000,
    ],
    jsonl: [
        b"", b"\xef\xbb\xbf" + _json(GROUP) + b"\r\n\n" + _json(FLAT), _json(RANK),
        _json(FLAT) + b"\n" + _json(FLAT),
        _json(GROUP)[:-4], b"[]\n", b'{"prompt": NaN}', b"\xff",
    ],
    parquet: [_rows(FLAT), _rows(GROUP), _rows({"prompt": b"\xff"}), _rows(RANK)[:-9], b"PAR1PAR1", b""],
}  # fmt: skip
