"""Zones and clusters belong to no user: all requests of a process share one call in `MAX_AGE` seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from zope.interface import implementer

from econed.actions.call import gather
from econed.actions.zones_and_clusters import MAX_AGE
from econed.errors import OpenNebulaUnavailable
from econed.interfaces import IOpenNebula
from econed.opennebula.documents import Zone
from econed.user import Login
from tests.support.cloud import Cloud, perform

METHODS = ("one.zonepool.info", "one.clusterpool.info")


def calls(cloud: Cloud) -> list[tuple[str, str | None]]:
    """Return the method and the user of each call for zones or clusters that the cloud has received."""
    return [(call.method, call.user) for call in cloud.oned.calls if call.method in METHODS]


@implementer(IOpenNebula)
class HeldOned:
    """An oned whose replies arrive when a test fires `held`."""

    def __init__(self, oned: IOpenNebula) -> None:
        self._oned = oned
        self.held: Deferred[None] = Deferred()

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        return await self._oned.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        document = await self._oned.document(user, method, *args, **options)
        await self.held
        return document


def test_regions_are_listed_without_a_call_while_the_zones_are_recent(cloud: Cloud) -> None:
    first = cloud.run("alice", "DescribeRegions")
    assert calls(cloud) == [("one.zonepool.info", "serveradmin")]
    cloud.wait(MAX_AGE / 2)
    before = len(cloud.oned.calls)
    call = cloud.call_as("bob")
    made_for_the_user = len(cloud.oned.calls) - before
    assert cloud.result(perform(call, "DescribeRegions", {})) == first
    assert len(cloud.oned.calls) - before == made_for_the_user


def test_the_data_is_never_older_than_its_bound(cloud: Cloud) -> None:
    call = cloud.call_as("alice")
    cloud.result(call.zones())
    names = cloud.result(call.cluster_names())
    cloud.oned.cloud.clusters.get(0).name = "renamed"
    cloud.clock.advance(MAX_AGE - 0.5)
    assert cloud.result(call.cluster_names()) == names == {0: "default"}
    cloud.result(call.zones())
    assert sorted(method for method, _ in calls(cloud)) == sorted(METHODS)
    cloud.clock.advance(0.5)
    assert cloud.result(call.cluster_names()) == {0: "renamed"}
    cloud.result(call.zones())
    assert sorted(method for method, _ in calls(cloud)) == sorted(METHODS * 2)


def test_the_age_counts_from_the_beginning_of_the_call(cloud: Cloud) -> None:
    """A change that oned made after the call had begun may be missing from the reply."""
    call = cloud.call_as("alice")
    held = cloud.backend = HeldOned(cloud.backend)
    running = Deferred.fromCoroutine(call.cluster_names())
    cloud.clock.advance(MAX_AGE / 2)
    held.held.callback(None)
    assert running.called
    cloud.clock.advance(MAX_AGE / 2)
    cloud.result(call.cluster_names())
    assert len(calls(cloud)) == 2


def test_requests_at_the_same_time_share_one_call(cloud: Cloud) -> None:
    held = HeldOned(cloud.backend)
    callers = [cloud.call_as(name) for name in ("alice", "bob") * 10]
    cloud.backend = held
    seen: list[list[Sequence[Zone]]] = []
    Deferred.fromCoroutine(gather(caller.zones() for caller in callers)).addCallback(seen.append)
    assert seen == []
    held.held.callback(None)
    assert [[zone.name for zone in zones] for zones in seen[0]] == [["OpenNebula"]] * len(callers)
    assert calls(cloud) == [("one.zonepool.info", "serveradmin")]


def test_a_failed_call_is_not_remembered(cloud: Cloud) -> None:
    call = cloud.call_as("alice")
    backend, cloud.backend = cloud.backend, UnavailableOned()
    with pytest.raises(OpenNebulaUnavailable):
        cloud.result(call.zones())
    cloud.backend = backend
    assert [zone.name for zone in cloud.result(call.zones())] == ["OpenNebula"]


@implementer(IOpenNebula)
class UnavailableOned:
    """An oned that is down."""

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        raise OpenNebulaUnavailable(method, "down")

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        raise OpenNebulaUnavailable(method, "down")
