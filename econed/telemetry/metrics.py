"""The metrics of a process, under the names that Prometheus sees.

`Metrics.snapshot` returns the metrics of one process; `econed.telemetry.merging` merges the snapshots of all processes,
and `econed.telemetry.exposition` writes them. The values are plain numbers: a worker sends them to its supervisor every
second, which must be cheap.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Literal, TypeAlias

from econed import __version__
from econed.telemetry.process_usage import start_time, usage

Series: TypeAlias = tuple[list[str], list[float]]
"""The values of the labels, and a single number; for a histogram the cumulative count of each bucket, then the sum."""

Snapshot: TypeAlias = dict[str, list[Series]]
"""All series by the name of their family, serializable as JSON; after decoding, lists take the place of the pairs."""

UNKNOWN = "unknown"
"""The action of requests whose action is missing, unknown, or could not be read."""

_REQUEST_BUCKETS = (0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0)
_CALL_BUCKETS = (0.01, 0.05, 0.25, 1.0, 5.0, 30.0)
_SCRIPT_BUCKETS = (0.25, 1.0, 5.0, 20.0, 40.0)


@dataclass(frozen=True)
class Family:
    """A metric: its name, its labels, and how the values of several processes are combined.

    `combine` is for gauges: the value of the daemon is the sum, the maximum or the minimum. Counters and histograms are
    summed, including those of processes that have exited. `initial_labels` are the label values of series that exist
    from the start, at 0: Prometheus does not see an increase in a series whose first value is 1.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    combine: Literal["sum", "max", "min"] = "sum"
    initial_labels: tuple[tuple[str, ...], ...] = ()

    @property
    def exposed_name(self) -> str:
        """The name in queries: the names of counters end in _total."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


FAMILIES: tuple[Family, ...] = (
    Family("econed_requests", "counter", "Requests with a response.", ("action", "code")),
    Family(
        "econed_request_duration_seconds", "histogram", "Time from request to response.", ("action",), _REQUEST_BUCKETS
    ),
    Family("econed_requests_in_flight", "gauge", "Requests in flight."),
    Family("econed_connections", "gauge", "Open connections of clients."),
    Family("econed_refusals", "counter", "Requests and connections refused or aborted, by limit.", ("reason",)),
    Family("econed_oned_calls", "counter", "Finished calls to oned.", ("method", "outcome")),
    Family(
        "econed_oned_call_duration_seconds",
        "histogram",
        "Duration of calls to oned, from when they are sent.",
        ("method",),
        _CALL_BUCKETS,
    ),
    Family("econed_oned_calls_in_flight", "gauge", "Calls to oned in flight."),
    Family("econed_oned_calls_waiting", "gauge", "Calls queued by the limit one_calls."),
    Family("econed_oned_reachable", "gauge", "1 if oned has replied recently, otherwise 0.", combine="max"),
    Family(
        "econed_oned_credentials_rejected",
        "gauge",
        "1 if oned rejects the credentials of serveradmin, otherwise 0.",
        combine="min",
    ),
    Family("econed_oned_last_answer_timestamp_seconds", "gauge", "Time of the last reply of oned.", combine="max"),
    Family("econed_cache_lookups", "counter", "Lookups in caches of replies of oned.", ("cache", "result")),
    Family("econed_uploads", "counter", "Finished uploads of images.", ("outcome",)),
    Family("econed_upload_bytes", "counter", "Bytes of uploaded images.", initial_labels=((),)),
    Family("econed_scripts", "counter", "Runs of the scripts for elastic IPs.", ("script", "outcome")),
    Family("econed_script_duration_seconds", "histogram", "Run time of scripts.", ("script",), _SCRIPT_BUCKETS),
    Family(
        "econed_reconciler_rounds",
        "counter",
        "Rounds of the reconciler, which completes the work of interrupted requests.",
        ("outcome",),
        initial_labels=(("done",), ("waits",), ("failed",)),
    ),
    Family("econed_reactor_lag_seconds", "gauge", "Maximum delay of a reactor in the last minute.", combine="max"),
    Family("econed_ready", "gauge", "1 if /readyz responds with 200, otherwise 0.", combine="min"),
    Family("econed_workers", "gauge", "Processes that serve requests."),
    Family(
        "econed_worker_restarts", "counter", "Workers that exited unexpectedly and were replaced.", initial_labels=((),)
    ),
    Family(
        "econed_reloads",
        "counter",
        "Reloads of configuration and certificates.",
        ("what", "outcome"),
        initial_labels=tuple(product(("configuration", "certificates"), ("taken", "refused"))),
    ),
    Family(
        "econed_certificate_expiry_timestamp_seconds",
        "gauge",
        "Expiry time of a certificate of this server.",
        ("certificate",),
        combine="min",
    ),
    Family("econed_build_info", "gauge", "Always 1; the label is the running version.", ("version",), combine="max"),
    Family("process_cpu_seconds", "counter", "CPU time of all processes."),
    Family("process_resident_memory_bytes", "gauge", "Resident memory of all processes."),
    Family("process_virtual_memory_bytes", "gauge", "Virtual memory of all processes."),
    Family("process_open_fds", "gauge", "Open file descriptors of the process with the most.", combine="max"),
    Family("process_max_fds", "gauge", "Maximum file descriptors of a process.", combine="min"),
    Family("process_start_time_seconds", "gauge", "Start time of the oldest process.", combine="min"),
)
"""All metrics. docs/guide/monitoring.md describes them for administrators."""


FAMILY: Mapping[str, Family] = MappingProxyType({family.name: family for family in FAMILIES})
"""All metrics by name."""


class Metrics:
    """The metrics of one process; `snapshot` returns their values.

    Every process has a single instance, created in `econed.daemon` and passed on. No method raises for its arguments.
    `actions` are the actions that may become labels; other names sent by clients may not. Durations are in seconds;
    negative ones, after the clock was set back, count as 0.
    """

    def __init__(self, actions: Iterable[str] = ()) -> None:
        self._actions = frozenset(actions)
        self._counted: dict[str, dict[tuple[str, ...], list[float]]] = {
            family.name: {labels: [0.0] for labels in family.initial_labels}
            for family in FAMILIES
            if _is_counted(family)
        }
        self._gauges: dict[str, dict[tuple[str, ...], Callable[[], float]]] = {}
        self._in_flight = 0
        started = start_time()
        self._gauge("econed_requests_in_flight", lambda: self._in_flight)
        self._gauge("econed_build_info", lambda: 1, __version__)
        self._gauge("process_start_time_seconds", lambda: started)

    # Requests

    def request_started(self) -> None:
        """Count a request as in flight, until `request_ended`."""
        self._in_flight += 1

    def request_ended(self, action: str, code: str, seconds: float) -> None:
        """Count a request; `action` is the name sent by the client, `code` EC2's error code, empty on success."""
        label = action if action in self._actions else UNKNOWN
        self._in_flight -= 1
        self._count("econed_requests", label, code or "ok")
        self._observe("econed_request_duration_seconds", seconds, label)

    def track_connections(self, count: Callable[[], int]) -> None:
        """Set the function that returns the number of open connections; it is called for every snapshot."""
        self._gauge("econed_connections", count)

    def limit_exceeded(self, reason: str) -> None:
        """Count a request or connection refused or aborted by a limit; `reason` is a constant, never client data."""
        self._count("econed_refusals", reason)

    # oned

    def oned_call_ended(self, method: str, seconds: float, outcome: str) -> None:
        """Count a call to oned (`econed.telemetry.observed_calls.CallObserver`)."""
        self._count("econed_oned_calls", method, outcome)
        self._observe("econed_oned_call_duration_seconds", seconds, method)

    def track_oned_calls(self, in_flight: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Set the functions that return the numbers of calls in flight and queued; called for every snapshot."""
        self._gauge("econed_oned_calls_in_flight", in_flight)
        self._gauge("econed_oned_calls_waiting", waiting)

    def track_oned_state(
        self,
        is_reachable: Callable[[], bool],
        last_reply: Callable[[], float | None],
        rejects_credentials: Callable[[], bool] = lambda: False,
    ) -> None:
        """Set the functions that return whether oned is reachable, and whether it rejects the server account.

        `last_reply` returns when it last replied (epoch seconds; None: never).
        """
        self._gauge("econed_oned_reachable", is_reachable)
        self._gauge("econed_oned_credentials_rejected", rejects_credentials)
        self._gauge("econed_oned_last_answer_timestamp_seconds", lambda: last_reply() or 0.0)

    def cache_lookup(self, cache: str, result: str) -> None:
        """Count a lookup in a cache: a hit, a miss, joined to a call in flight, or failed from a cached failure."""
        self._count("econed_cache_lookups", cache, result)

    # Uploads, scripts and the reconciler

    def upload_ended(self, outcome: str, length: int) -> None:
        """Count an upload and the received bytes of its file."""
        self._count("econed_uploads", outcome)
        self._count("econed_upload_bytes", amount=length)

    def script_ended(self, script: str, outcome: str, seconds: float) -> None:
        """Count a run of the script `associate` or `disassociate`."""
        self._count("econed_scripts", script, outcome)
        self._observe("econed_script_duration_seconds", seconds, script)

    def round_ended(self, outcome: str) -> None:
        """Count a round of the reconciler."""
        self._count("econed_reconciler_rounds", outcome)

    def set_reactor_lag(self, seconds: float) -> None:
        """Set the maximum delay of the reactor in the last minute."""
        self._gauge("econed_reactor_lag_seconds", lambda: seconds)

    # The daemon

    def set_worker_count(self, count: int) -> None:
        """Set the number of processes that serve requests."""
        self._gauge("econed_workers", lambda: count)

    def worker_restarted(self) -> None:
        """Count a worker that exited unexpectedly."""
        self._count("econed_worker_restarts")

    def reloaded(self, what: str, outcome: str) -> None:
        """Count a reload of the `configuration` or the `certificates`; the outcome is `taken` or `refused`."""
        self._count("econed_reloads", what, outcome)

    def set_certificate_expiry(self, certificate: str, timestamp: float) -> None:
        """Set when a certificate of this server expires (epoch seconds); `certificate` is its name or file."""
        self._gauge("econed_certificate_expiry_timestamp_seconds", lambda: timestamp, certificate)

    def snapshot(self) -> Snapshot:
        """Return the current values; gauges that have not been set are left out."""
        counted: Snapshot = {
            name: [(list(labels), list(values)) for labels, values in series.items()]
            for name, series in self._counted.items()
        }
        gauges: Snapshot = {
            name: [(list(labels), [float(value())]) for labels, value in series.items()]
            for name, series in self._gauges.items()
        }
        process: Snapshot = {name: [([], [value])] for name, value in usage().items()}
        return counted | gauges | process

    def _count(self, name: str, *labels: str, amount: float = 1) -> None:
        self._counted[name].setdefault(labels, [0.0])[0] += amount

    def _observe(self, name: str, value: float, *labels: str) -> None:
        """Add a value to a histogram: to its bucket, all larger buckets, and the sum."""
        bounds = FAMILY[name].buckets
        value = max(0.0, value)
        series = self._counted[name].setdefault(labels, [0.0] * (len(bounds) + 2))
        for index in range(bisect_left(bounds, value), len(bounds) + 1):
            series[index] += 1
        series[-1] += value

    def _gauge(self, name: str, value: Callable[[], float], *labels: str) -> None:
        self._gauges.setdefault(name, {})[labels] = value


def _is_counted(family: Family) -> bool:
    """Whether it is a counter or histogram of econed, not one of the process."""
    return family.kind != "gauge" and not family.name.startswith("process_")
