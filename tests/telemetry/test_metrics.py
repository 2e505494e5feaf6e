"""What one process counts: names that last, few labels, nothing that clients make up."""

from __future__ import annotations

import json
import subprocess

import pytest
from prometheus_client.registry import REGISTRY

from econed import __version__
from econed.catalogue import all_actions
from econed.telemetry.merging import exposition
from econed.telemetry.metrics import FAMILIES, FAMILY, UNKNOWN, Metrics
from tests.support.metrics import ACTION, busy_metrics, samples, series_of
from tests.support.tools import require_tool


@pytest.fixture
def metrics() -> Metrics:
    """Return the numbers of a process that knows one action."""
    return Metrics([ACTION])


def test_a_request_is_counted_by_action_and_code_and_timed_by_action(metrics: Metrics) -> None:
    metrics.request_started()
    metrics.request_ended(ACTION, "", 0.3)
    metrics.request_started()
    metrics.request_ended(ACTION, "InternalError", 3.0)
    found = samples(metrics.snapshot())
    assert found["econed_requests_total", ACTION, "ok"] == 1
    assert found["econed_requests_total", ACTION, "InternalError"] == 1
    assert found["econed_request_duration_seconds_count", ACTION] == 2
    assert found["econed_request_duration_seconds_sum", ACTION] == pytest.approx(3.3)
    assert found["econed_request_duration_seconds_bucket", ACTION, "0.25"] == 0
    assert found["econed_request_duration_seconds_bucket", ACTION, "0.5"] == 1
    assert found["econed_request_duration_seconds_bucket", ACTION, "10.0"] == 2


def test_a_request_is_in_flight_until_it_has_ended(metrics: Metrics) -> None:
    metrics.request_started()
    metrics.request_started()
    metrics.request_ended(ACTION, "", 0.3)
    assert series_of(metrics.snapshot(), "econed_requests_in_flight") == {(): [1]}


@pytest.mark.parametrize("made_up", ["", "DropTables", 'x"} 1\nevil'])
def test_what_clients_make_up_is_no_label(metrics: Metrics, made_up: str) -> None:
    """A thousand names for actions that do not exist are one series."""
    metrics.request_started()
    metrics.request_ended(made_up, "InvalidAction", 0.1)
    assert series_of(metrics.snapshot(), "econed_requests") == {(UNKNOWN, "InvalidAction"): [1]}
    assert series_of(metrics.snapshot(), "econed_request_duration_seconds").keys() == {(UNKNOWN,)}


def test_a_clock_that_is_set_back_takes_nothing_away(metrics: Metrics) -> None:
    """A sum that goes down looks like a restart to Prometheus."""
    metrics.oned_call_ended("one.vm.info", -3600.0, "ok")
    assert samples(metrics.snapshot())["econed_oned_call_duration_seconds_sum", "one.vm.info"] == 0


def test_what_is_asked_for_is_as_it_is_when_the_snapshot_is_taken(metrics: Metrics) -> None:
    now = {"connections": 1, "running": 2, "waiting": 3, "reachable": True, "last": None}
    metrics.track_connections(lambda: now["connections"])  # type: ignore[arg-type,return-value]
    metrics.track_oned_calls(lambda: now["running"], lambda: now["waiting"])  # type: ignore[arg-type,return-value]
    metrics.track_oned_state(lambda: now["reachable"], lambda: now["last"])  # type: ignore[arg-type,return-value]
    assert _gauges(metrics) == (1, 2, 3, 1, 0)
    now |= {"connections": 4, "running": 5, "waiting": 6, "reachable": False, "last": 7}
    assert _gauges(metrics) == (4, 5, 6, 0, 7)


def _gauges(metrics: Metrics) -> tuple[float, ...]:
    found = samples(metrics.snapshot())
    return (
        found["econed_connections",],
        found["econed_oned_calls_in_flight",],
        found["econed_oned_calls_waiting",],
        found["econed_oned_reachable",],
        found["econed_oned_last_answer_timestamp_seconds",],
    )


def test_what_goes_on_beside_requests_is_counted() -> None:
    found = samples(busy_metrics().snapshot())
    assert found["econed_refusals_total", "rate"] == 1
    assert found["econed_oned_calls_total", "one.vmpool.infoset", "ok"] == 1
    assert found["econed_cache_lookups_total", "user", "hit"] == 1
    assert found["econed_uploads_total", "received"] == 1
    assert found["econed_upload_bytes_total",] == 1000
    assert found["econed_scripts_total", "ok", "associate"] == 1
    assert found["econed_script_duration_seconds_sum", "associate"] == 0.5
    assert found["econed_reconciler_rounds_total", "done"] == 1
    assert found["econed_reactor_lag_seconds",] == 0.01
    assert found["econed_workers",] == 2
    assert found["econed_worker_restarts_total",] == 1
    assert found["econed_reloads_total", "refused", "configuration"] == 1
    assert found["econed_certificate_expiry_timestamp_seconds", "cloud.example"] == 1_900_000_000


def test_a_gauge_of_which_nobody_has_said_anything_is_not_zero(metrics: Metrics) -> None:
    """A daemon without a certificate has none that ended in 1970, and a worker does not count the workers."""
    found = samples(metrics.snapshot())
    assert ("econed_workers",) not in found
    assert ("econed_oned_reachable",) not in found
    assert not [key for key in found if key[0] == "econed_certificate_expiry_timestamp_seconds"]


def test_what_alerts_wait_for_is_counted_from_zero(metrics: Metrics) -> None:
    """Prometheus takes the first refused configuration for an increase only where there was a 0 before."""
    found = samples(metrics.snapshot())
    assert found["econed_worker_restarts_total",] == 0
    assert found["econed_reloads_total", "refused", "configuration"] == 0
    assert found["econed_reloads_total", "refused", "certificates"] == 0
    assert found["econed_reconciler_rounds_total", "done"] == 0


def test_the_process_itself_is_measured(metrics: Metrics) -> None:
    found = samples(metrics.snapshot())
    assert found["econed_build_info", __version__] == 1
    assert found["process_resident_memory_bytes",] > 2**20
    assert found["process_open_fds",] < found["process_max_fds",]
    assert found["process_start_time_seconds",] > 1_500_000_000
    assert found["process_cpu_seconds_total",] > 0


def test_two_in_one_process_have_nothing_in_common(metrics: Metrics) -> None:
    """There is no registry but each one's own."""
    before = {each.name for each in REGISTRY.collect()}
    other = Metrics([ACTION])
    other.limit_exceeded("rate")
    assert series_of(metrics.snapshot(), "econed_refusals") == {}
    assert {each.name for each in REGISTRY.collect()} == before


def test_a_snapshot_passes_through_json_and_is_small() -> None:
    """It goes through a pipe every few seconds. All actions and a hundred methods make less than 64 KiB."""
    made = busy_metrics()
    for number, action in enumerate(all_actions()):
        made.request_started()
        made.request_ended(action.name, "", number / 7)
        made.request_started()
        made.request_ended(action.name, "UnauthorizedOperation", number / 7)
    for number in range(100):
        made.oned_call_ended(f"one.thing.method{number}", number / 7, "ok")
    snapshot = made.snapshot()
    text = json.dumps(snapshot)
    assert len(text) < 2**16
    assert samples(json.loads(text)) == samples(snapshot)


def test_everything_that_a_process_measures_is_in_the_list_of_families() -> None:
    """And all of the list can be measured, but whether the daemon is ready, which /metrics finds out when asked."""
    assert busy_metrics().snapshot().keys() == FAMILY.keys() - {"econed_ready"}


def test_names_units_and_help_are_as_prometheus_wants_them() -> None:
    """By its own tool."""
    text = exposition(busy_metrics().snapshot() | {"econed_ready": [([], [1.0])]})[0]
    checked = subprocess.run(
        [require_tool("promtool"), "check", "metrics"], input=text, capture_output=True, check=False, timeout=60
    )
    assert (checked.returncode, checked.stdout.decode(), checked.stderr.decode()) == (0, "", "")
    assert all(each.help.endswith(".") for each in FAMILIES)
