"""A fall of the leader under load, over real sockets: an econed, the servers of an HA zone before one database, boto3.

The servers run in this process, so that the test can let them fall, and count in their database what was really done.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import yaml
from botocore.exceptions import ClientError
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.protocols.policies import WrappingFactory
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from econed.opennebula.raft import RAFT_STATUS_METHOD
from econed.sandbox.demo_cloud import populate
from econed.sandbox.ha_zone import HAZone, ZoneServer
from econed.sandbox.oned import Oned
from econed.sandbox.server import SandboxResource
from tests.support.clients import boto, refusal
from tests.support.econed_process import Econed, Person, twistd
from tests.support.processes import Process

pytestmark = pytest.mark.slow

READERS, WRITERS = 3, 4
WRITES = 12
BEFORE_THE_FALL = 10
CUT = {"one.template.instantiate": 2, "one.vm.update": 1}
"""Calls that a server which falls still carries out, without a word: machines that are made, tags that are set."""

LOOKS = 4
PATIENCE = 120.0


class Door(Resource):
    """The port of one server. `cuts` is how many calls, by method, it still carries out without a word of answer."""

    isLeaf = True

    def __init__(self, member: ZoneServer) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._resource = SandboxResource(member)
        self.calls: Counter[str] = Counter()
        self.cuts: Counter[str] = Counter()
        self.fallen: Callable[[], None] = lambda: None

    def render_POST(self, request: Request) -> bytes | int:
        """Carry a call out, and answer it while the server lives."""
        assert request.content is not None
        text = request.content.read()
        request.content.seek(0)
        method = text.partition(b"<methodName>")[2].partition(b"</methodName>")[0].decode()
        self.calls[method] += 1
        answer = self._resource.render_POST(request)
        if self.cuts[method]:
            self.cuts[method] -= 1
            request.transport.abortConnection()  # type: ignore[union-attr]
            if not self.cuts.total():
                self.fallen()
            return NOT_DONE_YET
        return answer


@dataclass
class HADeployment:
    """An HA zone of two servers that are listed, and an econed in front."""

    reactor: Any
    directory: Path
    oned: Oned = field(init=False)
    zone: HAZone = field(init=False)
    doors: list[Door] = field(default_factory=list)
    ports: list[Any] = field(default_factory=list)
    open: dict[int, WrappingFactory] = field(default_factory=dict)
    numbers: list[int] = field(init=False)
    econed: Econed = field(init=False)
    alice: Person = field(init=False)

    async def start(self) -> None:
        """Start all of it."""
        self.oned = Oned(self.reactor)
        self.alice = Person("alice", 2, secrets.token_hex(20), None)  # type: ignore[arg-type]
        populate(self.oned, users=[("alice", self.alice.secret)])
        self.zone = HAZone(self.oned, servers=2)
        for member in self.zone.servers:
            self.doors.append(Door(member))
            self.ports.append(self._listening(len(self.doors) - 1, 0))
        self.numbers = [port.getHost().port for port in self.ports]
        urls = [f"http://127.0.0.1:{port}/RPC2" for port in self.numbers]
        (self.directory / "auth").write_text(self.oned.serveradmin, encoding="utf-8")
        settings = {"host": "127.0.0.1", "one_xmlrpc": urls, "tmpdir": str(self.directory), "debug_level": 3}
        (self.directory / "econe.conf").write_text(yaml.safe_dump(settings), encoding="utf-8")
        self.econed = await deferToThread(self._econed)

    def _listening(self, number: int, port: int) -> Any:
        self.open[number] = WrappingFactory(Site(self.doors[number]))
        return self.reactor.listenTCP(port, self.open[number], interface="127.0.0.1")

    def _econed(self) -> Econed:
        listen = "tcp:0:interface=127.0.0.1"
        argv = [
            twistd(),
            "-n",
            "--pidfile=",
            "econe",
            "--config",
            str(self.directory / "econe.conf"),
            "--listen",
            listen,
        ]
        return Econed(Process("econed", argv, self.directory, {"ONE_CIPHER_AUTH": str(self.directory / "auth")}), None)

    def kill(self, number: int) -> None:
        """Let a server die: its port is closed, its connections are cut."""
        self.zone.servers[number].is_up = False
        self.ports[number].stopListening()
        for connection in list(self.open[number].protocols):
            connection.transport.abortConnection()

    def revive(self, number: int) -> None:
        """Let it come back, as a follower."""
        self.zone.servers[number].is_up = True
        self.ports[number] = self._listening(number, self.numbers[number])

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait for something that other processes bring about."""
        began = self.reactor.seconds()
        while not condition():
            assert self.reactor.seconds() - began < PATIENCE, f"waited in vain for: {what}"
            await deferLater(self.reactor, 0.02)

    async def stop(self) -> None:
        """End all of it."""
        await deferToThread(self.econed.process.stop)
        for port in self.ports:
            await DeferredList([port.stopListening() or Deferred.fromCoroutine(_nothing())])


async def _nothing() -> None:
    pass


@dataclass
class Load:
    """What clients asked for, and what they heard; filled by threads, each of which adds to its own."""

    reads: Counter[str] = field(default_factory=Counter)
    writes: dict[str, str] = field(default_factory=dict)
    refused: dict[str, tuple[str, int]] = field(default_factory=dict)
    tagged: dict[str, str] = field(default_factory=dict)
    untagged: dict[str, tuple[str, int]] = field(default_factory=dict)
    is_over: bool = False

    def read(self, ec2: Any) -> None:
        """Describe instances and images until it is over."""
        while not self.is_over:
            for ask in (ec2.describe_instances, ec2.describe_images, ec2.describe_volumes):
                try:
                    ask()
                    self.reads["answered"] += 1
                except ClientError as error:
                    self.reads[str(refusal(error))] += 1

    def write(self, ec2: Any, ami: str) -> None:
        """Run instances, one at a time, each with a token of its own, and tag them."""
        for _ in range(WRITES):
            token = secrets.token_hex(8)
            try:
                answer = ec2.run_instances(
                    ImageId=ami, InstanceType="m1.small", MinCount=1, MaxCount=1, ClientToken=token
                )
                self.writes[token] = answer["Instances"][0]["InstanceId"]
            except ClientError as error:
                self.refused[token] = refusal(error)
                continue
            try:
                ec2.create_tags(Resources=[self.writes[token]], Tags=[{"Key": token, "Value": "yes"}])
                self.tagged[token] = self.writes[token]
            except ClientError as error:
                self.untagged[token] = refusal(error)


@pytest_twisted.async_yield_fixture
async def deployment(tmp_path: Path) -> AsyncIterator[HADeployment]:
    """Return the deployment, in which all is well."""
    from twisted.internet import reactor

    made = HADeployment(reactor, tmp_path)
    await made.start()
    yield made
    await made.stop()


def machines(deployment: HADeployment) -> Counter[str]:
    """Return how many machines oned has for each client token."""
    return Counter(str(vm.user_template.get("EC2_CLIENT_TOKEN")) for vm in deployment.oned.cloud.vms)


@pytest.mark.parametrize("is_abrupt", [True, False], ids=["answers are lost", "connections are refused"])
@pytest_twisted.ensureDeferred
async def test_a_fall_under_load_costs_reads_nothing_and_each_write_is_done_once_or_in_doubt(
    deployment: HADeployment, is_abrupt: bool
) -> None:
    """Server 0 dies under load, nobody leads for a while, server 1 is elected; then 0 comes back, and 1 dies."""
    clients = [await deferToThread(boto, deployment.alice, deployment.econed.url) for _ in range(READERS + WRITERS)]
    images = await deferToThread(clients[0].describe_images)
    ami = images["Images"][0]["ImageId"]
    load = Load()
    reading = gatherResults([deferToThread(load.read, ec2) for ec2 in clients[WRITERS:]])
    writing = gatherResults([deferToThread(load.write, ec2, ami) for ec2 in clients[:WRITERS]])
    await deployment.until(lambda: len(load.writes) >= BEFORE_THE_FALL, "the load")
    assert not deployment.doors[1].calls.keys() - {RAFT_STATUS_METHOD}, "a follower is asked for nothing else"
    await fall(deployment, 0, 1, is_abrupt)
    heard = len(load.writes)
    await deployment.until(lambda: len(load.writes) >= heard + BEFORE_THE_FALL, "writes on the new leader")
    deployment.revive(0)
    await fall(deployment, 1, 0, is_abrupt)
    await writing
    load.is_over = True
    await reading
    assert load.reads.keys() == {"answered"}
    assert load.reads["answered"] > WRITES
    assert set(load.refused.values()) <= {("Unavailable", 503)}
    made = machines(deployment)
    assert all(made[token] == 1 for token in load.writes), "what was answered was done, once"
    assert all(made[token] <= 1 for token in load.refused), "what is in doubt was done once at most"
    assert len(load.writes) + len(load.refused) == WRITERS * WRITES
    assert made.total() == len(load.writes) + sum(made[token] for token in load.refused)
    shown = await deferToThread(clients[0].describe_tags)
    assert load.tagged.items() <= {(tag["Key"], tag["ResourceId"]) for tag in shown["Tags"]}
    assert set(load.untagged.values()) <= {("Unavailable", 503)}
    assert len(load.tagged) + len(load.untagged) == len(load.writes)
    assert len(load.untagged) >= (2 if is_abrupt else 0), "nobody knows, and nothing is tried twice"
    log = deployment.econed.process.text
    assert "no oned leads" in log
    assert log.count("leads now, not") == 2
    assert "Traceback" not in log


async def fall(deployment: HADeployment, number: int, successor: int, is_abrupt: bool) -> None:
    """Let the leader fall, and the other be elected when econed has looked in vain for a while."""
    door = deployment.doors[number]
    if is_abrupt:
        fallen: Deferred[None] = Deferred()
        door.fallen = lambda: deployment.reactor.callLater(0, fallen.callback, None)
        door.cuts = Counter(CUT)
        await fallen
    deployment.kill(number)
    deployment.zone.begin_election()
    looked = deployment.doors[successor].calls[RAFT_STATUS_METHOD]
    calls = deployment.doors[successor].calls
    await deployment.until(lambda: calls[RAFT_STATUS_METHOD] >= looked + LOOKS, "looks for a leader")
    deployment.zone.elect(deployment.zone.servers[successor])
