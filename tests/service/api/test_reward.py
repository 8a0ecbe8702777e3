"""POST /reward on the dummy engine, every number worked out again here."""

import math
import time

import httpx
import pytest

from opera_service.engines.dummy import DummyEngine
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TokenTree
from opera_service.trajectories.byte_tokenizer import ByteTokenizer

from ..app import on, opened
from .conftest import group
from .table import ids_of, logprobs, mean

PROMPT, REFERENCE = "Why?\n", "As is."
RESPONSES = ["<think>one\n\nBut two</think>end", "<think>x\n\nhmm y!\n\nwait z</think>stop", "no thought"]


def paper_request(**changes) -> dict:
    trajectories = [{"id": str(index), "response": text} for index, text in enumerate(RESPONSES)]
    one = {"group_id": "q", "prompt": PROMPT, "reference": REFERENCE, "trajectories": trajectories}
    return {"preset": "paper", "detail": "tokens", "groups": [one], **changes}


async def test_paper_rewards_follow_the_formulas(client: httpx.AsyncClient):
    answer = (await client.post("/reward", json=paper_request())).json()
    (found,) = answer["groups"]
    start = f"{PROMPT}<think>"
    segments = [["one", "But two"], ["x", "hmm y!", "wait z"], []]
    initial = mean(logprobs(start, REFERENCE))
    finals = [mean(logprobs(PROMPT + text, REFERENCE)) for text in RESPONSES]
    assert found["initial_mean_logprob"] == pytest.approx(initial)
    assert found["reference_tokens"] == len(REFERENCE)
    for index, one in enumerate(found["trajectories"]):
        previous, count, context = initial, 0, start
        assert [segment["text"].strip() for segment in one["segments"]] == segments[index]
        for segment, text in zip(one["segments"], segments[index], strict=True):
            context += text + "\n\n"
            tokens = logprobs(context, REFERENCE)
            gain = mean(tokens) - previous
            reflective = any(word in text.lower() for word in ("but", "wait", "hmm", "however"))
            assert segment["mean_logprob"] == pytest.approx(mean(tokens))
            assert segment["token_logprobs"] == pytest.approx(tokens)
            assert segment["gain"] == pytest.approx(gain, abs=1e-12)
            assert (segment["reflective"], segment["credited"]) == (reflective, reflective and gain > 0)
            count += segment["credited"]
            previous = mean(tokens)
        relative = sum(other < finals[index] for other in finals) / 2
        assert one["components"]["relative"] == pytest.approx(relative)
        assert one["components"]["reflection"] == pytest.approx(math.tanh(count / 2))
        assert one["reward"] == pytest.approx(0.3 * relative + 0.7 * math.tanh(count / 2))
        assert one["mean_logprob"] == pytest.approx(finals[index])
        assert one["sum_logprob"] == pytest.approx(finals[index] * len(REFERENCE))
        assert one["perplexity"] == pytest.approx(math.exp(-finals[index]))
        assert one["token_logprobs"] == pytest.approx(logprobs(PROMPT + RESPONSES[index], REFERENCE))


async def test_usage_counts_contexts_and_distinct_tokens(client: httpx.AsyncClient):
    answer = (await client.post("/reward", json=paper_request())).json()
    start = f"{PROMPT}<think>"
    contexts = {
        PROMPT + RESPONSES[0], PROMPT + RESPONSES[1], PROMPT + RESPONSES[2], start,
        f"{start}one\n\n", f"{start}one\n\nBut two\n\n",
        f"{start}x\n\n", f"{start}x\n\nhmm y!\n\n", f"{start}x\n\nhmm y!\n\nwait z\n\n",
    }  # fmt: skip
    paths = [ids_of(context) + ids_of(REFERENCE) for context in contexts]
    prefixes = {tuple(path[:length]) for path in paths for length in range(1, len(path))}
    assert answer["usage"] == {
        "tokens_naive": sum(map(len, paths)),
        "tokens_computed": len(prefixes),
        "scored_tokens": len(REFERENCE) * len(contexts),
        "cache_hits": 0,
        "tokens_cached": 0,
        "recomputed_contexts": 0,
        "route": "table",
        "route_reason": "",
    }


async def test_detail_levels(client: httpx.AsyncClient):
    results = {}
    for detail in ("reward", "segments", "tokens"):
        answer = (await client.post("/reward", json=paper_request(detail=detail))).json()
        results[detail] = answer["groups"][0]["trajectories"][0]
    assert results["reward"]["segments"] is None
    assert results["segments"]["segments"][0]["token_logprobs"] is None
    assert results["segments"]["token_logprobs"] is None
    assert len(results["tokens"]["segments"][0]["token_logprobs"]) == len(REFERENCE)
    assert {one["reward"] for one in results.values()} == {results["tokens"]["reward"]}


async def test_the_reference_can_be_followed_token_by_token(client: httpx.AsyncClient):
    short, full = [
        (await client.post("/reward", json=paper_request(detail=detail))).json()["groups"][0]
        for detail in ("segments", "tokens")
    ]
    assert (short["initial_token_logprobs"], short["reference_token_texts"]) == (None, None)
    assert "".join(full["reference_token_texts"]) == REFERENCE
    assert len(full["initial_token_logprobs"]) == full["reference_tokens"] == len(full["reference_token_texts"])
    assert sum(full["initial_token_logprobs"]) / full["reference_tokens"] == pytest.approx(
        full["initial_mean_logprob"]
    )


async def test_ids_give_what_text_gives(client: httpx.AsyncClient):
    texts = group(task="open")
    ids = {
        "group_id": "q1",
        "prompt_token_ids": ids_of(texts["prompt"]),
        "reference_token_ids": ids_of(texts["reference"]),
        "trajectories": [
            {"id": one["id"], "response_token_ids": ids_of(one["response"])} for one in texts["trajectories"]
        ],
    }
    by_text = (await client.post("/reward", json={"groups": [texts]})).json()
    by_ids = (await client.post("/reward", json={"groups": [ids]})).json()
    assert by_text["groups"] == by_ids["groups"]


async def test_messages_go_through_the_chat_template(client: httpx.AsyncClient):
    messages = group(prompt=[{"role": "user", "content": "Why?"}])
    text = group(prompt="user: Why?<|end|>\nassistant: ")
    answers = [(await client.post("/reward", json={"groups": [one]})).json() for one in (messages, text)]
    assert answers[0]["groups"] == answers[1]["groups"]


async def test_ids_default_to_positions_and_groups_keep_their_order(client: httpx.AsyncClient):
    one = {"prompt": "p", "reference": "r", "trajectories": [{"response": "a"}, {"id": "x", "response": "b"}]}
    answer = (await client.post("/reward", json={"groups": [one, {**one, "group_id": "named"}]})).json()
    assert [found["group_id"] for found in answer["groups"]] == ["0", "named"]
    assert [found["id"] for found in answer["groups"][0]["trajectories"]] == ["0", "x"]


async def test_a_name_given_is_not_another_groups_position(client: httpx.AsyncClient):
    answer = await client.post(
        "/reward", json={"groups": [group(group_id="1"), group(group_id=None, prompt="other")]}
    )
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "groups.1.group_id"


async def test_components_are_the_same_for_every_trajectory(client: httpx.AsyncClient):
    for name in ("opera", "logprob", "nover"):
        for preset in ("paper", "hardened"):
            answer = (await client.post("/reward", json=paper_request(reward=name, preset=preset))).json()
            keys = [tuple(one["components"]) for one in answer["groups"][0]["trajectories"]]
            assert len(set(keys)) == 1, (name, preset)
            if name == "opera":
                assert {"relative", "reflection"} <= set(keys[0])


async def test_an_override_changes_the_hash_and_the_reward(client: httpx.AsyncClient):
    plain = (await client.post("/reward", json=paper_request())).json()
    config = {"total": {"relative": 1.0, "reflection": 0.0}}
    changed = (await client.post("/reward", json=paper_request(config=config))).json()
    assert plain["config_hash"] != changed["config_hash"]
    for one in changed["groups"][0]["trajectories"]:
        assert one["reward"] == pytest.approx(one["components"]["relative"])
    listed = (await client.get("/rewards")).json()["rewards"]
    opera = next(one for one in listed if one["name"] == "opera")
    assert opera["presets"]["paper"]["config_hash"] == plain["config_hash"]


async def test_math_tasks_are_judged(client: httpx.AsyncClient):
    answers = [r"<think>t</think>\boxed{\frac{1}{2}}", r"<think>t</think>\boxed{3}"]
    one = group(task="math", reference="1/2", trajectories=[{"response": text} for text in answers])
    found = (await client.post("/reward", json={"groups": [one]})).json()["groups"][0]["trajectories"]
    assert "outcome_correct" in found[0]["flags"]
    assert "outcome_wrong" in found[1]["flags"]
    assert found[0]["reward"] > found[1]["reward"] == 0.0


async def test_the_running_mean_is_kept_per_run(client: httpx.AsyncClient):
    def request(run_id: str | None, prompt: str) -> dict:
        changed = paper_request(run_id=run_id)
        changed["groups"][0]["prompt"] = prompt
        return changed

    values: dict[tuple[str | None, str], list[float]] = {}
    for run_id, prompt in [("a", "p"), ("a", "longer q"), ("b", "longer q"), (None, "p")]:
        answer = (await client.post("/reward", json=request(run_id, prompt))).json()
        values[run_id, prompt] = answer["ema_baseline"]
    assert values[None, "p"] is None
    first, second = values["a", "p"], values["a", "longer q"]
    assert second == pytest.approx(0.9 * first + 0.1 * values["b", "longer q"])
    hardened = (await client.post("/reward", json=paper_request(preset="hardened", run_id="a"))).json()
    assert hardened["ema_baseline"] is None


async def test_cost_headers_match_the_body(client: httpx.AsyncClient):
    response = await client.post("/reward", json=paper_request())
    timing, usage = response.json()["timing_ms"], response.json()["usage"]
    assert int(response.headers["X-Tokens-Computed"]) == usage["tokens_computed"]
    assert response.headers["X-Route"] == usage["route"] == "table"
    assert float(response.headers["X-Engine-Ms"]) == pytest.approx(timing["engine"], abs=1e-3)
    assert float(response.headers["X-Queue-Ms"]) == pytest.approx(timing["queue"], abs=1e-3)
    assert timing["total"] >= timing["encode"] + timing["engine"]


async def test_another_weight_version_is_refused_before_anything_is_scored(client: httpx.AsyncClient):
    response = await client.post("/reward", json=paper_request(weight_version="7"))
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["field"]) == (
        409, "weight_version_mismatch", "weight_version",
    )  # fmt: skip
    assert 'opera_batches_total{outcome="ok"} 0.0' in (await client.get("/metrics")).text
    accepted = await client.post("/reward", json=paper_request(weight_version="0"))
    assert accepted.json()["model"]["weight_version"] == "0"


class Swapping(DummyEngine):
    """New weights arrive between taking the request and scoring it."""

    def __init__(self, versions: list[str]) -> None:
        super().__init__(ByteTokenizer.vocab_size, max_batch_tokens=1)
        self.versions = versions

    async def score(self, trees: list[TokenTree]) -> list[TreeScores]:
        if self.versions:
            other = DummyEngine(ByteTokenizer.vocab_size, weight_version=self.versions.pop(0))
            self._info, self._table = other._info, other._table  # noqa: SLF001
        return await super().score(trees)


async def test_weights_swapped_while_scoring_are_refused_too():
    async with opened(on(Swapping(["1"]))) as client:
        response = await client.post("/reward", json=paper_request(weight_version="0"))
        assert (response.status_code, response.json()["error"]["code"]) == (409, "weight_version_mismatch")


async def test_an_answer_names_the_weights_that_scored_it():
    async with opened(on(Swapping(["1"]))) as client:
        answer = (await client.post("/reward", json=paper_request())).json()
        assert answer["model"]["weight_version"] == "1"


TWO_GROUPS = {"groups": [group(), group(group_id="q2", prompt="other")]}


async def test_what_was_scored_before_new_weights_came_is_scored_again_on_them():
    async with opened(on(Swapping(["1", "2"]))) as client:
        answer = (await client.post("/reward", json=TWO_GROUPS)).json()
        assert answer["model"]["weight_version"] == "2"
        assert [one["status"] for each in answer["groups"] for one in each["trajectories"]] == ["ok"] * 4
        assert (await client.post("/reward", json=TWO_GROUPS)).json()["groups"] == answer["groups"]


async def test_groups_of_one_answer_never_come_from_two_weight_versions():
    async with opened(on(Swapping([str(number) for number in range(1, 20)]))) as client:
        response = await client.post("/reward", json=TWO_GROUPS)
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["retryable"]) == (503, "unavailable", True)


async def test_deadlines_by_field_and_by_header():
    slow = on(DummyEngine(ByteTokenizer.vocab_size, seconds_per_token=0.003))
    async with opened(slow) as client:
        by_field = await client.post("/reward", json=paper_request(timeout_s=0.05))
        by_header = await client.post(
            "/reward",
            json=paper_request(timeout_s=60),
            headers={"X-Request-Deadline": str(time.time() + 0.05)},
        )
        past = await client.post("/reward", json=paper_request(), headers={"X-Request-Deadline": "1.5"})
        for response in (by_field, by_header, past):
            error = response.json()["error"]
            assert (response.status_code, error["code"], error["retryable"]) == (504, "deadline_exceeded", True)


@pytest.mark.parametrize("value", ["soon", "nan", "inf", ""])
async def test_a_deadline_that_is_no_time_is_refused(client: httpx.AsyncClient, value: str):
    response = await client.post("/reward", json=paper_request(), headers={"X-Request-Deadline": value})
    error = response.json()["error"]
    assert (response.status_code, error["field"]) == (422, "X-Request-Deadline")


async def test_groups_in_time_are_answered_when_others_are_late():
    engine = DummyEngine(ByteTokenizer.vocab_size, seconds_per_token=0.001, max_batch_tokens=1)
    async with opened(on(engine)) as client:
        quick = {"group_id": "quick", "prompt": "p", "reference": "r", "trajectories": [{"response": "x"}]}
        late = group(group_id="late", prompt="p" * 1500)
        response = await client.post("/reward", json={"groups": [quick, late], "timeout_s": 0.8})
        first, second = response.json()["groups"]
        assert first["trajectories"][0]["status"] == "ok"
        assert {one["error"]["code"] for one in second["trajectories"]} == {"deadline_exceeded"}
