"""Several processes are one daemon to whoever looks at its numbers."""

from __future__ import annotations

import json

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics

from econed.telemetry.merging import ProcessSnapshots, exposition, gauge, lasting, merged
from econed.telemetry.metrics import FAMILIES, Metrics, Snapshot
from tests.support.metrics import ACTION, busy_metrics, samples, series_of


def answering(*seconds: float, code: str = "") -> Snapshot:
    """Return what a process says that has answered requests."""
    metrics = Metrics([ACTION])
    for each in seconds:
        metrics.request_started()
        metrics.request_ended(ACTION, code, each)
    return metrics.snapshot()


def series(name: str, value: float, *labels: str) -> Snapshot:
    """Return a snapshot with one number."""
    return {name: [(list(labels), [value])]}


# Adding up


def test_counters_are_added_up_series_by_series() -> None:
    found = merged([answering(0.1, 0.1), answering(0.1), answering(0.1, code="InternalError")])
    assert series_of(found, "econed_requests") == {(ACTION, "ok"): [3], (ACTION, "InternalError"): [1]}


def test_histograms_are_added_up_bucket_by_bucket() -> None:
    """The sum of two processes is what one would have measured that had done everything."""
    apart = samples(merged([answering(0.01, 0.3), answering(0.3, 7.0, 90.0)]))
    together = samples(answering(0.01, 0.3, 0.3, 7.0, 90.0))
    of_histogram = [key for key in together if key[0].startswith("econed_request_duration_seconds")]
    assert len(of_histogram) == 11
    assert {key: apart[key] for key in of_histogram} == pytest.approx({key: together[key] for key in of_histogram})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("econed_connections", 7.0),
        ("econed_requests_in_flight", 7.0),
        ("econed_reactor_lag_seconds", 4.0),
        ("econed_oned_reachable", 4.0),
        ("process_start_time_seconds", 3.0),
        ("process_open_fds", 4.0),
        ("process_resident_memory_bytes", 7.0),
    ],
)
def test_gauges_come_together_as_their_meaning_has_it(name: str, expected: float) -> None:
    """What there is, is added up; of what is the same or bad for all, the largest counts, of a beginning the first."""
    assert merged([series(name, 3.0), series(name, 4.0)]) == series(name, expected)


def test_of_a_certificate_the_earliest_end_counts() -> None:
    """A worker that still has the old one is what clients get to see."""
    name = "econed_certificate_expiry_timestamp_seconds"
    found = merged([series(name, 200.0, "a"), series(name, 100.0, "a"), series(name, 50.0, "b")])
    assert series_of(found, name) == {("a",): [100.0], ("b",): [50.0]}


def test_adding_up_is_the_same_in_any_order_and_grouping() -> None:
    first, second, third = answering(0.1), answering(0.2, 3.0), series("econed_reactor_lag_seconds", 1.0)
    expected = samples(merged([first, second, third]))
    assert samples(merged([merged([third, first]), second])) == pytest.approx(expected)
    assert samples(merged([second, merged([third, merged([]), first])])) == pytest.approx(expected)


def test_adding_up_changes_none_of_the_parts() -> None:
    first, second = answering(0.1), answering(0.2)
    before = json.dumps([first, second])
    merged([first, second])
    assert json.dumps([first, second]) == before


def test_nothing_but_whole_known_series_is_taken() -> None:
    """A worker of a version that was installed meanwhile may count what this one does not know, or otherwise."""
    strange: Snapshot = {
        "econed_tomorrow": [([], [1.0])],
        "econed_requests": [([ACTION], [1.0]), ([ACTION, "ok"], [5.0])],
        "econed_request_duration_seconds": [([ACTION], [1.0, 2.0, 3.0])],
    }
    assert merged([strange]) == {"econed_requests": [([ACTION, "ok"], [5.0])]}


# What ends


def test_of_a_process_that_ended_what_it_counted_remains_and_not_how_it_was() -> None:
    found = lasting(busy_metrics().snapshot())
    assert {"econed_requests", "econed_request_duration_seconds", "process_cpu_seconds"} <= found.keys()
    assert not {each.name for each in FAMILIES if each.kind == "gauge"} & found.keys()


def test_no_sum_goes_down_when_a_process_ends() -> None:
    kept = ProcessSnapshots()
    kept.update(1, answering(0.1, 0.1) | series("econed_connections", 5.0))
    kept.update(2, answering(0.1) | series("econed_connections", 7.0))
    before = merged(kept.all())
    kept.process_exited(1)
    after = merged(kept.all())
    assert series_of(before, "econed_requests") == series_of(after, "econed_requests") == {(ACTION, "ok"): [3]}
    assert (gauge(before, "econed_connections"), gauge(after, "econed_connections")) == (12.0, 7.0)


def test_what_a_process_says_replaces_what_it_said() -> None:
    kept = ProcessSnapshots()
    kept.update(1, answering(0.1))
    kept.update(1, answering(0.1, 0.2))
    assert series_of(merged(kept.all()), "econed_requests") == {(ACTION, "ok"): [2]}


def test_many_that_end_one_after_the_other_take_no_more_room_than_one() -> None:
    kept = ProcessSnapshots()
    for number in range(100):
        kept.update(number, answering(0.1))
        kept.process_exited(number)
    assert len(kept.all()) == 1
    assert series_of(merged(kept.all()), "econed_requests") == {(ACTION, "ok"): [100]}


def test_a_process_that_ended_before_it_said_anything_counts_nothing() -> None:
    kept = ProcessSnapshots()
    kept.process_exited(1)
    assert merged(kept.all()) == {}


# As text


def test_every_family_is_named_also_without_a_number() -> None:
    """Whoever looks for a name finds what it is for."""
    text = exposition({})[0].decode()
    for family in FAMILIES:
        assert f"# HELP {family.exposed_name} {family.help}\n# TYPE {family.exposed_name} {family.kind}\n" in text


def test_a_label_cannot_break_out_of_its_quotes() -> None:
    found = samples(series("econed_refusals", 1.0, 'a"} 2\nb\\'))
    assert found["econed_refusals_total", 'a"} 2\nb\\'] == 1


def test_prometheus_own_format_is_the_rule() -> None:
    text, media_type = exposition(answering(0.1), "text/html,*/*;q=0.8")
    assert media_type == "text/plain; version=0.0.4; charset=utf-8"
    assert not text.endswith(b"# EOF\n")


def test_who_asks_for_openmetrics_gets_it() -> None:
    """As Prometheus asks."""
    accept = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,*/*;q=0.1"
    text, media_type = exposition(busy_metrics().snapshot(), accept)
    assert media_type.startswith("application/openmetrics-text; version=")
    families = open_metrics(text.decode())  # type: ignore[no-untyped-call]
    found = {sample.name: sample.value for family in families for sample in family.samples}
    assert found["econed_requests_total"] == 1
