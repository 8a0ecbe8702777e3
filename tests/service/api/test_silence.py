"""Prompts, references and responses stay out of the log, at every level, unless a flag lets them in."""

import logging

import pytest

from opera_service.pipelines import reward as pipeline

from ..app import opened
from .conftest import group

SECRET = "xylophone-marmalade"
BODIES = [
    {"groups": [group(prompt=SECRET, reference=SECRET)]},
    {"groups": [group(prompt=SECRET, task="math", reference=rf"\boxed{{{SECRET}}} = \frac{{1}}")]},
    {"groups": [group(prompt=SECRET, trajectories=[{"response": ""}])]},
    {"groups": [group(prompt=[{"role": SECRET, "content": SECRET}])]},
    {"groups": [group(prompt=SECRET, surprise=SECRET)]},
    {"reward": SECRET, "groups": [group()]},
]


@pytest.fixture
def all_levels(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    return caplog


async def test_a_log_at_debug_level_holds_no_prompt(all_levels: pytest.LogCaptureFixture, capfd):
    async with opened() as client:
        for body in BODIES:
            await client.post("/reward", json=body)
        await client.post("/reward", content=f'{{"groups": {SECRET}'.encode())
        await client.post("/rank", json={"items": [{"prompt": SECRET, "candidates": [SECRET, SECRET + "!"]}]})
        await client.post("/score", json={"items": [{"context": SECRET, "target": SECRET}]})
        await client.post("/tokenize", json={"prompt": SECRET})
    assert all_levels.records, "something is logged at debug level"
    assert SECRET not in all_levels.text
    printed = capfd.readouterr()
    assert SECRET not in printed.out + printed.err


async def fail_in_the_pipeline(monkeypatch: pytest.MonkeyPatch, **settings) -> None:
    def talkative(*_: object) -> None:
        raise RuntimeError(f"cannot read {SECRET}")

    monkeypatch.setattr(pipeline, "_plan_all", talkative)
    async with opened(**settings) as client:
        response = await client.post("/reward", json={"groups": [group(prompt=SECRET)]})
        assert response.status_code == 500
        assert SECRET not in response.text


async def test_a_defect_is_logged_without_what_was_sent(monkeypatch, all_levels: pytest.LogCaptureFixture):
    await fail_in_the_pipeline(monkeypatch)
    assert "RuntimeError" in all_levels.text
    assert "talkative" in all_levels.text, "the frames are there"
    assert SECRET not in all_levels.text


async def test_a_flag_lets_it_in(monkeypatch, all_levels: pytest.LogCaptureFixture):
    await fail_in_the_pipeline(monkeypatch, log_prompts=True)
    assert SECRET in all_levels.text
