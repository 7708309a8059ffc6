"""What was counted can be scraped, with labels from closed lists."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from hopgate.metrics import Metrics


async def test_counts_are_scraped_after_a_flush_and_only_once() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for _ in range(3):
        metrics.decided("http", "allow")
    metrics.decided("http", "deny")
    metrics.masked(5)
    metrics.unauthenticated()
    metrics.failed_closed("mask")
    await metrics.flush()
    await metrics.flush()
    scraped = generate_latest(registry).decode()
    for line in (
        'hopgate_operations_total{effect="allow",kind="http"} 3.0',
        'hopgate_operations_total{effect="deny",kind="http"} 1.0',
        "hopgate_masked_values_total 5.0",
        "hopgate_unauthenticated_total 1.0",
        'hopgate_failed_closed_total{where="mask"} 1.0',
    ):
        assert line in scraped
