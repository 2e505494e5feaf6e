"""`python -m tests.soak [--minutes 10] [--workers 2]`: run the soak test and print its results.

Exits with 1 if a request failed, a process exited, or memory or descriptors grew after the warm-up.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.soak.sampling import Sample, children, growth, sample
from tests.soak.work import (
    CloudUser,
    Tally,
    broken_connections,
    create_terminated_instances,
    describe_all,
    instances,
    key_pairs,
    rejected_calls,
    repeat,
    snapshots,
    uploads,
)
from tests.support.certificates import write_server_pair
from tests.support.deployment import SECRET, deployed

WARM_UP = 0.2
"""The fraction of the duration in which processes may grow."""

MAX_GROWTH = 1 << 20
"""Bytes per minute by which a process may grow afterwards, because of fragmentation."""

_SAMPLE_INTERVAL = 2.0
_SETTINGS = {
    "terminated_instances_expiration_time": 30,
    "associate_script": "/bin/true",
    "disassociate_script": "/bin/true",
}


@dataclass(frozen=True)
class Plan:
    """Duration, number of workers, and for each client a task with the seconds between two rounds of it."""

    seconds: float
    workers: int
    clients: Sequence[tuple[Callable[[CloudUser, Any], None], float]] = (
        *((instances, 0.1),) * 4,
        (key_pairs, 0.5),
        (describe_all, 0.1),
        (describe_all, 1.0),
        (snapshots, 1.0),
        (uploads, 20.0),
        (rejected_calls, 5.0),
        (broken_connections, 1.0),
    )


@dataclass
class ProcessSamples:
    """Samples of the processes, by name, and the processes that have exited."""

    by_process: dict[str, list[Sample]] = field(default_factory=dict)
    exited: list[str] = field(default_factory=list)

    def add(self, processes: dict[str, int], at: float) -> None:
        """Take a sample of each process."""
        for name, pid in processes.items():
            try:
                new_sample = sample(pid, at)
            except (FileNotFoundError, ProcessLookupError):
                self.exited.append(name)
            else:
                self.by_process.setdefault(name, []).append(new_sample)


def soak(plan: Plan, directory: Path, report: Callable[[str], None]) -> bool:
    """Run the plan and report its results; return whether it succeeded."""
    tally, samples = Tally(), ProcessSamples()
    with ExitStack() as stack:
        cert, key = write_server_pair(directory)
        names = [f"user{n}" for n in range(len(plan.clients))]
        settings = {**_SETTINGS, "ssl_cert": cert, "ssl_key": key, "workers": plan.workers}
        econed = stack.enter_context(deployed(directory, names, settings))
        pid = econed.supervisor
        processes = {"supervisor": pid} | {f"worker {n}": worker for n, worker in enumerate(children(pid))}
        stopped = threading.Event()
        stack.callback(stopped.set)
        users = [CloudUser(name, SECRET, econed.url, str(cert), tally) for name in names]
        for user, (task, _) in zip(users, plan.clients, strict=True):
            if task is instances:
                create_terminated_instances(user)
        threads = [
            threading.Thread(target=repeat, args=(user, task, pause, stopped), daemon=True)
            for user, (task, pause) in zip(users, plan.clients, strict=True)
        ]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        while (elapsed := time.monotonic() - start) < plan.seconds:
            samples.add(processes, elapsed)
            stopped.wait(_SAMPLE_INTERVAL)
        stopped.set()
        for thread in threads:
            thread.join(120)
        samples.add(processes, time.monotonic() - start)
        if children(pid) != sorted(processes[name] for name in processes if name != "supervisor"):
            samples.exited.append("a worker, which was replaced")
    return summarize(plan, tally, samples, report)


def summarize(plan: Plan, tally: Tally, samples: ProcessSamples, report: Callable[[str], None]) -> bool:
    """Report the results of a soak test; return whether it succeeded."""
    report(f"{sum(tally.calls.values())} calls in {plan.seconds:.0f} s, {sum(tally.failures.values())} of them failed")
    for action, count in sorted(tally.calls.items()):
        report(f"  {count:7} {action}")
    for failure, count in tally.failures.most_common(20):
        report(f"  FAILED {count} x {failure}")
    for name in samples.exited:
        report(f"  EXITED {name}")
    has_grown = False
    for name, all_samples in samples.by_process.items():
        warm = [item for item in all_samples if item.at >= plan.seconds * WARM_UP] or all_samples
        memory, descriptors = growth(warm, "memory"), growth(warm, "descriptors")
        has_grown |= memory > MAX_GROWTH or descriptors > 1
        open_descriptors = [item.descriptors for item in warm]
        report(
            f"{name}: {warm[0].memory / 2**20:.1f} MiB after the warm-up, {warm[-1].memory / 2**20:.1f} at the end"
            f" ({memory / 2**10:+.0f} KiB per minute); descriptors {min(open_descriptors)} to {max(open_descriptors)},"
            f" {open_descriptors[-1]} at the end ({descriptors:+.1f} per minute)"
        )
    if has_grown:
        report("memory or descriptors GROW")
    return not (tally.failures or samples.exited or has_grown)


def main(arguments: Sequence[str]) -> int:
    """Run the soak test as a command."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Run the soak test of econed.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        return 0 if soak(Plan(options.minutes * 60, options.workers), Path(directory), print) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
