"""The numbers of several processes as those of one daemon: added up, kept when a process ends, written as text."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from econed.telemetry.metrics import FAMILIES, FAMILY, Family, Snapshot

_TOGETHER = {"sum": sum, "max": max, "min": min}


def merged(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Return what several processes counted as one: counters and histograms added up, gauges as their families say.

    What is in no family of this version, or not of its form, is left out: it was said by another version.
    """
    found: dict[str, dict[tuple[str, ...], list[Sequence[float]]]] = {}
    for snapshot in snapshots:
        for name, series in snapshot.items():
            family = FAMILY.get(name)
            for labels, values in series:
                if family is not None and _is_of(family, labels, values):
                    found.setdefault(name, {}).setdefault(tuple(labels), []).append(values)
    return {
        name: [(list(labels), _together(FAMILY[name], values)) for labels, values in series.items()]
        for name, series in found.items()
    }


def lasting(snapshot: Snapshot) -> Snapshot:
    """Return what remains true of a process that has ended: what it counted, and not how it was."""
    return {name: series for name, series in snapshot.items() if name in FAMILY and FAMILY[name].kind != "gauge"}


def gauge(snapshot: Snapshot, name: str) -> float | None:
    """Return the number of a gauge without labels; None if nobody has said anything of it."""
    for _, values in snapshot.get(name, ()):
        return values[0]
    return None


def exposition(snapshot: Snapshot, accept: str = "") -> tuple[bytes, str]:
    """Return a snapshot as text for Prometheus, and the media type of it.

    `accept` is the header of the request: OpenMetrics for those who ask for it, else Prometheus' own format.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(snapshot))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class ProcessSnapshots:
    """What the processes of one daemon said last, and what those that have ended counted: no sum ever goes down.

    A process is known by anything that no other ever is, as the number of its start; its process id may come again.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, Snapshot] = {}
        self._ended: Snapshot = {}

    def update(self, process: Hashable, snapshot: Snapshot) -> None:
        """Take what a running process says, in place of what it said before."""
        self._running[process] = snapshot

    def process_ended(self, process: Hashable) -> None:
        """Keep what a process counted that has ended; nothing may be heard of it any more."""
        last = self._running.pop(process, None)
        if last is not None:
            self._ended = merged((self._ended, lasting(last)))

    def all(self) -> tuple[Snapshot, ...]:
        """Return those of the processes that run, and the one of all that ended."""
        return (self._ended, *self._running.values())


def _is_of(family: Family, labels: Sequence[str], values: Sequence[float]) -> bool:
    # A histogram has one bucket more, that of everything, and the sum.
    expected = len(family.buckets) + 2 if family.kind == "histogram" else 1
    return len(labels) == len(family.labels) and len(values) == expected


def _together(family: Family, values: Sequence[Sequence[float]]) -> list[float]:
    combine: Any = _TOGETHER[family.together]
    return [combine(each) for each in zip(*values, strict=True)]


class _Collector:
    """A snapshot as prometheus-client collects it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Yield every family, those without a number too: who looks for a name finds what it is."""
        for family in FAMILIES:
            yield _metric(family, self._snapshot)


def _metric(family: Family, snapshot: Snapshot) -> Metric:
    series = snapshot.get(family.name, ())
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        bounds = [*map(str, family.buckets), "+Inf"]
        for labels, values in series:
            histogram.add_metric(labels, list(zip(bounds, values[:-1], strict=True)), values[-1])
        return histogram
    of_kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = of_kind(family.name, family.help, labels=family.labels)
    for labels, (value,) in series:
        metric.add_metric(labels, value)
    return metric
