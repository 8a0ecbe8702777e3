"""The autoscaling simulation: its queue against queueing theory, its autoscaler against the one in deploy/."""

import json
import math
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

import autoscale_sim as sim
import autoscaler

HARDWARE = sim.Hardware("some", tokens_per_s=1000.0, start_s=20.0)
RUN = sim.Run(groups=40, tokens=500.0, spread=0.5, generation_s=30.0, generation_spread=0.3, train_s=30.0)


def simulate(signal: autoscaler.Signal | None, **changes) -> sim.Outcome:
    given = {"seconds": 3600.0, "pods": 1, "most": 8, "seed": 1, **changes}
    return sim.Simulation(HARDWARE, [RUN] * 2, signal, **given).run()


def test_one_pod_waits_as_queueing_theory_says():
    """Poisson arrivals and equal work: the Pollaczek-Khinchine mean wait, ρ s / 2(1 - ρ)."""
    dice, pod, now, waits = random.Random(0), sim.Pod(0.0, 0.0), 0.0, []
    share, service = 0.7, 2.0
    for _ in range(200_000):
        now += dice.expovariate(share / service)
        begin, _ = pod.take(now, service * 1000.0, 1000.0)
        pod.load(now)
        waits.append(begin - now)
    expected = share * service / (2 * (1 - share))
    assert sum(waits) / len(waits) == pytest.approx(expected, rel=0.03)


def test_what_a_pod_says_of_itself():
    pod = sim.Pod(0.0, 0.0)
    pod.take(10.0, 4000.0, 1000.0)
    pod.take(11.0, 1000.0, 1000.0)
    assert pod.load(13.0) == (5000.0, 2, 3.0)
    assert pod.load(14.5) == (1000.0, 1, 4.5)
    assert pod.load(20.0) == (0, 0, 5.0)
    assert pod.load(26.0) == (0, 0, 4.0)


def test_the_same_seed_gives_the_same_numbers():
    signal = autoscaler.by_tokens(5000.0)
    assert simulate(signal) == simulate(signal)
    assert simulate(signal) != simulate(signal, seed=2)


def test_every_request_of_every_step_is_answered_and_paid_for():
    outcome = simulate(None, pods=3)
    assert outcome.requests % RUN.groups == 0
    assert outcome.steps_per_hour * outcome.pod_hours / 3 == pytest.approx(outcome.requests / RUN.groups)
    assert outcome.cost > 1


def test_more_pods_never_wait_longer():
    few, many = simulate(None, pods=1), simulate(None, pods=8)
    assert many.wait_p99 < few.wait_p99
    assert many.step_delay < few.step_delay
    assert many.pod_hours > few.pod_hours


def load(pods: int, tokens: float = 0.0) -> autoscaler.Load:
    return autoscaler.Load(pods, tokens, 0, 0.0)


def test_up_at_once_within_the_policies():
    scaler = autoscaler.Autoscaler(autoscaler.by_tokens(100.0), 1, 1000)
    assert scaler.pods(0.0, load(1, 1e6)) == 5, "four pods more"
    assert scaler.pods(15.0, load(5, 1e6)) == 20, "or fourfold"
    assert scaler.pods(30.0, load(20, 2150.0)) == 20, "within tolerance"
    assert scaler.pods(45.0, load(20, 2250.0)) == 23


def test_down_late_and_one_by_one():
    scaler = autoscaler.Autoscaler(autoscaler.by_tokens(100.0), 1, 8)
    assert scaler.pods(0.0, load(4, 800.0)) == 8
    pods, changes = 8, []
    for tick in range(1, 60):
        now = 15.0 * tick
        if (wanted := scaler.pods(now, load(pods))) != pods:
            changes.append((now, wanted))
            pods = wanted
    assert changes[0] == (315.0, 7)
    assert [later[0] - earlier[0] for earlier, later in pairwise(changes)] == [60.0] * 6
    assert pods == 1


def test_use_saturates_and_tokens_do_not():
    """Two minutes and two hours of work look the same by use."""
    short, long = (autoscaler.Load(2, minutes * 60_000.0, 10, 1.0) for minutes in (2, 120))
    assert autoscaler.by_use(0.8)(short) == autoscaler.by_use(0.8)(long) == 1.25
    assert autoscaler.by_tokens(60_000.0)(long) == 60 * autoscaler.by_tokens(60_000.0)(short) == 60.0


def test_the_simulated_autoscaler_is_the_one_we_deploy():
    path = Path(__file__).parents[2] / "deploy/kustomize/components/hpa/horizontalpodautoscaler.yaml"
    behavior = yaml.safe_load(path.read_text())["spec"]["behavior"]
    up = {policy["type"]: policy for policy in behavior["scaleUp"]["policies"]}
    assert (up["Percent"]["value"], up["Pods"]["value"]) == (autoscaler.UP_PERCENT, autoscaler.UP_PODS)
    assert {policy["periodSeconds"] for policy in up.values()} == {sim.TICK_S}
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == autoscaler.DOWN_WINDOW_S
    (down,) = behavior["scaleDown"]["policies"]
    assert (down["type"], down["value"], down["periodSeconds"]) == ("Pods", 1, autoscaler.DOWN_PERIOD_S)


def test_quantiles():
    assert [sim.quantile([1.0, 2.0, 3.0, 4.0], share) for share in (0.0, 0.5, 0.51, 1.0)] == [1.0, 2.0, 3.0, 4.0]
    assert math.isclose(sim.quantile([7.0], 0.99), 7.0)


def test_the_table_has_every_workload_and_signal(capsys, monkeypatch):
    flags = ["--tokens-per-s", "1000", "--start-s", "5", "--hours", "0.4", "--seeds", "1", "--json"]
    monkeypatch.setattr("sys.argv", ["autoscale_sim.py", *flags])
    sim.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["workload"] for row in rows} == {"mixed", "bursts", "surge"}
    assert len(rows) == 3 * len(sim.signals_for(HARDWARE))
    assert all(row["wait_p99"] >= row["wait_p50"] >= 0 and row["cost"] >= 1 for row in rows)


@pytest.mark.slow  # a service is started and measured
def test_rate_and_start_are_measured_on_a_running_service():
    folder = str(Path(sim.__file__).parent)
    script = (
        f"import sys; sys.path.insert(0, {folder!r}); import autoscale_sim as sim; "
        "found = sim.measure(['--engine', 'dummy', '--dummy-token-seconds', '0.0001'], groups=3); "
        "print(*found.__dict__.values(), sep='|')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    *_, rate, start = done.stdout.split("|")
    assert float(rate) > 0, "tokens a CPU second: the dummy engine sleeps, which costs none"
    assert float(start) > 0
