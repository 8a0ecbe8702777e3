"""Who may look: the page asks for the key of the service, and shows nothing without it."""

import pytest
from tests.ui.conftest import group, think


@pytest.fixture(scope="module")
def locked():
    from tests.ui.conftest import serving

    with serving("--engine", "dummy", "--audit-texts", key="open-sesame") as running:
        running.reward("guarded", 0, group("g", think("a secret thought")))
        yield running


def enter(page, key: str, *, remember: bool = False) -> None:
    page.get_by_label("API key").fill(key)
    if remember:
        page.get_by_label("Keep it in this browser").check()
    page.get_by_role("button", name="Open").click()


def test_without_the_key_there_is_nothing(locked, open_page):
    page = open_page(locked, "#/group/1", quiet=False)  # a browser logs refusals as errors
    page.get_by_text("This service asks for a key").wait_for()
    assert "secret" not in page.content()
    enter(page, "wrong")
    page.get_by_text("The key was refused.").wait_for()
    enter(page, "open-sesame")
    page.get_by_text("a secret thought").first.wait_for()
    page.locator(".pulse.live").wait_for()
    page.reload()
    page.get_by_text("a secret thought").first.wait_for()
    assert "open-sesame" not in page.url
    page.get_by_role("button", name="Forget key").click()
    page.get_by_text("This service asks for a key").wait_for()


def test_a_tab_keeps_the_key_for_itself_unless_told_otherwise(locked, open_page, browser):
    for remember, asked_again in ((False, True), (True, False)):
        context = browser.new_context()
        page = open_page(locked, context=context, quiet=False)
        enter(page, "open-sesame", remember=remember)
        page.get_by_role("heading", name="guarded").wait_for()
        other = open_page(locked, context=context, quiet=False)
        other.get_by_text("This service asks for a key" if asked_again else "✓ complete").wait_for()


def test_copies_name_the_key_and_do_not_hold_it(locked, open_page, browser):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = open_page(locked, "#/group/1", context=context, quiet=False)
    enter(page, "open-sesame")
    page.get_by_text("Copy or export").click()
    page.get_by_role("button", name="Copy as curl").click()
    page.get_by_text("copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "$OPERA_API_KEY" in copied
    assert "open-sesame" not in copied
