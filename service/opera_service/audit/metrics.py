"""The state of the audit log for Prometheus, read when asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from opera_service.audit.writer import AuditLog, Loss


class AuditMetrics:
    """A collector for a Prometheus registry."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    def collect(self) -> Iterator[Metric]:
        """Yield counters and gauges."""
        log = self._log
        yield GaugeMetricFamily(
            "opera_audit_ok", "Whether the audit log could be written last time.", float(log.ok)
        )
        yield GaugeMetricFamily(
            "opera_audit_waiting_bytes", "Estimated bytes of entries that wait to be written.", log.waiting_bytes
        )
        yield CounterMetricFamily(
            "opera_audit_written_trajectories", "Trajectories in the audit log.", log.written
        )
        yield CounterMetricFamily("opera_audit_failures", "Tries to write that failed.", log.failures)
        lost = CounterMetricFamily(
            "opera_audit_lost_trajectories",
            "Trajectories that are not in the audit log, by reason.",
            labels=["reason"],
        )
        for reason in get_args(Loss):
            lost.add_metric([reason], log.lost[reason])
        yield lost
