"""`python -m tests.soak [--minutes 10] [--workers 2]`: work econed for a while and say what became of it.

Ends with 1 if a request failed, a process ended, or memory or descriptors grew once it had warmed up.
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

from tests.soak.watching import Sample, children, growth, look
from tests.soak.work import Person, Tally, go_on, instances, keys, looking, past, refused, rude, snapshots, uploading
from tests.support.certificates import write_server_pair
from tests.support.deployment import SECRET, deployed

WARM_UP = 0.2
"""Of the whole time: how long it may still grow."""

MOST_GROWTH = 1 << 20
"""Bytes a minute that a process may gain after that: what the allocator still moves."""

_EVERY = 2.0
_SETTINGS = {
    "terminated_instances_expiration_time": 30,
    "associate_script": "/bin/true",
    "disassociate_script": "/bin/true",
}


@dataclass(frozen=True)
class Plan:
    """How long, with how many workers, and who does what: a kind of work with the seconds between two rounds of it."""

    seconds: float
    workers: int
    people: Sequence[tuple[Callable[[Person, Any], None], float]] = (
        *((instances, 0.1),) * 4,
        (keys, 0.5),
        (looking, 0.1),
        (looking, 1.0),
        (snapshots, 1.0),
        (uploading, 20.0),
        (refused, 5.0),
        (rude, 1.0),
    )


@dataclass
class Watch:
    """What was seen of the processes, by their names."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)

    def look(self, processes: dict[str, int], at: float) -> None:
        """Look at each."""
        for name, pid in processes.items():
            try:
                sample = look(pid, at)
            except (FileNotFoundError, ProcessLookupError):
                self.ended.append(name)
            else:
                self.samples.setdefault(name, []).append(sample)


def soak(plan: Plan, directory: Path, say: Callable[[str], None]) -> bool:
    """Run the plan and say what became of it; return whether all was well."""
    tally, watch = Tally(), Watch()
    with ExitStack() as ends:
        cert, key = write_server_pair(directory)
        names = [f"user{n}" for n in range(len(plan.people))]
        settings = {**_SETTINGS, "ssl_cert": cert, "ssl_key": key, "workers": plan.workers}
        econed = ends.enter_context(deployed(directory, names, settings))
        pid = econed.supervisor
        processes = {"supervisor": pid} | {f"worker {n}": worker for n, worker in enumerate(children(pid))}
        over = threading.Event()
        ends.callback(over.set)
        people = [Person(name, SECRET, econed.url, str(cert), tally) for name in names]
        for person, (work, _) in zip(people, plan.people, strict=True):
            if work is instances:
                past(person)
        threads = [
            threading.Thread(target=go_on, args=(person, work, pause, over), daemon=True)
            for person, (work, pause) in zip(people, plan.people, strict=True)
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        while (passed := time.monotonic() - began) < plan.seconds:
            watch.look(processes, passed)
            over.wait(_EVERY)
        over.set()
        for thread in threads:
            thread.join(120)
        watch.look(processes, time.monotonic() - began)
        if children(pid) != sorted(processes[name] for name in processes if name != "supervisor"):
            watch.ended.append("a worker, which was replaced")
    return told(plan, tally, watch, say)


def told(plan: Plan, tally: Tally, watch: Watch, say: Callable[[str], None]) -> bool:
    """Say what became of a soak; return whether all was well."""
    say(f"{sum(tally.calls.values())} calls in {plan.seconds:.0f} s, {sum(tally.failures.values())} of them failed")
    for action, count in sorted(tally.calls.items()):
        say(f"  {count:7} {action}")
    for failure, count in tally.failures.most_common(20):
        say(f"  FAILED {count} x {failure}")
    for name in watch.ended:
        say(f"  ENDED {name}")
    grows = False
    for name, samples in watch.samples.items():
        warm = [sample for sample in samples if sample.at >= plan.seconds * WARM_UP] or samples
        memory, descriptors = growth(warm, "memory"), growth(warm, "descriptors")
        grows |= memory > MOST_GROWTH or descriptors > 1
        open_ones = [each.descriptors for each in warm]
        say(
            f"{name}: {warm[0].memory / 2**20:.1f} MiB after the warm-up, {warm[-1].memory / 2**20:.1f} at the end"
            f" ({memory / 2**10:+.0f} KiB a minute); descriptors {min(open_ones)} to {max(open_ones)},"
            f" {open_ones[-1]} at the end"
        )
    if grows:
        say("memory or descriptors GROW")
    return not (tally.failures or watch.ended or grows)


def main(arguments: Sequence[str]) -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Work econed for a while.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        return 0 if soak(Plan(options.minutes * 60, options.workers), Path(directory), print) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
