"""/v1/completions and the tokenizer routes on the dummy engine, against the table."""

import httpx
import pytest

from .table import VOCAB, ids_of, logprob, logprobs


async def complete(client: httpx.AsyncClient, **body) -> dict:
    response = await client.post("/v1/completions", json={"max_tokens": 0, **body})
    assert response.status_code == 200, response.text
    return response.json()


async def test_an_echoed_prompt_with_one_greedy_token(client: httpx.AsyncClient):
    prompt = "2+2=4"
    answer = await complete(client, prompt=prompt, echo=True, logprobs=3, max_tokens=1, temperature=0)
    (choice,) = answer["choices"]
    found = choice["logprobs"]
    row = [logprob(ids_of(prompt)[-1], token) for token in range(VOCAB)]
    best = max(range(VOCAB), key=row.__getitem__)
    assert found["tokens"][:-1] == list(prompt)
    assert found["token_logprobs"][0] is None
    assert found["token_logprobs"][1:-1] == pytest.approx(logprobs(prompt[0], prompt[1:]))
    assert found["token_logprobs"][-1] == pytest.approx(row[best])
    assert found["text_offset"] == list(range(6))
    assert found["top_logprobs"][0] is None
    for position, top in enumerate(found["top_logprobs"][1:], start=1):
        values = list(top.values())
        assert top[found["tokens"][position]] == found["token_logprobs"][position]
        expected = sorted((logprob(ids_of(prompt)[position - 1], token) for token in range(VOCAB)), reverse=True)
        assert max(values) == pytest.approx(expected[0])
        assert len(values) in (3, 4), "three alternatives, and the token itself where it is none of them"
    assert choice["text"].startswith(prompt)
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    assert answer["object"] == "text_completion"


async def test_the_four_forms_of_a_prompt_agree(client: httpx.AsyncClient):
    forms = ["ab", ["ab"], ids_of("ab"), [ids_of("ab")]]
    found = [(await complete(client, prompt=form, echo=True, logprobs=0))["choices"] for form in forms]
    assert all(one == found[0] for one in found)
    assert found[0][0]["logprobs"]["top_logprobs"] is None


async def test_prompts_of_a_batch_keep_their_order_and_share_prefixes(client: httpx.AsyncClient):
    prompts = ["shared start, one", "shared start, other", "alone"]
    response = await client.post(
        "/v1/completions", json={"prompt": prompts, "echo": True, "logprobs": 1, "max_tokens": 0}
    )
    choices = response.json()["choices"]
    assert [(choice["index"], choice["text"]) for choice in choices] == list(enumerate(prompts))
    for prompt, choice in zip(prompts, choices, strict=True):
        assert choice["logprobs"]["token_logprobs"][1:] == pytest.approx(logprobs(prompt[0], prompt[1:]))
    distinct = {prompt[:length] for prompt in prompts for length in range(1, len(prompt))}
    assert int(response.headers["X-Tokens-Computed"]) == len(distinct)


async def test_without_echo_only_the_written_token_is_answered(client: httpx.AsyncClient):
    (choice,) = (await complete(client, prompt="ab", logprobs=1, max_tokens=1, temperature=0))["choices"]
    assert len(choice["logprobs"]["tokens"]) == 1
    assert choice["text"] == choice["logprobs"]["tokens"][0]
    (silent,) = (await complete(client, prompt="ab"))["choices"]
    assert (silent["text"], silent["logprobs"]) == ("", None)


async def test_a_token_is_written_without_asking_for_logprobs(client: httpx.AsyncClient):
    (choice,) = (await complete(client, prompt="ab", max_tokens=1, temperature=0, echo=True))["choices"]
    row = [logprob(ids_of("b")[-1], token) for token in range(VOCAB)]
    assert choice["text"] == "ab" + chr(max(range(VOCAB), key=row.__getitem__))
    assert choice["logprobs"] is None


async def test_a_single_token_has_no_logprob(client: httpx.AsyncClient):
    (choice,) = (await complete(client, prompt="a", echo=True, logprobs=1))["choices"]
    assert (choice["text"], choice["logprobs"]["token_logprobs"]) == ("a", [None])


async def test_characters_split_over_tokens_are_named_and_offset_by_character(client: httpx.AsyncClient):
    (choice,) = (await complete(client, prompt="é等x", echo=True, logprobs=2))["choices"]
    found = choice["logprobs"]
    assert choice["text"] == "é等x"
    assert found["tokens"] == [
        r"bytes:\xc3", r"bytes:\xa9", r"bytes:\xe7", r"bytes:\xad", r"bytes:\x89", "x",
    ]  # fmt: skip
    assert found["text_offset"] == [0, 1, 1, 2, 2, 2]
    for position, top in enumerate(found["top_logprobs"][1:], start=1):
        assert top[found["tokens"][position]] == found["token_logprobs"][position]


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"max_tokens": 2}, 501, "not_supported", "max_tokens"),
        ({"max_tokens": 16}, 501, "not_supported", "max_tokens"),
        ({"max_tokens": 1, "temperature": 0.7}, 501, "not_supported", "temperature"),
        ({"n": 2}, 501, "not_supported", "n"),
        ({"stream": True}, 501, "not_supported", "stream"),
        ({"model": "gpt-4"}, 404, "not_found", "model"),
        ({"prompt": ""}, 422, "empty_context", "prompt"),
        ({"prompt": ["a", ""]}, 422, "empty_context", "prompt.1"),
        ({"prompt": [[1], [999]]}, 422, "token_out_of_vocabulary", "prompt.1"),
        ({"prompt": "x" * 40_000}, 422, "context_too_long", "prompt"),
        ({"prompt": {"text": "a"}}, 422, "invalid_request", "prompt"),
        ({"prompt": None}, 422, "invalid_request", "prompt"),
        ({"colour": 1}, 422, "invalid_request", "colour"),
    ],
)
async def test_what_cannot_be_done_is_said(
    client: httpx.AsyncClient, body: dict, status: int, code: str, field: str
):
    response = await client.post("/v1/completions", json={"prompt": "ab", "max_tokens": 0, **body})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["field"]) == (status, code, field)


async def test_omitting_max_tokens_means_openais_sixteen_and_is_refused(client: httpx.AsyncClient):
    response = await client.post("/v1/completions", json={"prompt": "ab"})
    assert (response.status_code, response.json()["error"]["field"]) == (501, "max_tokens")


async def test_models(client: httpx.AsyncClient):
    (model,) = (await client.get("/v1/models")).json()["data"]
    assert (model["id"], model["max_model_len"]) == ("dummy", 32768)


async def test_tokenizer_routes(client: httpx.AsyncClient):
    info = (await client.get("/tokenizer_info")).json()
    assert (info["eos_token"], info["bos_token"], info["vocab_size"]) == ("<|end|>", None, VOCAB)
    assert "messages" in info["chat_template"]
    text = "<think>é</think>\n<|end|>"
    tokens = (await client.post("/tokenize", json={"prompt": text, "add_special_tokens": False})).json()
    assert tokens == {"tokens": ids_of(text), "count": len(ids_of(text)), "max_model_len": 32768}
    back = (await client.post("/detokenize", json={"tokens": tokens["tokens"]})).json()
    assert back == {"prompt": text}
    outside = await client.post("/detokenize", json={"tokens": [1, VOCAB]})
    error = outside.json()["error"]
    assert (outside.status_code, error["code"], error["field"]) == (422, "token_out_of_vocabulary", "tokens")
