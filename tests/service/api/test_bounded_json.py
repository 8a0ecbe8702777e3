"""No body is expensive: what it holds is counted before it is built, and the first wrong thing ends the work."""

import json
import threading
import time
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.budget import examples

from opera_client.errors import BodyTooLarge, InvalidRequest, MalformedBody, RequestError, TooManyTokens
from opera_client.wire import MemberRequest, RankRequest, RewardRequest
from opera_service.api import bounded_json
from opera_service.api.bounded_json import parse
from opera_service.pipelines.completions import CompletionRequest

MEGABYTE = 2**20


def filled(form: bytes, piece: bytes, size: int = 2 * MEGABYTE) -> bytes:
    """`form` with its `@` replaced by about `size` bytes of `piece`s."""
    return form.replace(b"@", b",".join([piece] * (size // (len(piece) + 1))))


ONE_PROMPT = b'{"groups":[{"prompt_token_ids":[@],"reference":"r","trajectories":[{"response":"x"}]}]}'
CONFIG = b'{"groups":[],"config":{"a":[@]}}'
HOSTILE = {
    "numbers as groups": (filled(b'{"groups":[@]}', b"0"), RewardRequest, InvalidRequest, "groups.0"),
    "empty objects as groups": (filled(b'{"groups":[@]}', b"{}"), RewardRequest, BodyTooLarge, None),
    "empty arrays as groups": (filled(b'{"groups":[@]}', b"[]"), RewardRequest, BodyTooLarge, None),
    "numbers as trajectories": (
        filled(b'{"groups":[{"prompt":"p","reference":"r","trajectories":[@]}]}', b"0"),
        RewardRequest, InvalidRequest, "groups.0.trajectories.0",
    ),
    "too many ids": (
        filled(ONE_PROMPT, b"7", 3 * MEGABYTE),
        RewardRequest, TooManyTokens, "groups.0.prompt_token_ids",
    ),
    "negative ids": (
        filled(ONE_PROMPT, b"-1"),
        RewardRequest, InvalidRequest, "groups.0.prompt_token_ids.0",
    ),
    "unknown keys": (
        b'{"groups":[],' + b",".join(b'"k%d":1' % at for at in range(150_000)) + b"}",
        RewardRequest, InvalidRequest, "k0",
    ),
    "a large configuration": (filled(CONFIG, b"[]"), RewardRequest, BodyTooLarge, None),
    "a long configuration": (filled(CONFIG, b"1"), RewardRequest, InvalidRequest, "config"),
    "a deep configuration": (
        b'{"groups":[],"config":' + b"[" * 90_000 + b"]" * 90_000 + b"}", RewardRequest, RequestError, None,
    ),
    "numbers as messages": (
        filled(b'{"groups":[{"prompt":[@],"reference":"r","trajectories":[{"response":"x"}]}]}', b"0"),
        RewardRequest, RequestError, None,
    ),
    "numbers as candidates": (
        filled(b'{"items":[{"prompt":"p","candidates":[@]}]}', b"0"), RankRequest, RequestError, None,
    ),
    "objects as prompts": (filled(b'{"prompt":[@]}', b"{}"), CompletionRequest, BodyTooLarge, None),
    "texts and numbers as prompts": (filled(b'{"prompt":["a",@]}', b"0"), CompletionRequest, RequestError, None),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_is_refused_by_its_first_wrong_thing(name: str):
    body, model, error, field = HOSTILE[name]
    tracemalloc.start()
    try:
        with pytest.raises(error) as caught:
            parse(body, model)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 1_000, "the input is not echoed"
    assert field is None or caught.value.field == field
    assert peak < 40 * len(body) + MEGABYTE, "memory in proportion to the body"


def test_braces_inside_texts_are_texts():
    latex = r"\frac{1}{2}" * 150_000
    body = {"groups": [{"prompt": latex, "reference": "r", "trajectories": [{"response": "x"}]}]}
    assert parse(json.dumps(body).encode(), RewardRequest).groups[0].prompt == latex


def test_other_threads_run_while_a_large_body_is_read():
    trajectories = [{"id": str(at), "response_token_ids": [at % 1000] * 3000} for at in range(2000)]
    body = json.dumps(
        {"groups": [{"prompt": "p", "reference": "r", "trajectories": trajectories}]}, separators=(",", ":")
    ).encode()
    assert len(body) > 20 * MEGABYTE
    steps, stop = [], threading.Event()

    def tick() -> None:
        while not stop.is_set():
            steps.append(time.perf_counter())
            time.sleep(0.001)

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        assert len(parse(body, RewardRequest).groups[0].trajectories) == 2000
    finally:
        stop.set()
        ticker.join()
    pauses = sorted(later - earlier for earlier, later in pairwise(steps))
    # In one call, hardly a step would come while it is parsed.
    assert len(steps) > 20, pauses[-5:]


texts = st.text(st.characters(codec="utf-8"), max_size=20)
trajectory = st.one_of(
    st.fixed_dictionaries({"response": texts}, optional={"id": texts}),
    st.fixed_dictionaries({"response_token_ids": st.lists(st.integers(-1, 2**31), max_size=5)}),
)
message = st.fixed_dictionaries({"role": texts, "content": texts})
group = st.fixed_dictionaries(
    {
        "prompt": texts
        | st.lists(st.fixed_dictionaries({"role": texts, "content": texts}), max_size=3)
        | st.integers(),
        "reference": texts | st.none(),
        "trajectories": st.lists(trajectory, max_size=3),
    },
    optional={"task": st.sampled_from(["open", "math", "poem"]), "colour": st.none()},
)
requests = st.fixed_dictionaries(
    {"groups": st.lists(group | st.none(), max_size=3)},
    optional={
        "config": st.dictionaries(texts, st.integers(), max_size=2),
        "step": st.integers(-1, 3) | st.floats(),
    },
)


@settings(max_examples=examples(300), deadline=None)
@given(requests)
def test_pieces_give_what_the_whole_gives(body: dict):
    data = json.dumps(body).encode()
    try:
        whole = RewardRequest.model_validate_json(data)
    except ValueError:
        whole = None
    try:
        pieces = parse(data, RewardRequest)
    except RequestError:
        pieces = None
    assert pieces == whole


def test_members_are_read_by_the_same_rules():
    with pytest.raises(InvalidRequest, match="is no field here") as caught:
        parse(b'{"group_id":"g","colour":1}', MemberRequest)
    assert caught.value.field == "colour"


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b'{"groups":[}', b'{"groups":[]'])
def test_what_is_no_object_is_refused(body: bytes):
    with pytest.raises((MalformedBody, InvalidRequest)):
        parse(body, RewardRequest)


@pytest.mark.parametrize("body", [b'{"a":', b'{"a":1', b'{"a":tru}', b'[{"a":', b'{"groups":[{"a":'])
def test_broken_json_is_told_so_whatever_its_fields(body: bytes):
    with pytest.raises(MalformedBody, match="is not UTF-8 JSON"):
        parse(body, RewardRequest)


def test_an_error_names_no_more_than_a_little_of_a_long_name():
    with pytest.raises(InvalidRequest) as caught:
        parse(b'{"' + b"k" * 100_000 + b'":1}', RewardRequest)
    assert caught.value.field is not None
    assert len(caught.value.field) <= 100


def test_the_limits_leave_room_for_the_largest_honest_body():
    assert bounded_json.MAX_CONTAINERS >= 2 * 4096 * 20
