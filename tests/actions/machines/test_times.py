"""When an instance was last launched and when it was stopped, for all kinds of stops and both versions of oned."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from twisted.logger import Logger

from econed.actions.machines.stop_times import StopTimeRecorder
from econed.opennebula.states import VmState
from tests.actions.machines.stopping import (
    WAYS,
    act,
    describe,
    launch_time,
    now,
    reconcile,
    run,
    settle,
    stop,
    stop_time,
)
from tests.actions.volumes.test_volumes import begin
from tests.support.cloud import NOW, Cloud


@pytest.mark.parametrize("how", WAYS)
def test_a_stopped_instance_has_its_stop_time_for_every_kind_of_stop(cloud: Cloud, how: str) -> None:
    """It is exact if oned records it, else accurate to one round of the reconciler, and it does not change later."""
    recorder = StopTimeRecorder(cloud.backend, cloud.clock, log=Logger(namespace="econed"))
    instance = run(cloud)
    assert describe(cloud, instance)["StateTransitionReason"] == ""
    settle(cloud, 3600)
    earliest = now(cloud)
    stop(cloud, how, instance)
    settle(cloud)
    reconcile(cloud, recorder)
    stopped_at = stop_time(cloud, instance)
    assert earliest <= stopped_at <= now(cloud)
    settle(cloud, 100)
    reconcile(cloud, recorder)
    assert stop_time(cloud, instance) == stopped_at


def test_an_instance_that_is_undeployed_after_a_power_off_has_a_stop_time(cloud: Cloud) -> None:
    """It is the time of the power-off if that is known, else the time when it left the host."""
    instance = run(cloud)
    settle(cloud, 1000)
    earliest = now(cloud)
    stop(cloud, "poweroff", instance)
    settle(cloud)
    stop(cloud, "undeploy", instance)
    settle(cloud)
    stopped_at = stop_time(cloud, instance)
    assert earliest <= stopped_at <= now(cloud)
    settle(cloud, 100)
    assert stop_time(cloud, instance) == stopped_at


@pytest.mark.parametrize("how", WAYS)
def test_the_stop_time_is_the_present_while_stopping_and_until_it_is_known(cloud: Cloud, how: str) -> None:
    """Therefore a tool that looks for instances stopped long ago never selects it."""
    instance = run(cloud)
    settle(cloud, 3600)
    earliest = now(cloud)
    stop(cloud, how, instance)
    seen = set()
    for _ in range(40):
        state = describe(cloud, instance)["State"]["Name"]
        seen.add(state)
        if state in ("stopping", "stopped"):
            assert earliest <= stop_time(cloud, instance) <= now(cloud)
        cloud.clock.advance(0.1)
    settle(cloud)
    assert describe(cloud, instance)["State"]["Name"] == "stopped"
    assert {"stopping", "stopped"} & seen
    assert earliest <= stop_time(cloud, instance) <= now(cloud)


@pytest.mark.parametrize("how", WAYS)
def test_a_start_changes_the_launch_time_but_not_the_attach_times(cloud: Cloud, how: str) -> None:
    """Those are of the primary interface and of the root volume (EC2, InstanceNetworkInterfaceAttachment)."""
    instance = run(cloud)
    first = launch_time(cloud, instance)
    assert first == NOW
    settle(cloud, 1000)
    stop(cloud, how, instance)
    settle(cloud, 1000)
    assert launch_time(cloud, instance) == first
    started = now(cloud)
    cloud.run("alice", "StartInstances", InstanceIds=[instance])
    settle(cloud)
    assert started <= launch_time(cloud, instance) <= now(cloud)
    running = describe(cloud, instance)
    assert running["State"]["Name"] == "running"
    assert running["StateTransitionReason"] == ""
    assert "StateReason" not in running
    (interface,), (disk,) = running["NetworkInterfaces"], running["BlockDeviceMappings"]
    assert interface["Attachment"]["AttachTime"].timestamp() == disk["Ebs"]["AttachTime"].timestamp() == first


def test_a_reboot_does_not_change_the_launch_time(cloud: Cloud) -> None:
    instance = run(cloud)
    settle(cloud, 1000)
    cloud.run("alice", "RebootInstances", InstanceIds=[instance])
    settle(cloud)
    assert launch_time(cloud, instance) == NOW


def test_creating_an_image_of_a_running_instance_does_not_change_its_times(cloud: Cloud) -> None:
    """It is powered off and started again, which is a reboot to EC2; the next stop has its own time."""
    recorder = StopTimeRecorder(cloud.backend, cloud.clock, log=Logger(namespace="econed"))
    instance = run(cloud)
    settle(cloud, 1000)
    begin(cloud, cloud.backend, "CreateImage", InstanceId=instance, Name="web")
    seen = set()
    for _ in range(300):
        cloud.clock.advance(0.2)
        seen.add(cloud.oned.cloud.vms.get(int(instance[2:])).state)
    assert VmState.POWEROFF in seen
    running = describe(cloud, instance)
    assert (running["State"]["Name"], running["StateTransitionReason"]) == ("running", "")
    assert launch_time(cloud, instance) == NOW
    settle(cloud, 1000)
    earliest = now(cloud)
    stop(cloud, "poweroff", instance)
    settle(cloud)
    reconcile(cloud, recorder)
    assert earliest <= stop_time(cloud, instance) <= now(cloud)
    cloud.run("alice", "StartInstances", InstanceIds=[instance])
    settle(cloud)
    assert earliest < launch_time(cloud, instance) <= now(cloud)


@pytest.mark.parametrize("is_off", [False, True])
def test_attaching_resizing_and_detaching_a_volume_do_not_change_the_times(cloud: Cloud, is_off: bool) -> None:
    """For each of these, oned begins a new record."""
    recorder = StopTimeRecorder(cloud.backend, cloud.clock, log=Logger(namespace="econed"))
    instance = run(cloud)
    settle(cloud, 500)
    stop(cloud, "poweroff", instance)
    settle(cloud, 500)
    cloud.run("alice", "StartInstances", InstanceIds=[instance])
    settle(cloud, 500)
    times = [launch_time]
    if is_off:
        stop(cloud, "poweroff", instance)
        settle(cloud)
        reconcile(cloud, recorder)
        times.append(stop_time)
    before = [time(cloud, instance) for time in times]
    volume_id = cloud.run("alice", "CreateVolume", AvailabilityZone="default", Size=1)["VolumeId"]
    settle(cloud, 500)
    for action, parameters in (
        ("AttachVolume", {"InstanceId": instance, "Device": "/dev/sdh"}),
        ("ModifyVolume", {"Size": 2}),
        ("DetachVolume", {}),
    ):
        cloud.run("alice", action, VolumeId=volume_id, **parameters)
        assert [time(cloud, instance) for time in times] == before, action
        settle(cloud, 500)
        reconcile(cloud, recorder)
        assert [time(cloud, instance) for time in times] == before, action
    if not is_off:
        stop(cloud, "poweroff", instance)
        settle(cloud, 500)
    again = now(cloud)
    cloud.run("alice", "StartInstances", InstanceIds=[instance])
    settle(cloud)
    assert again <= launch_time(cloud, instance) <= now(cloud)


def test_a_terminated_instance_has_its_termination_time(cloud: Cloud) -> None:
    """While it is shutting down it is the present, afterwards the time that oned has recorded."""
    for is_off in (False, True):
        instance = run(cloud)
        settle(cloud, 1000)
        if is_off:
            stop(cloud, "poweroff", instance)
            settle(cloud, 1000)
        earliest = now(cloud)
        cloud.run("alice", "TerminateInstances", InstanceIds=[instance])
        assert describe(cloud, instance)["State"]["Name"] == "shutting-down"
        assert earliest <= stop_time(cloud, instance) <= now(cloud)
        settle(cloud)
        assert describe(cloud, instance)["State"]["Name"] == "terminated"
        stopped_at = stop_time(cloud, instance)
        assert earliest <= stopped_at <= now(cloud)
        settle(cloud, 100)
        assert stop_time(cloud, instance) == stopped_at


@pytest.mark.parametrize(
    ("how", "code"),
    [("inside", "Client.InstanceInitiatedShutdown"), ("StopInstances", "Client.UserInitiatedShutdown")],
)
def test_the_state_reason_distinguishes_a_shutdown_by_the_guest_from_a_requested_stop(
    cloud: Cloud, how: str, code: str
) -> None:
    """The reason is the same while stopping and when stopped (EC2, StateReason)."""
    instance = run(cloud)
    stop(cloud, how, instance)
    while describe(cloud, instance)["State"]["Name"] == "running":
        cloud.clock.advance(0.1)
    assert describe(cloud, instance)["StateReason"]["Code"] == code
    settle(cloud)
    assert describe(cloud, instance)["StateReason"]["Code"] == code


def test_filters_use_these_times(cloud: Cloud) -> None:
    """They apply to the last launch, the first launch (attach time) and the stop."""
    recorder = StopTimeRecorder(cloud.backend, cloud.clock, log=Logger(namespace="econed"))
    instance, other = run(cloud), run(cloud)
    stop(cloud, "poweroff", instance)
    settle(cloud, 24 * 3600)
    cloud.run("alice", "StartInstances", InstanceIds=[instance])
    settle(cloud, 1000)
    stop(cloud, "poweroff", instance)
    settle(cloud)
    reconcile(cloud, recorder)

    def matching(name: str, value: str) -> list[str]:
        filters = [{"Name": name, "Values": [value]}]
        reservations = cloud.run("alice", "DescribeInstances", Filters=filters)["Reservations"]
        return sorted(instance["InstanceId"] for reservation in reservations for instance in reservation["Instances"])

    first, last = datetime.fromtimestamp(NOW, UTC), describe(cloud, instance)["LaunchTime"].astimezone(UTC)
    assert first.date() != last.date()
    assert matching("launch-time", f"{last:%Y-%m-%d}T*") == [instance]
    assert matching("launch-time", f"{first:%Y-%m-%d}T*") == [other]
    assert matching("network-interface.attachment.attach-time", f"{first:%Y-%m-%d}T*") == [instance, other]
    assert matching("reason", "User initiated (*)") == [instance]
    assert matching("reason", f"User initiated ({last:%Y-%m-%d} *") == [instance]


def test_a_live_migration_does_not_change_the_launch_time() -> None:
    """The guest continues to run; the RSTIME of oned's new record is the time of its arrival."""
    cloud = Cloud()
    instance = run(cloud)
    settle(cloud, 1000)
    machine = cloud.oned.cloud.vms.get(int(instance[2:]))
    machine.next_record(now(cloud))
    machine.update_record(started=now(cloud), running=(now(cloud) + 3, 0))
    assert launch_time(cloud, instance) == NOW


@pytest.mark.parametrize(
    "note",
    [
        '[RECORD="1",TIME="x"]',
        '[RECORD="x",TIME="1800000001"]',
        '[TIME="1800000001"]',
        '[RECORD="99"]',
        '[RECORD="0",TIME="1800000001"]',
        f'[RECORD="99",TIME="{NOW - 1}"]',
        f'[RECORD="99",TIME="{"9" * 5000}"]',
        f'[RECORD="{"9" * 5000}",TIME="1800000001"]',
        '[RECORD="-1",TIME="-1"]',
        '[RECORD="²",TIME="²"]',
        '="text"',
    ],
)
def test_an_invalid_note_is_ignored(cloud: Cloud, note: str) -> None:
    """Users can write notes on their machines, and a machine may be created from another user's template."""
    recorder = StopTimeRecorder(cloud.backend, cloud.clock, log=Logger(namespace="econed"))
    instance = run(cloud)
    settle(cloud, 1000)
    stop(cloud, "poweroff", instance)
    settle(cloud, 1000)
    cloud.run("alice", "StartInstances", InstanceIds=[instance])
    settle(cloud)
    stop(cloud, "poweroff", instance)
    settle(cloud)
    reconcile(cloud, recorder)
    before = launch_time(cloud, instance), stop_time(cloud, instance)
    value = note if note.startswith("=") else f"={note}"
    cloud.as_user("alice", "one.vm.update", int(instance[2:]), f"EC2_LAUNCHED{value}", 1)
    assert (launch_time(cloud, instance), stop_time(cloud, instance)) == before
    cloud.as_user("alice", "one.vm.update", int(instance[2:]), f"EC2_STOPPED{value}", 1)
    assert now(cloud) - 2000 < stop_time(cloud, instance) <= now(cloud)


def test_times_cost_no_additional_calls_in_a_list(cloud: Cloud) -> None:
    """The number of calls does not depend on the history of the instances."""
    instances = [run(cloud) for _ in range(3)]
    cloud.memory = cloud.new_memory()
    before = len(cloud.oned.calls)
    cloud.run("alice", "DescribeInstances")
    cost = len(cloud.oned.calls) - before
    for instance in instances:
        stop(cloud, "poweroff", instance)
    settle(cloud)
    act(cloud, "resume", instances[0])
    settle(cloud)
    cloud.memory = cloud.new_memory()
    before = len(cloud.oned.calls)
    cloud.run("alice", "DescribeInstances")
    assert len(cloud.oned.calls) - before == cost
