"""Which signal should an autoscaler follow? A seeded simulation of bursty rollouts on pods with measured rates.

Training runs are closed loops: a step's groups arrive as their generation ends, the next step begins when all are
scored and the policy is updated. A request stays with the pod it was sent to; a new pod helps later ones only.
Nothing is refused: the queue has no bound here.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from autoscale_workloads import Hardware, Run, measure, workloads_for
from autoscaler import Autoscaler, Load, Signal, by_requests, by_tokens, by_use

TICK_S = 15.0
"""Between two looks of the autoscaler, and the age of what it sees: one scrape, one poll."""
PRE_STOP_S = 15.0


@dataclass
class Pod:
    """A first-in-first-out server."""

    ready_at: float
    created_at: float
    free_at: float = 0.0
    leaving_at: float | None = None
    finishing: deque[tuple[float, float]] = field(default_factory=deque)
    """(end, tokens) of what it has not finished."""
    busy: deque[tuple[float, float]] = field(default_factory=deque)
    """(begin, end) of the work of the last tick and later."""

    def take(self, now: float, tokens: float, rate: float) -> tuple[float, float]:
        """Queue a request; return when it begins and ends."""
        begin = max(now, self.free_at)
        self.free_at = begin + tokens / rate
        self.finishing.append((self.free_at, tokens))
        self.busy.append((begin, self.free_at))
        return begin, self.free_at

    def load(self, now: float) -> tuple[float, int, float]:
        """Return the tokens and requests it has, and the seconds it worked since the last tick."""
        while self.finishing and self.finishing[0][0] <= now:
            self.finishing.popleft()
        while self.busy and self.busy[0][1] <= now - TICK_S:
            self.busy.popleft()
        worked = sum(max(0.0, min(end, now) - max(begin, now - TICK_S)) for begin, end in self.busy)
        return sum(tokens for _, tokens in self.finishing), len(self.finishing), worked


@dataclass(frozen=True)
class Outcome:
    """What became of one simulation."""

    requests: int
    wait_p50: float
    wait_p99: float
    """Seconds from a request's arrival to its engine call."""
    step_delay: float
    """Mean seconds from a step's last request to its last reward: what the training run waits."""
    steps_per_hour: float
    pod_hours: float
    cost: float
    """Pod seconds over the seconds of work."""
    peak: int
    overshoot: float
    """Most pods at a time over those that the busiest five minutes would fill."""


class Simulation:
    """Some runs on one service, for so many seconds."""

    def __init__(
        self,
        hardware: Hardware,
        runs: Sequence[Run],
        signal: Signal | None,
        *,
        seconds: float,
        pods: int,
        most: int,
        seed: int,
    ) -> None:
        self._hardware, self._runs, self._seconds = hardware, runs, seconds
        self._dice = random.Random(seed)
        self._autoscaler = Autoscaler(signal, pods, most)
        self._pods = [Pod(0.0, 0.0) for _ in range(pods)]
        self._gone: list[Pod] = []
        self._turn = 0
        self._seen = Load(pods, 0.0, 0, 0.0)
        self.waits: list[float] = []
        self._arrived: list[tuple[float, float]] = []
        self._delays: list[float] = []
        self._peak = pods

    def run(self) -> Outcome:
        """Simulate, and let everything that has begun come to its end."""
        events: list[tuple[float, int, str, int, float]] = []
        order = 0

        def push(at: float, what: str, run: int = 0, tokens: float = 0.0) -> None:
            nonlocal order
            order += 1
            heapq.heappush(events, (at, order, what, run, tokens))

        left = [0] * len(self._runs)
        last = [(0.0, 0.0)] * len(self._runs)
        for index, run in enumerate(self._runs):
            push(run.begins_s + self._dice.uniform(0.0, run.generation_s + run.train_s), "step", index)
        push(TICK_S, "tick")
        while events:
            now, _, what, index, tokens = heapq.heappop(events)
            if what == "tick":
                self._scale(now)
                if now < self._seconds:
                    push(now + TICK_S, "tick")
            elif what == "step" and now < min(self._seconds, self._runs[index].ends_s):
                requests = list(self._requests(self._runs[index]))
                left[index], last[index] = len(requests), (0.0, 0.0)
                for delay, size in requests:
                    push(now + delay, "request", index, size)
            elif what == "request":
                end = self._send(now, tokens)
                left[index] -= 1
                last[index] = (now, max(end, last[index][1]))
                if left[index] == 0:
                    self._delays.append(last[index][1] - now)
                    push(last[index][1] + self._runs[index].train_s, "step", index)
        return self._outcome()

    def _requests(self, run: Run) -> Iterator[tuple[float, float]]:
        """(seconds after the step's begin, tokens) of each request. Long groups are complete late."""
        lengths = sorted(self._dice.gauss(0.0, 1.0) for _ in range(run.groups))
        for first in range(0, run.groups, run.batch):
            groups = lengths[first : first + run.batch]
            delay = run.generation_s * math.exp(run.generation_spread * groups[-1])
            yield delay, sum(run.tokens * math.exp(run.spread * length) for length in groups)

    def _send(self, now: float, tokens: float) -> float:
        """Give a request to the next ready pod, in turn, as a Service does."""
        ready = [pod for pod in self._pods if pod.ready_at <= now]
        self._turn += 1
        begin, end = ready[self._turn % len(ready)].take(now, tokens, self._hardware.tokens_per_s)
        self.waits.append(begin - now)
        self._arrived.append((now, tokens))
        return end

    def _scale(self, now: float) -> None:
        """Act on what was seen one tick ago."""
        wanted = self._autoscaler.pods(now, replace(self._seen, pods=len(self._pods)))
        for _ in range(wanted - len(self._pods)):
            self._pods.append(Pod(now + self._hardware.start_s, now))
        for _ in range(len(self._pods) - wanted):
            leaving = self._pods.pop()  # the youngest
            leaving.leaving_at = max(now + PRE_STOP_S, leaving.free_at)
            self._gone.append(leaving)
        self._peak = max(self._peak, len(self._pods))
        loads = [pod.load(now) for pod in self._pods]
        tokens, requests, worked = (sum(column) for column in zip(*loads, strict=True))
        self._seen = Load(len(self._pods), tokens, requests, worked / TICK_S / len(self._pods))

    def _outcome(self) -> Outcome:
        ends = max(pod.free_at for pod in (*self._pods, *self._gone))
        over = max(ends, self._seconds)
        held = sum((pod.leaving_at or over) - pod.created_at for pod in (*self._pods, *self._gone))
        rate = self._hardware.tokens_per_s
        work = sum(tokens for _, tokens in self._arrived) / rate
        ordered = sorted(self.waits)
        needed = max(1, math.ceil(self._busiest(300.0) / rate / 300.0))
        return Outcome(
            requests=len(ordered),
            wait_p50=quantile(ordered, 0.5),
            wait_p99=quantile(ordered, 0.99),
            step_delay=sum(self._delays) / len(self._delays),
            steps_per_hour=3600 * len(self._delays) / over,
            pod_hours=held / 3600,
            cost=held / work,
            peak=self._peak,
            overshoot=self._peak / needed,
        )

    def _busiest(self, window: float) -> float:
        """Most tokens that arrived within `window` seconds."""
        best = total = 0.0
        inside: deque[tuple[float, float]] = deque()
        for at, tokens in self._arrived:
            inside.append((at, tokens))
            total += tokens
            while inside[0][0] < at - window:
                total -= inside.popleft()[1]
            best = max(best, total)
        return best


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of them does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def signals_for(hardware: Hardware) -> dict[str, Signal | None]:
    """Tokens by the seconds of work they are, requests by their number, use by its share; and no autoscaler."""
    rate = hardware.tokens_per_s
    return {
        **{f"tokens, {seconds} s of work": by_tokens(seconds * rate) for seconds in (5, 10, 20, 40, 80, 160)},
        **{f"requests, {count}": by_requests(count) for count in (1, 3, 10, 30, 100)},
        **{f"use, {share:.0%}": by_use(share) for share in (0.5, 0.7, 0.8, 0.9)},
        "all pods, always": None,
    }


def mean(outcomes: Sequence[Outcome]) -> Outcome:
    """Average every number over several seeds."""
    names = Outcome.__dataclass_fields__
    return Outcome(**{name: sum(getattr(one, name) for one in outcomes) / len(outcomes) for name in names})


def main() -> None:
    """Compare the signals and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens-per-s", type=float, help="Of one pod; measured here by default.")
    parser.add_argument("--start-s", type=float, help="From the wish for a pod to its first answer; likewise.")
    parser.add_argument("--serve", default="", help="Flags of the service that is measured.")
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--most", type=int, default=16, help="maxReplicas.")
    parser.add_argument("--json", action="store_true", help="Print one JSON object a line.")
    options = parser.parse_args()
    if options.tokens_per_s and options.start_s:
        hardware = Hardware("given", options.tokens_per_s, options.start_s)
    else:
        hardware = measure(options.serve.split())
    if not options.json:
        print(f"{hardware.name}: {hardware.tokens_per_s:.0f} tokens/s, ready after {hardware.start_s:.1f} s\n")
        print(
            f"{'workload':9s}{'signal':24s}{'wait p50':>9s}{'p99 s':>8s}{'step delay s':>13s}{'steps/h':>9s}"
            f"{'pod hours':>10s}{'cost':>6s}{'peak':>6s}{'overshoot':>10s}"
        )
    for workload, runs in workloads_for(hardware, options.hours).items():
        for name, signal in signals_for(hardware).items():
            least = options.most if signal is None else 1
            found = mean(
                [
                    Simulation(
                        hardware,
                        runs,
                        signal,
                        seconds=3600 * options.hours,
                        pods=least,
                        most=options.most,
                        seed=seed,
                    ).run()
                    for seed in range(options.seeds)
                ]
            )
            if options.json:
                print(json.dumps({"workload": workload, "signal": name, **found.__dict__}))
            else:
                print(
                    f"{workload:9s}{name:24s}{found.wait_p50:9.1f}{found.wait_p99:8.1f}{found.step_delay:13.1f}"
                    f"{found.steps_per_hour:9.1f}{found.pod_hours:10.1f}{found.cost:6.2f}{found.peak:6.1f}"
                    f"{found.overshoot:10.2f}"
                )


if __name__ == "__main__":
    main()
