"""Resizing machines, and limits of quotas (measured on 5.12 and 7.4; the rest is in the recordings)."""

from __future__ import annotations

import pytest

from tests.sandbox.demo_cloud import DemoCloud

AUTHORIZATION, WRONG_STATE = 512, 2048
ALICE = 2


@pytest.fixture(params=["5.12", "7.4"])
def demo(request: pytest.FixtureRequest) -> DemoCloud:
    """The demo cloud in each version."""
    return DemoCloud(request.param)


def stopped_machine(demo: DemoCloud) -> int:
    """Return the id of a machine of alice in POWEROFF."""
    vm_id = demo.run_machine()
    demo.call("alice", "one.vm.action", "poweroff-hard", vm_id)
    demo.wait()
    return vm_id


@pytest.mark.parametrize("enforce", [False, True])
@pytest.mark.parametrize("capacity", ['CPU="1001"', 'MEMORY="9999999999"'])
def test_a_user_cannot_exceed_the_capacity_of_the_host(demo: DemoCloud, capacity: str, enforce: bool) -> None:
    vm_id = stopped_machine(demo)
    before = demo.oned.execute("one.host.info", demo.oned.oneadmin, 0, False)
    assert demo.code("alice", "one.vm.resize", vm_id, capacity, enforce) == WRONG_STATE
    assert demo.vm(vm_id).findtext("TEMPLATE/CPU") == "0.1"
    assert demo.oned.execute("one.host.info", demo.oned.oneadmin, 0, False) == before


@pytest.mark.parametrize(("text", "name", "value"), [('CPU="2x"', "CPU", "2"), ('MEMORY="17.5"', "MEMORY", "17")])
def test_a_number_at_the_beginning_of_a_text_counts(demo: DemoCloud, text: str, name: str, value: str) -> None:
    vm_id = stopped_machine(demo)
    assert demo.code("alice", "one.vm.resize", vm_id, text, False) == 0
    assert demo.vm(vm_id).findtext(f"TEMPLATE/{name}") == value


def test_no_resize_is_allowed_while_a_limit_of_capacity_is_exceeded(demo: DemoCloud) -> None:
    vm_id = stopped_machine(demo)
    demo.admin("one.user.quota", ALICE, 'VM=[CPU="0.01"]')
    for capacity in ('CPU="0.5"', 'MEMORY="129"'):
        assert demo.code("alice", "one.vm.resize", vm_id, capacity, False) == AUTHORIZATION
    demo.admin("one.user.quota", ALICE, 'VM=[VMS="0"]')
    assert demo.code("alice", "one.vm.resize", vm_id, 'CPU="0.5"', False) == 0


def test_5_12_refuses_to_resume_while_any_limit_of_machines_is_exceeded(demo: DemoCloud) -> None:
    vm_id = stopped_machine(demo)
    demo.admin("one.user.quota", ALICE, 'VM=[VMS="0"]')
    expected = 0 if demo.oned.cloud.version.is_v7 else WRONG_STATE
    assert demo.code("alice", "one.vm.action", "resume", vm_id) == expected


@pytest.mark.parametrize("text", ['VM=[VMS="-3"]', 'NETWORK=[LEASES="1"]', 'NETWORK=[ID="x",LEASES="1"]', "BROKEN=["])
def test_invalid_limits_are_refused(demo: DemoCloud, text: str) -> None:
    assert demo.admin("one.user.quota", ALICE, text)[2] == WRONG_STATE


def test_a_limit_that_is_no_number_or_is_not_sent_becomes_the_default(demo: DemoCloud) -> None:
    demo.admin("one.user.quota", ALICE, 'VM=[VMS="3",CPU="1.5"]')
    demo.admin("one.user.quota", ALICE, 'VM=[VMS="abc",MEMORY="7"]')
    quota = demo.document("alice", "one.user.info", -1).find("VM_QUOTA/VM")
    assert quota is not None
    assert [quota.findtext(name) for name in ("VMS", "CPU", "MEMORY")] == ["-1", "-1", "7"]


def test_only_the_group_oneadmin_changes_the_default_quotas_which_have_no_defaults(demo: DemoCloud) -> None:
    assert demo.code("alice", "one.groupquota.update", 'VM=[VMS="1"]') == AUTHORIZATION
    assert demo.admin("one.groupquota.update", 'VM=[VMS="-1"]')[2] == WRONG_STATE
    assert demo.code("alice", "one.groupquota.info") == 0
    demo.admin("one.groupquota.update", 'VM=[VMS="0"]')
    assert demo.code("alice", "one.template.instantiate", 0, "", True, "", False) == AUTHORIZATION
