"""The life of machines, what may be done with them when, and how they are listed."""

from __future__ import annotations

import pytest
from lxml import etree

from econed.errors import OpenNebulaRefusal
from tests.sandbox.demo_cloud import DemoCloud

PENDING, HOLD, STOPPED, SUSPENDED, DONE, POWEROFF = (1, 0), (2, 0), (4, 0), (5, 0), (6, 0), (8, 0)
PROLOG, BOOT, RUNNING, EPILOG, SHUTDOWN, CANCEL = (3, 1), (3, 2), (3, 3), (3, 11), (3, 12), (3, 13)
HOTPLUG, SHUTDOWN_POWEROFF, BOOT_POWEROFF, BOOT_FAILURE = (3, 17), (3, 18), (3, 20), (3, 36)
WRONG_STATE = 2048


def test_a_new_machine_is_pending_then_prolog_boot_and_running() -> None:
    demo = DemoCloud()
    assert demo.through(demo.run()) == [PENDING, PROLOG, BOOT, RUNNING]


def test_a_machine_on_hold_waits_until_it_is_released() -> None:
    demo = DemoCloud()
    machine = demo.run(hold=True)
    assert demo.through(machine) == [HOLD]
    demo.call("alice", "one.vm.action", "release", machine)
    assert demo.through(machine) == [PENDING, PROLOG, BOOT, RUNNING]


@pytest.mark.parametrize("action", ["poweroff", "poweroff-hard"])
def test_poweroff_and_resume(action: str) -> None:
    demo = DemoCloud()
    machine = demo.running()
    demo.call("alice", "one.vm.action", action, machine)
    assert demo.through(machine) == [RUNNING, SHUTDOWN_POWEROFF, POWEROFF]
    demo.call("alice", "one.vm.action", "resume", machine)
    assert demo.through(machine) == [POWEROFF, BOOT_POWEROFF, RUNNING]


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
def test_when_a_machine_came_to_rest_is_recorded_since_6_0(version: str, action: str, recorded: bool) -> None:
    """Before, only when it leaves its host; measured on 5.12.0.4 and 7.4.0, also of a guest that shut itself down."""
    demo = DemoCloud(version)
    machine = demo.running()
    demo.call("alice", "one.vm.action", action, machine)
    demo.through(machine)
    assert (int(demo.vm(machine).findtext("HISTORY_RECORDS/HISTORY/RETIME", "")) > 0) is recorded


@pytest.mark.parametrize(("action", "shutting"), [("terminate", SHUTDOWN), ("terminate-hard", CANCEL)])
def test_terminating_gives_back_address_image_and_quota(action: str, shutting: tuple[int, int]) -> None:
    demo = DemoCloud()
    machine = demo.running()
    assert demo.document("alice", "one.vn.info", 0, False).findtext("USED_LEASES") == "1"
    demo.call("alice", "one.vm.action", action, machine)
    assert demo.through(machine) == [RUNNING, shutting, EPILOG, DONE]
    assert demo.document("alice", "one.vn.info", 0, False).findtext("USED_LEASES") == "0"
    assert demo.document("alice", "one.image.info", 0, False).findtext("STATE") == "1"
    assert not len(demo.document("alice", "one.user.info", -1, False).find("VM_QUOTA"))  # type: ignore[arg-type]
    assert demo.vm(machine).findtext("TEMPLATE/NIC/IP") == "10.0.0.10"
    assert int(demo.vm(machine).findtext("ETIME", "")) > 0


@pytest.mark.parametrize(("action", "state"), [("suspend", SUSPENDED), ("stop", STOPPED), ("undeploy", (9, 0))])
def test_a_machine_that_was_put_aside_comes_back_by_resume(action: str, state: tuple[int, int]) -> None:
    demo = DemoCloud()
    machine = demo.running()
    demo.call("alice", "one.vm.action", action, machine)
    assert demo.through(machine)[-1] == state
    demo.call("alice", "one.vm.action", "resume", machine)
    assert demo.through(machine)[-1] == RUNNING


@pytest.mark.parametrize("action", ["reboot", "poweroff", "poweroff-hard", "suspend", "resume", "terminate"])
def test_actions_are_refused_while_a_machine_boots(action: str) -> None:
    demo = DemoCloud()
    machine = demo.run()
    while demo.state(machine) != BOOT:
        demo.clock.advance(0.01)
    assert demo.code("alice", "one.vm.action", action, machine) == WRONG_STATE


def test_an_ended_machine_takes_terminate_and_nothing_else() -> None:
    demo = DemoCloud()
    machine = demo.run(hold=True)
    demo.call("alice", "one.vm.action", "terminate", machine)
    codes = [demo.code("alice", "one.vm.action", action, machine) for action in ("resume", "release", "reboot")]
    assert codes == [WRONG_STATE] * 3


def test_a_failed_deployment_is_boot_failure_and_can_be_ended_or_retried() -> None:
    demo = DemoCloud()
    demo.oned.fail_next_deployment()
    machine = demo.run()
    assert demo.through(machine)[-1] == BOOT_FAILURE
    assert "DEPLOY" in demo.vm(machine).findtext("USER_TEMPLATE/ERROR", "")
    assert demo.code("alice", "one.vm.action", "poweroff", machine) == WRONG_STATE
    demo.call(None, "one.vm.recover", machine, 2)
    assert demo.through(machine)[-1] == RUNNING


@pytest.mark.parametrize("extra", ['CPU="100000"', 'MEMORY="99999999"', 'SCHED_REQUIREMENTS="CLUSTER_ID=77"'])
def test_a_machine_that_no_host_can_take_stays_pending_and_says_why(extra: str) -> None:
    demo = DemoCloud()
    machine = demo.run(extra)
    assert demo.through(machine) == [PENDING]
    assert "[HOST]" in demo.vm(machine).findtext("USER_TEMPLATE/SCHED_MESSAGE", "")


def test_a_waiting_machine_starts_when_there_is_room() -> None:
    demo = DemoCloud()
    for host in (0, 1):
        demo.admin("one.host.status", host, 1)
    machine = demo.run()
    assert demo.through(machine) == [PENDING]
    demo.admin("one.host.status", 0, 0)
    demo.call("alice", "one.vm.update", machine, 'A="1"', 1)
    assert demo.through(machine)[-1] == RUNNING


def test_a_machine_of_an_image_that_is_being_copied_waits_for_it() -> None:
    demo = DemoCloud()
    image = demo.call("alice", "one.image.allocate", 'NAME="new" TYPE="OS" PATH="/x"', 1)
    machine = demo.run(f'DISK=[IMAGE_ID="{image}"]')
    assert demo.through(machine) == [(10, 0), PENDING, PROLOG, BOOT, RUNNING]


def test_changing_the_context_of_a_running_machine_is_a_hotplug() -> None:
    demo = DemoCloud()
    machine = demo.running()
    demo.call("alice", "one.vm.updateconf", machine, 'CONTEXT=[NETWORK="YES",NOTE="new"]', 1)
    assert demo.through(machine) == [HOTPLUG, RUNNING]
    assert demo.vm(machine).findtext("TEMPLATE/CONTEXT/NOTE") == "new"


@pytest.mark.parametrize(("version", "kept"), [("5.12", None), ("7.4", "old")])
def test_5_12_replaces_a_context_where_7_x_can_merge_it(version: str, kept: str | None) -> None:
    demo = DemoCloud(version)
    machine = demo.run('CONTEXT=[NETWORK="YES",NOTE="old"]', hold=True)
    demo.call("alice", "one.vm.updateconf", machine, 'CONTEXT=[NETWORK="YES",OTHER="1"]', 1)
    context = demo.vm(machine).find("TEMPLATE/CONTEXT")
    assert context is not None
    assert (context.findtext("NOTE"), context.findtext("OTHER")) == (kept, "1")


@pytest.mark.parametrize(("level", "code"), [(1, 512), (2, 512), (3, 0), (4, 512)])
def test_a_lock_keeps_away_from_its_level_on(level: int, code: int) -> None:
    demo = DemoCloud()
    machine = demo.running()
    demo.call("alice", "one.vm.lock", machine, level, False)
    assert demo.code("alice", "one.vm.info", machine, False) == 0
    assert demo.code("alice", "one.vm.action", "terminate", machine) == code


def test_an_instantiation_that_fails_leaves_nothing_behind() -> None:
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
    assert demo.run() == 0


def test_restricted_attributes_must_be_repeated_as_the_template_has_them() -> None:
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


def test_a_quota_refusal_is_told_from_a_missing_right_by_its_text_only() -> None:
    demo = DemoCloud()
    demo.admin("one.user.quota", 2, 'VM=[VMS="1"]')
    demo.run(hold=True)
    with pytest.raises(OpenNebulaRefusal) as refused:
        demo.run(hold=True)
    assert refused.value.code == 512
    assert refused.value.is_quota
    assert "limit of 1 reached for VMS quota in VM" in refused.value.reason


def test_another_users_machine_is_neither_seen_nor_touched() -> None:
    demo = DemoCloud()
    machine = demo.run(hold=True)
    assert demo.code("bob", "one.vm.info", machine, False) == 512
    assert demo.code("bob", "one.vm.action", "terminate", machine) == 512
    assert not len(demo.document("bob", "one.vmpool.infoextended", -2, -1, -1, -2, ""))
    assert demo.code("bob", "one.vm.info", 999, False) == 1024


def test_an_ended_machine_takes_new_attributes_but_no_new_owner() -> None:
    demo = DemoCloud()
    machine = demo.run(hold=True)
    demo.call("alice", "one.vm.action", "terminate", machine)
    demo.call("alice", "one.vm.update", machine, 'TAG="late"', 1)
    assert demo.vm(machine).findtext("USER_TEMPLATE/TAG") == "late"
    assert demo.admin("one.vm.chown", machine, 3, -1)[2] == WRONG_STATE


def test_only_who_locked_a_machine_unlocks_it_and_what_is_not_locked_cannot_be() -> None:
    demo = DemoCloud()
    machine = demo.run(hold=True)
    assert demo.code("alice", "one.vm.unlock", machine) == WRONG_STATE
    demo.admin("one.vm.lock", machine, 1, False)
    assert demo.code("alice", "one.vm.unlock", machine) == WRONG_STATE
    assert demo.admin("one.vm.unlock", machine)[0] is True
    demo.call("alice", "one.vm.lock", machine, 1, False)
    demo.call("alice", "one.vm.unlock", machine)


def test_the_history_names_the_resume_until_the_machine_runs_again() -> None:
    demo = DemoCloud()
    machine = demo.running()
    for action, state in (("poweroff", POWEROFF), ("resume", BOOT_POWEROFF)):
        demo.call("alice", "one.vm.action", action, machine)
        while demo.state(machine) != state:
            demo.clock.advance(0.01)
    newest = demo.vm(machine).findall("HISTORY_RECORDS/HISTORY")[-1]
    assert (newest.findtext("ACTION"), newest.findtext("UID")) == ("11", "2")
    demo.wait()
    newest = demo.vm(machine).findall("HISTORY_RECORDS/HISTORY")[-1]
    assert (newest.findtext("ACTION"), newest.findtext("UID")) == ("0", "-1")


def test_a_wrong_size_is_told_before_a_wrong_state() -> None:
    demo = DemoCloud()
    machine = demo.running()
    assert demo.code("alice", "one.vm.resize", machine, 'CPU="-1"', False) == 8192
    assert demo.code("alice", "one.vm.resize", machine, 'CPU="1"', False) == WRONG_STATE


class TestLists:
    """`one.vmpool.*`."""

    @pytest.fixture
    def demo(self) -> DemoCloud:
        demo = DemoCloud()
        for _ in range(6):
            demo.run(hold=True)
        demo.call("alice", "one.vm.action", "terminate", 2)
        return demo

    def ids_xml(self, demo: DemoCloud, method: str, *args: object, user: str = "alice") -> list[int]:
        return [int(found.text or "") for found in demo.document(user, method, *args).iterfind("VM/ID")]

    @pytest.mark.parametrize(
        ("start", "end", "state", "listed"),
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
    def test_pages_and_spans(self, demo: DemoCloud, start: int, end: int, state: int, listed: list[int]) -> None:
        assert self.ids_xml(demo, "one.vmpool.infoextended", -2, start, end, state, "") == listed
        assert self.ids_xml(demo, "one.vmpool.info", -2, start, end, state, "") == listed

    def test_a_set_keeps_done_machines_and_leaves_out_what_is_not_to_be_seen(self, demo: DemoCloud) -> None:
        demo.run(user="bob", hold=True)
        assert self.ids_xml(demo, "one.vmpool.infoset", "0,2,6,99", True) == [2, 0]
        assert self.ids_xml(demo, "one.vmpool.infoset", "", True) == []

    @pytest.mark.parametrize(
        ("numbers", "listed"), [("1,,0", [1, 0]), (" 1", [1]), ("x,1", [1]), ("1,1", [1]), ("1;0", [1]), (",", [])]
    )
    def test_a_set_is_read_number_by_number_and_what_is_none_is_left_out(
        self, demo: DemoCloud, numbers: str, listed: list[int]
    ) -> None:
        assert self.ids_xml(demo, "one.vmpool.infoset", numbers, True) == listed

    @pytest.mark.parametrize(
        ("flag", "state", "code"), [(-5, -1, 4096), (-2, -3, 4096), (-2, 99, 4096), (-4, -1, 0), (77, -1, 0)]
    )
    def test_filters_that_there_are_not_are_bad_calls(self, demo: DemoCloud, flag: int, state: int, code: int) -> None:
        assert demo.code("alice", "one.vmpool.infoextended", flag, -1, -1, state, "") == code

    def test_a_search_fails_on_sqlite(self, demo: DemoCloud) -> None:
        assert demo.code("alice", "one.vmpool.infoextended", -2, -1, -1, -1, "A=1") == 8192

    def test_the_short_form_has_neither_context_nor_user_attributes(self, demo: DemoCloud) -> None:
        machine = etree.fromstring(demo.call("alice", "one.vmpool.info", -2, 0, 0, -1, "")).find("VM")
        assert machine is not None
        assert machine.find("TEMPLATE/CONTEXT") is None
        assert machine.findtext("USER_TEMPLATE") == ""
        assert machine.findtext("TEMPLATE/NIC/IP") == "10.0.0.10"

    def test_accounting_names_what_ran_but_not_what_ended_before_it_ever_did(self, demo: DemoCloud) -> None:
        machine = demo.running()
        demo.call("alice", "one.vm.action", "terminate", machine)
        demo.wait()
        since = int(demo.clock.seconds()) - 60
        records = demo.document("alice", "one.vmpool.accounting", -3, since, -1)
        assert {found.text for found in records.iterfind("HISTORY/OID")} == {str(machine)}
        demo.clock.advance(3600)
        later = demo.document("alice", "one.vmpool.accounting", -3, int(demo.clock.seconds()) - 60, -1)
        assert not len(later)

    def test_lists_show_the_newest_history_record_only(self, demo: DemoCloud) -> None:
        machine = demo.running()
        for action in ("poweroff", "resume"):
            demo.call("alice", "one.vm.action", action, machine)
            demo.wait()
        listed = demo.document("alice", "one.vmpool.infoset", str(machine), True)
        assert [e.text for e in listed.iterfind("VM/HISTORY_RECORDS/HISTORY/SEQ")] == ["1"]
        assert len(demo.vm(machine).findall("HISTORY_RECORDS/HISTORY")) == 2
