"""The lifecycle of machines, the actions allowed in each state, and lists of machines."""

from __future__ import annotations

import pytest
from lxml import etree

from econed.errors import OpenNebulaRefusal
from tests.sandbox.demo_cloud import DemoCloud

PENDING, HOLD, STOPPED, SUSPENDED, DONE, POWEROFF = (1, 0), (2, 0), (4, 0), (5, 0), (6, 0), (8, 0)
PROLOG, BOOT, RUNNING, EPILOG, SHUTDOWN, CANCEL = (3, 1), (3, 2), (3, 3), (3, 11), (3, 12), (3, 13)
HOTPLUG, SHUTDOWN_POWEROFF, BOOT_POWEROFF, BOOT_FAILURE = (3, 17), (3, 18), (3, 20), (3, 36)
WRONG_STATE = 2048


def test_a_new_machine_passes_through_pending_prolog_and_boot_to_running() -> None:
    demo = DemoCloud()
    assert demo.states_until_rest(demo.create_machine()) == [PENDING, PROLOG, BOOT, RUNNING]


def test_a_machine_on_hold_starts_only_after_release() -> None:
    demo = DemoCloud()
    vm_id = demo.create_machine(hold=True)
    assert demo.states_until_rest(vm_id) == [HOLD]
    demo.call("alice", "one.vm.action", "release", vm_id)
    assert demo.states_until_rest(vm_id) == [PENDING, PROLOG, BOOT, RUNNING]


@pytest.mark.parametrize("action", ["poweroff", "poweroff-hard"])
def test_a_machine_is_powered_off_and_resumed(action: str) -> None:
    demo = DemoCloud()
    vm_id = demo.run_machine()
    demo.call("alice", "one.vm.action", action, vm_id)
    assert demo.states_until_rest(vm_id) == [RUNNING, SHUTDOWN_POWEROFF, POWEROFF]
    demo.call("alice", "one.vm.action", "resume", vm_id)
    assert demo.states_until_rest(vm_id) == [POWEROFF, BOOT_POWEROFF, RUNNING]


@pytest.mark.parametrize(
    ("version", "action", "recorded"),
    [
        ("5.12", "poweroff", False),
        ("5.12", "suspend", False),
        ("5.12", "stop", True),
        ("5.12", "undeploy", True),
        ("7.4", "poweroff", True),
        ("7.4", "suspend", True),
        ("7.4", "stop", True),
        ("7.4", "undeploy", True),
    ],
)
def test_the_time_a_machine_stopped_running_is_recorded_since_6_0(version: str, action: str, recorded: bool) -> None:
    """Before 6.0 only when it leaves its host; measured on 5.12.0.4 and 7.4.0, also for a shutdown by the guest."""
    demo = DemoCloud(version)
    vm_id = demo.run_machine()
    demo.call("alice", "one.vm.action", action, vm_id)
    demo.states_until_rest(vm_id)
    assert (int(demo.vm(vm_id).findtext("HISTORY_RECORDS/HISTORY/RETIME", "")) > 0) is recorded


@pytest.mark.parametrize(("action", "shutdown_state"), [("terminate", SHUTDOWN), ("terminate-hard", CANCEL)])
def test_terminating_releases_address_image_and_quota(action: str, shutdown_state: tuple[int, int]) -> None:
    demo = DemoCloud()
    vm_id = demo.run_machine()
    assert demo.document("alice", "one.vn.info", 0, False).findtext("USED_LEASES") == "1"
    demo.call("alice", "one.vm.action", action, vm_id)
    assert demo.states_until_rest(vm_id) == [RUNNING, shutdown_state, EPILOG, DONE]
    assert demo.document("alice", "one.vn.info", 0, False).findtext("USED_LEASES") == "0"
    assert demo.document("alice", "one.image.info", 0, False).findtext("STATE") == "1"
    assert not len(demo.document("alice", "one.user.info", -1, False).find("VM_QUOTA"))  # type: ignore[arg-type]
    assert demo.vm(vm_id).findtext("TEMPLATE/NIC/IP") == "10.0.0.10"
    assert int(demo.vm(vm_id).findtext("ETIME", "")) > 0


@pytest.mark.parametrize(("action", "state"), [("suspend", SUSPENDED), ("stop", STOPPED), ("undeploy", (9, 0))])
def test_a_suspended_stopped_or_undeployed_machine_is_resumed(action: str, state: tuple[int, int]) -> None:
    demo = DemoCloud()
    vm_id = demo.run_machine()
    demo.call("alice", "one.vm.action", action, vm_id)
    assert demo.states_until_rest(vm_id)[-1] == state
    demo.call("alice", "one.vm.action", "resume", vm_id)
    assert demo.states_until_rest(vm_id)[-1] == RUNNING


@pytest.mark.parametrize("action", ["reboot", "poweroff", "poweroff-hard", "suspend", "resume", "terminate"])
def test_actions_are_refused_while_a_machine_boots(action: str) -> None:
    demo = DemoCloud()
    vm_id = demo.create_machine()
    while demo.state(vm_id) != BOOT:
        demo.clock.advance(0.01)
    assert demo.code("alice", "one.vm.action", action, vm_id) == WRONG_STATE


def test_all_actions_on_a_done_machine_are_refused() -> None:
    demo = DemoCloud()
    vm_id = demo.create_machine(hold=True)
    demo.call("alice", "one.vm.action", "terminate", vm_id)
    codes = [demo.code("alice", "one.vm.action", action, vm_id) for action in ("resume", "release", "reboot")]
    assert codes == [WRONG_STATE] * 3


def test_a_failed_deployment_ends_in_boot_failure_and_can_be_retried() -> None:
    demo = DemoCloud()
    demo.oned.fail_next_deployment()
    vm_id = demo.create_machine()
    assert demo.states_until_rest(vm_id)[-1] == BOOT_FAILURE
    assert "DEPLOY" in demo.vm(vm_id).findtext("USER_TEMPLATE/ERROR", "")
    assert demo.code("alice", "one.vm.action", "poweroff", vm_id) == WRONG_STATE
    demo.call(None, "one.vm.recover", vm_id, 2)
    assert demo.states_until_rest(vm_id)[-1] == RUNNING


@pytest.mark.parametrize("extra", ['CPU="100000"', 'MEMORY="99999999"', 'SCHED_REQUIREMENTS="CLUSTER_ID=77"'])
def test_a_machine_that_fits_on_no_host_stays_pending_with_a_message(extra: str) -> None:
    demo = DemoCloud()
    vm_id = demo.create_machine(extra)
    assert demo.states_until_rest(vm_id) == [PENDING]
    assert "[HOST]" in demo.vm(vm_id).findtext("USER_TEMPLATE/SCHED_MESSAGE", "")


def test_a_pending_machine_starts_when_a_host_is_enabled() -> None:
    demo = DemoCloud()
    for host in (0, 1):
        demo.admin("one.host.status", host, 1)
    vm_id = demo.create_machine()
    assert demo.states_until_rest(vm_id) == [PENDING]
    demo.admin("one.host.status", 0, 0)
    demo.call("alice", "one.vm.update", vm_id, 'A="1"', 1)
    assert demo.states_until_rest(vm_id)[-1] == RUNNING


def test_a_machine_waits_for_an_image_that_is_being_copied() -> None:
    demo = DemoCloud()
    image = demo.call("alice", "one.image.allocate", 'NAME="new" TYPE="OS" PATH="/x"', 1)
    vm_id = demo.create_machine(f'DISK=[IMAGE_ID="{image}"]')
    assert demo.states_until_rest(vm_id) == [(10, 0), PENDING, PROLOG, BOOT, RUNNING]


def test_changing_the_context_of_a_running_machine_is_a_hotplug_operation() -> None:
    demo = DemoCloud()
    vm_id = demo.run_machine()
    demo.call("alice", "one.vm.updateconf", vm_id, 'CONTEXT=[NETWORK="YES",NOTE="new"]', 1)
    assert demo.states_until_rest(vm_id) == [HOTPLUG, RUNNING]
    assert demo.vm(vm_id).findtext("TEMPLATE/CONTEXT/NOTE") == "new"


@pytest.mark.parametrize(("version", "note"), [("5.12", None), ("7.4", "old")])
def test_5_12_replaces_a_context_and_7_x_merges_it(version: str, note: str | None) -> None:
    demo = DemoCloud(version)
    vm_id = demo.create_machine('CONTEXT=[NETWORK="YES",NOTE="old"]', hold=True)
    demo.call("alice", "one.vm.updateconf", vm_id, 'CONTEXT=[NETWORK="YES",OTHER="1"]', 1)
    context = demo.vm(vm_id).find("TEMPLATE/CONTEXT")
    assert context is not None
    assert (context.findtext("NOTE"), context.findtext("OTHER")) == (note, "1")


@pytest.mark.parametrize(("level", "code"), [(1, 512), (2, 512), (3, 0), (4, 512)])
def test_a_lock_prevents_the_actions_of_its_level(level: int, code: int) -> None:
    demo = DemoCloud()
    vm_id = demo.run_machine()
    demo.call("alice", "one.vm.lock", vm_id, level, False)
    assert demo.code("alice", "one.vm.info", vm_id, False) == 0
    assert demo.code("alice", "one.vm.action", "terminate", vm_id) == code


def test_a_failed_instantiation_leaves_no_machine_lease_or_use_of_an_image() -> None:
    demo = DemoCloud()
    codes = [
        demo.code("alice", "one.template.instantiate", 0, "", False, extra, False)
        for extra in (
            'DISK=[IMAGE_ID="0"]\nDISK=[IMAGE_ID="99"]',
            'NIC=[NETWORK_ID="0"]\nNIC=[NETWORK_ID="99"]',
            'NIC=[NETWORK_ID="0",IP="192.0.2.1"]',
            'CPU="-1"',
            'MEMORY="much"',
        )
    ]
    assert codes == [16384] * 5
    assert demo.document("alice", "one.image.info", 0, False).findtext("RUNNING_VMS") == "0"
    assert demo.document("alice", "one.vn.info", 0, False).findtext("USED_LEASES") == "0"
    assert demo.create_machine() == 0


def test_restricted_attributes_must_be_sent_as_in_the_template() -> None:
    demo = DemoCloud()
    text = 'NAME="limited" CPU="1" MEMORY="64" NIC=[NETWORK_ID="0",INBOUND_AVG_BW="1000"]'
    template = demo.admin("one.template.allocate", text)[1]
    demo.admin("one.template.chown", template, -1, 100)
    demo.admin("one.template.chmod", template, 1, 1, 0, 1, 0, 0, 0, 0, 0)

    def code(extra: str) -> int:
        return demo.code("alice", "one.template.instantiate", template, "", True, extra, False)

    assert code("") == 0
    assert code('NIC=[NETWORK_ID="0",INBOUND_AVG_BW="1000"]') == 0
    assert code('NIC=[NETWORK_ID="0",INBOUND_AVG_BW="9999"]') == 512
    assert code('NIC=[NETWORK_ID="0"]') == 512


def test_a_quota_refusal_differs_from_a_missing_right_only_in_its_text() -> None:
    demo = DemoCloud()
    demo.admin("one.user.quota", 2, 'VM=[VMS="1"]')
    demo.create_machine(hold=True)
    with pytest.raises(OpenNebulaRefusal) as refused:
        demo.create_machine(hold=True)
    assert refused.value.code == 512
    assert refused.value.is_quota
    assert "limit of 1 reached for VMS quota in VM" in refused.value.reason


def test_another_users_machine_can_be_neither_listed_nor_changed() -> None:
    demo = DemoCloud()
    vm_id = demo.create_machine(hold=True)
    assert demo.code("bob", "one.vm.info", vm_id, False) == 512
    assert demo.code("bob", "one.vm.action", "terminate", vm_id) == 512
    assert not len(demo.document("bob", "one.vmpool.infoextended", -2, -1, -1, -2, ""))
    assert demo.code("bob", "one.vm.info", 999, False) == 1024


def test_a_done_machine_accepts_new_attributes_but_not_a_new_owner() -> None:
    demo = DemoCloud()
    vm_id = demo.create_machine(hold=True)
    demo.call("alice", "one.vm.action", "terminate", vm_id)
    demo.call("alice", "one.vm.update", vm_id, 'TAG="late"', 1)
    assert demo.vm(vm_id).findtext("USER_TEMPLATE/TAG") == "late"
    assert demo.admin("one.vm.chown", vm_id, 3, -1)[2] == WRONG_STATE


def test_only_the_owner_of_a_lock_unlocks_it_and_unlocking_without_a_lock_is_refused() -> None:
    demo = DemoCloud()
    vm_id = demo.create_machine(hold=True)
    assert demo.code("alice", "one.vm.unlock", vm_id) == WRONG_STATE
    demo.admin("one.vm.lock", vm_id, 1, False)
    assert demo.code("alice", "one.vm.unlock", vm_id) == WRONG_STATE
    assert demo.admin("one.vm.unlock", vm_id)[0] is True
    demo.call("alice", "one.vm.lock", vm_id, 1, False)
    demo.call("alice", "one.vm.unlock", vm_id)


def test_the_history_record_has_the_resume_until_the_machine_is_running() -> None:
    demo = DemoCloud()
    vm_id = demo.run_machine()
    for action, state in (("poweroff", POWEROFF), ("resume", BOOT_POWEROFF)):
        demo.call("alice", "one.vm.action", action, vm_id)
        while demo.state(vm_id) != state:
            demo.clock.advance(0.01)
    record = demo.vm(vm_id).findall("HISTORY_RECORDS/HISTORY")[-1]
    assert (record.findtext("ACTION"), record.findtext("UID")) == ("11", "2")
    demo.wait()
    record = demo.vm(vm_id).findall("HISTORY_RECORDS/HISTORY")[-1]
    assert (record.findtext("ACTION"), record.findtext("UID")) == ("0", "-1")


def test_an_invalid_capacity_is_refused_before_a_wrong_state() -> None:
    demo = DemoCloud()
    vm_id = demo.run_machine()
    assert demo.code("alice", "one.vm.resize", vm_id, 'CPU="-1"', False) == 8192
    assert demo.code("alice", "one.vm.resize", vm_id, 'CPU="1"', False) == WRONG_STATE


class TestLists:
    """`one.vmpool.*`."""

    @pytest.fixture
    def demo(self) -> DemoCloud:
        demo = DemoCloud()
        for _ in range(6):
            demo.create_machine(hold=True)
        demo.call("alice", "one.vm.action", "terminate", 2)
        return demo

    def ids(self, demo: DemoCloud, method: str, *args: object, user: str = "alice") -> list[int]:
        return [int(element.text or "") for element in demo.document(user, method, *args).iterfind("VM/ID")]

    @pytest.mark.parametrize(
        ("start", "end", "state", "expected"),
        [
            (-1, -1, -1, [5, 4, 3, 1, 0]),
            (-1, -1, -2, [5, 4, 3, 2, 1, 0]),
            (-1, -1, 6, [2]),
            (3, -1, -2, [5, 4, 3]),
            (1, 3, -2, [3, 2, 1]),
            (0, -2, -2, [5, 4]),
            (4, -2, -2, [1, 0]),
            (5, -9, -2, [0]),
        ],
    )
    def test_pages_and_ranges_of_ids(
        self, demo: DemoCloud, start: int, end: int, state: int, expected: list[int]
    ) -> None:
        assert self.ids(demo, "one.vmpool.infoextended", -2, start, end, state, "") == expected
        assert self.ids(demo, "one.vmpool.info", -2, start, end, state, "") == expected

    def test_a_set_has_done_machines_and_no_machines_that_the_user_may_not_see(self, demo: DemoCloud) -> None:
        demo.create_machine(user="bob", hold=True)
        assert self.ids(demo, "one.vmpool.infoset", "0,2,6,99", True) == [2, 0]
        assert self.ids(demo, "one.vmpool.infoset", "", True) == []

    @pytest.mark.parametrize(
        ("text", "expected"), [("1,,0", [1, 0]), (" 1", [1]), ("x,1", [1]), ("1,1", [1]), ("1;0", [1]), (",", [])]
    )
    def test_anything_but_ids_in_the_list_of_a_set_is_ignored(
        self, demo: DemoCloud, text: str, expected: list[int]
    ) -> None:
        assert self.ids(demo, "one.vmpool.infoset", text, True) == expected

    @pytest.mark.parametrize(
        ("flag", "state", "code"), [(-5, -1, 4096), (-2, -3, 4096), (-2, 99, 4096), (-4, -1, 0), (77, -1, 0)]
    )
    def test_unknown_filters_are_refused_as_bad_calls(self, demo: DemoCloud, flag: int, state: int, code: int) -> None:
        assert demo.code("alice", "one.vmpool.infoextended", flag, -1, -1, state, "") == code

    def test_a_search_fails_with_sqlite(self, demo: DemoCloud) -> None:
        assert demo.code("alice", "one.vmpool.infoextended", -2, -1, -1, -1, "A=1") == 8192

    def test_the_short_form_has_neither_context_nor_user_attributes(self, demo: DemoCloud) -> None:
        document = etree.fromstring(demo.call("alice", "one.vmpool.info", -2, 0, 0, -1, "")).find("VM")
        assert document is not None
        assert document.find("TEMPLATE/CONTEXT") is None
        assert document.findtext("USER_TEMPLATE") == ""
        assert document.findtext("TEMPLATE/NIC/IP") == "10.0.0.10"

    def test_accounting_has_machines_that_ran_but_none_that_ended_before_running(self, demo: DemoCloud) -> None:
        vm_id = demo.run_machine()
        demo.call("alice", "one.vm.action", "terminate", vm_id)
        demo.wait()
        since = int(demo.clock.seconds()) - 60
        records = demo.document("alice", "one.vmpool.accounting", -3, since, -1)
        assert {element.text for element in records.iterfind("HISTORY/OID")} == {str(vm_id)}
        demo.clock.advance(3600)
        later = demo.document("alice", "one.vmpool.accounting", -3, int(demo.clock.seconds()) - 60, -1)
        assert not len(later)

    def test_lists_have_only_the_last_history_record(self, demo: DemoCloud) -> None:
        vm_id = demo.run_machine()
        for action in ("poweroff", "resume"):
            demo.call("alice", "one.vm.action", action, vm_id)
            demo.wait()
        pool = demo.document("alice", "one.vmpool.infoset", str(vm_id), True)
        assert [e.text for e in pool.iterfind("VM/HISTORY_RECORDS/HISTORY/SEQ")] == ["1"]
        assert len(demo.vm(vm_id).findall("HISTORY_RECORDS/HISTORY")) == 2
