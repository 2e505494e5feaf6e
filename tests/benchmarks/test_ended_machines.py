"""The machines that the sandbox of the benchmarks is given, and that ended long ago."""

from __future__ import annotations

from twisted.internet.task import Clock

from benchmarks.sandbox import add_ended_machines
from econed.opennebula.states import VmState
from econed.sandbox.demo_cloud import populate
from econed.sandbox.oned import Oned


def test_ended_machines_are_done_and_ended_at_least_a_day_ago() -> None:
    clock = Clock()
    clock.advance(1_800_000_000)
    oned = Oned(clock)
    populate(oned, users=[("alice", "a" * 40)], vms=1)
    add_ended_machines(oned, 0, 3)
    machines = [oned.cloud.vms.get(number) for number in (1, 2, 3)]
    assert [machine.state for machine in machines] == [VmState.DONE] * 3
    assert [machine.ended for machine in machines] == sorted({machine.ended for machine in machines})
    assert all(0 < machine.started < machine.ended <= oned.cloud.now() - 24 * 3600 for machine in machines)
    assert oned.cloud.vms.get(0).state is VmState.ACTIVE


def test_ended_machines_are_listed_only_with_the_machines_in_all_states() -> None:
    oned = Oned(Clock())
    populate(oned, users=[("alice", "a" * 40)], vms=1)
    add_ended_machines(oned, 0, 3)

    def listed(state: int) -> int:
        _, document, *_ = oned.execute("one.vmpool.info", oned.oneadmin, -2, -1, -1, state)
        return str(document).count("<VM>")

    assert (listed(-1), listed(6), listed(-2)) == (1, 3, 4)
