"""Counters for Prometheus. Under `hopgate up` the processes share them through prometheus_client's multiprocess files."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class Metrics:
    """The counters of one process. Labels are from closed lists only: a caller's text in a label would be a leak and a memory leak."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = registry if registry is not None else CollectorRegistry()
        self.registry = registry
        self._operations = Counter("hopgate_operations", "operations decided", ["kind", "effect"], registry=registry)
        self._masked = Counter("hopgate_masked_values", "values masked in responses", registry=registry)
        self._unauthenticated = Counter("hopgate_unauthenticated", "requests without a valid token", registry=registry)
        self._errors = Counter("hopgate_failed_closed", "operations refused because a gate failed", ["where"], registry=registry)
        self.sessions = Gauge("hopgate_sessions", "live sessions", registry=registry, multiprocess_mode="livesum")
        self.holds = Gauge("hopgate_held_operations", "operations waiting for a reviewer", registry=registry, multiprocess_mode="livesum")
        self.rules_stale = Gauge(
            "hopgate_rules_stale", "1 while a broken rule file is ignored", registry=registry, multiprocess_mode="livemax"
        )
        self._notifications = Counter("hopgate_notifications", "attempts to tell reviewers of an approval", ["outcome"], registry=registry)
        # an operation is counted on the hot path, where a counter that processes share costs microseconds: `flush` tells them each second
        self._decided: dict[tuple[str, str], int] = {}
        self._hidden = 0

    def decided(self, kind: str, effect: str, count: int = 1) -> None:
        key = (kind, effect)
        self._decided[key] = self._decided.get(key, 0) + count

    def masked(self, values: int) -> None:
        self._hidden += values

    async def flush(self) -> None:
        """Put what was counted since the last time where it is scraped."""
        decided, self._decided = self._decided, {}
        for (kind, effect), number in decided.items():
            self._operations.labels(kind, effect).inc(number)
        hidden, self._hidden = self._hidden, 0
        self._masked.inc(hidden)

    def unauthenticated(self) -> None:
        self._unauthenticated.inc()

    def notified(self, outcome: str) -> None:
        """`outcome`: sent, retried, failed or dropped."""
        self._notifications.labels(outcome).inc()

    def failed_closed(self, where: str) -> None:
        self._errors.labels(where).inc()
