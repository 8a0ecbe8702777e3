"""Watching a run: news by itself, from trend to sample, two runs, several tabs, a restart."""

import re
import time

from tests.ui.conftest import group, think

GOOD = think("There are 6 pears at first.", "Ben took 2 of them, so 6 minus 2 is 4.")
SLIP = think("Ben took 2 of 6, so there are 5.", "Wait, 6 minus 2 is 4, not 5.")
LOST = think("There are pears.", "So there are 9.", answer="There are 9 pears.")


def feed(service, run: str, steps: range, groups: int = 2) -> None:
    for step in steps:
        service.reward(run, step, *(group(f"q{step}-{at}", GOOD, SLIP, LOST) for at in range(groups)))


def test_news_comes_by_itself_within_a_second(service, open_page):
    feed(service, "live", range(3))
    page = open_page(service, "#/run/live")
    page.get_by_text("6 groups", exact=True).wait_for()
    page.locator(".pulse.live").wait_for()
    took = []
    for step in range(3, 8):
        feed(service, "live", range(step, step + 1))
        start = time.monotonic()
        page.get_by_text(f"steps 0 to {step}", exact=True).wait_for()
        took.append(time.monotonic() - start)
    print(f"from the answer to the page: {[round(one, 3) for one in took]} s")
    assert sorted(took)[len(took) // 2] < 1.0


def test_from_a_trend_to_a_thought_in_three_clicks(service, open_page):
    feed(service, "clicks", range(4))
    page = open_page(service, "#/run/clicks")
    page.locator(".charts .tall svg").click()
    page.get_by_role("heading", name="step ").wait_for()
    page.locator(".group-row").first.click()
    page.locator(".member").first.wait_for()
    page.locator(".strip .block").first.click()
    page.locator(".thought.chosen").wait_for()
    assert page.locator(".member").count() == 3
    assert "member=0&thought=0" in page.url
    assert page.locator(".member .reward").first.inner_text() != "–"


def test_a_bar_of_the_histogram_leads_to_its_groups(service, open_page):
    feed(service, "bars", range(1), groups=3)
    page = open_page(service, "#/run/bars/0")
    page.get_by_text("3 groups", exact=True).wait_for()
    page.locator(".histogram .bar:not([disabled])").last.click()
    page.get_by_text("with a reward from").wait_for()
    assert "reward_min=" in page.url
    page.locator(".group-row").nth(2).wait_for()
    assert page.locator(".group-row").count() == 3
    page.get_by_role("button", name="show all").click()
    page.get_by_text("3 groups", exact=True).wait_for()


def test_the_keyboard_opens_a_step(service, open_page):
    feed(service, "keys", range(3))
    page = open_page(service, "#/run/keys")
    page.locator(".tall [role=slider]").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="step 1").wait_for()


def test_two_runs_side_by_side(service, open_page):
    feed(service, "left", range(3))
    feed(service, "right", range(5))
    page = open_page(service, "#/run/left")
    page.get_by_role("link", name="Put right beside left").click()
    page.get_by_role("heading", name="right").wait_for()
    page.locator(".tall path.line").nth(1).wait_for(state="attached")  # a flat line has no height to be seen by
    assert page.locator(".tall path.line").count() == 2
    assert page.url.endswith("#/run/left?with=right")


def test_the_badge_is_true(service, open_page):
    feed(service, "badge", range(1))
    page = open_page(service, "#/run/badge")
    page.locator(".badge.complete", has_text="2 whole").wait_for()
    service.reward("badge", 3, group("in part", GOOD, ""), group("failed", "", ""))
    page.locator(
        ".badge.incomplete", has_text="2 whole, 1 in part, 1 failed, no groups of steps 1 to 2"
    ).wait_for()


def test_a_second_tab_sees_the_same(service, open_page, browser):
    feed(service, "tabs", range(1))
    context = browser.new_context()
    first, second = (open_page(service, "#/run/tabs", context=context) for _ in range(2))
    for page in (first, second):
        page.get_by_text("steps 0 to 0").wait_for()
    feed(service, "tabs", range(1, 2))
    for page in (first, second):
        page.get_by_text("steps 0 to 1").wait_for()


def test_a_restart_is_survived_and_with_the_audit_log_nothing_is_lost(serve, open_page, tmp_path):
    flags = ("--engine", "dummy", "--audit", str(tmp_path / "a.db"))
    first = serve(*flags)
    feed(first, "again", range(2))
    page = open_page(first, "#/run/again", quiet=False)  # a browser logs lost connections as errors
    page.get_by_text("steps 0 to 1").wait_for()
    start = time.monotonic()
    first.process.terminate()
    first.process.wait(30)
    assert time.monotonic() - start < 8, "an open page must not hold the service up"
    page.get_by_text("reconnecting").wait_for()
    second = serve(*flags, port=first.port)
    page.get_by_text("The service was started again.").wait_for()
    page.get_by_text("steps 0 to 1").wait_for()
    feed(second, "again", range(2, 3))
    page.get_by_text("steps 0 to 2").wait_for()


def test_an_open_page_goes_on_when_its_service_is_gone(serve, open_page):
    served = serve("--engine", "dummy")
    feed(served, "gone", range(2))
    page = open_page(served, "#/run/gone", quiet=False)
    page.get_by_text("steps 0 to 1").wait_for()
    served.process.kill()
    served.process.wait(30)
    page.get_by_text("reconnecting").wait_for()
    assert page.get_by_text("steps 0 to 1").is_visible()


def test_nothing_yet_is_said_in_words_and_ends_by_itself(serve, open_page):
    served = serve("--engine", "dummy")
    page = open_page(served)
    page.get_by_text("Nothing was rewarded yet").wait_for()
    feed(served, "first", range(1))
    page.get_by_role("heading", name="first").wait_for()


def test_what_is_listened_to_costs_no_place_in_the_queue(service, open_page):
    page = open_page(service)
    page.locator(".pulse.live").wait_for()
    found = re.search(r"^opera_requests_running (\S+)", service.client.get("/metrics").text, re.MULTILINE)
    assert float(found[1]) <= 1  # the scrape itself
