"""Texts of every kind: hostile ones stay text, long ones are whole, any script reads in its own direction."""

import json
import subprocess

import pytest
from tests.ui.conftest import COMMAND, group, think, until

HOSTILE = (
    "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    "<a href='http://elsewhere.example/'>x</a> {{constructor}} \u202e\u0007\u001b[31m \ufeff javascript:alert(1)"
)


def first_group(service, run: str) -> int:
    found: list[dict] = []

    def kept() -> bool:  # a moment after the answer
        found[:] = service.client.get("/ui/api/groups", params={"run": run}).json()["rows"]
        return bool(found)

    until(kept)
    return found[0]["key"]


def test_a_hostile_trajectory_stays_text(service, open_page):
    service.reward(
        HOSTILE[:60], 0, group(HOSTILE, think(HOSTILE, HOSTILE, answer=HOSTILE), prompt=HOSTILE, reference=HOSTILE)
    )
    key = first_group(service, HOSTILE[:60])
    for path in ("#/", f"#/group/{key}", "#/questions?text=%3Cscript", "#/run/%3Cscript%3E"):
        page = open_page(service, path)
        page.locator("main").get_by_text("<script>document.title").locator("visible=true").first.wait_for()
        assert page.title() == "opera-reward"
        assert page.locator("main script, main img, main a[href^='http']").count() == 0
        assert page.locator("script").count() == 1


SMUGGLED = [
    "const s = document.createElement('script'); s.textContent = 'document.title = 1'; document.body.append(s)",
    "document.body.insertAdjacentHTML('beforeend', '<b onclick=\"document.title = 1\">click</b>')",
]


@pytest.mark.parametrize("script", SMUGGLED)
def test_the_page_may_run_nothing_but_its_own_script(service, open_page, script: str):
    page = open_page(service, quiet=False)  # the browser logs what it refused
    page.locator(".bar").wait_for()
    page.evaluate(script)
    if "click" in script:
        page.locator("b", has_text="click").click()
    assert page.title() == "opera-reward"


@pytest.mark.parametrize(
    ("text", "direction"),
    [
        ("答案是四。等一下，让我再检查一遍：六减二等于四。", "ltr"),
        ("הפתרון הוא ארבע, כי שש פחות שתיים הן ארבע.", "rtl"),
        ("الجواب أربعة لأن ستة ناقص اثنين.", "rtl"),
    ],
)
def test_any_script_is_shown_in_its_own_direction(service, open_page, text: str, direction: str):
    run = f"script {text[:4]}"
    service.reward(run, 0, group("g", think(text, text[::2], answer=text), prompt=text, reference=text))
    page = open_page(service, f"#/group/{first_group(service, run)}")
    answer = page.locator(".answer").first
    answer.wait_for()
    assert answer.inner_text() == text
    assert answer.evaluate("one => getComputedStyle(one).direction") == direction
    listed = open_page(service, f"#/questions?text={text[:6]}")
    listed.locator(".trajectory-row").first.wait_for()


def test_a_thought_of_thousands_of_tokens_is_whole(serve, open_page):
    served = serve("--engine", "dummy", "--audit-texts")  # for which a byte is a token: these are 17,890
    long = " ".join(f"word{at}" for at in range(2_000))
    served.reward("long", 0, group("g", *(think(long, f"Wait, {at}.", answer="4") for at in range(8))))
    page = open_page(served, f"#/group/{first_group(served, 'long')}")
    page.locator("#thought-0-0").wait_for()
    assert page.locator("#thought-0-0 .text").text_content() == long
    assert page.locator("#thought-7-0 .text").text_content() == long
    page.get_by_role("button", name="Compare two").click()
    page.get_by_text("% alike").wait_for()


def test_without_audit_texts_numbers_are_shown_and_no_text(serve, open_page):
    served = serve("--engine", "dummy")
    served.reward(
        "numbers", 0, group("g", think("a secret thought", "Wait, another one."), prompt="a secret question")
    )
    page = open_page(served, f"#/group/{first_group(served, 'numbers')}")
    page.get_by_text("Texts are not kept").wait_for()
    page.locator(".thought").first.wait_for()
    assert "secret" not in page.content()
    page.get_by_role("button", name="Ask again").click()
    page.get_by_text("cannot be scored again").wait_for()


def test_a_file_of_scored_groups_opens_without_a_network(service, browser, tmp_path):
    asked = group("g", think(HOSTILE, answer=HOSTILE), think("Wait, 6 minus 2 is 4."), prompt=HOSTILE)
    (tmp_path / "in.jsonl").write_text(json.dumps(asked), encoding="utf-8")
    files = {"-o": "out.jsonl", "--plot": "page.html"}
    options = [word for name, file in files.items() for word in (name, str(tmp_path / file))]
    subprocess.run([*COMMAND, "score", str(tmp_path / "in.jsonl"), "--url", service.url, *options], check=True)
    context = browser.new_context(offline=True)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((tmp_path / "page.html").as_uri())
    page.locator("#member-1 .thought").wait_for()
    assert page.locator(".member").count() == 2
    assert page.locator("#member-0 .answer").text_content() == HOSTILE.strip()
    assert page.locator("main script, main img, main a").count() == 0
    assert page.title() == "opera-reward: scored groups"
    context.close()
    assert said == []
