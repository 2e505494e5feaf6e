"""What a process uses, as the `process_…` metrics that clients of Prometheus have in common.

prometheus-client has them too, but takes 1 MB, in every process: only the administrator's port imports it.
"""

from __future__ import annotations

import math
import os
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc/self")


def start_time() -> float:
    """Return when this process was started, in seconds since the epoch (proc(5), field 22 of stat)."""
    ticks = int((_PROC / "stat").read_bytes().rpartition(b")")[2].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age


def usage() -> dict[str, float]:
    """Return what this process uses now, by the name of the metric; never raises."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    values = {
        "process_cpu_seconds": time.process_time(),
        "process_max_fds": math.inf if files == resource.RLIM_INFINITY else float(files),
    }
    with suppress(OSError):  # when no more files can be opened, for example
        virtual, resident = (int(pages) for pages in (_PROC / "statm").read_bytes().split()[:2])
        values["process_virtual_memory_bytes"] = float(virtual * resource.getpagesize())
        values["process_resident_memory_bytes"] = float(resident * resource.getpagesize())
        values["process_open_fds"] = float(len(os.listdir(_PROC / "fd")))
    return values
