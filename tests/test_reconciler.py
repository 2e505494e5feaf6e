"""What is left to do when a request has been answered, or has died."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, LogLevel

from econed.actions.instances.launch import HOLD_AGE
from econed.actions.watch import SPAN, WATCHED_UNTIL
from econed.catalogue import all_chores
from econed.errors import OpenNebulaUnavailable, ReplyTooLarge
from econed.interfaces import IOpenNebula
from econed.opennebula.session import Session
from econed.reconciler import INTERVAL, Reconciler, ReconcilerService
from tests.support.cloud import Cloud

RUN: dict[str, Any] = {"ImageId": "ami-00000000", "MinCount": 1, "MaxCount": 1}


def run(cloud: Cloud, user: str = "alice", **more: Any) -> str:
    """Run an instance, let it start, and return its id."""
    answer = cloud.run(user, "RunInstances", **RUN, **more)
    cloud.clock.pump([1] * 30)
    return str(answer["Instances"][0]["InstanceId"])


def state(cloud: Cloud, instance: str) -> str:
    """Return the EC2 state of one of alice's instances."""
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[instance])["Reservations"]
    return str(reservation["Instances"][0]["State"]["Name"])


def look(cloud: Cloud, one: IOpenNebula | None = None) -> None:
    """Let a reconciler make a round, and what it begins come to its end."""
    cloud.result(Reconciler(one or cloud.backend, cloud.clock, all_chores(), Logger("test")).round())
    cloud.clock.pump([1] * 30)


def number(instance: str) -> int:
    """Return the OpenNebula id of an instance."""
    return int(instance.removeprefix("i-"))


def watched(cloud: Cloud) -> str:
    """Return until when alice is watched."""
    return cloud.result(Session(cloud.backend, "alice").current_user()).template.text(WATCHED_UNTIL)


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """A fresh cloud of each form of oned."""
    return Cloud(request.param)


def test_an_instance_that_is_to_end_on_shutdown_ends_when_its_guest_shuts_down(cloud: Cloud) -> None:
    instance = run(cloud, InstanceInitiatedShutdownBehavior="terminate")
    cloud.oned.shut_down_inside(number(instance))
    cloud.clock.pump([1] * 30)
    assert state(cloud, instance) == "stopped"
    look(cloud)
    assert state(cloud, instance) == "terminated"


def test_an_instance_that_is_to_stop_on_shutdown_only_stops(cloud: Cloud) -> None:
    instance = run(cloud)
    cloud.oned.shut_down_inside(number(instance))
    cloud.clock.pump([1] * 30)
    look(cloud)
    assert state(cloud, instance) == "stopped"


def test_stopping_an_instance_is_no_shutdown_from_inside(cloud: Cloud) -> None:
    instance = run(cloud, InstanceInitiatedShutdownBehavior="terminate")
    cloud.run("alice", "StopInstances", InstanceIds=[instance])
    cloud.clock.pump([1] * 30)
    look(cloud)
    assert state(cloud, instance) == "stopped"


def test_an_instance_says_that_it_was_shut_down_from_inside() -> None:
    cloud = Cloud()
    instance = run(cloud)
    cloud.oned.shut_down_inside(number(instance))
    cloud.clock.pump([1] * 30)
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[instance])["Reservations"]
    assert reservation["Instances"][0]["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def test_a_machine_that_was_put_on_hold_by_hand_before_it_ever_was_an_instance_is_left_alone() -> None:
    cloud = Cloud()
    run(cloud)
    held = cloud.as_user("alice", "one.template.instantiate", 0, "", True, "", False)
    cloud.clock.advance(HOLD_AGE * 2)
    look(cloud)
    assert state(cloud, f"i-{held:08d}") == "pending"


def test_users_for_whom_nothing_was_ever_left_to_do_cost_no_call() -> None:
    cloud = Cloud()
    before = len(cloud.oned.calls)
    look(cloud)
    assert [call.method for call in list(cloud.oned.calls)[before:]] == ["one.userpool.info"]


def test_serveradmin_himself_only_reads_the_users() -> None:
    cloud = Cloud()
    run(cloud, InstanceInitiatedShutdownBehavior="terminate")
    before = len(cloud.oned.calls)
    look(cloud)
    own = {call.method for call in list(cloud.oned.calls)[before:] if call.user == "serveradmin"}
    assert own == {"one.userpool.info"}


def test_a_user_is_watched_for_as_long_as_an_instance_may_end_by_itself() -> None:
    cloud = Cloud()
    instance = run(cloud, InstanceInitiatedShutdownBehavior="terminate")
    first = watched(cloud)
    cloud.clock.advance(SPAN + 60)
    look(cloud)
    assert int(watched(cloud)) > int(first)
    cloud.run("alice", "TerminateInstances", InstanceIds=[instance])
    cloud.clock.pump([1] * 30)
    cloud.clock.advance(SPAN * 2)
    look(cloud)
    assert watched(cloud) == ""


def test_a_user_for_whom_something_is_left_to_do_is_not_forgotten_while_nobody_looked() -> None:
    """After days without econed the date has passed, and the work is done all the same."""
    cloud = Cloud()
    instance = run(cloud, InstanceInitiatedShutdownBehavior="terminate")
    cloud.oned.shut_down_inside(number(instance))
    cloud.clock.pump([1] * 30)
    cloud.clock.advance(SPAN * 5)
    look(cloud)
    assert state(cloud, instance) == "terminated"


def test_the_date_is_written_once_in_a_while_and_not_with_each_call() -> None:
    cloud = Cloud()
    for _ in range(3):
        run(cloud)
    assert [call.method for call in cloud.changes].count("one.user.update") == 1


class Moody:
    """oned that refuses to answer one user."""

    def __init__(self, one: IOpenNebula, avoided: str) -> None:
        self.one = one
        self.avoided = avoided

    async def call(self, user: str | None, method: str, *args: object) -> object:
        """Make a call, unless it is in the name of the one."""
        if user == self.avoided:
            raise OpenNebulaUnavailable(method, "no answer")
        return await self.one.call(user, method, *args)

    async def document(self, user: str | None, method: str, *args: object) -> object:
        """Make a call, unless it is in the name of the one."""
        if user == self.avoided:
            raise OpenNebulaUnavailable(method, "no answer")
        return await self.one.document(user, method, *args)


def test_what_fails_for_one_user_does_not_keep_the_others() -> None:
    cloud = Cloud()
    instance = run(cloud, InstanceInitiatedShutdownBehavior="terminate")
    run(cloud, "bob", InstanceInitiatedShutdownBehavior="terminate")
    cloud.oned.shut_down_inside(number(instance))
    cloud.clock.pump([1] * 30)
    look(cloud, Moody(cloud.backend, "bob"))  # type: ignore[arg-type]
    assert state(cloud, instance) == "terminated"


class LongUsers:
    """oned whose user pool is more than may come, as is the document of one user."""

    def __init__(self, one: IOpenNebula, mallory: int) -> None:
        self.one = one
        self.mallory = mallory

    async def call(self, user: str | None, method: str, *args: object) -> object:
        """Make a call."""
        return await self.one.call(user, method, *args)

    async def document(self, user: str | None, method: str, *args: object) -> object:
        """Make a call, unless its response is too long."""
        if method == "one.userpool.info" or (method == "one.user.info" and args[0] == self.mallory):
            raise ReplyTooLarge(method, "a response of too many bytes")
        return await self.one.document(user, method, *args)


def test_a_user_whose_document_is_too_long_to_be_read_does_not_keep_the_others() -> None:
    """All are read one by one where their pool is too long, and told of by name to what looks after all."""
    cloud = Cloud()
    instance = run(cloud, InstanceInitiatedShutdownBehavior="terminate")
    cloud.oned.shut_down_inside(number(instance))
    cloud.clock.pump([1] * 30)
    told: list[Mapping[int, str]] = []

    async def for_all(names: Mapping[int, str]) -> None:
        told.append(names)

    bob = cloud.user("bob").id
    said: list[LogEvent] = []
    log = Logger(observer=said.append)  # type: ignore[arg-type]
    one = LongUsers(cloud.backend, bob)
    reconciler = Reconciler(one, cloud.clock, all_chores(), log, for_all=(for_all,))  # type: ignore[arg-type]
    cloud.result(reconciler.round())
    cloud.clock.pump([1] * 30)
    assert state(cloud, instance) == "terminated"
    assert "alice" in told[0].values()
    assert bob not in told[0]
    assert [event["id"] for event in said if event["log_level"] is LogLevel.warn] == [bob]


class Counting:
    """A reconciler that counts its rounds, and fails in some."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.rounds = 0

    async def round(self) -> None:
        """Count, and fail as told."""
        self.rounds += 1
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error


def test_rounds_go_on_whatever_happens_in_one_and_end_with_the_service() -> None:
    clock = Clock()
    rounds = Counting(OpenNebulaUnavailable("one.userpool.info", "down"), ValueError("a bug"))
    service = ReconcilerService(rounds, clock, lambda: 0.5, Logger("test"))  # type: ignore[arg-type]
    service.startService()
    clock.pump([INTERVAL / 2, INTERVAL, INTERVAL, INTERVAL])
    assert rounds.rounds == 4
    service.stopService()
    clock.pump([INTERVAL] * 3)
    assert rounds.rounds == 4
    assert clock.getDelayedCalls() == []


def test_processes_do_not_keep_in_step() -> None:
    clock = Clock()
    rounds = [Counting(), Counting()]
    for jitter, each in zip((0.1, 0.9), rounds, strict=True):
        ReconcilerService(each, clock, lambda jitter=jitter: jitter, Logger("test")).startService()  # type: ignore[arg-type, misc]
    clock.pump([INTERVAL / 10] * 40)
    assert rounds[0].rounds > rounds[1].rounds > 0


def test_a_round_that_is_under_way_when_the_daemon_stops_is_broken_off_without_ado() -> None:
    class Endless:
        """A reconciler whose round waits for an oned that does not answer."""

        async def round(self) -> None:
            """Wait."""
            await Deferred()

    clock = Clock()
    said: list[LogEvent] = []
    log = Logger(observer=said.append)  # type: ignore[arg-type]
    service = ReconcilerService(Endless(), clock, lambda: 0.5, log)  # type: ignore[arg-type]
    service.startService()
    clock.advance(INTERVAL)
    service.stopService()
    assert [event for event in said if event["log_level"] >= LogLevel.warn] == []
    assert clock.getDelayedCalls() == []
