"""Launches of many machines do not delay another user, nor the same user's other requests."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from zope.interface import implementer

from econed.calls.turns import MAX_CHANGES
from econed.config.settings import Settings
from econed.interfaces import IOpenNebula
from econed.user import Login
from tests.support.cloud import Cloud, perform

LAUNCHES = 6
LAUNCHED = 40
LAUNCH: dict[str, Any] = {"ImageId": "ami-00000000", "MinCount": LAUNCHED, "MaxCount": LAUNCHED}


@implementer(IOpenNebula)
class SlowOned:
    """oned that replies to calls one after the other, each after 0.1 seconds; `received` are the calls."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._oned = cloud.backend
        self._last: Deferred[None] = Deferred()
        self._last.callback(None)
        self.received: list[tuple[Login, str]] = []

    async def call(self, user: Login, method: str, *args: object) -> Any:
        """Make a call (`IOpenNebula.call`)."""
        await self._wait(user, method)
        return await self._oned.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Make a call (`IOpenNebula.document`)."""
        await self._wait(user, method)
        return await self._oned.document(user, method, *args, **options)

    async def _wait(self, user: Login, method: str) -> None:
        self.received.append((user, method))
        previous, done = self._last, Deferred[None]()
        self._last = done
        if not previous.called:
            waiting: Deferred[None] = Deferred()
            previous.addCallback(waiting.callback)
            await waiting
        self._cloud.clock.callLater(0.1, done.callback, None)
        replied: Deferred[None] = Deferred()
        done.addCallback(replied.callback)
        await replied


@pytest.mark.parametrize("calls", [1, 2, 8])
@pytest.mark.parametrize("user", ["alice", "bob"])
def test_each_call_of_another_request_is_among_the_next_few(calls: int, user: str) -> None:
    cloud = Cloud(settings=Settings(one_calls=calls))
    instance = cloud.run(user, "RunInstances", **{**LAUNCH, "MinCount": 1, "MaxCount": 1})["Instances"][0]["InstanceId"]
    caller, other_caller = cloud.user("alice"), cloud.user(user)
    cloud.cached_users = {"alice": caller, user: other_caller}
    oned = cloud.backend = SlowOned(cloud)
    describe = {"InstanceIds": [instance]}
    cloud.result(perform(cloud.call_as(user), "DescribeInstances", describe))
    calls_alone = len(oned.received)
    launches: list[Any] = []
    for _ in range(LAUNCHES):
        launching = perform(cloud.call_as("alice"), "RunInstances", LAUNCH)
        Deferred.fromCoroutine(launching).addBoth(launches.append)
    cloud.wait(6)
    before = len(oned.received)
    cloud.result(perform(cloud.call_as(user), "DescribeInstances", describe))
    changes = [method for _, method in oned.received[before:] if method == "one.template.instantiate"]
    assert launches == []
    assert 0 < len(changes) <= calls_alone * (MAX_CHANGES + 1)
    cloud.wait(120)
    assert [len(launch["Instances"]) for launch in launches] == [LAUNCHED] * LAUNCHES


def test_a_long_launch_is_not_given_up_for_waiting() -> None:
    """It takes more than a minute, and the calls of its last machines wait for most of it."""
    cloud = Cloud(settings=Settings(one_calls=1))
    cloud.backend = SlowOned(cloud)
    launched = cloud.run("alice", "RunInstances", **{**LAUNCH, "MinCount": 400, "MaxCount": 400})
    assert len(launched["Instances"]) == 400
