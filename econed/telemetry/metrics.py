"""What a process counts and measures of itself, under the names by which Prometheus gets to see it.

`Metrics.snapshot` returns what one process has counted; `econed.telemetry.merging` adds up the snapshots of all
processes and has prometheus-client write them. The counts are plain numbers: a worker sends them to its supervisor
every second, which must cost next to nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Literal, TypeAlias

from prometheus_client.process_collector import ProcessCollector

from econed import __version__

Series: TypeAlias = tuple[list[str], list[float]]
"""The values of the labels, and one number; of a histogram how many are in each bucket and those below it, then the
sum."""

Snapshot: TypeAlias = dict[str, list[Series]]
"""All that was counted, by the name of the family, ready for JSON; what JSON makes of the pairs, lists, is as good."""

UNKNOWN = "unknown"
"""The action of requests that named none, or one that there is not, or could not be read."""

_OF_REQUESTS = (0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0)
_OF_CALLS = (0.01, 0.05, 0.25, 1.0, 5.0, 30.0)
_OF_SCRIPTS = (0.25, 1.0, 5.0, 20.0, 40.0)


@dataclass(frozen=True)
class Family:
    """What is counted under one name, by which labels, and how several processes come to one number.

    `together` is for gauges: what they have in common is their sum, or the largest or the smallest of them. Counters
    and histograms are added up, those of processes that have ended too. `from_the_start` are values of labels that are
    counted from 0: Prometheus does not see a series that begins with 1 as one that has grown.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    together: Literal["sum", "max", "min"] = "sum"
    from_the_start: tuple[tuple[str, ...], ...] = ()

    @property
    def shown_as(self) -> str:
        """The name in queries: that of a counter ends in _total."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


FAMILIES: tuple[Family, ...] = (
    Family("econed_requests", "counter", "Requests answered.", ("action", "code")),
    Family("econed_request_duration_seconds", "histogram", "From request to answer.", ("action",), _OF_REQUESTS),
    Family("econed_requests_in_flight", "gauge", "Requests being carried out."),
    Family("econed_connections", "gauge", "Connections of clients that are open."),
    Family("econed_refusals", "counter", "What limits refused or cut off, by limit.", ("reason",)),
    Family("econed_oned_calls", "counter", "Calls to oned that ended.", ("method", "outcome")),
    Family("econed_oned_call_duration_seconds", "histogram", "Waiting for a turn included.", ("method",), _OF_CALLS),
    Family("econed_oned_calls_in_flight", "gauge", "Calls that oned is working on."),
    Family("econed_oned_calls_waiting", "gauge", "Calls that wait for a turn (one_calls)."),
    Family("econed_oned_reachable", "gauge", "1 if oned has lately answered anything, else 0.", together="max"),
    Family("econed_oned_last_answer_timestamp_seconds", "gauge", "When oned last answered.", together="max"),
    Family("econed_cache_lookups", "counter", "Lookups in caches of what oned said.", ("cache", "result")),
    Family("econed_uploads", "counter", "Uploads of images that ended.", ("outcome",)),
    Family("econed_upload_bytes", "counter", "Bytes of images that were uploaded.", from_the_start=((),)),
    Family("econed_scripts", "counter", "Runs of the scripts for elastic IPs.", ("script", "outcome")),
    Family("econed_script_duration_seconds", "histogram", "How long scripts ran.", ("script",), _OF_SCRIPTS),
    Family(
        "econed_reconciler_rounds",
        "counter",
        "Rounds that finish what requests left.",
        ("outcome",),
        from_the_start=(("done",), ("waits",), ("failed",)),
    ),
    Family("econed_reactor_lag_seconds", "gauge", "Most that a process fell behind in a minute.", together="max"),
    Family("econed_ready", "gauge", "1 if /readyz answers 200, else 0.", together="min"),
    Family("econed_workers", "gauge", "Processes that serve requests."),
    Family("econed_worker_restarts", "counter", "Workers that ended unasked and were replaced.", from_the_start=((),)),
    Family(
        "econed_reloads",
        "counter",
        "Configurations and certificates read anew.",
        ("what", "outcome"),
        from_the_start=tuple(product(("configuration", "certificates"), ("taken", "refused"))),
    ),
    Family(
        "econed_certificate_expiry_timestamp_seconds",
        "gauge",
        "When a certificate of this server ends.",
        ("certificate",),
        together="min",
    ),
    Family("econed_build_info", "gauge", "Always 1; the label says what runs.", ("version",), together="max"),
    Family("process_cpu_seconds", "counter", "Processor time, of all processes."),
    Family("process_resident_memory_bytes", "gauge", "Memory, of all processes."),
    Family("process_virtual_memory_bytes", "gauge", "Address space, of all processes."),
    Family("process_open_fds", "gauge", "Open descriptors, of the process with most.", together="max"),
    Family("process_max_fds", "gauge", "Descriptors that a process may open.", together="min"),
    Family("process_start_time_seconds", "gauge", "When the oldest process began.", together="min"),
)
"""Everything that there is to see. docs/guide/monitoring.md has the same, for administrators."""


FAMILY: Mapping[str, Family] = MappingProxyType({each.name: each for each in FAMILIES})
"""The same by name."""


class Metrics:
    """The numbers of one process: told of what happens, asked by `snapshot`.

    Every process has one, made where it is put together and handed down; there is no other. Nothing here raises for
    what it is told. `actions` are those that become labels: what clients make up does not. Durations are in seconds;
    less than none, where the clock was set back, is none.
    """

    def __init__(self, actions: Iterable[str] = ()) -> None:
        self._actions = frozenset(actions)
        self._counted: dict[str, dict[tuple[str, ...], list[float]]] = {
            each.name: {labels: [0.0] for labels in each.from_the_start} for each in FAMILIES if _is_counted(each)
        }
        self._gauges: dict[str, dict[tuple[str, ...], Callable[[], float]]] = {}
        self._in_flight = 0
        self._process = ProcessCollector(registry=None)
        self._gauge("econed_requests_in_flight", lambda: self._in_flight)
        self._gauge("econed_build_info", lambda: 1, __version__)

    # Requests

    def request_started(self) -> None:
        """Count a request that is being carried out, until `request_ended`."""
        self._in_flight += 1

    def request_ended(self, action: str, code: str, seconds: float) -> None:
        """Count a request; `action` is what was asked for, whatever that is, `code` EC2's, empty if all went well."""
        known = action if action in self._actions else UNKNOWN
        self._in_flight -= 1
        self._count("econed_requests", known, code or "ok")
        self._observe("econed_request_duration_seconds", seconds, known)

    def track_connections(self, count: Callable[[], int]) -> None:
        """Have `count` asked, whenever a snapshot is taken, how many connections are open."""
        self._gauge("econed_connections", count)

    def limit_exceeded(self, reason: str) -> None:
        """Count what a limit refused or cut off; `reason` is one of few words, never taken from a request."""
        self._count("econed_refusals", reason)

    # oned

    def oned_call_ended(self, method: str, seconds: float, outcome: str) -> None:
        """Count a call to oned; an observer as `econed.telemetry.observed_calls.CallObserver` wants it."""
        self._count("econed_oned_calls", method, outcome)
        self._observe("econed_oned_call_duration_seconds", seconds, method)

    def track_oned_calls(self, in_flight: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Have these asked, whenever a snapshot is taken, how many calls are on their way and wait for their turn."""
        self._gauge("econed_oned_calls_in_flight", in_flight)
        self._gauge("econed_oned_calls_waiting", waiting)

    def track_oned_state(self, is_reachable: Callable[[], bool], last_answer: Callable[[], float | None]) -> None:
        """Have these asked likewise: whether oned is there, and when it last answered (epoch seconds; None: never)."""
        self._gauge("econed_oned_reachable", is_reachable)
        self._gauge("econed_oned_last_answer_timestamp_seconds", lambda: last_answer() or 0.0)

    def cache_lookup(self, cache: str, result: str) -> None:
        """Count a look into a cache: a hit, a miss, what was joined on its way, or a failure that was kept."""
        self._count("econed_cache_lookups", cache, result)

    # What goes on beside the requests

    def upload_ended(self, outcome: str, length: int) -> None:
        """Count an upload and the bytes of its file that came."""
        self._count("econed_uploads", outcome)
        self._count("econed_upload_bytes", by=length)

    def script_ended(self, script: str, outcome: str, seconds: float) -> None:
        """Count a run of the script `associate` or `disassociate`."""
        self._count("econed_scripts", script, outcome)
        self._observe("econed_script_duration_seconds", seconds, script)

    def round_ended(self, outcome: str) -> None:
        """Count a round of the reconciler."""
        self._count("econed_reconciler_rounds", outcome)

    def set_reactor_lag(self, seconds: float) -> None:
        """Say by how much the reactor fell behind at most in the last minute."""
        self._gauge("econed_reactor_lag_seconds", lambda: seconds)

    # What the process is in

    def set_worker_count(self, count: int) -> None:
        """Say how many processes serve."""
        self._gauge("econed_workers", lambda: count)

    def worker_restarted(self) -> None:
        """Count a worker that ended without being asked to."""
        self._count("econed_worker_restarts")

    def reloaded(self, what: str, outcome: str) -> None:
        """Count that the `configuration` or the `certificates` were read anew, `taken` or `refused`."""
        self._count("econed_reloads", what, outcome)

    def set_certificate_expiry(self, certificate: str, at: float) -> None:
        """Say when a certificate of this server ends (epoch seconds); `certificate` is its name or file."""
        self._gauge("econed_certificate_expiry_timestamp_seconds", lambda: at, certificate)

    def snapshot(self) -> Snapshot:
        """Return what has been counted so far; gauges that nobody has said anything of yet are left out."""
        counted: Snapshot = {
            name: [(list(labels), list(values)) for labels, values in series.items()]
            for name, series in self._counted.items()
        }
        gauges: Snapshot = {
            name: [(list(labels), [float(value())]) for labels, value in series.items()]
            for name, series in self._gauges.items()
        }
        process: Snapshot = {each.name: [([], [each.samples[0].value])] for each in self._process.collect()}
        return counted | gauges | process

    def _count(self, name: str, *labels: str, by: float = 1) -> None:
        self._counted[name].setdefault(labels, [0.0])[0] += by

    def _observe(self, name: str, value: float, *labels: str) -> None:
        """Take a value into a histogram: it is in its bucket and all above it, and in the sum."""
        bounds = FAMILY[name].buckets
        value = max(0.0, value)
        series = self._counted[name].setdefault(labels, [0.0] * (len(bounds) + 2))
        for place in range(bisect_left(bounds, value), len(bounds) + 1):
            series[place] += 1
        series[-1] += value

    def _gauge(self, name: str, value: Callable[[], float], *labels: str) -> None:
        self._gauges.setdefault(name, {})[labels] = value


def _is_counted(family: Family) -> bool:
    """Whether it only ever grows, and is not what the library counts (ProcessCollector)."""
    return family.kind != "gauge" and not family.name.startswith("process_")
