"""What processes hold, as Linux tells it, and whether it grows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Sample:
    """One look at a process: when (seconds since the beginning), its own memory in bytes, its open descriptors."""

    at: float
    memory: int
    descriptors: int


def look(pid: int, at: float) -> Sample:
    """Look at a process now; raises `FileNotFoundError` or `ProcessLookupError` when it has ended."""
    rollup = (_PROC / str(pid) / "smaps_rollup").read_text("ascii")
    own = sum(
        int(line.split()[1]) for line in rollup.splitlines() if line.startswith(("Private_Clean", "Private_Dirty"))
    )
    return Sample(at, own * 1024, len(os.listdir(_PROC / str(pid) / "fd")))


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that still run."""
    found = []
    for each in (_PROC / str(pid) / "task").iterdir():
        found += [int(child) for child in (each / "children").read_text("ascii").split()]
    return sorted(found)


def growth(samples: Sequence[Sample], what: str) -> float:
    """Return how much a process gains in a minute of `what` (a field of `Sample`), by the line of least squares."""
    if len(samples) < 2:
        return 0.0
    times = [sample.at for sample in samples]
    values = [float(getattr(sample, what)) for sample in samples]
    middle, mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((time - middle) ** 2 for time in times)
    if spread == 0:
        return 0.0
    return 60 * sum((time - middle) * (value - mean) for time, value in zip(times, values, strict=True)) / spread
