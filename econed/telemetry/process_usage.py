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


def start_time(proc: Path = _PROC) -> float:
    """Return when this process was started, in seconds since the epoch (proc(5), field 22 of stat).

    Without /proc, as in some chroots, that is now: it is called when the process starts.
    """
    try:
        ticks = int((proc / "stat").read_bytes().rpartition(b")")[2].split()[19])
    except OSError:
        return time.time()
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age


def usage(proc: Path = _PROC) -> dict[str, float]:
    """Return what this process uses now, by the name of the metric; without /proc fewer values. Never raises."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    values = {
        "process_cpu_seconds": time.process_time(),
        "process_max_fds": math.inf if files == resource.RLIM_INFINITY else float(files),
    }
    with suppress(OSError):  # when no more files can be opened, for example
        virtual, resident = (int(pages) for pages in (proc / "statm").read_bytes().split()[:2])
        values["process_virtual_memory_bytes"] = float(virtual * resource.getpagesize())
        values["process_resident_memory_bytes"] = float(resident * resource.getpagesize())
        values["process_open_fds"] = float(len(os.listdir(proc / "fd")))
    return values
