"""What processes use: processor time and memory, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_KIB = 1024


@dataclass(frozen=True)
class Memory:
    """The memory of a process in bytes.

    `rss` counts every page in memory, `pss` shares those that several processes use, `uss` leaves them out.
    """

    rss: int
    pss: int
    uss: int

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.rss + other.rss, self.pss + other.pss, self.uss + other.uss)


def memory(pid: int) -> Memory:
    """Measure the memory of a process now."""
    sizes: dict[str, int] = {}
    for line in (_PROC / str(pid) / "smaps_rollup").read_text("ascii").splitlines()[1:]:
        name, _, rest = line.partition(":")
        sizes[name] = int(rest.split()[0]) * _KIB
    return Memory(sizes["Rss"], sizes["Pss"], sizes["Private_Clean"] + sizes["Private_Dirty"])


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time that processes have used so far, of the system in their names too, in seconds."""
    ticks = 0
    for pid in pids:
        fields = (_PROC / str(pid) / "stat").read_text("ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS
