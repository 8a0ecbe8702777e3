"""Asking: filters, search, questions, another configuration, other tools."""

import json

import pytest
from tests.ui.conftest import group, think

PLAIN = think("There are 6 pears at first, and Ben took 2.", "So 6 minus 2 is 4.")
OTHER = think(
    "Ana brought 3 pears to the 5 that were there.", "That makes 8 of them.", answer="There are 8 pears."
)
HACK = think(*(["Wait, let me think about this again."] * 8))


@pytest.fixture(scope="module")
def asked(service):
    """A run in which one response is paid for form: the paper's preset counts paragraphs that reflect."""
    for step in range(3):
        planted = [HACK] if step == 1 else []
        groups = [group(f"p{step}-{at}", PLAIN, OTHER, *(planted if at == 1 else [])) for at in range(3)]
        service.reward("planted", step, *groups, preset="paper")
    return service


def test_a_planted_hack_is_found_in_three_clicks(asked, open_page):
    page = open_page(asked, "#/run/planted")
    page.get_by_role("link", name="Questions").click()
    page.get_by_role("button", name="empty reflection").click()
    page.locator(".trajectory-row", has_text="p1-1 · c").locator("a").click()
    page.locator("#member-2 .thought").first.wait_for()
    assert page.locator("#member-2 .thought").count() == 8
    assert page.locator("#member-2").get_by_text("empty reflection").is_visible()


def test_the_best_paid_come_first_with_the_reason(asked, open_page):
    page = open_page(asked, "#/questions?run=planted")
    page.get_by_role("button", name="What earns most, and why").click()
    page.wait_for_function("location.hash.includes('earns_most')")
    page.locator(".trajectory-row").first.wait_for()
    rewards = [float(one.replace("−", "-").split()[0]) for one in page.locator(".row-reward").all_inner_texts()]
    assert rewards == sorted(rewards, reverse=True)


def test_a_text_is_found_and_its_address_finds_it_again(asked, open_page):
    page = open_page(asked, "#/questions?run=planted")
    page.get_by_label("Text").fill("ANA brought")
    page.get_by_text("9 trajectories.", exact=True).wait_for()
    again = open_page(asked, page.evaluate("location.hash"))
    again.get_by_text("9 trajectories.", exact=True).wait_for()
    assert again.get_by_label("Text").input_value() == "ANA brought"


def test_filters_add_up(asked, open_page):
    page = open_page(asked, "#/questions")
    page.get_by_label("Run").select_option("planted")
    page.get_by_label("From step").fill("1")
    page.get_by_label("To step").fill("1")
    page.get_by_text("7 trajectories.", exact=True).wait_for()
    page.get_by_label("Text").fill("no such words")
    page.get_by_text("No trajectory matches.").wait_for()


def test_nearest_duplicates_name_their_twin(asked, open_page):
    page = open_page(asked, "#/questions?run=planted")
    page.get_by_role("button", name="Nearest duplicates").click()
    page.get_by_text("100 % the same as").first.wait_for()


def test_a_group_can_be_scored_again_by_another_preset(asked, open_page):
    page = open_page(asked, "#/questions?run=planted&flag=empty_reflection")
    page.locator(".trajectory-row a").first.click()
    page.get_by_role("button", name="Ask again").click()
    page.get_by_label("Preset").select_option("hardened")
    page.get_by_role("button", name="Score again").click()
    page.locator(".beside tbody tr").nth(2).wait_for()
    paid, now = (
        float(page.locator(".beside tbody tr").nth(2).locator("td").nth(at).inner_text()) for at in (0, 1)
    )
    assert now < paid, "the hardened preset does not pay for empty paragraphs"
    runs = asked.client.get("/ui/api/overview").json()["runs"]
    assert "ask-again" not in {one["run"] for one in runs}


@pytest.mark.parametrize(
    ("config", "said"), [("{nonsense", "is not a JSON object"), ('{"no_such_field": 1}', "config.no_such_field")]
)
def test_a_bad_configuration_is_explained(asked, open_page, config: str, said: str):
    page = open_page(asked, "#/questions?run=planted", quiet=config == "{nonsense")  # a refusal is logged
    page.locator(".trajectory-row a").first.click()
    page.get_by_role("button", name="Ask again").click()
    page.get_by_label("Single fields, as JSON").fill(config)
    page.get_by_role("button", name="Score again").click()
    page.get_by_role("alert").filter(has_text=said).wait_for()


def test_the_reference_is_shown_token_by_token(asked, open_page):
    page = open_page(asked, "#/questions?run=planted")
    page.locator(".trajectory-row a").first.click()
    page.get_by_role("button", name="Heat map of the reference").click()
    page.get_by_role("button", name="Price every token").click()
    page.locator(".heat .token").first.wait_for()
    assert "There are 4 pears." in "".join(page.locator(".heat .token").all_text_contents())
    for mode in ("log-prob", "spread over the group"):
        page.get_by_role("button", name=mode).click()
        page.locator(f"button[aria-pressed=true]:has-text('{mode}')").wait_for()


def test_the_answer_is_shown_token_by_token(asked, open_page):
    page = open_page(asked, "#/questions?run=planted&first_step=0&last_step=0")
    page.locator(".trajectory-row a").first.click()
    page.get_by_role("button", name="Heat map of the answer").click()
    page.get_by_role("button", name="Price every token").click()
    page.locator(".heat .token").first.wait_for()
    for place, response in enumerate((PLAIN, OTHER)):
        page.locator(".panel select").select_option(str(place))
        answer = response.partition("</think>")[2]
        page.locator(".heat", has_text=answer).wait_for()
        expected = priced(asked, response)
        tokens = page.locator(".heat .token")
        assert "".join(tokens.all_text_contents()) == answer
        numbers = [float(one.get_attribute("title").replace("−", "-")) for one in tokens.all()]
        assert numbers == [pytest.approx(value, abs=6e-4) for value in expected]
        mean = sum(expected) / len(expected)
        words = page.locator(".heat-words").inner_text()
        assert words.startswith(f"{len(expected)} tokens, mean log-prob −{-mean:.3f}, perplexity")
    page.get_by_role("button", name="thought and answer").click()
    page.locator(".heat", has_text="Ana brought 3 pears").wait_for()
    assert "".join(page.locator(".heat .token").all_text_contents()) == OTHER.replace("\n\n", "↵↵\n")
    page.reload()  # an address names the member and what is open
    page.get_by_role("button", name="Price every token").wait_for()
    assert "member=1&panel=answer" in page.url


def priced(asked, response: str) -> list[float]:
    """Log-probs of the tokens of the answer, as the scoring route has them."""
    item = {"context": "How many pears?", "target": response}
    answer = asked.client.post("/score", json={"items": [item], "detail": "tokens", "run_id": "ask-again"}).json()
    [found] = answer["items"]
    texts, logprobs = found["token_texts"], found["token_logprobs"]
    assert "".join(texts) == response
    ends = [len("".join(texts[: at + 1])) for at in range(len(texts))]
    start = response.index("</think>") + len("</think>")
    return [value for value, end in zip(logprobs, ends, strict=True) if end > start]


def test_a_character_of_several_tokens_is_one_cell(service, open_page):
    text = "答案是四。"
    service.reward("cells", 0, group("g", think(text, answer=text), reference=text))
    page = open_page(service, "#/questions?run=cells")
    page.locator(".trajectory-row a").first.click()
    for heat in ("reference", "answer"):
        page.get_by_role("button", name=f"Heat map of the {heat}").click()
        page.get_by_role("button", name="Price every token").click()
        page.locator(".heat .token").first.wait_for()
        shown = page.locator(".heat .token").all_text_contents()
        assert "".join(shown) == text
        assert len(shown) <= len(text)


TURNS = [
    {"role": "assistant", "content": "<think>How many were there?</think>search"},
    {"role": "user", "content": "There were 6 pears, and Ben took 2."},
    {"role": "assistant", "content": "<think>6 minus 2 is 4.</think>There are 4 pears."},
]


@pytest.mark.parametrize("how", ["turns", "mask", "no reference"])
def test_what_is_asked_again_is_what_was_asked(service, open_page, how: str):
    """Nothing changed but the time: everybody is paid the same."""
    ids = service.client.post("/tokenize", json={"prompt": PLAIN}).json()["tokens"]
    mask = [int(at < 4 or at > 12) for at in range(len(ids))]
    first = {"turns": {"turns": TURNS}, "mask": {"response_token_ids": ids, "response_mask": mask}}
    asked = group("g", "", OTHER)
    asked["trajectories"][0] = {"id": "a", **first.get(how, {"response": PLAIN})}
    more = {}
    if how == "no reference":
        del asked["reference"]
        more = {"reward": "rent"}
    answer = service.reward(how, 0, asked, **more)
    page = open_page(service, f"#/questions?run={how}")
    page.locator(".trajectory-row a").first.click()
    page.get_by_role("button", name="Ask again").click()
    page.get_by_role("button", name="Score again").click()
    rows = page.locator(".beside tbody tr")
    rows.nth(1).wait_for()
    for at, one in enumerate(answer["groups"][0]["trajectories"]):
        assert one["status"] == "ok", one
        cells = [text.replace("−", "-") for text in rows.nth(at).locator("td").all_inner_texts()]
        assert float(cells[0]) == pytest.approx(one["reward"], abs=6e-4)
        assert cells[0] == cells[1]


def test_two_members_are_compared_word_by_word(asked, open_page):
    page = open_page(asked, "#/questions?run=planted&first_step=0&last_step=0")
    page.locator(".trajectory-row a").first.click()
    page.get_by_role("button", name="Compare two").click()
    page.locator(".diff ins").first.wait_for()
    left = "".join(page.locator(".diff > :not(ins)").all_text_contents())
    assert left == PLAIN


def test_a_group_leaves_for_other_tools(asked, open_page):
    page = open_page(asked, "#/questions?run=planted&flag=empty_reflection")
    page.locator(".trajectory-row a").first.click()
    page.get_by_text("Copy or export").click()
    for button, check in (
        ("Save JSONL", lambda text: json.loads(text)["trajectories"][2]["response"] == HACK),
        (
            "Save traces for Trackio",
            lambda text: json.loads(text.splitlines()[2])["messages"][1]["content"] == HACK,
        ),
        (
            "Save OpenTelemetry",
            lambda text: len(json.loads(text)["resourceSpans"][0]["scopeSpans"][0]["spans"]) == 3,
        ),
    ):
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        assert check(download.value.path().read_text(encoding="utf-8"))


def test_what_is_saved_can_be_scored(asked, open_page):
    page = open_page(asked, "#/questions?run=planted&flag=empty_reflection")
    page.locator(".trajectory-row input").first.check()
    page.get_by_text("Export", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save JSONL").click()
    saved = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert asked.client.post("/reward", json={"groups": [saved], "run_id": "ask-again"}).status_code == 200
