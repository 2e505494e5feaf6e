"""The soak sees what it is there to see: growth, and processes that end. Its verdict is the guide's figures' worth."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.soak.__main__ import MOST_GROWTH, Plan, Watch, told
from tests.soak.watching import Sample, children, growth, look
from tests.soak.work import Tally

PLAN = Plan(seconds=600, workers=2)


def samples(memory: Callable[[float], float], descriptors: Callable[[float], float]) -> list[Sample]:
    """Return what looks at a process that holds this much at each time would see."""
    return [Sample(at, int(memory(at)), int(descriptors(at))) for at in range(0, 601, 10)]


def verdict(*, tally: Tally | None = None, watch: Watch | None = None) -> tuple[bool, str]:
    """Return what is made of it, and what is said."""
    said: list[str] = []
    return told(PLAN, tally or Tally(), watch or Watch(), said.append), "\n".join(said)


def test_a_process_that_stays_as_it_is_does_not_grow() -> None:
    steady = samples(lambda at: 5e7 + 1e5 * (at % 30), lambda at: 20 + at % 20)
    assert abs(growth(steady, "memory")) < MOST_GROWTH / 10
    assert verdict(watch=Watch({"worker": steady}))[0]


def test_what_is_gained_before_the_warm_up_is_over_does_not_count() -> None:
    warming = samples(lambda at: 5e7 + 1e6 * min(at, 100), lambda at: min(at, 30))
    assert verdict(watch=Watch({"worker": warming}))[0]


@pytest.mark.parametrize(
    "leaking",
    [samples(lambda at: 5e7 + at * MOST_GROWTH / 30, lambda _: 20), samples(lambda _: 5e7, lambda at: 20 + at / 20)],
    ids=["memory", "descriptors"],
)
def test_a_leak_is_seen(leaking: list[Sample]) -> None:
    well, said = verdict(watch=Watch({"worker": leaking}))
    assert not well
    assert "GROW" in said


def test_one_failed_call_is_enough() -> None:
    tally = Tally()
    tally.done("describe_instances")
    tally.failed("run_instances", "InternalError")
    well, said = verdict(tally=tally)
    assert not well
    assert "2 calls in 600 s, 1 of them failed" in said
    assert "run_instances: InternalError" in said


def test_a_process_that_ends_is_seen() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        assert child.pid in children(os.getpid())
        seen = look(child.pid, 0)
        assert seen.memory > 0
        assert seen.descriptors >= 3
    finally:
        child.communicate()
    watch = Watch()
    watch.look({"worker": child.pid}, 0)
    well, said = verdict(watch=watch)
    assert not well
    assert "ENDED worker" in said
