"""Measurements of machines: the sandbox makes them up, as the dummy driver of the recordings does."""

from __future__ import annotations

import pytest
from lxml import etree

from tests.sandbox.demo_cloud import DemoCloud
from tests.sandbox.replay import document, read

INTERVAL = 20


def measurements(root: etree._Element) -> list[tuple[int, int]]:
    """Return the machine and the time of each measurement."""
    return [(int(each.findtext("ID", "")), int(each.findtext("TIMESTAMP", ""))) for each in root]


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_a_measurement_has_the_recorded_elements(version: str) -> None:
    demo = DemoCloud(version)
    vm_id = demo.create_machine(hold=True)
    demo.clock.advance(INTERVAL)
    recorded = [document(call.reply) for call in read(f"{version}-nics") if call.method == "one.vm.monitoring"]
    names = {str(element.tag) for root in recorded if root is not None for each in root for element in each}
    (measurement,) = demo.document("alice", "one.vm.monitoring", vm_id)
    assert names == {str(element.tag) for element in measurement}
    assert "NETRX" in names


def test_the_pool_has_the_last_measurement_of_each_machine_or_all_also_of_those_that_have_ended() -> None:
    demo = DemoCloud()
    ended, held = demo.create_machine(hold=True), demo.create_machine(hold=True)
    demo.clock.advance(2 * INTERVAL)
    demo.call("alice", "one.vm.action", "terminate", ended)
    demo.clock.advance(INTERVAL)
    times = [time for vm_id, time in measurements(demo.document("alice", "one.vmpool.monitoring", -3, -1))]
    last = measurements(demo.document("alice", "one.vmpool.monitoring", -3, 0))
    assert times[1] - times[0] == INTERVAL
    assert last == [(ended, times[1]), (held, times[1] + INTERVAL)]
    recent = measurements(demo.document("alice", "one.vmpool.monitoring", -3, INTERVAL))
    assert recent == [(held, times[1] + INTERVAL)]
    assert measurements(demo.document("bob", "one.vmpool.monitoring", -2, -1)) == []
