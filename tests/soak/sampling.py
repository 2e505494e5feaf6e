"""Memory and descriptors of processes, from /proc, and their growth."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Sample:
    """A measurement of a process: seconds since the start, private memory in bytes, number of open descriptors."""

    at: float
    memory: int
    descriptors: int


def sample(pid: int, at: float) -> Sample:
    """Measure a process now; raises `FileNotFoundError` or `ProcessLookupError` if it has exited."""
    rollup = (_PROC / str(pid) / "smaps_rollup").read_text("ascii")
    private_kib = sum(
        int(line.split()[1]) for line in rollup.splitlines() if line.startswith(("Private_Clean", "Private_Dirty"))
    )
    return Sample(at, private_kib * 1024, len(os.listdir(_PROC / str(pid) / "fd")))


def children(pid: int) -> list[int]:
    """Return the ids of the running child processes of a process."""
    child_ids = []
    for task in (_PROC / str(pid) / "task").iterdir():
        child_ids += [int(child) for child in (task / "children").read_text("ascii").split()]
    return sorted(child_ids)


def growth(samples: Sequence[Sample], field: str) -> float:
    """Return the growth per minute of a field of `Sample`, by least squares."""
    if len(samples) < 2:
        return 0.0
    times = [sample.at for sample in samples]
    values = [float(getattr(sample, field)) for sample in samples]
    mean_time, mean_value = sum(times) / len(times), sum(values) / len(values)
    spread = sum((time - mean_time) ** 2 for time in times)
    if spread == 0:
        return 0.0
    return (
        60 * sum((time - mean_time) * (value - mean_value) for time, value in zip(times, values, strict=True)) / spread
    )
