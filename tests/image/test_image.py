"""The image as built: who it runs as, what it may write, what it answers, how it leaves. `make image-test`."""

import json
import os
import re
import signal
import threading
from ast import literal_eval
from collections.abc import Iterator

import httpx
import pytest

from opera_client import RewardClient

from .container import Image, unpacked

NAME = os.environ.get("OPERA_TEST_IMAGE", "")
pytestmark = pytest.mark.skipif(not NAME, reason="builds an image: make image-test (README, More)")

GROUP = {
    "prompt": "The shelf has 3 books. Ann brought 4. How many books does the shelf have now?\n",
    "reference": "The shelf now has 7 books.",
    "trajectories": [
        {"response": "<think>\n3 and 4.\n\nWait, that is 7.\n\n</think>\n\nThe shelf now has 7 books."},
        {"response": "<think>\n3.\n\n</think>\n\nThe shelf now has 3 books."},
    ],
}
OPEN = {"OPERA_ALLOW_OPEN": "true", "OPERA_HOST": "127.0.0.1", "OPERA_PORT": "0", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    with unpacked(NAME) as found:
        yield found


def test_it_runs_as_nobody_in_particular_and_writes_to_one_place(image: Image):
    assert image.config["User"] == "10001:10001"
    assert image.run("id", "-u").stdout.strip() == "10001"
    for folder in ("/", "/opt/venv", "/tmp", "/etc"):
        assert "Read-only file system" in image.run("touch", f"{folder}/written").stderr
    assert image.run("touch", "/cache/written").returncode == 0


def test_every_cache_is_on_the_writable_mount(image: Image):
    environment = dict(line.split("=", 1) for line in image.config["Env"])
    caches = {name for name in environment if re.search("CACHE|HOME|TMPDIR", name)}
    assert len(caches) >= 9
    assert all(environment[name].startswith("/cache") for name in caches)
    assert list(image.config["Volumes"]) == ["/cache"]


def test_it_says_what_it_is_and_holds_no_secret(image: Image):
    labels = image.config["Labels"]
    for name in ("title", "version", "revision", "licenses"):
        assert labels[f"org.opencontainers.image.{name}"]
    said = json.dumps(image.config)
    assert not re.search(r"(?i)(password|secret|api_keys?=|token=)", said)
    assert not (image.root / "etc/pip.conf").exists() or not (image.root / "etc/pip.conf").read_text()
    assert not (image.root / "src").exists()


def test_the_bill_of_materials_lists_what_is_installed(image: Image):
    listed = json.loads((image.root / "opt/venv/sbom.cdx.json").read_text())
    assert listed["bomFormat"] == "CycloneDX"
    by_name = {part["name"].lower().replace("_", "-"): part["version"] for part in listed["components"]}
    script = (
        "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    )
    installed = literal_eval(image.run("/opt/venv/bin/python", "-I", "-c", script).stdout)
    for name in ("opera-reward", "torch", "fastapi", "transformers"):
        assert by_name[name] == installed[name]


def test_it_refuses_to_serve_everybody(image: Image):
    done = image.run(*image.config["Entrypoint"], *image.config["Cmd"])
    assert done.returncode == 2
    assert "--api-key-file" in done.stderr


def test_it_scores_with_the_embedded_model_drains_and_leaves_with_zero(image: Image):
    with image.serving(**OPEN) as (process, url):
        answer = httpx.post(f"{url}/reward", json={"groups": [GROUP]}, timeout=60).json()
        rewards = [member["reward"] for member in answer["groups"][0]["trajectories"]]
        with RewardClient.in_process() as here:
            (expected,) = here.reward([GROUP]).rewards
        assert rewards == pytest.approx(expected, abs=1e-3)
        assert rewards[0] != rewards[1]
        command = image.config["Healthcheck"]["Test"]
        assert command[0] == "CMD"
        health = [word.replace("http://127.0.0.1:8000", url) for word in command[1:]]
        assert image.run(*health).returncode == 0

        answers: list[httpx.Response] = []
        many = {"groups": [{**GROUP, "prompt": f"What is {number} less 1?\n"} for number in range(12)]}
        asking = [
            threading.Thread(target=lambda: answers.append(httpx.post(f"{url}/reward", json=many, timeout=120)))
            for _ in range(3)
        ]
        for one in asking:
            one.start()
        while "opera_requests_running 3.0" not in httpx.get(f"{url}/metrics").text:
            assert not answers, "the requests must be in flight when the signal comes"
        process.send_signal(signal.SIGTERM)
        for one in asking:
            one.join()
        assert [one.status_code for one in answers] == [200] * 3
        groups = [group["trajectories"] for one in answers for group in one.json()["groups"]]
        assert [[member["status"] for member in group] for group in groups] == [["ok", "ok"]] * 3 * 12
        assert process.wait(timeout=60) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_without_a_model_hub_nothing_is_missed(image: Image):
    """The demo model is inside: no download, no network."""
    with image.serving(**OPEN, HF_HUB_OFFLINE="1") as (_, url):
        assert httpx.get(f"{url}/readyz").json()["status"] == "ok"


def test_the_health_check_notices_a_dead_service(image: Image):
    assert image.run(*image.config["Healthcheck"]["Test"][1:]).returncode != 0
