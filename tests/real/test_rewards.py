"""Rewards by a pretrained model: exact, and the same however the same thing is said."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from opera_client import AsyncRewardClient
from opera_service.trajectories.hf_tokenizer import HFTokenizer

pytestmark = pytest.mark.real

QUESTION = "Which planet of our solar system is called the red planet, and why?"
REFERENCE = "Mars is called the red planet, because rust in its soil gives it a reddish colour."
THOUGHT = (
    "<think>\nThe red planet is the one whose ground looks red from far away.\n\n"
    "Wait, the colour comes from rusty iron in the soil, and that is Mars.\n</think>\n\n"
)
ANSWER = "It is Mars, since the iron in its soil has rusted."
MESSAGES = [{"role": "user", "content": QUESTION}]
EXACT = {"config": {"context": {"score_end": True}}, "detail": "tokens"}


@pytest.fixture(scope="module")
def two_ends(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights with another end token in the tokenizer, and both in the generation configuration."""
    folder = tmp_path_factory.mktemp("two-ends")
    for file in smollm2.iterdir():
        (folder / file.name).symlink_to(file)
    for name, more in (
        ("generation_config.json", {"eos_token_id": [0, 2]}),
        ("tokenizer_config.json", {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}),
    ):
        content = json.loads((folder / name).read_text()) | more
        (folder / name).unlink()
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.fixture(params=["stock", "two ends"])
async def client(
    request: pytest.FixtureRequest, smollm2: Path, two_ends: Path
) -> AsyncIterator[AsyncRewardClient]:
    folder = smollm2 if request.param == "stock" else two_ends
    async with AsyncRewardClient.in_process(engine="torch", model=str(folder)) as opened:
        yield opened


async def test_what_real_trainers_send(client: AsyncRewardClient, smollm2: Path):
    tokenizer = HFTokenizer.load(str(smollm2))
    prompt = tokenizer.decode(tokenizer.chat(MESSAGES))
    ids = tokenizer.encode(THOUGHT + ANSWER).tolist()
    ends = {"none": [], "end": [2], "padded": [2, 0, 0, 0], "line": [2, *tokenizer.encode("\n").tolist(), 0]}
    trajectories = [
        *({"id": name, "response_token_ids": ids + tail} for name, tail in ends.items()),
        {"id": "text", "response": THOUGHT + ANSWER},
        {"id": "lone", "response": THOUGHT.removeprefix("<think>\n") + ANSWER},
        {"id": "empty", "response_token_ids": [*tokenizer.encode(THOUGHT).tolist(), 2, 0]},
    ]
    asked = [
        {"group_id": "messages", "prompt": MESSAGES},
        {"group_id": "text", "prompt": prompt},
        {"group_id": "ids", "prompt_token_ids": tokenizer.encode(prompt).tolist()},
    ]
    groups = [{**one, "reference": REFERENCE, "trajectories": trajectories} for one in asked]
    result = await client.reward(groups, **EXACT)

    by_id = [{one.id: one for one in group.trajectories} for group in result.groups]
    for group in by_id[1:]:
        assert [one.reward for one in group.values()] == pytest.approx(
            [one.reward for one in by_id[0].values()], abs=1e-6
        )
    found = by_id[0]
    for name in (*ends, "text", "lone"):
        assert found[name].mean_logprob == pytest.approx(found["none"].mean_logprob, abs=1e-5), name
    assert found["lone"].flags.count("think_unopened") == 1
    assert {"empty_answer"} <= set(found["empty"].flags)
    assert found["empty"].reward == 0
    last = (found["none"].token_logprobs or [])[-1]
    assert last > -3, "the end of a turn is the one that the template writes, which the model expects"


async def test_numbers_are_those_of_plain_forwards(client: AsyncRewardClient, smollm2: Path):
    tokenizer = HFTokenizer.load(str(smollm2))
    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32).eval()
    item = {"context": tokenizer.decode(tokenizer.chat(MESSAGES)) + THOUGHT, "target": REFERENCE}
    (found,) = (await client.score([item], detail="tokens")).items
    context, target = tokenizer.encode(item["context"]), tokenizer.encode(item["target"])
    path = np.concatenate([context, target])
    with torch.inference_mode():
        rows = model(input_ids=torch.as_tensor(path[None]).long()).logits[0].double().log_softmax(-1)
    expected = [float(rows[len(context) - 1 + at, token]) for at, token in enumerate(target)]
    np.testing.assert_allclose(found.token_logprobs, expected, rtol=0, atol=1e-4)


async def test_alternatives_cost_little_and_are_shown(client: AsyncRewardClient):
    other = "Mars, as its surface is full of rust."
    group = {"prompt": MESSAGES, "trajectories": [{"response": THOUGHT + ANSWER}, {"response": ANSWER}]}
    one, two = [
        await client.reward([{**group, "reference": reference}]) for reference in (REFERENCE, [REFERENCE, other])
    ]
    shown = two.groups[0].trajectories[0].references
    assert shown is not None
    assert shown[0].mean_logprob == pytest.approx(one.groups[0].trajectories[0].mean_logprob, abs=1e-5)
    assert shown[1].mean_logprob < 0
    assert two.usage.tokens_computed < 2 * one.usage.tokens_computed
