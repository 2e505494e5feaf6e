"""Long documents that a user shares with everybody do not break the lists of others; over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.web.server import Site

from econed.errors import EC2Error
from econed.opennebula.long_documents import SKIP_SECONDS
from econed.opennebula.methods import MAX_LIST
from econed.opennebula.tokens import PasswordKey
from econed.sandbox.server import SandboxResource
from econed.xmlrpc.endpoint import oned_endpoint
from econed.xmlrpc.proxy import OnedProxy
from econed.xmlrpc_backend import CallLimits, XMLRPCBackend
from tests.support.cloud import Cloud, perform
from tests.support.reactor_turns import wait_until

pytestmark = pytest.mark.slow

T = TypeVar("T")
MIB = 1024 * 1024
TOO_LONG = MAX_LIST + MIB
"""Bytes of a document that is too long to be read."""
THIRD = MAX_LIST // 3 + MIB
"""Bytes of a document: three of them are too long to be read in one reply."""


class Zone:
    """A cloud in which bob makes documents long, and a connection to it for alice, with the limits of production."""

    def __init__(self, reactor: Any) -> None:
        self.cloud = Cloud(vms=3)
        self.cloud.cached_users["alice"] = self.cloud.user("alice")
        self.port = reactor.listenTCP(0, Site(SandboxResource(self.cloud.oned)), interface="127.0.0.1")
        url = f"http://127.0.0.1:{self.port.getHost().port}/RPC2"
        proxy = OnedProxy(reactor, url, oned_endpoint(reactor, url), CallLimits().reply_bytes)
        name, _, password = self.cloud.oned.serveradmin.partition(":")
        self._oned = XMLRPCBackend(
            proxy, name, PasswordKey(password), Clock(), _at_once, now=self.cloud.clock.seconds, log=Logger("test")
        )

    def create(self, kind: str, method: str, *args: object, size: int) -> int:
        """Create an object for bob, share it with everybody and make its document long, and return its id."""
        object_id = int(self.cloud.as_user("bob", method, *args))
        self.cloud.as_user("bob", f"one.{kind}.chmod", object_id, -1, -1, -1, 1, -1, -1, 1, -1, -1)
        for number in range(-(-size // MIB)):
            self.cloud.as_user("bob", f"one.{kind}.update", object_id, f'A{number}="{"x" * MIB}"', 1)
        return object_id

    def machine(self, size: int) -> int:
        """Run a machine with a long document for bob."""
        template_id = next(template.id for template in self.cloud.oned.cloud.templates if template.name == "m1.small")
        return self.create("vm", "one.template.instantiate", template_id, "", False, "", False, size=size)

    def image(self, name: str, facts: str, size: int) -> int:
        """Create an image with a long document for bob."""
        text = f'NAME="{name}"\nSIZE="1"\nTYPE="DATABLOCK"\n{facts}'
        return self.create("image", "one.image.allocate", text, 1, size=size)

    async def run(self, action: str, **parameters: Any) -> dict[str, Any]:
        """Make a call of alice and return its result; raises its `EC2Error`."""
        self.cloud.backend, before = self._oned, self.cloud.backend
        try:
            running = Deferred.fromCoroutine(perform(self.cloud.call_as("alice"), action, parameters))
        finally:
            self.cloud.backend = before

        def has_ended() -> bool:
            self.cloud.clock.advance(0)
            return running.called

        await wait_until(has_ended)
        return await running

    async def instances(self, **parameters: Any) -> set[int]:
        """Return the ids of the machines that DescribeInstances lists."""
        response = await self.run("DescribeInstances", **parameters)
        instances = [instance for reservation in response["Reservations"] for instance in reservation["Instances"]]
        ids = [instance["InstanceId"] for instance in instances]
        return {int(text[2:], 16) if len(text) > 10 else int(text[2:]) for text in ids}

    def methods_called(self, since: int) -> list[str]:
        """Return the methods that were called after the first `since` calls."""
        return [call.method for call in list(self.cloud.oned.calls)[since:]]


async def _at_once(work: Callable[[], T]) -> T:
    return work()


@pytest_twisted.async_yield_fixture
async def zone() -> AsyncIterator[Zone]:
    from twisted.internet import reactor

    zone = Zone(reactor)
    yield zone
    await maybeDeferred(zone.port.stopListening)


@pytest_twisted.ensureDeferred
async def test_instances_are_listed_despite_long_documents_of_others(zone: Zone) -> None:
    """Only an instance whose document alone is too long is left out, and not found, until it is short again."""
    own = await zone.instances()
    assert len(own) == 3
    long = {zone.machine(THIRD) for _ in range(3)}
    too_long = zone.machine(TOO_LONG)
    assert await zone.instances() == own | long
    before = len(zone.cloud.oned.calls)
    assert await zone.instances() == own | long
    assert zone.methods_called(before).count("one.vmpool.infoextended") == 5, (
        "two halves, and two halves of one of them"
    )
    try:
        await zone.run("DescribeInstances", InstanceIds=[f"i-{too_long:08d}"])
    except EC2Error as error:
        assert error.code == "InvalidInstanceID.NotFound"
    else:
        raise AssertionError("the instance was found")
    zone.cloud.as_user("bob", "one.vm.update", too_long, "", 0)
    zone.cloud.clock.advance(SKIP_SECONDS)
    assert await zone.instances() == own | long | {too_long}


@pytest_twisted.ensureDeferred
async def test_instances_are_listed_despite_long_documents_of_others_that_have_ended(zone: Zone) -> None:
    own = await zone.instances()
    long = {zone.machine(MIB)}
    too_long = zone.machine(TOO_LONG)
    for machine_id in (*long, too_long):
        zone.cloud.as_user("bob", "one.vm.action", "terminate-hard", machine_id)
    zone.cloud.wait(60)
    assert await zone.instances() == own | long


@pytest_twisted.ensureDeferred
async def test_images_are_listed_despite_long_documents_of_others(zone: Zone) -> None:
    volume = (await zone.run("CreateVolume", Size=1, AvailabilityZone="default"))["VolumeId"]
    before = {image["ImageId"] for image in (await zone.run("DescribeImages"))["Images"]}
    long = zone.image("long", 'EC2_AMI="YES"', MIB)
    zone.image("too-long", 'EC2_AMI="YES"', TOO_LONG)
    images = (await zone.run("DescribeImages"))["Images"]
    assert {image["ImageId"] for image in images} == before | {f"ami-{long:08d}"}
    assert volume in {described["VolumeId"] for described in (await zone.run("DescribeVolumes"))["Volumes"]}
    assert (await zone.run("DescribeSnapshots"))["Snapshots"] == []
    volumes = (await zone.run("DescribeVolumes", VolumeIds=[volume]))["Volumes"]
    assert [described["VolumeId"] for described in volumes] == [volume]


@pytest_twisted.ensureDeferred
async def test_instances_are_launched_despite_long_templates_of_others(zone: Zone) -> None:
    zone.create("template", "one.template.allocate", 'NAME="long"\nCPU="1"\nMEMORY="1"', size=TOO_LONG)
    image_id = (await zone.run("DescribeImages"))["Images"][0]["ImageId"]
    launched = await zone.run("RunInstances", ImageId=image_id, InstanceType="m1.small", MinCount=1, MaxCount=1)
    assert len(launched["Instances"]) == 1


@pytest_twisted.ensureDeferred
async def test_subnets_are_listed_despite_long_documents_of_others(zone: Zone) -> None:
    """Instances too, whose VPCs are read from the networks."""
    before = {subnet["SubnetId"] for subnet in (await zone.run("DescribeSubnets"))["Subnets"]}
    for number, size in ((1, MIB), (2, TOO_LONG)):
        text = f'NAME="long {number}"\nSIZE="4"\nAR_ID="0"\nIP="10.0.{number}.0"'
        zone.create("vn", "one.vn.reserve", 0, text, size=size)
    listed = {subnet["SubnetId"] for subnet in (await zone.run("DescribeSubnets"))["Subnets"]}
    assert len(listed - before) == 1
    assert len(await zone.instances()) == 3
