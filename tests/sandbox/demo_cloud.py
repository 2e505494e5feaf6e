"""A sandbox with its demo cloud, as the unit tests use it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from lxml import etree
from twisted.internet.task import Clock

from econed.errors import OpenNebulaRefusal
from econed.sandbox.backend import SandboxBackend
from econed.sandbox.demo_cloud import populate
from econed.sandbox.oned import Oned

T = TypeVar("T")
BEGIN = 1_800_000_000
LONG = 10.0
"""Seconds after which everything that was begun has come to its end."""


def result(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    raise AssertionError("it waits for something")


class DemoCloud:
    """The demo cloud of users alice and bob, at a time that stands still until it is told to go on."""

    def __init__(self, version: str = "7.4") -> None:
        self.clock = Clock()
        self.clock.advance(BEGIN)
        self.oned = Oned(self.clock, version=version)
        populate(self.oned, users=[("alice", "alice's secret"), ("bob", "b" * 64)])
        self.backend = SandboxBackend(self.oned)
        self.wait()

    def wait(self) -> None:
        """Let time pass until everything that was begun has come to its end."""
        self.clock.pump([0.05] * int(LONG / 0.05))

    def call(self, user: str | None, method: str, *args: object) -> Any:
        """Call oned as `user`, None being serveradmin."""
        return result(self.backend.call(user, method, *args))

    def admin(self, method: str, *args: object) -> list[object]:
        """Call oned as oneadmin and return the whole reply."""
        return self.oned.execute(method, self.oned.oneadmin, *args)

    def document(self, user: str | None, method: str, *args: object) -> etree._Element:
        """Call oned and return the document."""
        return result(self.backend.document(user, method, *args))

    def code(self, user: str | None, method: str, *args: object) -> int:
        """Return the code of oned's refusal, or 0."""
        try:
            self.call(user, method, *args)
        except OpenNebulaRefusal as refusal:
            return refusal.code
        return 0

    def run(self, extra: str = 'DISK=[IMAGE_ID="0"]', user: str = "alice", *, hold: bool = False) -> int:
        """Make a machine of m1.small."""
        return int(self.call(user, "one.template.instantiate", 0, "", hold, extra, False))

    def running(self, extra: str = 'DISK=[IMAGE_ID="0"]', user: str = "alice") -> int:
        """Make a machine, and wait until it runs."""
        machine = self.run(extra, user)
        self.wait()
        assert self.state(machine) == (3, 3)
        return machine

    def vm(self, number: int) -> etree._Element:
        """Return a machine's document as oneadmin's group sees it."""
        return self.document(None, "one.vm.info", number, False)

    def state(self, number: int) -> tuple[int, int]:
        """Return STATE and LCM_STATE of a machine."""
        found = self.vm(number)
        return int(found.findtext("STATE", "")), int(found.findtext("LCM_STATE", ""))

    def through(self, number: int, step: float = 0.005) -> list[tuple[int, int]]:
        """Return the states that a machine goes through from now on."""
        seen = [self.state(number)]
        for _ in range(int(LONG / step) // 5):
            self.clock.advance(step)
            if self.state(number) != seen[-1]:
                seen.append(self.state(number))
        return seen
