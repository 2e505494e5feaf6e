"""Security groups of machines where the recordings do not look (seen in 7.4): states, rights, rules being updated."""

from __future__ import annotations

import pytest

from econed.opennebula.states import LcmState, VmState
from tests.sandbox.demo_cloud import DemoCloud

DENIED, WRONG_STATE, INVALID = 512, 2048, 8192


def group(demo: DemoCloud, name: str = "g", user: str = "alice") -> int:
    """Allocate a security group with a rule."""
    created = demo.call(user, "one.secgroup.allocate", f'NAME="{name}" RULE=[PROTOCOL="TCP",RULE_TYPE="inbound"]')
    assert isinstance(created, int)
    return created


def updating(demo: DemoCloud, group_id: int) -> list[str | None]:
    """Return the ids of the machines that are getting the rules of a group."""
    return [vm.text for vm in demo.document("alice", "one.secgroup.info", group_id, False).iterfind("UPDATING_VMS/ID")]


def test_a_machine_runs_on_while_it_gets_the_rules_of_groups_attached_one_after_the_other() -> None:
    demo = DemoCloud()
    vm_id = demo.create_machine('NIC=[NETWORK_ID="0"]')
    demo.wait()
    first, second = group(demo, "first"), group(demo, "second")
    for group_id in (first, second):
        demo.call("alice", "one.vm.attachsg", vm_id, 0, group_id)
        assert demo.vm(vm_id).findtext("LCM_STATE") == str(int(LcmState.RUNNING))
        assert updating(demo, group_id) == [str(vm_id)]
    demo.wait()
    assert updating(demo, first) == updating(demo, second) == []
    assert demo.vm(vm_id).findtext("TEMPLATE/NIC/SECURITY_GROUPS") == f"0,{first},{second}"


def test_a_group_attached_to_a_terminated_machine_cannot_be_deleted_until_it_is_detached() -> None:
    demo = DemoCloud()
    vm_id, group_id = demo.create_machine('NIC=[NETWORK_ID="0"]', hold=True), group(demo)
    demo.call("alice", "one.vm.action", "terminate", vm_id)
    assert demo.vm(vm_id).findtext("STATE") == str(int(VmState.DONE))
    demo.call("alice", "one.vm.attachsg", vm_id, 0, group_id)
    assert demo.code("alice", "one.secgroup.delete", group_id) == WRONG_STATE
    demo.call("alice", "one.vm.detachsg", vm_id, 0, group_id)
    assert demo.code("alice", "one.secgroup.delete", group_id) == 0


@pytest.mark.parametrize("call", ["one.vm.attachsg", "one.vm.detachsg"])
def test_groups_do_not_change_while_a_nic_is_attached(call: str) -> None:
    demo = DemoCloud()
    vm_id, group_id = demo.create_machine('NIC=[NETWORK_ID="0"]'), group(demo)
    demo.wait()
    demo.call("alice", "one.vm.attachnic", vm_id, f'NIC=[NETWORK_ID="0",SECURITY_GROUPS="{group_id}"]')
    demo.clock.advance(0.05)
    assert demo.code("alice", call, vm_id, 0, group_id) == WRONG_STATE


def test_attaching_a_group_needs_the_right_to_use_those_that_are_there() -> None:
    demo = DemoCloud()
    vm_id, group_id = demo.create_machine('NIC=[NETWORK_ID="0"]', hold=True), group(demo)
    foreign = group(demo, "foreign", "bob")
    assert demo.admin("one.vm.attachsg", vm_id, 0, foreign)[0] is True
    assert demo.code("alice", "one.vm.attachsg", vm_id, 0, group_id) == DENIED


def test_attaching_a_group_needs_the_right_to_use_those_of_the_network() -> None:
    demo = DemoCloud()
    vm_id, group_id = demo.create_machine('NIC=[NETWORK_ID="0"]', hold=True), group(demo)
    foreign = group(demo, "foreign", "bob")
    demo.admin("one.vn.update", 0, f'SECURITY_GROUPS="0,{foreign}"', 1)
    assert demo.code("alice", "one.vm.attachsg", vm_id, 0, group_id) == DENIED
    demo.admin("one.vn.update", 0, 'SECURITY_GROUPS="0"', 1)
    assert demo.code("alice", "one.vm.attachsg", vm_id, 0, group_id) == 0


def test_a_bandwidth_is_refused_rather_than_ignored() -> None:
    demo = DemoCloud()
    vm_id = demo.create_machine('NIC=[NETWORK_ID="0"]', hold=True)
    assert demo.admin("one.vm.updatenic", vm_id, 0, 'NIC=[INBOUND_AVG_BW="10"]', 1)[2] == INVALID
