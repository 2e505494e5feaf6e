"""When an instance was launched last and when it was stopped, however that came about, on either form of oned."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from zope.interface import implementer

from econed.actions.machines.stop_times import StopTimeRecorder
from econed.errors import InvalidReply, ReplyTooLarge
from econed.interfaces import IOpenNebula
from econed.opennebula.states import VmState
from tests.actions.volumes.test_volumes import begin
from tests.support.cloud import NOW, Cloud

AMI = "ami-00000000"
REASON = re.compile(r"User initiated \((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) GMT\)")
"""As Cloud Custodian finds the date in it."""

ROUND = 60
"""Seconds from one round of the reconciler to the next."""


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """A fresh cloud of each form of oned."""
    return Cloud(request.param)


def run(cloud: Cloud, **more: Any) -> str:
    """Run an instance and let it start."""
    answer = cloud.run("alice", "RunInstances", ImageId=AMI, MinCount=1, MaxCount=1, **more)
    settle(cloud)
    return str(answer["Instances"][0]["InstanceId"])


def settle(cloud: Cloud, seconds: int = 30) -> None:
    """Let everything that is under way come to its end."""
    cloud.clock.pump([1] * seconds)


def shown(cloud: Cloud, instance: str, user: str = "alice") -> dict[str, Any]:
    """Return an instance as DescribeInstances shows it."""
    (reservation,) = cloud.run(user, "DescribeInstances", InstanceIds=[instance])["Reservations"]
    return dict(reservation["Instances"][0])


def launched(cloud: Cloud, instance: str) -> int:
    """Return the LaunchTime, in seconds since the epoch."""
    return int(shown(cloud, instance)["LaunchTime"].timestamp())


def stopped(cloud: Cloud, instance: str) -> int:
    """Return the time in StateTransitionReason, in seconds since the epoch."""
    found = REASON.fullmatch(shown(cloud, instance)["StateTransitionReason"])
    assert found is not None
    return int(datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp())


def now(cloud: Cloud) -> int:
    """Return the time, in seconds since the epoch."""
    return int(cloud.clock.seconds())


def act(cloud: Cloud, action: str, instance: str, user: str = "alice") -> None:
    """Have OpenNebula do something, as Sunstone does."""
    cloud.as_user(user, "one.vm.action", action, int(instance[2:]))


def stop(cloud: Cloud, how: str, instance: str) -> None:
    """Stop an instance in one of the ways that there are."""
    match how:
        case "StopInstances":
            cloud.run("alice", how, InstanceIds=[instance])
        case "inside":
            cloud.oned.shut_down_inside(int(instance[2:]))
        case _:
            act(cloud, how, instance)


WAYS = ["StopInstances", "inside", "poweroff", "poweroff-hard", "suspend", "stop", "undeploy", "undeploy-hard"]


def reconcile(cloud: Cloud, stops: StopTimeRecorder) -> None:
    """Let a round of the reconciler look at what is off."""
    cloud.result(stops.round({cloud.user(name).id: name for name in ("alice", "bob")}))


@pytest.mark.parametrize("how", WAYS)
def test_a_stopped_instance_says_when_it_was_stopped_however_it_was(cloud: Cloud, how: str) -> None:
    """Exactly where oned records it, else to a round of the reconciler; and it does not change any more."""
    stops = StopTimeRecorder(cloud.backend, cloud.clock)
    instance = run(cloud)
    assert shown(cloud, instance)["StateTransitionReason"] == ""
    settle(cloud, 3600)
    begun = now(cloud)
    stop(cloud, how, instance)
    settle(cloud)
    reconcile(cloud, stops)
    came = stopped(cloud, instance)
    assert begun <= came <= now(cloud)
    settle(cloud, 100)
    reconcile(cloud, stops)
    assert stopped(cloud, instance) == came


def test_one_that_was_powered_off_and_is_then_undeployed_has_a_time_too(cloud: Cloud) -> None:
    """Of the power off where that is known, else of the end of its stay on the host."""
    instance = run(cloud)
    settle(cloud, 1000)
    begun = now(cloud)
    stop(cloud, "poweroff", instance)
    settle(cloud)
    stop(cloud, "undeploy", instance)
    settle(cloud)
    came = stopped(cloud, instance)
    assert begun <= came <= now(cloud)
    settle(cloud, 100)
    assert stopped(cloud, instance) == came


@pytest.mark.parametrize("how", WAYS)
def test_there_is_always_a_time_also_on_the_way_to_stopped_and_before_it_is_known(cloud: Cloud, how: str) -> None:
    """Then it is the present: a tool that looks for what was stopped long ago never takes it for such."""
    instance = run(cloud)
    settle(cloud, 3600)
    begun = now(cloud)
    stop(cloud, how, instance)
    seen = set()
    for _ in range(40):
        state = shown(cloud, instance)["State"]["Name"]
        seen.add(state)
        if state in ("stopping", "stopped"):
            assert begun <= stopped(cloud, instance) <= now(cloud)
        cloud.clock.advance(0.1)
    settle(cloud)
    assert shown(cloud, instance)["State"]["Name"] == "stopped"
    assert {"stopping", "stopped"} & seen
    assert begun <= stopped(cloud, instance) <= now(cloud)


@pytest.mark.parametrize("how", WAYS)
def test_the_launch_time_moves_at_each_start_and_the_first_stays_at_the_attachments(cloud: Cloud, how: str) -> None:
    """Of the primary interface and of the root volume (EC2, InstanceNetworkInterfaceAttachment)."""
    instance = run(cloud)
    first = launched(cloud, instance)
    assert first == NOW
    settle(cloud, 1000)
    stop(cloud, how, instance)
    settle(cloud, 1000)
    assert launched(cloud, instance) == first
    started = now(cloud)
    cloud.run("alice", "StartInstances", InstanceIds=[instance])
    settle(cloud)
    assert started <= launched(cloud, instance) <= now(cloud)
    now_shown = shown(cloud, instance)
    assert now_shown["State"]["Name"] == "running"
    assert now_shown["StateTransitionReason"] == ""
    assert "StateReason" not in now_shown
    (interface,), (disk,) = now_shown["NetworkInterfaces"], now_shown["BlockDeviceMappings"]
    assert interface["Attachment"]["AttachTime"].timestamp() == disk["Ebs"]["AttachTime"].timestamp() == first


def test_a_reboot_moves_nothing(cloud: Cloud) -> None:
    instance = run(cloud)
    settle(cloud, 1000)
    cloud.run("alice", "RebootInstances", InstanceIds=[instance])
    settle(cloud)
    assert launched(cloud, instance) == NOW


def test_an_image_of_a_running_instance_moves_nothing(cloud: Cloud) -> None:
    """It is powered off for that and started again, which is a reboot to EC2; the next stop has its own time."""
    stops = StopTimeRecorder(cloud.backend, cloud.clock)
    instance = run(cloud)
    settle(cloud, 1000)
    begin(cloud, cloud.backend, "CreateImage", InstanceId=instance, Name="web")
    seen = set()
    for _ in range(300):
        cloud.clock.advance(0.2)
        seen.add(cloud.oned.cloud.vms.get(int(instance[2:])).state)
    assert VmState.POWEROFF in seen
    found = shown(cloud, instance)
    assert (found["State"]["Name"], found["StateTransitionReason"]) == ("running", "")
    assert launched(cloud, instance) == NOW
    settle(cloud, 1000)
    begun = now(cloud)
    stop(cloud, "poweroff", instance)
    settle(cloud)
    reconcile(cloud, stops)
    assert begun <= stopped(cloud, instance) <= now(cloud)
    cloud.run("alice", "StartInstances", InstanceIds=[instance])
    settle(cloud)
    assert begun < launched(cloud, instance) <= now(cloud)


@pytest.mark.parametrize("is_off", [False, True])
def test_attaching_growing_and_detaching_a_volume_move_neither_time(cloud: Cloud, is_off: bool) -> None:
    """Oned begins a new record for each."""
    stops = StopTimeRecorder(cloud.backend, cloud.clock)
    instance = run(cloud)
    settle(cloud, 500)
    stop(cloud, "poweroff", instance)
    settle(cloud, 500)
    cloud.run("alice", "StartInstances", InstanceIds=[instance])
    settle(cloud, 500)
    times = [launched]
    if is_off:
        stop(cloud, "poweroff", instance)
        settle(cloud)
        reconcile(cloud, stops)
        times.append(stopped)
    before = [each(cloud, instance) for each in times]
    made = cloud.run("alice", "CreateVolume", AvailabilityZone="default", Size=1)["VolumeId"]
    settle(cloud, 500)
    for action, asked in (
        ("AttachVolume", {"InstanceId": instance, "Device": "/dev/sdh"}),
        ("ModifyVolume", {"Size": 2}),
        ("DetachVolume", {}),
    ):
        cloud.run("alice", action, VolumeId=made, **asked)
        assert [each(cloud, instance) for each in times] == before, action
        settle(cloud, 500)
        reconcile(cloud, stops)
        assert [each(cloud, instance) for each in times] == before, action
    if not is_off:
        stop(cloud, "poweroff", instance)
        settle(cloud, 500)
    again = now(cloud)
    cloud.run("alice", "StartInstances", InstanceIds=[instance])
    settle(cloud)
    assert again <= launched(cloud, instance) <= now(cloud)


def test_an_end_says_when(cloud: Cloud) -> None:
    """On its way it is the present, from running and from stopped; afterwards what oned recorded."""
    for is_off in (False, True):
        instance = run(cloud)
        settle(cloud, 1000)
        if is_off:
            stop(cloud, "poweroff", instance)
            settle(cloud, 1000)
        begun = now(cloud)
        cloud.run("alice", "TerminateInstances", InstanceIds=[instance])
        assert shown(cloud, instance)["State"]["Name"] == "shutting-down"
        assert begun <= stopped(cloud, instance) <= now(cloud)
        settle(cloud)
        assert shown(cloud, instance)["State"]["Name"] == "terminated"
        came = stopped(cloud, instance)
        assert begun <= came <= now(cloud)
        settle(cloud, 100)
        assert stopped(cloud, instance) == came


@pytest.mark.parametrize(
    ("how", "code"),
    [("inside", "Client.InstanceInitiatedShutdown"), ("StopInstances", "Client.UserInitiatedShutdown")],
)
def test_the_reason_tells_a_shutdown_from_inside_from_one_that_was_asked_for(cloud: Cloud, how: str, code: str) -> None:
    """In both states, stopping and stopped (EC2, StateReason)."""
    instance = run(cloud)
    stop(cloud, how, instance)
    while shown(cloud, instance)["State"]["Name"] == "running":
        cloud.clock.advance(0.1)
    assert shown(cloud, instance)["StateReason"]["Code"] == code
    settle(cloud)
    assert shown(cloud, instance)["StateReason"]["Code"] == code


def test_filters_go_by_these_times(cloud: Cloud) -> None:
    """Of the last launch, the first, and the stop."""
    stops = StopTimeRecorder(cloud.backend, cloud.clock)
    instance, other = run(cloud), run(cloud)
    stop(cloud, "poweroff", instance)
    settle(cloud, 24 * 3600)
    cloud.run("alice", "StartInstances", InstanceIds=[instance])
    settle(cloud, 1000)
    stop(cloud, "poweroff", instance)
    settle(cloud)
    reconcile(cloud, stops)

    def found(name: str, value: str) -> list[str]:
        filters = [{"Name": name, "Values": [value]}]
        reservations = cloud.run("alice", "DescribeInstances", Filters=filters)["Reservations"]
        return sorted(each["InstanceId"] for one in reservations for each in one["Instances"])

    first, last = datetime.fromtimestamp(NOW, UTC), shown(cloud, instance)["LaunchTime"].astimezone(UTC)
    assert first.date() != last.date()
    assert found("launch-time", f"{last:%Y-%m-%d}T*") == [instance]
    assert found("launch-time", f"{first:%Y-%m-%d}T*") == [other]
    assert found("network-interface.attachment.attach-time", f"{first:%Y-%m-%d}T*") == [instance, other]
    assert found("reason", "User initiated (*)") == [instance]
    assert found("reason", f"User initiated ({last:%Y-%m-%d} *") == [instance]


def test_a_live_migration_moves_no_time() -> None:
    """The guest goes on running; oned begins a record whose RSTIME is when it arrived."""
    cloud = Cloud()
    instance = run(cloud)
    settle(cloud, 1000)
    machine = cloud.oned.cloud.vms.get(int(instance[2:]))
    machine.next_record(now(cloud))
    machine.update_record(started=now(cloud), running=(now(cloud) + 3, 0))
    assert launched(cloud, instance) == NOW


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
def test_a_note_that_can_be_none_of_ours_is_none(cloud: Cloud, note: str) -> None:
    """Users can write them onto their machines; a machine may be made from another's template."""
    stops = StopTimeRecorder(cloud.backend, cloud.clock)
    instance = run(cloud)
    settle(cloud, 1000)
    stop(cloud, "poweroff", instance)
    settle(cloud, 1000)
    cloud.run("alice", "StartInstances", InstanceIds=[instance])
    settle(cloud)
    stop(cloud, "poweroff", instance)
    settle(cloud)
    reconcile(cloud, stops)
    before = launched(cloud, instance), stopped(cloud, instance)
    equal = note if note.startswith("=") else f"={note}"
    cloud.as_user("alice", "one.vm.update", int(instance[2:]), f"EC2_LAUNCHED{equal}", 1)
    assert (launched(cloud, instance), stopped(cloud, instance)) == before
    cloud.as_user("alice", "one.vm.update", int(instance[2:]), f"EC2_STOPPED{equal}", 1)
    assert now(cloud) - 2000 < stopped(cloud, instance) <= now(cloud)


def test_times_cost_a_list_no_call(cloud: Cloud) -> None:
    """Whatever the instances have been through."""
    instances = [run(cloud) for _ in range(3)]
    before = len(cloud.oned.calls)
    cloud.run("alice", "DescribeInstances")
    cost = len(cloud.oned.calls) - before
    for instance in instances:
        stop(cloud, "poweroff", instance)
    settle(cloud)
    act(cloud, "resume", instances[0])
    settle(cloud)
    before = len(cloud.oned.calls)
    cloud.run("alice", "DescribeInstances")
    assert len(cloud.oned.calls) - before == cost


def test_what_is_off_is_looked_at_once_and_where_oned_records_stops_never(cloud: Cloud) -> None:
    """A round costs the short form of what is off, and each stop one note, in the owner's session."""
    stops = StopTimeRecorder(cloud.backend, cloud.clock)
    mine, other = run(cloud), run(cloud)
    for instance in (mine, other):
        stop(cloud, "poweroff", instance)
    settle(cloud)

    def round_() -> list[tuple[str | None, str]]:
        before = len(cloud.oned.calls)
        reconcile(cloud, stops)
        return [
            (call.user, call.method)
            for call in list(cloud.oned.calls)[before:]
            if call.method not in ("one.userpool.info", "one.user.info")
        ]

    modern = cloud.oned.version.startswith("7")
    look = [("serveradmin", "one.vmpool.info")] * 2
    note = [("alice", "one.vm.update")]
    version = [("serveradmin", "one.system.version")]
    assert round_() == version + ([] if modern else [*look, ("serveradmin", "one.vmpool.infoset"), *note, *note])
    assert round_() == ([] if modern else look)
    cloud.run("alice", "StartInstances", InstanceIds=[mine])
    settle(cloud)
    stop(cloud, "poweroff", mine)
    settle(cloud)
    assert round_() == ([] if modern else [*look, ("serveradmin", "one.vmpool.infoset"), *note])


def test_the_stop_of_one_machine_that_cannot_be_noted_keeps_nobody_from_the_others() -> None:
    """As of one that is locked."""
    cloud = Cloud("5.12")
    mine, other = run(cloud), run(cloud)
    for instance in (mine, other):
        stop(cloud, "poweroff", instance)
    settle(cloud)
    cloud.as_user("alice", "one.vm.lock", int(mine[2:]), 2, False)
    reconcile(cloud, StopTimeRecorder(cloud.backend, cloud.clock))
    settle(cloud, 100)
    assert stopped(cloud, other) == now(cloud) - 100
    assert cloud.oned.cloud.vms.get(int(mine[2:])).state is VmState.POWEROFF
    assert stopped(cloud, mine) == now(cloud)


def test_the_stop_of_a_machine_that_was_too_long_to_be_read_is_noted_when_it_is_short_again() -> None:
    cloud = Cloud("5.12")
    mine, other = run(cloud), run(cloud)
    for instance in (mine, other):
        stop(cloud, "poweroff", instance)
    settle(cloud)
    one = _Bounded(cloud.backend, mine[2:].lstrip("0") or "0")
    stops = StopTimeRecorder(one, cloud.clock)
    reconcile(cloud, stops)
    settle(cloud, 100)
    assert stopped(cloud, other) == now(cloud) - 100
    one.too_long = ""
    reconcile(cloud, stops)
    settle(cloud, 100)
    assert stopped(cloud, mine) == now(cloud) - 100
    logged = len(cloud.oned.calls)
    reconcile(cloud, stops)
    assert "one.vmpool.infoset" not in [call.method for call in list(cloud.oned.calls)[logged:]]


@pytest.mark.parametrize("answer", ["", "x.1", "-5.12", "²"])
def test_an_oned_that_does_not_tell_its_version_is_asked_again_in_the_next_round(answer: str) -> None:
    cloud = Cloud("5.12")
    stops = StopTimeRecorder(_Versioned(cloud.backend, answer), cloud.clock)
    for _ in range(2):
        with pytest.raises(InvalidReply):
            reconcile(cloud, stops)
    assert [call.method for call in cloud.changes] == []


@implementer(IOpenNebula)
class _Versioned:
    """An oned that answers `one.system.version` as it is told to."""

    def __init__(self, one: IOpenNebula, answer: str) -> None:
        self._one = one
        self._answer = answer

    async def call(self, user: str | None, method: str, *args: object) -> str | int | bool:
        """Make a call (`IOpenNebula`)."""
        return self._answer if method == "one.system.version" else await self._one.call(user, method, *args)

    async def document(self, user: str | None, method: str, *args: object) -> Any:
        """Make a call and read its document (`IOpenNebula`)."""
        return await self._one.document(user, method, *args)


@implementer(IOpenNebula)
class _Bounded:
    """An oned whose replies are too long where the machine with this id is in them."""

    def __init__(self, one: IOpenNebula, too_long: str) -> None:
        self._one = one
        self.too_long = too_long

    async def call(self, user: str | None, method: str, *args: object) -> str | int | bool:
        """Make a call (`IOpenNebula`)."""
        return await self._one.call(user, method, *args)

    async def document(self, user: str | None, method: str, *args: object) -> Any:
        """Make a call and read its document (`IOpenNebula`)."""
        if method == "one.vmpool.infoset" and self.too_long in str(args[0]).split(","):
            raise ReplyTooLarge(method, "a response of too many bytes")
        return await self._one.document(user, method, *args)
