"""Merging the metrics of several processes into those of one daemon."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from econed.telemetry.metrics import FAMILY, Family, Snapshot

_COMBINE = {"sum": sum, "max": max, "min": min}


def merged(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Merge the snapshots of several processes: counters and histograms are summed, gauges by their `Family.combine`.

    Series that do not fit a family of this version are left out: they come from a process of another version.
    """
    merged_series: dict[str, dict[tuple[str, ...], list[Sequence[float]]]] = {}
    for snapshot in snapshots:
        for name, series in snapshot.items():
            family = FAMILY.get(name)
            for labels, values in series:
                if family is not None and _fits(family, labels, values):
                    merged_series.setdefault(name, {}).setdefault(tuple(labels), []).append(values)
    return {
        name: [(list(labels), _combined(FAMILY[name], values)) for labels, values in series.items()]
        for name, series in merged_series.items()
    }


def without_gauges(snapshot: Snapshot) -> Snapshot:
    """Return the counters and histograms of a snapshot, which are kept after its process has exited."""
    return {name: series for name, series in snapshot.items() if name in FAMILY and FAMILY[name].kind != "gauge"}


def gauge(snapshot: Snapshot, name: str) -> float | None:
    """Return the value of a gauge without labels; None if it has not been set."""
    for _, values in snapshot.get(name, ()):
        return values[0]
    return None


class ProcessSnapshots:
    """The latest snapshots of a daemon's processes, and the counts of exited ones, so that no counter decreases.

    The key of a process must never be reused, unlike a process id: a serial number, for example.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, Snapshot] = {}
        self._exited: Snapshot = {}

    def update(self, process: Hashable, snapshot: Snapshot) -> None:
        """Replace the snapshot of a running process."""
        self._running[process] = snapshot

    def process_exited(self, process: Hashable) -> None:
        """Keep the counts of a process that has exited; it must not be updated afterwards."""
        snapshot = self._running.pop(process, None)
        if snapshot is not None:
            self._exited = merged((self._exited, without_gauges(snapshot)))

    def all(self) -> tuple[Snapshot, ...]:
        """Return the merged snapshot of all exited processes, and those of the running ones."""
        return (self._exited, *self._running.values())


def _fits(family: Family, labels: Sequence[str], values: Sequence[float]) -> bool:
    # A histogram has another bucket, for all values, and the sum.
    expected = len(family.buckets) + 2 if family.kind == "histogram" else 1
    return len(labels) == len(family.labels) and len(values) == expected


def _combined(family: Family, values: Sequence[Sequence[float]]) -> list[float]:
    function: Any = _COMBINE[family.combine]
    return [function(column) for column in zip(*values, strict=True)]
