"""Access keys that are changed by several processes at once, by one that dies, and on a slave zone of a federation."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from econed.actions.iam.store import PENDING_LIFETIME, REPLICATION_TIMEOUT
from econed.actions.waiting import INTERVAL
from econed.credentials.access_keys import opened
from econed.errors import EC2Error
from econed.interfaces import IOpenNebula
from econed.user import KeyState, Login
from tests.actions.iam.support import attributes, create, document, listed, stored
from tests.support.cloud import Cloud, perform
from tests.support.delayed_oned import DelayedOned, DyingOned, SteppedOned

pytestmark = pytest.mark.slow

CREATE_CALLS = 5
"""Calls to oned of a creation: read, add the Pending key, read, make it Active, read."""

CHANGE_CALLS = 2
"""Calls to oned of a change or a deletion: read, write."""


class SteppedRequest:
    """A request in a process of its own, which proceeds by one call to oned at each step."""

    def __init__(self, cloud: Cloud, action: str, **parameters: Any) -> None:
        self._oned = SteppedOned(cloud.backend)
        self.outcome: Any = None
        call = cloud.call_in_new_process("alice", self._oned)
        request = Deferred.fromCoroutine(perform(call, action, parameters))
        request.addBoth(lambda outcome: setattr(self, "outcome", outcome))

    def step(self) -> None:
        """Let the waiting call proceed."""
        self._oned.step()

    @property
    def error(self) -> EC2Error | None:
        """The error with which the request failed, None if it succeeded."""
        assert self.outcome is not None, "the request has not ended"
        if not isinstance(self.outcome, Failure):
            return None
        assert isinstance(self.outcome.value, EC2Error)
        return self.outcome.value

    @property
    def key(self) -> str | None:
        """The id of the key that it created; None if it failed because of the limit."""
        if self.error is None:
            key_id: str = self.outcome["AccessKey"]["AccessKeyId"]
            return key_id
        assert (self.error.code, self.error.status) == ("LimitExceeded", 409)
        return None


def orders(first: int, second: int) -> list[tuple[int, ...]]:
    """Return the orders of the steps of two requests: at which turns the first one has its steps."""
    return list(itertools.combinations(range(first + second), first))


def run(first: SteppedRequest, second: SteppedRequest, first_turns: tuple[int, ...], turns: int) -> None:
    """Let two requests proceed in an order of their steps."""
    for turn in range(turns):
        (first if turn in first_turns else second).step()


def finish(cloud: Cloud, requests: Sequence[SteppedRequest]) -> None:
    """Let requests proceed until all have ended; those that wait for others do so on the clock."""
    for _ in range(round(2 * REPLICATION_TIMEOUT / INTERVAL)):
        if all(request.outcome is not None for request in requests):
            return
        for request in requests:
            request.step()
        cloud.clock.advance(INTERVAL)


def test_of_two_creations_of_the_last_key_one_succeeds_in_every_order() -> None:
    """The one that fails leaves nothing."""
    cloud = Cloud()
    others = {create(cloud)["AccessKeyId"] for _ in range(4)}
    for first_turns in orders(CREATE_CALLS, CREATE_CALLS):
        requests = [SteppedRequest(cloud, "CreateAccessKey") for _ in range(2)]
        run(requests[0], requests[1], first_turns, 2 * CREATE_CALLS)
        finish(cloud, requests)
        (created,) = {request.key for request in requests} - {None}
        assert listed(cloud) == dict.fromkeys({*others, created}, "Active")
        assert len(attributes(cloud)) == 5
        cloud.run("alice", "DeleteAccessKey", AccessKeyId=created)


@pytest.mark.parametrize("seed", range(10))
def test_of_more_creations_at_once_than_are_possible_as_many_succeed_as_are(seed: int) -> None:
    cloud = Cloud()
    for _ in range(2):
        create(cloud)
    durations = random.Random(seed)
    outcomes: list[Any] = []
    for _ in range(6):
        slow = DelayedOned(cloud.backend, cloud.clock, iter(lambda: durations.uniform(0, 0.2), None))
        request = Deferred.fromCoroutine(perform(cloud.call_in_new_process("alice", slow), "CreateAccessKey", {}))
        request.addBoth(outcomes.append)
    cloud.wait(2 * REPLICATION_TIMEOUT)
    refused = [str(outcome.value) for outcome in outcomes if isinstance(outcome, Failure)]
    assert (len(outcomes), refused) == (6, ["LimitExceeded: Cannot exceed quota for AccessKeysPerUser: 5"] * 3)
    assert list(listed(cloud).values()) == ["Active"] * 5
    assert len(attributes(cloud)) == 5


def test_creations_at_once_below_the_limit_all_succeed() -> None:
    cloud = Cloud()
    requests = [SteppedRequest(cloud, "CreateAccessKey") for _ in range(5)]
    for _ in range(CREATE_CALLS):
        for request in requests:
            request.step()
    keys = {request.key for request in requests}
    assert listed(cloud) == dict.fromkeys(keys, "Active")
    assert len(keys) == 5


@pytest.mark.parametrize("status", ["Active", "Inactive"])
def test_a_deletion_at_the_same_time_as_a_change_leaves_no_key_in_every_order(status: str) -> None:
    """The key does not come back, whichever of them is the later one."""
    cloud = Cloud()
    for first_turns in orders(CHANGE_CALLS, CHANGE_CALLS):
        key_id = create(cloud)["AccessKeyId"]
        deletion = SteppedRequest(cloud, "DeleteAccessKey", AccessKeyId=key_id)
        change = SteppedRequest(cloud, "UpdateAccessKey", AccessKeyId=key_id, Status=status)
        run(deletion, change, first_turns, 2 * CHANGE_CALLS)
        assert deletion.error is None
        assert change.error is None or change.error.code == "NoSuchEntity"
        assert stored(cloud) == ()
    assert listed(cloud) == {}


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("calls", range(CREATE_CALLS))
def test_a_process_that_dies_while_it_creates_a_key_leaves_none_that_can_be_used(calls: int, is_after: bool) -> None:
    """Unless the key was Active already: then its owner can see and delete it. The next creation cleans up."""
    cloud = Cloud()
    dying = DyingOned(cloud.backend, calls, after=is_after)
    Deferred.fromCoroutine(perform(cloud.call_in_new_process("alice", dying), "CreateAccessKey", {}))
    cloud.wait(1)
    assert dying.is_dead
    was_activated = calls > 3 or (calls == 3 and is_after)
    assert list(listed(cloud).values()) == ["Active"] * was_activated
    if not was_activated:
        assert all(key.state is KeyState.PENDING for key in stored(cloud))
    cloud.wait(PENDING_LIFETIME)
    key_id = create(cloud)["AccessKeyId"]
    assert len(listed(cloud)) == len(attributes(cloud)) == 1 + was_activated
    assert listed(cloud)[key_id] == "Active"


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("calls", range(CHANGE_CALLS))
@pytest.mark.parametrize(
    ("action", "parameters", "left"),
    [("DeleteAccessKey", {}, []), ("UpdateAccessKey", {"Status": "Inactive"}, ["Inactive"])],
)
def test_a_process_that_dies_while_it_changes_a_key_has_changed_it_or_not(
    action: str, parameters: dict[str, Any], left: list[str], calls: int, is_after: bool
) -> None:
    cloud = Cloud()
    key_id = create(cloud)["AccessKeyId"]
    dying = DyingOned(cloud.backend, calls, after=is_after)
    call = cloud.call_in_new_process("alice", dying)
    Deferred.fromCoroutine(perform(call, action, {"AccessKeyId": key_id, **parameters}))
    cloud.wait(1)
    assert dying.is_dead
    was_written = calls == 1 and is_after
    assert list(listed(cloud).values()) == (left if was_written else ["Active"])


def test_a_creation_that_takes_too_long_fails_if_another_has_removed_its_key() -> None:
    cloud = Cloud()
    slow = SteppedRequest(cloud, "CreateAccessKey")
    for _ in range(3):
        slow.step()
    cloud.clock.advance(PENDING_LIFETIME)
    key_id = create(cloud)["AccessKeyId"]
    for _ in range(round(REPLICATION_TIMEOUT) * 4):
        slow.step()
        cloud.clock.advance(0.5)
    error = slow.error
    assert error is not None
    assert (error.code, error.status) == ("EntityTemporarilyUnmodifiable", 409)
    assert listed(cloud) == {key_id: "Active"}
    assert len(attributes(cloud)) == 1


@implementer(IOpenNebula)
class SlaveZone:
    """oned of a slave zone: a change is made by the master, and can be read here only some seconds later."""

    def __init__(self, backend: IOpenNebula, clock: Clock, lag: float) -> None:
        self._backend = backend
        self._clock = clock
        self._lag = lag

    async def call(self, user: Login, method: str, *args: object) -> Any:
        """Make a call (`IOpenNebula.call`)."""

        def make() -> None:
            Deferred.fromCoroutine(self._backend.call(user, method, *args))

        assert method == "one.user.update"
        self._clock.callLater(self._lag, make)
        return args[0]

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Make a call (`IOpenNebula.document`)."""
        return await self._backend.document(user, method, *args, **options)


@pytest.mark.parametrize("lag", [0.1, 2.0, REPLICATION_TIMEOUT - 1])
def test_on_a_slave_zone_a_key_is_returned_once_it_can_be_read(lag: float) -> None:
    cloud = Cloud()
    call = cloud.call_in_new_process("alice", SlaveZone(cloud.backend, cloud.clock, lag))
    key = cloud.result(perform(call, "CreateAccessKey", {}))["AccessKey"]
    (own,) = stored(cloud)
    access_key = opened(cloud.sealer, document(cloud).id, own)
    assert access_key is not None
    assert (own.state, access_key.secret) == (KeyState.ACTIVE, key["SecretAccessKey"])


def test_on_a_slave_zone_that_lags_too_far_behind_no_key_is_returned_or_left() -> None:
    cloud = Cloud()
    call = cloud.call_in_new_process("alice", SlaveZone(cloud.backend, cloud.clock, 3 * REPLICATION_TIMEOUT))
    with pytest.raises(EC2Error) as caught:
        cloud.result(perform(call, "CreateAccessKey", {}))
    assert (caught.value.code, caught.value.status) == ("EntityTemporarilyUnmodifiable", 409)
    assert listed(cloud) == {}
    cloud.wait(6 * REPLICATION_TIMEOUT)
    assert attributes(cloud) == []


@pytest.mark.parametrize("delays", list(itertools.permutations([0.1, 3.0, 20.0])))
def test_creations_of_slow_processes_never_exceed_the_limit(delays: tuple[float, ...]) -> None:
    cloud = Cloud()
    for _ in range(3):
        create(cloud)
    outcomes: list[Any] = []
    for number in range(3):
        slow = DelayedOned(cloud.backend, cloud.clock, itertools.cycle((*delays[number:], *delays[:number])))
        request = Deferred.fromCoroutine(perform(cloud.call_in_new_process("alice", slow), "CreateAccessKey", {}))
        request.addBoth(outcomes.append)
    cloud.wait(600)
    created = [outcome for outcome in outcomes if not isinstance(outcome, Failure)]
    assert len(outcomes) == 3
    assert len(listed(cloud)) == len(attributes(cloud)) == 3 + len(created) <= 5
