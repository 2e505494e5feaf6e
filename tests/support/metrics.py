"""What econed counts, and how Prometheus reads it."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from econed.catalogue import all_actions
from econed.telemetry.merging import exposition
from econed.telemetry.metrics import Metrics, Snapshot

ACTION = "DescribeInstances"


def series_of(snapshot: Snapshot, name: str) -> dict[tuple[str, ...], list[float]]:
    """Return the series of a family by the values of their labels."""
    return {tuple(labels): values for labels, values in snapshot[name]}


def samples(snapshot: Snapshot) -> dict[tuple[Any, ...], float]:
    """Return what Prometheus sees of a snapshot; see `read`."""
    return parse_exposition(exposition(snapshot)[0].decode())


def parse_exposition(text: str) -> dict[tuple[Any, ...], float]:
    """Return the values in a text for Prometheus, by name and labels' values in the order of the labels' names."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def busy_metrics() -> Metrics:
    """Return the numbers of a process to which everything has happened."""
    made = Metrics(action.name for action in all_actions())
    made.request_started()
    made.request_ended(ACTION, "", 0.02)
    made.track_connections(lambda: 3)
    made.limit_exceeded("rate")
    made.oned_call_ended("one.vmpool.infoset", 0.004, "ok")
    made.track_oned_calls(lambda: 2, lambda: 1)
    made.track_oned_state(lambda: True, lambda: 1_800_000_000.0)
    made.cache_lookup("user", "hit")
    made.upload_ended("received", 1000)
    made.script_ended("associate", "ok", 0.5)
    made.round_ended("done")
    made.set_reactor_lag(0.01)
    made.set_worker_count(2)
    made.worker_restarted()
    made.reloaded("configuration", "refused")
    made.set_certificate_expiry("cloud.example", 1_900_000_000.0)
    return made
