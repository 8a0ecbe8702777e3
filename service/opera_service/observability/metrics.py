"""What /metrics shows: one registry an app, counted where things happen, gauges read when asked.

Names start with `opera_`. It knows numbers, labels and the `rewarded` event; no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from opera_service.observability.rewarded import Rewarded
from opera_service.observability.run_health import HACKING, THINKLESS
from opera_service.scoring.dispatcher import BatchReport

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKENS = tuple(4**power for power in range(2, 12))
_REWARDS = (-10, -5, -2, -1, -0.5, -0.25, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 2, 5, 10)
_SPREADS = (0, 0.001, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 2, 5)


class Metrics:
    """Counters and histograms of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"opera_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"opera_{name}", text, labels, buckets=buckets, registry=self.registry)

        self._requests = counter("requests", "Answers by route and HTTP status.", "route", "status")
        self._request_seconds = histogram("request_seconds", "Seconds of a whole request.", _SECONDS, "route")
        self._in_hand: set[object] = set()
        running = Gauge("opera_requests_running", "Requests that are being answered.", registry=self.registry)
        running.set_function(lambda: len(self._in_hand))
        self._encode_seconds = histogram(
            "encode_seconds", "Seconds from text to token trees, per request.", _SECONDS
        )
        self._queue_seconds = histogram("queue_seconds", "Seconds that a tree waited for the engine.", _SECONDS)
        self._engine_seconds = histogram("engine_seconds", "Seconds of an engine call.", _SECONDS)
        self._read_seconds = histogram("read_seconds", "Seconds from scores to answers, per request.", _SECONDS)
        self._batch_tokens = histogram("batch_tokens", "Distinct tree tokens per engine call.", _TOKENS)
        self._batches = counter("batches", "Engine calls by outcome: ok or an error code.", "outcome")
        self._dropped = counter("dropped_trees", "Trees dropped before the engine, by reason.", "reason")
        self._dropped_samplings = counter(
            "dropped_samplings", "Items of /expand dropped before they were sampled, by reason.", "reason"
        )
        self._rejected = counter("rejected", "Requests refused by a bound, by reason.", "reason")
        self._tokens_naive = counter("tokens_naive", "Tokens that re-encoding every context would cost.")
        self._tokens_computed = counter("tokens_computed", "Tokens that went through the model.")
        self._tokens_scored = counter("tokens_scored", "Log-probabilities read.")
        self._item_errors = counter("item_errors", "Items answered with an error, by code.", "code")
        self._policy_loads = counter(
            "policy_loads", "Loads of weights by outcome: ok or an error code.", "outcome"
        )
        # Without sums: those of negative numbers fall, which `rate` takes for restarts. Means are gauges by run.
        self._rewards = histogram(
            "trajectory_reward", "Rewards of single trajectories.", _REWARDS, "reward", "preset"
        )
        self._components = histogram(
            "trajectory_reward_component", "Components of rewards, before their weights.", _REWARDS,
            "reward", "preset", "component",
        )  # fmt: skip
        self._trajectories = counter(
            "trajectories", "Trajectories answered by status: ok or error.", "reward", "preset", "status"
        )
        self._thinkless = counter(
            "thinkless_trajectories", "Scored trajectories without a thought.", "reward", "preset"
        )
        self._flagged = counter(
            "flagged_trajectories", "Trajectories with a reward-hacking indicator, by indicator.", "flag"
        )
        self._spreads = histogram(
            "reward_group_spread", "Largest minus smallest reward of a group.", _SPREADS, "reward", "preset"
        )

    def start_at_zero(
        self,
        *,
        routes: Iterable[str],
        statuses: Iterable[int],
        refusals: Iterable[str],
        item_errors: Iterable[str],
        weight_errors: Iterable[str],
        flags: Iterable[str],
        reward: str,
        preset: str,
        components: Iterable[str],
    ) -> None:
        """Show zeros for labels that are known beforehand.

        A counter that first appears as 1 has not risen, so `rate` and `increase` miss the first event of its kind.
        """
        for route in routes:
            self._request_seconds.labels(route)
            for status in statuses:
                self._requests.labels(route, str(status))
        for reason in ("expired", "abandoned"):
            self._dropped.labels(reason)
            self._dropped_samplings.labels(reason)
        for counter, values in (
            (self._batches, ("ok", "engine_failed", "engine_out_of_memory")),
            (self._rejected, refusals),
            (self._item_errors, item_errors),
            (self._policy_loads, ("ok", *weight_errors)),
            (self._flagged, flags),
        ):
            for value in values:
                counter.labels(value)
        for outcome in ("ok", "error"):
            self._trajectories.labels(reward, preset, outcome)
        for metric in (self._rewards, self._thinkless, self._spreads):
            metric.labels(reward, preset)
        for component in components:
            self._components.labels(reward, preset, component)

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Count a request as running for the length of the block."""
        token = object()
        self._in_hand.add(token)
        try:
            yield
        finally:
            self._in_hand.discard(token)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def encoded(self, seconds: float) -> None:
        """Record the encoding time of one request."""
        self._encode_seconds.observe(seconds)

    def read(self, seconds: float) -> None:
        """Record how long the scores of one request took to become its answer."""
        self._read_seconds.observe(seconds)

    def batch(self, report: BatchReport) -> None:
        """Record one engine call."""
        self._batches.labels(report.error or "ok").inc()
        self._batch_tokens.observe(report.tokens)
        self._engine_seconds.observe(report.engine_s)
        for wait in report.queue_s:
            self._queue_seconds.observe(wait)

    def dropped(self, reason: str, count: int) -> None:
        """Count trees that were dropped unscored."""
        self._dropped.labels(reason).inc(count)

    def dropped_sampling(self, reason: str, count: int) -> None:
        """Count items whose branches nobody waits for any more."""
        self._dropped_samplings.labels(reason).inc(count)

    def rejected(self, reason: str) -> None:
        """Count one request that was refused because of a bound."""
        self._rejected.labels(reason).inc()

    def cost(self, *, naive: int, computed: int, scored: int) -> None:
        """Count the tokens of one request."""
        self._tokens_naive.inc(naive)
        self._tokens_computed.inc(computed)
        self._tokens_scored.inc(scored)

    def item_error(self, code: str) -> None:
        """Count one item that got an error."""
        self._item_errors.labels(code).inc()

    def policy_load(self, outcome: str) -> None:
        """Count one attempt to load weights."""
        self._policy_loads.labels(outcome).inc()

    def rewarded(self, event: Rewarded) -> None:
        """Record what a rewarded request got, its errors and its indicators; a subscriber."""
        labels = event.request.reward, event.request.preset
        for group in event.groups:
            rewards = []
            for one in group.result.trajectories:
                if one.reward is None:
                    continue
                rewards.append(one.reward)
                self._rewards.labels(*labels).observe(one.reward)
                for name, value in (one.components or {}).items():
                    self._components.labels(*labels, name).observe(value)
                self._thinkless.labels(*labels).inc(int(not THINKLESS.isdisjoint(one.flags)))
                for flag in one.flags if event.is_fresh(one.id) else ():
                    if flag in HACKING:
                        self._flagged.labels(flag).inc()
            self._trajectories.labels(*labels, "ok").inc(len(rewards))
            self._trajectories.labels(*labels, "error").inc(group.result.size - len(rewards))
            if len(rewards) > 1:  # one alone has no spread
                self._spreads.labels(*labels).observe(max(rewards) - min(rewards))

    def watch(self, gauges: Callable[[], Mapping[str, float]], info: Callable[[], Mapping[str, str]]) -> None:
        """Show live numbers, and the model's labels as `opera_model_info`, on every scrape."""
        self.registry.register(_Live(gauges, info))

    def watch_counted(
        self, gauges: Callable[[], Mapping[str, float]], counters: Callable[[], Mapping[str, float]]
    ) -> None:
        """Show what somebody else counts on every scrape."""
        self.registry.register(_Counted(gauges, counters))

    def render(self) -> bytes:
        """Return everything in the Prometheus text format."""
        return generate_latest(self.registry)


class _Live:
    """Reads gauges at the moment of the scrape, so that they cannot leak."""

    def __init__(self, gauges: Callable[[], Mapping[str, float]], info: Callable[[], Mapping[str, str]]) -> None:
        self._gauges, self._info = gauges, info

    def collect(self) -> Iterable[Metric]:
        for name, value in self._gauges().items():
            yield GaugeMetricFamily(f"opera_{name}", _text(name), value)
        labels = self._info()
        info = GaugeMetricFamily("opera_model_info", "The served model; always 1.", labels=list(labels))
        info.add_metric(list(labels.values()), 1.0)
        yield info


class _Counted:
    """Reads gauges and counters that somebody else keeps."""

    def __init__(
        self, gauges: Callable[[], Mapping[str, float]], counters: Callable[[], Mapping[str, float]]
    ) -> None:
        self._gauges, self._counters = gauges, counters

    def collect(self) -> Iterable[Metric]:
        for name, value in self._gauges().items():
            yield GaugeMetricFamily(f"opera_{name}", _text(name), value)
        for name, value in self._counters().items():
            yield CounterMetricFamily(f"opera_{name}", _text(name), value)


_TEXTS = {
    "queue_requests": "Requests that wait for the engine, or are being turned into trees; read from the queue.",
    "queue_trees": "Trees that wait for the engine; read from the queue.",
    "queue_samplings": "Items of /expand that wait to be sampled; read from the queue.",
    "queue_tokens": "Distinct tokens that wait, and the most that items of /expand can take; read from the queue.",
    "drain_tokens_per_second": "Measured rate at which waiting trees are scored; 0 until something was measured.",
    "sampling_tokens_per_second": "Measured rate of sampling, by the most tokens it could have taken.",
    "running_trees": "Trees on the engine now.",
    "running_samplings": "Items of /expand on the engine now.",
    "running_tokens": "Tokens on the engine now, counted as in the queue.",
    "engine_ok": "Whether the engine can score.",
    "engine_memory_bytes": "Device memory that the engine holds.",
    "groups_waiting": "Groups that wait for members.",
    "hinted_members": "Trajectories that hints have told of.",
    "hinted_tokens": "Estimated tokens of hinted trajectories that are held.",
    "hints_taken": "Hints that told something new.",
    "hints_repeated": "Hints whose part was known already.",
    "hints_refused": "Hints for an engine that keeps nothing between calls.",
    "hints_worked": "Times that the service worked ahead for a hinted trajectory.",
    "hints_failed": "Times that working ahead ended in an error, which changes no answer.",
    "group_places_waiting": "Places of groups that wait for members, empty ones included.",
    "group_tokens_waiting": "Estimated tokens that room is kept for in waiting groups.",
    "group_answers_kept": "Answers kept for members that come again.",
    "groups_complete": "Groups scored with all their members.",
    "groups_partial": "Groups scored with the members present when a wait was over.",
    "groups_late": "Members scored after their group's partial answer.",
    "groups_failed": "Scorings of a gathered group that ended in an error.",
    "groups_expired": "Groups dropped unanswered, because nobody came back for them.",
    "groups_incomplete": "Callers told that their group is incomplete.",
    "groups_duplicates": "Arrivals of a member that had its place already.",
    "groups_refused": "Members refused by a limit.",
    "cache_entries": "Trees whose scores are remembered.",
    "cache_bytes": "Bytes that remembered scores of trees take.",
    "cache_hits": "Trees answered from memory.",
    "cache_misses": "Trees that had to be scored.",
    "cache_evictions": "Scores forgotten to make room.",
    "idempotent_answers_kept": "Answers remembered under their Idempotency-Key.",
    "idempotent_answer_bytes": "Bytes that remembered answers to an Idempotency-Key take.",
    "idempotent_replays": "Requests answered from the idempotency cache.",
}


def _text(name: str) -> str:
    return _TEXTS.get(name) or name.replace("_", " ").capitalize() + "."
