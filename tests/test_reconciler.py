"""The reconciler: it finishes work that requests have begun, even if their process has exited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, LogLevel

from econed.actions.instances.chores import HOLD_AGE
from econed.actions.watch import SPAN, WATCHED_UNTIL
from econed.catalogue import all_chores
from econed.errors import OpenNebulaUnavailable, ReplyTooLarge
from econed.interfaces import IOpenNebula
from econed.opennebula.session import Session
from econed.reconciler import INTERVAL, Reconciler, ReconcilerService
from econed.user import Login
from tests.support.cloud import Cloud

RUN: dict[str, Any] = {"ImageId": "ami-00000000", "MinCount": 1, "MaxCount": 1}


def run(cloud: Cloud, user: str = "alice", **more: Any) -> str:
    """Launch an instance, wait until it runs, and return its id."""
    response = cloud.run(user, "RunInstances", **RUN, **more)
    cloud.clock.pump([1] * 30)
    return str(response["Instances"][0]["InstanceId"])


def state(cloud: Cloud, instance: str) -> str:
    """Return the EC2 state of one of alice's instances."""
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[instance])["Reservations"]
    return str(reservation["Instances"][0]["State"]["Name"])


def run_round(cloud: Cloud, client: IOpenNebula | None = None) -> None:
    """Run a round of a reconciler, and wait for the work that it has started."""
    cloud.result(Reconciler(client or cloud.backend, cloud.clock, all_chores(), Logger("test")).round())
    cloud.clock.pump([1] * 30)


def machine_id_of(instance: str) -> int:
    """Return the OpenNebula id of an instance."""
    return int(instance.removeprefix("i-"))


def watched(cloud: Cloud) -> str:
    """Return the date until which alice is watched."""
    return cloud.result(Session(cloud.backend, "alice").current_user()).template.text(WATCHED_UNTIL)


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """A new cloud of each version of oned."""
    return Cloud(request.param)


def test_an_instance_with_shutdown_behavior_terminate_is_terminated_when_its_guest_shuts_down(cloud: Cloud) -> None:
    instance = run(cloud, InstanceInitiatedShutdownBehavior="terminate")
    cloud.oned.shut_down_inside(machine_id_of(instance))
    cloud.clock.pump([1] * 30)
    assert state(cloud, instance) == "stopped"
    run_round(cloud)
    assert state(cloud, instance) == "terminated"


def test_an_instance_with_shutdown_behavior_stop_is_stopped_when_its_guest_shuts_down(cloud: Cloud) -> None:
    instance = run(cloud)
    cloud.oned.shut_down_inside(machine_id_of(instance))
    cloud.clock.pump([1] * 30)
    run_round(cloud)
    assert state(cloud, instance) == "stopped"


def test_stop_instances_does_not_count_as_a_shutdown_by_the_guest(cloud: Cloud) -> None:
    instance = run(cloud, InstanceInitiatedShutdownBehavior="terminate")
    cloud.run("alice", "StopInstances", InstanceIds=[instance])
    cloud.clock.pump([1] * 30)
    run_round(cloud)
    assert state(cloud, instance) == "stopped"


def test_an_instance_has_the_state_reason_of_a_shutdown_by_its_guest() -> None:
    cloud = Cloud()
    instance = run(cloud)
    cloud.oned.shut_down_inside(machine_id_of(instance))
    cloud.clock.pump([1] * 30)
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[instance])["Reservations"]
    assert reservation["Instances"][0]["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def test_a_machine_that_an_administrator_put_on_hold_is_not_changed() -> None:
    cloud = Cloud()
    run(cloud)
    machine_id = cloud.as_user("alice", "one.template.instantiate", 0, "", True, "", False)
    cloud.clock.advance(HOLD_AGE * 2)
    run_round(cloud)
    assert state(cloud, f"i-{machine_id:08d}") == "pending"


def test_no_call_is_made_for_users_without_unfinished_work() -> None:
    cloud = Cloud()
    before = len(cloud.oned.calls)
    run_round(cloud)
    assert [call.method for call in list(cloud.oned.calls)[before:]] == ["one.userpool.info"]


def test_serveradmin_only_reads_the_users() -> None:
    cloud = Cloud()
    run(cloud, InstanceInitiatedShutdownBehavior="terminate")
    before = len(cloud.oned.calls)
    run_round(cloud)
    own = {call.method for call in list(cloud.oned.calls)[before:] if call.user == "serveradmin"}
    assert own == {"one.userpool.info"}


def test_a_user_is_watched_while_they_have_an_instance_that_may_terminate_by_itself() -> None:
    cloud = Cloud()
    instance = run(cloud, InstanceInitiatedShutdownBehavior="terminate")
    first = watched(cloud)
    cloud.clock.advance(SPAN + 60)
    run_round(cloud)
    assert int(watched(cloud)) > int(first)
    cloud.run("alice", "TerminateInstances", InstanceIds=[instance])
    cloud.clock.pump([1] * 30)
    cloud.clock.advance(SPAN * 2)
    run_round(cloud)
    assert watched(cloud) == ""


def test_work_is_finished_also_after_days_without_econed() -> None:
    """The work is finished even if the date until which the user is watched has passed."""
    cloud = Cloud()
    instance = run(cloud, InstanceInitiatedShutdownBehavior="terminate")
    cloud.oned.shut_down_inside(machine_id_of(instance))
    cloud.clock.pump([1] * 30)
    cloud.clock.advance(SPAN * 5)
    run_round(cloud)
    assert state(cloud, instance) == "terminated"


def test_the_date_is_not_written_with_every_request() -> None:
    cloud = Cloud()
    for _ in range(3):
        run(cloud)
    assert [call.method for call in cloud.changes].count("one.user.update") == 1


class UnavailableForOneUser:
    """A client of oned that is unavailable in the sessions of one user."""

    def __init__(self, oned: IOpenNebula, user: str) -> None:
        self.oned = oned
        self.user = user

    async def call(self, user: Login, method: str, *args: object) -> object:
        """Make a call, unless it is in the session of that user."""
        if user == self.user:
            raise OpenNebulaUnavailable(method, "no reply")
        return await self.oned.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Make a call, unless it is in the session of that user."""
        if user == self.user:
            raise OpenNebulaUnavailable(method, "no reply")
        return await self.oned.document(user, method, *args, **options)


def test_an_error_for_one_user_does_not_affect_the_others() -> None:
    cloud = Cloud()
    instance = run(cloud, InstanceInitiatedShutdownBehavior="terminate")
    run(cloud, "bob", InstanceInitiatedShutdownBehavior="terminate")
    cloud.oned.shut_down_inside(machine_id_of(instance))
    cloud.clock.pump([1] * 30)
    run_round(cloud, UnavailableForOneUser(cloud.backend, "bob"))  # type: ignore[arg-type]
    assert state(cloud, instance) == "terminated"


class LongUsers:
    """A client of oned for which the user pool and the document of one user are too long."""

    def __init__(self, oned: IOpenNebula, user_id: int) -> None:
        self.oned = oned
        self.user_id = user_id

    async def call(self, user: Login, method: str, *args: object) -> object:
        """Make a call."""
        return await self.oned.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Make a call, unless its reply is too long."""
        if method == "one.userpool.info" or (method == "one.user.info" and args[0] == self.user_id):
            raise ReplyTooLarge(method, "a response of too many bytes")
        return await self.oned.document(user, method, *args, **options)


def test_a_user_whose_document_is_too_long_does_not_affect_the_others() -> None:
    """If the pool is too long, users are read one by one; those that could be read are passed to `for_all`."""
    cloud = Cloud()
    instance = run(cloud, InstanceInitiatedShutdownBehavior="terminate")
    cloud.oned.shut_down_inside(machine_id_of(instance))
    cloud.clock.pump([1] * 30)
    passed_names: list[Mapping[int, str]] = []

    async def for_all(names: Mapping[int, str]) -> None:
        passed_names.append(names)

    bob = cloud.user("bob").id
    events: list[LogEvent] = []
    log = Logger(observer=events.append)  # type: ignore[arg-type]
    oned = LongUsers(cloud.backend, bob)
    reconciler = Reconciler(oned, cloud.clock, all_chores(), log, for_all=(for_all,))  # type: ignore[arg-type]
    cloud.result(reconciler.round())
    cloud.clock.pump([1] * 30)
    assert state(cloud, instance) == "terminated"
    assert "alice" in passed_names[0].values()
    assert bob not in passed_names[0]
    assert [event["id"] for event in events if event["log_level"] is LogLevel.warn] == [bob]


class CountingReconciler:
    """A reconciler that counts its rounds, and raises the given errors in the first ones."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.rounds = 0

    async def round(self) -> None:
        """Count the round, and raise the next error."""
        self.rounds += 1
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error


def test_rounds_continue_after_errors_and_end_when_the_service_is_stopped() -> None:
    clock = Clock()
    reconciler = CountingReconciler(OpenNebulaUnavailable("one.userpool.info", "down"), ValueError("a bug"))
    service = ReconcilerService(reconciler, clock, lambda: 0.5, Logger("test"))  # type: ignore[arg-type]
    service.startService()
    clock.pump([INTERVAL / 2, INTERVAL, INTERVAL, INTERVAL])
    assert reconciler.rounds == 4
    service.stopService()
    clock.pump([INTERVAL] * 3)
    assert reconciler.rounds == 4
    assert clock.getDelayedCalls() == []


def test_several_processes_run_their_rounds_at_different_times() -> None:
    clock = Clock()
    reconcilers = [CountingReconciler(), CountingReconciler()]
    for jitter, reconciler in zip((0.1, 0.9), reconcilers, strict=True):
        ReconcilerService(reconciler, clock, lambda jitter=jitter: jitter, Logger("test")).startService()  # type: ignore[arg-type, misc]
    clock.pump([INTERVAL / 10] * 40)
    assert reconcilers[0].rounds > reconcilers[1].rounds > 0


def test_a_round_in_progress_is_cancelled_without_a_warning_when_the_daemon_stops() -> None:
    class EndlessReconciler:
        """A reconciler whose round never ends."""

        async def round(self) -> None:
            """Wait forever."""
            await Deferred()

    clock = Clock()
    events: list[LogEvent] = []
    log = Logger(observer=events.append)  # type: ignore[arg-type]
    service = ReconcilerService(EndlessReconciler(), clock, lambda: 0.5, log)  # type: ignore[arg-type]
    service.startService()
    clock.advance(INTERVAL)
    service.stopService()
    assert [event for event in events if event["log_level"] >= LogLevel.warn] == []
    assert clock.getDelayedCalls() == []
