"""The soak test detects growth, failed calls and processes that exit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.soak.__main__ import MAX_GROWTH, Plan, ProcessSamples, summarize
from tests.soak.sampling import Sample, children, growth, sample
from tests.soak.work import Tally

PLAN = Plan(seconds=600, workers=2)


def samples(memory: Callable[[float], float], descriptors: Callable[[float], float]) -> list[Sample]:
    """Return samples of a process with this memory and number of descriptors at each time."""
    return [Sample(at, int(memory(at)), int(descriptors(at))) for at in range(0, 601, 10)]


def verdict(*, tally: Tally | None = None, processes: ProcessSamples | None = None) -> tuple[bool, str]:
    """Return whether the soak test succeeds, and its report."""
    lines: list[str] = []
    return summarize(PLAN, tally or Tally(), processes or ProcessSamples(), lines.append), "\n".join(lines)


def test_a_process_with_constant_memory_does_not_grow() -> None:
    steady = samples(lambda at: 5e7 + 1e5 * (at % 30), lambda at: 20 + at % 20)
    assert abs(growth(steady, "memory")) < MAX_GROWTH / 10
    assert verdict(processes=ProcessSamples({"worker": steady}))[0]


def test_growth_during_the_warm_up_does_not_count() -> None:
    warming = samples(lambda at: 5e7 + 1e6 * min(at, 100), lambda at: min(at, 30))
    assert verdict(processes=ProcessSamples({"worker": warming}))[0]


@pytest.mark.parametrize(
    "leaking",
    [samples(lambda at: 5e7 + at * MAX_GROWTH / 30, lambda _: 20), samples(lambda _: 5e7, lambda at: 20 + at / 20)],
    ids=["memory", "descriptors"],
)
def test_a_leak_is_detected(leaking: list[Sample]) -> None:
    succeeded, report = verdict(processes=ProcessSamples({"worker": leaking}))
    assert not succeeded
    assert "GROW" in report


def test_a_single_failed_call_fails_the_soak_test() -> None:
    tally = Tally()
    tally.succeeded("describe_instances")
    tally.failed("run_instances", "InternalError")
    succeeded, report = verdict(tally=tally)
    assert not succeeded
    assert "2 calls in 600 s, 1 of them failed" in report
    assert "run_instances: InternalError" in report


def test_an_exit_of_a_process_is_detected() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        assert child.pid in children(os.getpid())
        first = sample(child.pid, 0)
        assert first.memory > 0
        assert first.descriptors >= 3
    finally:
        child.communicate()
    processes = ProcessSamples()
    processes.add({"worker": child.pid}, 0)
    succeeded, report = verdict(processes=processes)
    assert not succeeded
    assert "EXITED worker" in report
