"""Rows about the start of econed: how long it takes, and its memory before the first request."""

from __future__ import annotations

import time

from benchmarks.bench import Bench, Compared, Figures, Outcome
from benchmarks.memories import MB
from benchmarks.series import Series
from benchmarks.usage import memory


def start(bench: Bench) -> Outcome:
    """Seconds from the start of twistd until econed is ready."""
    seconds, cpu = list[float](), list[float]()
    for _ in range(bench.effort.rounds):
        with bench.econed() as econed:
            seconds.append(econed.start_seconds)
            cpu.append(econed.cpu)
    figures: Figures = {"seconds": Series.of(seconds).summary(), "cpu_seconds": Series.of(cpu).summary()}
    return Outcome({}, figures, Compared(Series.of(seconds).median, "s"))


def idle_memory(bench: Bench) -> Outcome:
    """Memory of supervisor and worker before the first request."""
    with bench.econed() as econed:
        time.sleep(bench.effort.quiet_seconds)
        supervisor, worker = memory(econed.supervisor), memory(econed.workers[0])
    figures: Figures = {}
    for name, used in (("supervisor", supervisor), ("worker", worker)):
        figures |= {
            f"{name}_rss_mb": used.rss / MB,
            f"{name}_pss_mb": used.pss / MB,
            f"{name}_uss_mb": used.uss / MB,
        }
    return Outcome({}, figures, Compared((supervisor.rss + worker.rss) / MB, "MB"))
