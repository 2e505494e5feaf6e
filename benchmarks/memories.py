"""The resident memory of a worker while something runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.usage import memory

MB = 1e6
"""Bytes of a megabyte, in which the results give memory."""

_INTERVAL = 0.05


@dataclass
class Recorded:
    """Samples: seconds since the beginning, and bytes of resident memory."""

    samples: list[tuple[float, int]] = field(default_factory=list)

    @property
    def first(self) -> int:
        """Bytes at the beginning."""
        return self.samples[0][1]

    @property
    def peak(self) -> int:
        """The most bytes."""
        return max(rss for _, rss in self.samples)

    def over_time(self) -> list[list[float]]:
        """Return the samples for the results, in seconds and megabytes."""
        return [[round(at, 2), round(rss / MB, 1)] for at, rss in self.samples]


@contextmanager
def recorded_memory(pid: int) -> Iterator[Recorded]:
    """Record the resident memory of a process during the block."""
    recorded, done, start = Recorded(), threading.Event(), time.perf_counter()

    def sample() -> None:
        recorded.samples.append((time.perf_counter() - start, memory(pid).rss))

    def record() -> None:
        while not done.wait(_INTERVAL):
            sample()

    sample()
    thread = threading.Thread(target=record, daemon=True)
    thread.start()
    try:
        yield recorded
    finally:
        done.set()
        thread.join()
