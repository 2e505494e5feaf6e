"""The metrics of one process: stable names, few labels, no label values invented by clients."""

from __future__ import annotations

import json
import subprocess

import pytest
from prometheus_client.registry import REGISTRY

from econed import __version__
from econed.catalogue import all_actions
from econed.telemetry.exposition import exposition
from econed.telemetry.metrics import FAMILIES, FAMILY, UNKNOWN, Metrics
from tests.support.metrics import ACTION, busy_metrics, samples, series_of
from tests.support.tools import require_tool


@pytest.fixture
def metrics() -> Metrics:
    """The metrics of a process with a single known action."""
    return Metrics([ACTION])


def test_a_request_is_counted_by_action_and_code_and_timed_by_action(metrics: Metrics) -> None:
    metrics.request_started()
    metrics.request_ended(ACTION, "", 0.3)
    metrics.request_started()
    metrics.request_ended(ACTION, "InternalError", 3.0)
    values = samples(metrics.snapshot())
    assert values["econed_requests_total", ACTION, "ok"] == 1
    assert values["econed_requests_total", ACTION, "InternalError"] == 1
    assert values["econed_request_duration_seconds_count", ACTION] == 2
    assert values["econed_request_duration_seconds_sum", ACTION] == pytest.approx(3.3)
    assert values["econed_request_duration_seconds_bucket", ACTION, "0.25"] == 0
    assert values["econed_request_duration_seconds_bucket", ACTION, "0.5"] == 1
    assert values["econed_request_duration_seconds_bucket", ACTION, "10.0"] == 2


def test_a_request_is_in_flight_until_it_ends(metrics: Metrics) -> None:
    metrics.request_started()
    metrics.request_started()
    metrics.request_ended(ACTION, "", 0.3)
    assert series_of(metrics.snapshot(), "econed_requests_in_flight") == {(): [1]}


@pytest.mark.parametrize("action", ["", "DropTables", 'x"} 1\nevil'])
def test_unknown_actions_do_not_become_labels(metrics: Metrics, action: str) -> None:
    """All names of actions that do not exist share a series."""
    metrics.request_started()
    metrics.request_ended(action, "InvalidAction", 0.1)
    assert series_of(metrics.snapshot(), "econed_requests") == {(UNKNOWN, "InvalidAction"): [1]}
    assert series_of(metrics.snapshot(), "econed_request_duration_seconds").keys() == {(UNKNOWN,)}


def test_a_clock_that_is_set_back_does_not_decrease_a_sum(metrics: Metrics) -> None:
    """To Prometheus a sum that decreases looks like a restart."""
    metrics.oned_call_ended("one.vm.info", -3600.0, "ok")
    assert samples(metrics.snapshot())["econed_oned_call_duration_seconds_sum", "one.vm.info"] == 0


def test_tracked_gauges_have_their_values_at_the_time_of_the_snapshot(metrics: Metrics) -> None:
    now = {"connections": 1, "running": 2, "waiting": 3, "reachable": True, "last": None}
    metrics.track_connections(lambda: now["connections"])  # type: ignore[arg-type,return-value]
    metrics.track_oned_calls(lambda: now["running"], lambda: now["waiting"])  # type: ignore[arg-type,return-value]
    metrics.track_oned_state(lambda: now["reachable"], lambda: now["last"])  # type: ignore[arg-type,return-value]
    assert _gauges(metrics) == (1, 2, 3, 1, 0)
    now |= {"connections": 4, "running": 5, "waiting": 6, "reachable": False, "last": 7}
    assert _gauges(metrics) == (4, 5, 6, 0, 7)


def _gauges(metrics: Metrics) -> tuple[float, ...]:
    values = samples(metrics.snapshot())
    return (
        values["econed_connections",],
        values["econed_oned_calls_in_flight",],
        values["econed_oned_calls_waiting",],
        values["econed_oned_reachable",],
        values["econed_oned_last_answer_timestamp_seconds",],
    )


def test_events_apart_from_requests_are_counted() -> None:
    values = samples(busy_metrics().snapshot())
    assert values["econed_refusals_total", "rate"] == 1
    assert values["econed_oned_calls_total", "one.vmpool.infoset", "ok"] == 1
    assert values["econed_cache_lookups_total", "user", "hit"] == 1
    assert values["econed_uploads_total", "received"] == 1
    assert values["econed_upload_bytes_total",] == 1000
    assert values["econed_scripts_total", "ok", "associate"] == 1
    assert values["econed_script_duration_seconds_sum", "associate"] == 0.5
    assert values["econed_reconciler_rounds_total", "done"] == 1
    assert values["econed_reactor_lag_seconds",] == 0.01
    assert values["econed_workers",] == 2
    assert values["econed_worker_restarts_total",] == 1
    assert values["econed_reloads_total", "refused", "configuration"] == 1
    assert values["econed_certificate_expiry_timestamp_seconds", "cloud.example"] == 1_900_000_000


def test_a_gauge_that_is_not_set_is_absent(metrics: Metrics) -> None:
    """A daemon without a certificate reports no expiry in 1970, and a worker reports no number of workers."""
    values = samples(metrics.snapshot())
    assert ("econed_workers",) not in values
    assert ("econed_oned_reachable",) not in values
    assert not [key for key in values if key[0] == "econed_certificate_expiry_timestamp_seconds"]


def test_counters_used_by_alerts_start_at_zero(metrics: Metrics) -> None:
    """Prometheus sees the first refused configuration as an increase only if there was a 0 before."""
    values = samples(metrics.snapshot())
    assert values["econed_worker_restarts_total",] == 0
    assert values["econed_reloads_total", "refused", "configuration"] == 0
    assert values["econed_reloads_total", "refused", "certificates"] == 0
    assert values["econed_reconciler_rounds_total", "done"] == 0


def test_the_resources_of_the_process_are_measured(metrics: Metrics) -> None:
    values = samples(metrics.snapshot())
    assert values["econed_build_info", __version__] == 1
    assert values["process_resident_memory_bytes",] > 2**20
    assert values["process_open_fds",] < values["process_max_fds",]
    assert values["process_start_time_seconds",] > 1_500_000_000
    assert values["process_cpu_seconds_total",] > 0


def test_two_instances_in_one_process_are_independent(metrics: Metrics) -> None:
    """The global registry of prometheus-client is not used."""
    registered = {metric.name for metric in REGISTRY.collect()}
    other = Metrics([ACTION])
    other.limit_exceeded("rate")
    assert series_of(metrics.snapshot(), "econed_refusals") == {}
    assert {metric.name for metric in REGISTRY.collect()} == registered


def test_a_snapshot_is_preserved_by_json_and_small() -> None:
    """It is sent through a pipe every second. With all actions and a hundred methods it has less than 64 KiB."""
    metrics = busy_metrics()
    for number, action in enumerate(all_actions()):
        metrics.request_started()
        metrics.request_ended(action.name, "", number / 7)
        metrics.request_started()
        metrics.request_ended(action.name, "UnauthorizedOperation", number / 7)
    for number in range(100):
        metrics.oned_call_ended(f"one.thing.method{number}", number / 7, "ok")
    snapshot = metrics.snapshot()
    text = json.dumps(snapshot)
    assert len(text) < 2**16
    assert samples(json.loads(text)) == samples(snapshot)


def test_all_metrics_of_a_process_are_in_the_list_of_families() -> None:
    """Conversely, all families are measured, except whether the daemon is ready, which /metrics determines."""
    assert busy_metrics().snapshot().keys() == FAMILY.keys() - {"econed_ready"}


def test_names_units_and_help_pass_the_check_of_promtool() -> None:
    """Every help text is a sentence."""
    text = exposition(busy_metrics().snapshot() | {"econed_ready": [([], [1.0])]})[0]
    check = subprocess.run(
        [require_tool("promtool"), "check", "metrics"], input=text, capture_output=True, check=False, timeout=60
    )
    assert (check.returncode, check.stdout.decode(), check.stderr.decode()) == (0, "", "")
    assert all(family.help.endswith(".") for family in FAMILIES)
