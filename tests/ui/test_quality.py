"""Reading for everybody: accessibility by axe, narrow screens, and a list of ten thousand groups."""

from pathlib import Path
from statistics import median, quantiles

import pytest
from tests.ui.conftest import group, think, until

AXE = Path(__file__).parents[2] / "ui/node_modules/axe-core/axe.min.js"
RESPONSES = (
    think("There are 6 pears at first.", "Ben took 2.", "Wait, 6 minus 2 is 4."),
    think("There are 9 pears.", "So 9.", answer="There are 9 pears."),
)


@pytest.fixture(scope="module")
def fed(service):
    for step in range(4):
        service.reward("quality", step, *(group(f"q{step}-{at}", *RESPONSES) for at in range(3)))
        service.reward("other", step, group("q", *RESPONSES))
    return service


PAGES = ["#/run/quality?with=other", "#/run/quality/2", "#/questions?question=earns_most", "group", "#/run/nobody"]


def opened(open_page, served, path: str, **how):
    if path == "group":
        until(lambda: served.client.get("/ui/api/groups", params={"run": "quality"}).json()["total"] == 12)
        key = served.client.get("/ui/api/groups", params={"run": "quality"}).json()["rows"][0]["key"]
        path = f"#/group/{key}?member=0&thought=1"
    page = open_page(served, path, **how)
    page.locator("main").wait_for()
    page.wait_for_timeout(600)
    return page


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: npm ci in ui/")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_no_serious_fault(fed, open_page, path: str, scheme: str):
    page = opened(open_page, fed, path, scheme=scheme)
    if path == "group":
        page.get_by_role("button", name="Ask again").click()
        page.locator("form.panel").wait_for()
    page.evaluate(AXE.read_text(encoding="utf-8"))  # as a script element the page would not run it
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    serious = [
        f"{one['impact']} {one['id']}: {one['help']} at {[node['target'] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []


@pytest.mark.parametrize("path", PAGES)
def test_a_narrow_screen_needs_no_scrolling_sideways(fed, open_page, path: str):
    page = opened(open_page, fed, path, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_ten_thousand_groups_scroll_smoothly(serve, open_page):
    served = serve("--engine", "dummy", "--audit-texts", "--ui-memory-mb", "512", "--max-groups", "500")
    for part in range(20):
        served.reward("many", 0, *(group(f"g{part}-{at}", *RESPONSES) for at in range(500)))
    until(lambda: served.client.get("/ui/api/overview").json()["storage"]["groups"] == 10_000, 120)
    page = open_page(served, "#/run/many/0")
    page.get_by_text("10,000 groups", exact=True).wait_for()
    page.locator(".group-row").first.wait_for()
    frames = page.evaluate(
        """async () => {
          const list = document.querySelector('.list'), frames = [];
          let last = performance.now();
          for (let at = 0; at < 240; at += 1) {
            list.scrollTop += 90;
            await new Promise(requestAnimationFrame);
            const now = performance.now();
            frames.push(now - last);
            last = now;
          }
          return frames;
        }"""
    )
    print(f"frames: median {median(frames):.1f} ms, 95th percentile {quantiles(frames, n=20)[-1]:.1f} ms")
    assert median(frames) < 34
    assert page.locator(".row-slot").count() < 60
    page.locator(".list").evaluate("one => { one.scrollTop = one.scrollHeight }")
    page.get_by_text("g0-0", exact=True).wait_for()
