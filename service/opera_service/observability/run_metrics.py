"""The rolling numbers of runs as Prometheus gauges, read when asked. One label `run`, of bounded variety."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric

from opera_service.observability.run_health import RunNumbers

_GAUGES = {
    "window_trajectories": ("trajectories", "Trajectories in the run's window."),
    "reward_mean": ("reward_mean", "Mean reward over the run's window."),
    "reward_spread": ("reward_spread", "Mean standard deviation of rewards within groups."),
    "equal_groups_ratio": ("equal_groups", "Share of groups whose rewards are all equal."),
    "truncated_ratio": ("truncated", "Share of responses cut off in the thought or before the answer."),
    "thinkless_ratio": ("thinkless", "Share of responses without a thought."),
    "response_tokens": ("response_tokens", "Mean length of responses."),
    "length_ratio": ("length_ratio", "Mean length of recent responses over that of the run's first ones."),
}


class RunMetrics:
    """A collector for a Prometheus registry."""

    def __init__(self, snapshot: Callable[[], Mapping[str, RunNumbers]]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Yield every gauge with a sample a run."""
        runs = self._snapshot()
        for name, (attribute, text) in _GAUGES.items():
            family = GaugeMetricFamily(f"opera_run_{name}", text, labels=["run"])
            for run, numbers in runs.items():
                value = getattr(numbers, attribute)
                if value is not None:
                    family.add_metric([run], value)
            yield family
        flagged = GaugeMetricFamily(
            "opera_run_flagged_ratio",
            "Share of responses with a reward-hacking indicator.",
            labels=["run", "flag"],
        )
        for run, numbers in runs.items():
            for flag, share in numbers.flagged.items():
                flagged.add_metric([run, flag], share)
        yield flagged
