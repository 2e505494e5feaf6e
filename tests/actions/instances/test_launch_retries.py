"""RunInstances repeated by boto3 itself, over real connections: the client gives up several times during one launch."""

from __future__ import annotations

import time
from itertools import cycle
from typing import Any

import boto3
import pytest
import pytest_twisted
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.protocols.portforward import ProxyFactory
from zope.interface import implementer

from econed.config.settings import Settings
from econed.interfaces import IOpenNebula
from econed.opennebula.session import Session
from econed.user import Login
from tests.support.cloud import Cloud
from tests.support.reactor_turns import one_turn
from tests.support.serving import Server

reactor: Any = _reactor

COUNT = 250
ATTEMPTS = 4
READ_TIMEOUT = 1.0
"""Seconds after which the client gives up."""

MAX_STEP = 0.1
"""Seconds by which the clock is advanced at most in a turn, so that a busy machine is not taken for a standstill."""

MAX_CALLS = 10
"""Calls of the client, each with `ATTEMPTS` attempts, within which a launch must have ended on a slow machine."""


@implementer(IOpenNebula)
class GatedOned:
    """oned that creates no more machines than `allowed`, until that is increased."""

    def __init__(self, backend: IOpenNebula) -> None:
        self._backend = backend
        self._waiting: list[Deferred[None]] = []
        self._allowed = 0
        self.created = 0

    def allow(self, allowed: int) -> None:
        """Let so many machines be created in all."""
        self._allowed = allowed
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        """Make a call (`IOpenNebula.call`)."""
        if method == "one.template.instantiate":
            while self.created >= self._allowed:
                self._waiting.append(Deferred())
                await self._waiting[-1]
            self.created += 1
        return await self._backend.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Make a call (`IOpenNebula.document`)."""
        return await self._backend.document(user, method, *args, **options)


class Relay(ProxyFactory):
    """Connects clients with the servers in turn; each new connection, an attempt, opens the gate further."""

    noisy = False

    def __init__(self, servers: list[Server], gate: GatedOned) -> None:
        super().__init__("127.0.0.1", 0)
        self._ports = cycle([server.number for server in servers])
        self._gate = gate
        self.attempts = 0

    def buildProtocol(self, address: Any) -> Any:
        """Return the protocol for a client (`IProtocolFactory.buildProtocol`)."""
        self.port = next(self._ports)
        self.attempts += 1
        self._gate.allow(COUNT * min(self.attempts, ATTEMPTS) // ATTEMPTS)
        return super().buildProtocol(address)


@pytest.fixture
def cloud() -> Cloud:
    """A cloud whose clock shows the time, by which boto3 signs its requests."""
    cloud = Cloud()
    cloud.clock.rightNow = time.time()
    return cloud


def servers_of(cloud: Cloud, count: int) -> list[Server]:
    """Return servers for one cloud, each with the queue and the memory of a process of its own."""
    servers = []
    for _ in range(count):
        cloud.renew_calls()
        servers.append(Server(Settings(), cloud=cloud))
    return servers


def run_until_answered(url: str) -> list[str]:
    """Run instances with one client token until there is a response, and return their ids."""
    config = Config(retries={"total_max_attempts": ATTEMPTS}, proxies={}, read_timeout=READ_TIMEOUT)
    client = boto3.Session("alice", "alicepw", region_name="us-east-1").client("ec2", endpoint_url=url, config=config)
    for _ in range(MAX_CALLS):
        try:
            response = client.run_instances(
                ImageId="ami-00000000", MinCount=COUNT, MaxCount=COUNT, ClientToken="a token of the client"
            )
        except ReadTimeoutError:
            continue
        return [instance["InstanceId"] for instance in response["Instances"]]
    return []


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest_twisted.ensureDeferred
async def test_a_client_that_gives_up_and_tries_again_launches_exactly_the_requested_instances(
    cloud: Cloud, processes: int
) -> None:
    """The launch continues while the client tries again, in the same process or in two processes in turn."""
    gate = GatedOned(cloud.backend)
    cloud.backend = gate
    servers = servers_of(cloud, processes)
    relay = Relay(servers, gate)
    port = reactor.listenTCP(0, relay, interface="127.0.0.1")
    results: list[Any] = []
    deferToThread(run_until_answered, f"http://127.0.0.1:{port.getHost().port}/").addBoth(results.append)
    while not results:
        cloud.clock.advance(min(max(0.0, time.time() - cloud.clock.seconds()), MAX_STEP))
        await one_turn()
    (instance_ids,) = results
    machine_ids = await Session(cloud.backend, "alice").vm_ids()
    for server in servers:
        server.close()
        server.site.abort()
    await port.stopListening()
    assert relay.attempts >= ATTEMPTS
    assert gate.created == COUNT
    assert sorted(instance_ids) == sorted(f"i-{machine_id:08d}" for machine_id in machine_ids)
    assert len(set(instance_ids)) == COUNT
