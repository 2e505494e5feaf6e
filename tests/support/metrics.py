"""The metrics of econed, as a snapshot and as Prometheus reads them."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from econed.catalogue import all_actions
from econed.telemetry.exposition import exposition
from econed.telemetry.metrics import Metrics, Snapshot

ACTION = "DescribeInstances"


def series_of(snapshot: Snapshot, name: str) -> dict[tuple[str, ...], list[float]]:
    """Return the series of a family by the values of their labels."""
    return {tuple(labels): values for labels, values in snapshot[name]}


def samples(snapshot: Snapshot) -> dict[tuple[Any, ...], float]:
    """Return the samples that Prometheus reads from a snapshot; see `parse_exposition`."""
    return parse_exposition(exposition(snapshot)[0].decode())


def parse_exposition(text: str) -> dict[tuple[Any, ...], float]:
    """Return the values in a text for Prometheus, by name and the values of the labels, ordered by label name."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def busy_metrics() -> Metrics:
    """Return metrics in which every family has a value."""
    metrics = Metrics(action.name for action in all_actions())
    metrics.request_started()
    metrics.request_ended(ACTION, "", 0.02)
    metrics.track_connections(lambda: 3)
    metrics.limit_exceeded("rate")
    metrics.oned_call_ended("one.vmpool.infoset", 0.004, "ok")
    metrics.track_oned_calls(lambda: 2, lambda: 1)
    metrics.track_oned_state(lambda: True, lambda: 1_800_000_000.0)
    metrics.cache_lookup("user", "hit")
    metrics.upload_ended("received", 1000)
    metrics.script_ended("associate", "ok", 0.5)
    metrics.round_ended("done")
    metrics.set_reactor_lag(0.01)
    metrics.set_worker_count(2)
    metrics.worker_restarted()
    metrics.reloaded("configuration", "refused")
    metrics.set_certificate_expiry("cloud.example", 1_900_000_000.0)
    return metrics
