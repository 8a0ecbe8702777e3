"""Alerts fire when they should and are silent when they should be, by promtool's own word."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from .cluster import KUSTOMIZE, ROOT

MANIFEST = KUSTOMIZE / "cluster" / "rules" / "prometheusrule.yaml"
CASES = Path(__file__).with_name("alerts.yaml")


def rules() -> list[dict]:
    return [rule for group in yaml.safe_load(MANIFEST.read_text())["spec"]["groups"] for rule in group["rules"]]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """The rules as Prometheus reads them, and the cases beside them."""
    spec = yaml.safe_load(MANIFEST.read_text())["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec))
    (tmp_path / "alerts.yaml").write_text(CASES.read_text())
    return tmp_path


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_prometheus_takes_the_rules(workplace: Path, tool: Callable[[str], str]):
    done = run(tool("promtool"), "check", "rules", workplace / "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_and_stay_silent(workplace: Path, tool: Callable[[str], str]):
    done = run(tool("promtool"), "test", "rules", workplace / "alerts.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_firing_and_a_silent_case():
    """Silent: for all at some time, or for a service that has the same series as the one that fires."""
    fired, silent = set(), set()
    for test in yaml.safe_load(CASES.read_text())["tests"]:
        series = " ".join(one["series"] for one in test["input_series"])
        services = set(re.findall('service="(.+?)"', series))
        for case in test["alert_rule_test"]:
            firing = {alert["exp_labels"]["service"] for alert in case["exp_alerts"]}
            fired |= {case["alertname"]} if firing else set()
            silent |= {case["alertname"]} if services - firing else set()
    assert fired == silent == {rule["alert"] for rule in rules()}


def test_every_alert_is_explained():
    text = (ROOT / "docs" / "alerts.md").read_text()
    for rule in rules():
        assert f"## {rule['alert']}\n" in text
        assert rule["labels"]["severity"] in ("warning", "critical")
