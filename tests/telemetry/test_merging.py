"""The metrics of several processes are merged into those of one daemon."""

from __future__ import annotations

import json

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics

from econed.telemetry.exposition import exposition
from econed.telemetry.merging import ProcessSnapshots, gauge, merged, without_gauges
from econed.telemetry.metrics import FAMILIES, Metrics, Snapshot
from tests.support.metrics import ACTION, busy_metrics, samples, series_of


def snapshot_of_requests(*durations: float, code: str = "") -> Snapshot:
    """Return the snapshot of a process that has finished requests of these durations in seconds."""
    metrics = Metrics([ACTION])
    for duration in durations:
        metrics.request_started()
        metrics.request_ended(ACTION, code, duration)
    return metrics.snapshot()


def series(name: str, value: float, *labels: str) -> Snapshot:
    """Return a snapshot with a single series."""
    return {name: [(list(labels), [value])]}


# Merging


def test_counters_are_summed_by_series() -> None:
    snapshot = merged(
        [snapshot_of_requests(0.1, 0.1), snapshot_of_requests(0.1), snapshot_of_requests(0.1, code="InternalError")]
    )
    assert series_of(snapshot, "econed_requests") == {(ACTION, "ok"): [3], (ACTION, "InternalError"): [1]}


def test_histograms_are_summed_by_bucket() -> None:
    """The result is that of a single process with all the requests."""
    separate = samples(merged([snapshot_of_requests(0.01, 0.3), snapshot_of_requests(0.3, 7.0, 90.0)]))
    together = samples(snapshot_of_requests(0.01, 0.3, 0.3, 7.0, 90.0))
    keys = [key for key in together if key[0].startswith("econed_request_duration_seconds")]
    assert len(keys) == 11
    assert {key: separate[key] for key in keys} == pytest.approx({key: together[key] for key in keys})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("econed_connections", 7.0),
        ("econed_requests_in_flight", 7.0),
        ("econed_reactor_lag_seconds", 4.0),
        ("econed_oned_reachable", 4.0),
        ("econed_oned_credentials_rejected", 3.0),
        ("process_start_time_seconds", 3.0),
        ("process_open_fds", 4.0),
        ("process_resident_memory_bytes", 7.0),
    ],
)
def test_gauges_are_combined_by_sum_maximum_or_minimum(name: str, expected: float) -> None:
    """Quantities are summed; of delays and states the maximum is used, of start times the minimum."""
    assert merged([series(name, 3.0), series(name, 4.0)]) == series(name, expected)


def test_the_earliest_expiry_of_a_certificate_is_used() -> None:
    """Some clients still reach a worker with the old certificate."""
    name = "econed_certificate_expiry_timestamp_seconds"
    snapshot = merged([series(name, 200.0, "a"), series(name, 100.0, "a"), series(name, 50.0, "b")])
    assert series_of(snapshot, name) == {("a",): [100.0], ("b",): [50.0]}


def test_merging_does_not_depend_on_order_and_grouping() -> None:
    first, second, third = (
        snapshot_of_requests(0.1),
        snapshot_of_requests(0.2, 3.0),
        series("econed_reactor_lag_seconds", 1.0),
    )
    expected = samples(merged([first, second, third]))
    assert samples(merged([merged([third, first]), second])) == pytest.approx(expected)
    assert samples(merged([second, merged([third, merged([]), first])])) == pytest.approx(expected)


def test_merging_does_not_change_the_snapshots() -> None:
    first, second = snapshot_of_requests(0.1), snapshot_of_requests(0.2)
    original = json.dumps([first, second])
    merged([first, second])
    assert json.dumps([first, second]) == original


def test_only_complete_series_of_known_families_are_merged() -> None:
    """A worker of a newer version may send other families, or families with other labels or buckets."""
    snapshot: Snapshot = {
        "econed_tomorrow": [([], [1.0])],
        "econed_requests": [([ACTION], [1.0]), ([ACTION, "ok"], [5.0])],
        "econed_request_duration_seconds": [([ACTION], [1.0, 2.0, 3.0])],
    }
    assert merged([snapshot]) == {"econed_requests": [([ACTION, "ok"], [5.0])]}


# Exited processes


def test_counters_outlive_a_process_and_gauges_do_not() -> None:
    snapshot = without_gauges(busy_metrics().snapshot())
    assert {"econed_requests", "econed_request_duration_seconds", "process_cpu_seconds"} <= snapshot.keys()
    assert not {family.name for family in FAMILIES if family.kind == "gauge"} & snapshot.keys()


def test_no_counter_decreases_when_a_process_exits() -> None:
    snapshots = ProcessSnapshots()
    snapshots.update(1, snapshot_of_requests(0.1, 0.1) | series("econed_connections", 5.0))
    snapshots.update(2, snapshot_of_requests(0.1) | series("econed_connections", 7.0))
    before = merged(snapshots.all())
    snapshots.process_exited(1)
    after = merged(snapshots.all())
    assert series_of(before, "econed_requests") == series_of(after, "econed_requests") == {(ACTION, "ok"): [3]}
    assert (gauge(before, "econed_connections"), gauge(after, "econed_connections")) == (12.0, 7.0)


def test_an_update_replaces_the_snapshot_of_a_process() -> None:
    snapshots = ProcessSnapshots()
    snapshots.update(1, snapshot_of_requests(0.1))
    snapshots.update(1, snapshot_of_requests(0.1, 0.2))
    assert series_of(merged(snapshots.all()), "econed_requests") == {(ACTION, "ok"): [2]}


def test_the_snapshots_of_exited_processes_are_merged_into_one() -> None:
    snapshots = ProcessSnapshots()
    for process in range(100):
        snapshots.update(process, snapshot_of_requests(0.1))
        snapshots.process_exited(process)
    assert len(snapshots.all()) == 1
    assert series_of(merged(snapshots.all()), "econed_requests") == {(ACTION, "ok"): [100]}


def test_a_process_that_exits_without_a_snapshot_counts_nothing() -> None:
    snapshots = ProcessSnapshots()
    snapshots.process_exited(1)
    assert merged(snapshots.all()) == {}


# As text


def test_families_without_values_are_in_the_text() -> None:
    """Their help is always available."""
    text = exposition({})[0].decode()
    for family in FAMILIES:
        assert f"# HELP {family.exposed_name} {family.help}\n# TYPE {family.exposed_name} {family.kind}\n" in text


def test_a_label_cannot_break_out_of_its_quotes() -> None:
    values = samples(series("econed_refusals", 1.0, 'a"} 2\nb\\'))
    assert values["econed_refusals_total", 'a"} 2\nb\\'] == 1


def test_the_default_is_the_format_of_prometheus() -> None:
    text, media_type = exposition(snapshot_of_requests(0.1), "text/html,*/*;q=0.8")
    assert media_type == "text/plain; version=0.0.4; charset=utf-8"
    assert not text.endswith(b"# EOF\n")


def test_openmetrics_is_used_if_the_accept_header_requests_it() -> None:
    """The header is that of Prometheus."""
    accept = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,*/*;q=0.1"
    text, media_type = exposition(busy_metrics().snapshot(), accept)
    assert media_type.startswith("application/openmetrics-text; version=")
    families = open_metrics(text.decode())  # type: ignore[no-untyped-call]
    values = {sample.name: sample.value for family in families for sample in family.samples}
    assert values["econed_requests_total"] == 1
