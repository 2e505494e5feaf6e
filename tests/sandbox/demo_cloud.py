"""A sandbox with its demo cloud, for unit tests."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from lxml import etree
from twisted.internet.task import Clock

from econed.errors import OpenNebulaRefusal
from econed.sandbox.backend import SandboxBackend
from econed.sandbox.demo_cloud import populate
from econed.sandbox.oned import Oned
from econed.user import Login

T = TypeVar("T")
BEGIN = 1_800_000_000
REST_TIME = 10.0
"""Seconds after which nothing is in progress any more."""


def result(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    raise AssertionError("the coroutine waits for something")


class DemoCloud:
    """The demo cloud of users alice and bob, with a clock that only the test advances."""

    def __init__(self, version: str = "7.4") -> None:
        self.clock = Clock()
        self.clock.advance(BEGIN)
        self.oned = Oned(self.clock, version=version)
        populate(self.oned, users=[("alice", "alice's secret"), ("bob", "b" * 64)])
        self.backend = SandboxBackend(self.oned)
        self.wait()

    def wait(self) -> None:
        """Advance the clock until nothing is in progress any more."""
        self.clock.pump([0.05] * int(REST_TIME / 0.05))

    def call(self, user: Login, method: str, *args: object) -> Any:
        """Call oned as `user`, or as serveradmin (None)."""
        return result(self.backend.call(user, method, *args))

    def admin(self, method: str, *args: object) -> list[object]:
        """Call oned as oneadmin and return the whole reply."""
        return self.oned.execute(method, self.oned.oneadmin, *args)

    def document(self, user: Login, method: str, *args: object) -> etree._Element:
        """Call oned and return the document in the reply."""
        root: etree._Element = result(self.backend.document(user, method, *args))
        return root

    def code(self, user: Login, method: str, *args: object) -> int:
        """Return the code of oned's refusal, 0 for success."""
        try:
            self.call(user, method, *args)
        except OpenNebulaRefusal as refusal:
            return refusal.code
        return 0

    def create_machine(self, extra: str = 'DISK=[IMAGE_ID="0"]', user: str = "alice", *, hold: bool = False) -> int:
        """Create a machine from the template m1.small and return its id."""
        return int(self.call(user, "one.template.instantiate", 0, "", hold, extra, False))

    def run_machine(self, extra: str = 'DISK=[IMAGE_ID="0"]', user: str = "alice") -> int:
        """Create a machine, wait until it is RUNNING, and return its id."""
        vm_id = self.create_machine(extra, user)
        self.wait()
        assert self.state(vm_id) == (3, 3)
        return vm_id

    def vm(self, vm_id: int) -> etree._Element:
        """Return a machine's document as the group oneadmin sees it."""
        return self.document(None, "one.vm.info", vm_id, False)

    def state(self, vm_id: int) -> tuple[int, int]:
        """Return STATE and LCM_STATE of a machine."""
        document = self.vm(vm_id)
        return int(document.findtext("STATE", "")), int(document.findtext("LCM_STATE", ""))

    def states_until_rest(self, vm_id: int, step: float = 0.005) -> list[tuple[int, int]]:
        """Return the present state of a machine and those that it passes through until it no longer changes."""
        states = [self.state(vm_id)]
        for _ in range(int(REST_TIME / step) // 5):
            self.clock.advance(step)
            if self.state(vm_id) != states[-1]:
                states.append(self.state(vm_id))
        return states
