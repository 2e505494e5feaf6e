"""Starting, stopping, rebooting and terminating instances."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.logger import Logger

from econed.catalogue import all_chores
from econed.opennebula.states import LcmState, VmState
from econed.reconciler import Reconciler
from tests.support.cloud import Cloud

ACTIONS = ["StartInstances", "StopInstances", "RebootInstances", "TerminateInstances"]


def run(cloud: Cloud, count: int = 1, user: str = "alice", **extra: Any) -> list[str]:
    """Run instances, wait until they run, and return their ids."""
    result = cloud.run(user, "RunInstances", ImageId="ami-00000000", MinCount=count, MaxCount=count, **extra)
    settle(cloud)
    return [instance["InstanceId"] for instance in result["Instances"]]


def settle(cloud: Cloud) -> None:
    """Wait until all operations in progress are complete."""
    cloud.clock.pump([1] * 30)


def state(cloud: Cloud, instance: str) -> str:
    """Return the state of an instance, as alice sees it."""
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[instance])["Reservations"]
    return str(reservation["Instances"][0]["State"]["Name"])


def changes(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the pairs of previous and current state in a result."""
    (key,) = result
    return [(change["PreviousState"]["Name"], change["CurrentState"]["Name"]) for change in result[key]]


def test_an_instance_is_stopped_started_and_terminated(cloud: Cloud) -> None:
    (instance,) = run(cloud)
    assert changes(cloud.run("alice", "StopInstances", InstanceIds=[instance])) == [("running", "stopping")]
    settle(cloud)
    assert state(cloud, instance) == "stopped"
    assert changes(cloud.run("alice", "StartInstances", InstanceIds=[instance])) == [("stopped", "pending")]
    settle(cloud)
    assert state(cloud, instance) == "running"
    ((before, after),) = changes(cloud.run("alice", "TerminateInstances", InstanceIds=[instance]))
    assert (before, after) == ("running", "shutting-down")
    settle(cloud)
    assert state(cloud, instance) == "terminated"


@pytest.mark.parametrize("action", ACTIONS)
def test_a_request_without_ids_is_refused(action: str) -> None:
    """It does not apply to all instances; the error is Amazon's, which SDKs and tools handle."""
    cloud = Cloud()
    run(cloud)
    before = len(cloud.changes)
    requests: list[dict[str, Any]] = [{}, {"InstanceIds": []}]
    for parameters in requests:
        refusal = cloud.refusal("alice", action, **parameters)
        assert (refusal.code, refusal.message) == ("InvalidParameterCombination", "No instances specified")
    assert len(cloud.changes) == before


def test_a_forced_stop_uses_the_hard_form(cloud: Cloud) -> None:
    instances = run(cloud, 2)
    cloud.run("alice", "StopInstances", InstanceIds=instances[:1], Force=True)
    cloud.run("alice", "StopInstances", InstanceIds=instances[1:], SkipOsShutdown=True)
    assert [call.args[0] for call in cloud.changes if call.method == "one.vm.action"][-2:] == ["poweroff-hard"] * 2


def test_a_reboot_returns_an_empty_result_and_leaves_the_instance_running(cloud: Cloud) -> None:
    (instance,) = run(cloud)
    assert cloud.run("alice", "RebootInstances", InstanceIds=[instance]) == {}
    settle(cloud)
    assert state(cloud, instance) == "running"
    assert "reboot" in [call.args[0] for call in cloud.changes]


@pytest.mark.parametrize("action", ["StopInstances", "RebootInstances"])
def test_stopping_or_rebooting_a_starting_instance_is_an_incorrect_state(cloud: Cloud, action: str) -> None:
    result = cloud.run("alice", "RunInstances", ImageId="ami-00000000", MinCount=1, MaxCount=1)
    refusal = cloud.refusal("alice", action, InstanceIds=[result["Instances"][0]["InstanceId"]])
    assert (refusal.code, refusal.status) == ("IncorrectInstanceState", 400)


def test_a_change_to_the_current_state_succeeds_without_a_call_to_oned(cloud: Cloud) -> None:
    (instance,) = run(cloud)
    before = len(cloud.changes)
    assert changes(cloud.run("alice", "StartInstances", InstanceIds=[instance])) == [("running", "running")]
    assert len(cloud.changes) == before
    cloud.run("alice", "StopInstances", InstanceIds=[instance])
    settle(cloud)
    assert changes(cloud.run("alice", "StopInstances", InstanceIds=[instance])) == [("stopped", "stopped")]


def test_terminating_an_instance_twice_succeeds(cloud: Cloud) -> None:
    (instance,) = run(cloud)
    cloud.run("alice", "TerminateInstances", InstanceIds=[instance])
    settle(cloud)
    assert changes(cloud.run("alice", "TerminateInstances", InstanceIds=[instance])) == [("terminated", "terminated")]


@pytest.mark.parametrize("action", ["StartInstances", "StopInstances", "RebootInstances"])
def test_a_terminated_instance_cannot_be_started_stopped_or_rebooted(cloud: Cloud, action: str) -> None:
    (instance,) = run(cloud)
    cloud.run("alice", "TerminateInstances", InstanceIds=[instance])
    settle(cloud)
    assert cloud.refusal("alice", action, InstanceIds=[instance]).code == "IncorrectInstanceState"


def test_no_instance_is_changed_if_one_of_them_does_not_allow_it(cloud: Cloud) -> None:
    running, terminated = run(cloud, 2)
    cloud.run("alice", "TerminateInstances", InstanceIds=[terminated])
    settle(cloud)
    refusal = cloud.refusal("alice", "StopInstances", InstanceIds=[running, terminated])
    assert refusal.code == "IncorrectInstanceState"
    assert terminated in refusal.message
    assert state(cloud, running) == "running"


def test_an_instance_that_could_not_be_deployed_can_be_terminated(cloud: Cloud) -> None:
    cloud.oned.fail_next_deployment()
    (instance,) = run(cloud)
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[instance])["Reservations"]
    assert reservation["Instances"][0]["StateReason"]["Code"] == "Server.InternalError"
    assert cloud.refusal("alice", "StopInstances", InstanceIds=[instance]).code == "IncorrectInstanceState"
    cloud.run("alice", "TerminateInstances", InstanceIds=[instance])
    settle(cloud)
    assert state(cloud, instance) == "terminated"


def test_a_change_waits_until_a_disk_is_attached(cloud: Cloud) -> None:
    (instance,) = run(cloud)
    machine_id = int(instance[2:])
    cloud.as_user("alice", "one.vm.attach", machine_id, 'DISK=[TYPE="fs",SIZE="10",FORMAT="raw",TARGET="sdk"]')
    assert cloud.oned.cloud.vms.get(machine_id).lcm_state is LcmState.HOTPLUG
    assert changes(cloud.run("alice", "StopInstances", InstanceIds=[instance])) == [("running", "stopping")]


def test_a_lock_protects_against_termination_and_stopping(cloud: Cloud) -> None:
    (instance,) = run(cloud)
    cloud.as_user("alice", "one.vm.lock", int(instance[2:]), 2, False)
    for action, attribute in (
        ("TerminateInstances", "disableApiTermination"),
        ("StopInstances", "disableApiStop"),
    ):
        refusal = cloud.refusal("alice", action, InstanceIds=[instance])
        assert refusal.code == "OperationNotPermitted"
        assert attribute in refusal.message
    assert state(cloud, instance) == "running"


@pytest.mark.parametrize("action", ACTIONS)
def test_instances_of_other_users_are_not_found_and_not_changed(cloud: Cloud, action: str) -> None:
    own, bobs = run(cloud), run(cloud, user="bob")
    refusal = cloud.refusal("alice", action, InstanceIds=[*own, *bobs])
    assert refusal.code == "InvalidInstanceID.NotFound"
    assert bobs[0] in refusal.message
    assert own[0] not in refusal.message
    assert all(call.method != "one.vm.action" or call.args[0] == "release" for call in cloud.changes)


@pytest.mark.parametrize("action", ["StopInstances", "TerminateInstances"])
def test_no_instance_is_changed_if_one_of_them_is_shared_for_use_only(cloud: Cloud, action: str) -> None:
    """Oned refuses before the caller's own instance is changed."""
    own, bobs = run(cloud), run(cloud, user="bob")
    cloud.as_user("bob", "one.vm.chmod", int(bobs[0][2:]), -1, -1, -1, 1, -1, -1, -1, -1, -1)
    refusal = cloud.refusal("alice", action, InstanceIds=[*own, *bobs])
    assert (refusal.code, refusal.status) == ("UnauthorizedOperation", 403)
    assert state(cloud, own[0]) == "running"


def test_a_change_granted_by_an_access_control_rule_is_made(cloud: Cloud) -> None:
    (bobs,) = run(cloud, user="bob")
    alice = cloud.user("alice")
    # #alice VM/@ec2 USE+MANAGE
    cloud.oneadmin("one.acl.addrule", f"{1 << 32 | alice.id:x}", f"{1 << 36 | 1 << 33 | alice.gid:x}", "3")
    assert changes(cloud.run("alice", "StopInstances", InstanceIds=[bobs])) == [("running", "stopping")]


@pytest.mark.parametrize(
    ("instance_ids", "code"),
    [
        (["bogus"], "InvalidInstanceID.Malformed"),
        (["i-1", "ami-00000000"], "InvalidInstanceID.Malformed"),
        (["i-00009999"], "InvalidInstanceID.NotFound"),
        ([""], "InvalidInstanceID.Malformed"),
    ],
)
@pytest.mark.parametrize("action", ACTIONS)
def test_malformed_and_unknown_ids_are_refused(action: str, instance_ids: list[str], code: str) -> None:
    assert Cloud(vms=2).refusal("alice", action, InstanceIds=instance_ids).code == code


def test_an_id_given_twice_is_changed_once(cloud: Cloud) -> None:
    (instance,) = run(cloud)
    assert len(changes(cloud.run("alice", "StopInstances", InstanceIds=[instance, instance]))) == 1


def test_the_current_state_counts_if_it_has_changed_since_it_was_read() -> None:
    cloud = Cloud()
    (instance,) = run(cloud)
    machine = cloud.oned.cloud.vms.get(int(instance[2:]))
    execute = cloud.oned.execute

    def change_state_and_execute(method: str, *params: object) -> list[object]:
        if method == "one.vm.action":
            machine.set_state(VmState.POWEROFF)
        return execute(method, *params)

    cloud.oned.execute = change_state_and_execute  # type: ignore[method-assign]
    assert changes(cloud.run("alice", "StopInstances", InstanceIds=[instance])) == [("running", "stopping")]
    assert cloud.refusal("alice", "RebootInstances", InstanceIds=[instance]).code == "IncorrectInstanceState"


def stopped_beyond_quota(cloud: Cloud) -> str:
    """Stop an instance of alice and return its id; a quota does not let it run again."""
    (instance,) = run(cloud)
    cloud.run("alice", "StopInstances", InstanceIds=[instance])
    settle(cloud)
    cloud.oneadmin("one.user.quota", cloud.user("alice").id, 'VM=[RUNNING_VMS="0"]')
    return instance


def test_starting_an_instance_beyond_a_quota_has_the_error_of_a_launch(cloud: Cloud) -> None:
    instance = stopped_beyond_quota(cloud)
    assert cloud.refusal("alice", "StartInstances", InstanceIds=[instance]).code == "InstanceLimitExceeded"
    assert state(cloud, instance) == "stopped"
    cloud.oneadmin("one.user.quota", cloud.user("alice").id, 'VM=[RUNNING_VMS="1"]')
    cloud.run("alice", "StartInstances", InstanceIds=[instance])
    settle(cloud)
    assert state(cloud, instance) == "running"


def test_a_quota_is_no_error_if_the_instance_has_been_started_since_it_was_read() -> None:
    cloud = Cloud()
    instance = stopped_beyond_quota(cloud)
    execute = cloud.oned.execute

    def start_and_execute(method: str, *params: object) -> list[object]:
        if method == "one.vm.action":
            cloud.oned.cloud.vms.get(int(instance[2:])).set_state(VmState.ACTIVE, LcmState.BOOT_POWEROFF)
        return execute(method, *params)

    cloud.oned.execute = start_and_execute  # type: ignore[method-assign]
    assert changes(cloud.run("alice", "StartInstances", InstanceIds=[instance])) == [("stopped", "pending")]


def test_only_a_stop_without_hibernation_is_accepted() -> None:
    cloud = Cloud(vms=1)
    assert cloud.refusal("alice", "StopInstances", InstanceIds=["i-0"], Hibernate=True).code == "UnsupportedOperation"
    cloud.run("alice", "StopInstances", InstanceIds=["i-0"], Hibernate=False)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_dry_run_reports_the_outcome_and_changes_nothing(action: str) -> None:
    cloud = Cloud()
    running, stopped = run(cloud, 2)
    cloud.run("alice", "StopInstances", InstanceIds=[stopped])
    settle(cloud)
    instance = stopped if action == "StartInstances" else running
    before = len(cloud.changes)
    assert cloud.refusal("alice", action, dry_run=True, InstanceIds=[instance]).code == "DryRunOperation"
    bobs = run(cloud, user="bob")
    cloud.as_user("bob", "one.vm.chmod", int(bobs[0][2:]), -1, -1, -1, 1, -1, -1, -1, -1, -1)
    if action != "StartInstances":
        refusal = cloud.refusal("alice", action, dry_run=True, InstanceIds=bobs)
        assert refusal.code == "UnauthorizedOperation"
    assert [call for call in cloud.changes[before:] if call.user == "alice"] == []


def launch_in_boot(cloud: Cloud) -> str:
    """Launch an instance that stays in BOOT until `finish_boot`, and return its id."""
    result = cloud.run("alice", "RunInstances", ImageId="ami-00000000", MinCount=1, MaxCount=1)
    (instance,) = result["Instances"]
    machine = cloud.oned.cloud.vms.get(int(instance["InstanceId"][2:]))
    cloud.clock.pump([0.05] * 200)
    machine.set_state(VmState.ACTIVE, LcmState.BOOT)
    return str(instance["InstanceId"])


def finish_boot(cloud: Cloud, instance: str) -> None:
    """Let an instance of `launch_in_boot` run."""
    cloud.oned.cloud.vms.get(int(instance[2:])).set_state(VmState.ACTIVE, LcmState.RUNNING)


def test_an_instance_is_terminated_during_its_deployment_as_soon_as_oned_accepts_it(cloud: Cloud) -> None:
    """In PROLOG and BOOT oned refuses to terminate a machine; on Amazon a pending instance can be terminated."""
    instance = launch_in_boot(cloud)
    cloud.clock.callLater(3, finish_boot, cloud, instance)
    ((before, after),) = changes(cloud.run("alice", "TerminateInstances", InstanceIds=[instance]))
    assert (before, after) == ("pending", "shutting-down")
    settle(cloud)
    assert state(cloud, instance) == "terminated"


def test_the_reconciler_terminates_an_instance_whose_deployment_takes_long(cloud: Cloud) -> None:
    instance = launch_in_boot(cloud)
    ((before, after),) = changes(cloud.run("alice", "TerminateInstances", InstanceIds=[instance]))
    assert (before, after) == ("pending", "shutting-down")
    assert state(cloud, instance) == "shutting-down"
    reconciler = Reconciler(cloud.backend, cloud.clock, all_chores(), Logger("test"))
    cloud.result(reconciler.round())
    assert state(cloud, instance) == "shutting-down"
    finish_boot(cloud, instance)
    assert state(cloud, instance) == "shutting-down"
    cloud.result(reconciler.round())
    settle(cloud)
    assert state(cloud, instance) == "terminated"


def test_an_instance_marked_for_termination_cannot_be_started_stopped_or_rebooted(cloud: Cloud) -> None:
    instance = launch_in_boot(cloud)
    cloud.run("alice", "TerminateInstances", InstanceIds=[instance])
    for action in ("StartInstances", "StopInstances", "RebootInstances"):
        assert cloud.refusal("alice", action, InstanceIds=[instance]).code == "IncorrectInstanceState"
    assert changes(cloud.run("alice", "TerminateInstances", InstanceIds=[instance])) == [
        ("shutting-down", "shutting-down")
    ]
