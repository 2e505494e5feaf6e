"""VM groups where the recordings do not look (seen in 7.4): groups in use, several groups, hosts."""

from __future__ import annotations

from econed.opennebula.states import VmState
from tests.sandbox.demo_cloud import DemoCloud

WRONG_STATE, INVALID = 2048, 8192


def group(demo: DemoCloud, text: str, name: str = "g") -> int:
    """Allocate a VM group of alice."""
    created = demo.call("alice", "one.vmgroup.allocate", f'NAME="{name}"\n{text}')
    assert isinstance(created, int)
    return created


def members(demo: DemoCloud, group_id: int) -> dict[str | None, str | None]:
    """Return the VMS of each role of a group."""
    roles = demo.document("alice", "one.vmgroup.info", group_id, False).iterfind("ROLES/ROLE")
    return {role.findtext("NAME"): role.findtext("VMS") for role in roles}


def machine_in(demo: DemoCloud, group_id: int, role: str, *, hold: bool = False) -> int:
    """Create a machine of alice in a role."""
    return demo.create_machine(f'VMGROUP=[VMGROUP_ID="{group_id}",ROLE="{role}"]', hold=hold)


def test_a_group_with_machines_takes_no_attributes() -> None:
    demo = DemoCloud()
    group_id = group(demo, 'ROLE=[NAME="all"]')
    vm_id = machine_in(demo, group_id, "all", hold=True)
    assert demo.code("alice", "one.vmgroup.update", group_id, 'EC2_X="1"', 1) == INVALID
    demo.call("alice", "one.vm.action", "terminate", vm_id)
    assert members(demo, group_id) == {"all": None}
    assert demo.code("alice", "one.vmgroup.update", group_id, 'EC2_X="1"', 1) == 0


def test_a_machine_of_two_groups_is_taken_out_of_the_first_only() -> None:
    demo = DemoCloud()
    first, second = group(demo, 'ROLE=[NAME="all"]', "first"), group(demo, 'ROLE=[NAME="all"]', "second")
    vm_id = machine_in(demo, first, "all", hold=True)
    demo.call("alice", "one.vm.vmgroupadd", vm_id, second, "all")
    assert len(demo.vm(vm_id).findall("TEMPLATE/VMGROUP")) == 2
    demo.call("alice", "one.vm.vmgroupdel", vm_id)
    assert demo.vm(vm_id).find("TEMPLATE/VMGROUP") is None
    assert (members(demo, first), members(demo, second)) == ({"all": None}, {"all": str(vm_id)})


def test_a_role_with_machines_is_neither_changed_nor_deleted() -> None:
    demo = DemoCloud()
    group_id = group(demo, 'ROLE=[NAME="all"]\nROLE=[NAME="b"]')
    machine_in(demo, group_id, "all", hold=True)
    assert demo.code("alice", "one.vmgroup.roleupdate", group_id, 0, 'ROLE=[POLICY="AFFINED"]') == WRONG_STATE
    assert demo.code("alice", "one.vmgroup.roledelete", group_id, 0) == WRONG_STATE
    demo.call("alice", "one.vmgroup.roledelete", group_id, 1)
    demo.call("alice", "one.vmgroup.roleadd", group_id, 'ROLE=[NAME="c"]')
    roles = demo.document("alice", "one.vmgroup.info", group_id, False).iterfind("ROLES/ROLE")
    assert [(role.findtext("ID"), role.findtext("NAME")) for role in roles] == [("0", "all"), ("2", "c")]


def test_a_waiting_machine_gets_the_host_of_one_that_had_to_be_elsewhere() -> None:
    demo = DemoCloud()
    group_id = group(demo, 'ROLE=[NAME="a"]\nROLE=[NAME="b"]\nANTI_AFFINED="a,b"')
    hosts = demo.admin("one.hostpool.info")
    number = str(hosts[1]).count("<HOST>")
    placed = [machine_in(demo, group_id, "a") for _ in range(number)]
    demo.wait()
    waiting = machine_in(demo, group_id, "b")
    demo.wait()
    assert demo.vm(waiting).findtext("STATE") == str(int(VmState.PENDING))
    assert "affinity" in str(demo.vm(waiting).findtext("USER_TEMPLATE/SCHED_MESSAGE"))
    demo.call("alice", "one.vm.action", "terminate-hard", placed[0])
    demo.wait()
    assert demo.vm(waiting).findtext("STATE") == str(int(VmState.ACTIVE))


def test_a_running_machine_joins_no_group_that_its_host_does_not_suit() -> None:
    demo = DemoCloud()
    host = demo.create_machine()
    demo.wait()
    host_id = demo.vm(host).findtext("HISTORY_RECORDS/HISTORY/HID")
    elsewhere = group(demo, f'ROLE=[NAME="all",HOST_ANTI_AFFINED="{host_id}"]', "elsewhere")
    here = group(demo, f'ROLE=[NAME="all",HOST_AFFINED="{host_id}"]', "here")
    assert demo.code("alice", "one.vm.vmgroupadd", host, elsewhere, "all") == WRONG_STATE
    assert demo.code("alice", "one.vm.vmgroupadd", host, here, "all") == 0
