"""A failover under load over real sockets: econed, the servers of an HA zone with a common database, and boto3.

The servers run in this process, so that the test can stop them, and count the changes in their database.
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
WRITES_BEFORE_FAILOVER = 10
LOST_REPLIES = {"one.template.instantiate": 2, "one.vm.update": 1}
"""Calls that a failing server carries out without a reply: new machines, and tags."""

LOOKUPS = 4
TIMEOUT = 120.0


class ServerResource(Resource):
    """The XML-RPC resource of one server. `lost_replies` is the number of calls, by method, without a reply."""

    isLeaf = True

    def __init__(self, member: ZoneServer) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._resource = SandboxResource(member)
        self.calls: Counter[str] = Counter()
        self.lost_replies: Counter[str] = Counter()
        self.on_last_lost_reply: Callable[[], None] = lambda: None

    def render_POST(self, request: Request) -> bytes | int:
        """Carry out a call, and reply unless this reply must be lost."""
        assert request.content is not None
        text = request.content.read()
        request.content.seek(0)
        method = text.partition(b"<methodName>")[2].partition(b"</methodName>")[0].decode()
        self.calls[method] += 1
        reply = self._resource.render_POST(request)
        if self.lost_replies[method]:
            self.lost_replies[method] -= 1
            request.transport.abortConnection()  # type: ignore[union-attr]
            if not self.lost_replies.total():
                self.on_last_lost_reply()
            return NOT_DONE_YET
        return reply


@dataclass
class HADeployment:
    """An HA zone of two servers, and an econed for them."""

    reactor: Any
    directory: Path
    oned: Oned = field(init=False)
    zone: HAZone = field(init=False)
    resources: list[ServerResource] = field(default_factory=list)
    ports: list[Any] = field(default_factory=list)
    open: dict[int, WrappingFactory] = field(default_factory=dict)
    numbers: list[int] = field(init=False)
    econed: Econed = field(init=False)
    alice: Person = field(init=False)

    async def start(self) -> None:
        """Start the servers and econed."""
        self.oned = Oned(self.reactor)
        self.alice = Person("alice", 2, secrets.token_hex(20), None)  # type: ignore[arg-type]
        populate(self.oned, users=[("alice", self.alice.secret)])
        self.zone = HAZone(self.oned, servers=2)
        for member in self.zone.servers:
            self.resources.append(ServerResource(member))
            self.ports.append(self._listening(len(self.resources) - 1, 0))
        self.numbers = [port.getHost().port for port in self.ports]
        urls = [f"http://127.0.0.1:{port}/RPC2" for port in self.numbers]
        (self.directory / "auth").write_text(self.oned.serveradmin, encoding="utf-8")
        settings = {"host": "127.0.0.1", "one_xmlrpc": urls, "tmpdir": str(self.directory), "debug_level": 3}
        (self.directory / "econe.conf").write_text(yaml.safe_dump(settings), encoding="utf-8")
        self.econed = await deferToThread(self._econed)

    def _listening(self, index: int, port: int) -> Any:
        self.open[index] = WrappingFactory(Site(self.resources[index]))
        return self.reactor.listenTCP(port, self.open[index], interface="127.0.0.1")

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

    def kill(self, index: int) -> None:
        """Stop a server: close its port and abort its connections."""
        self.zone.servers[index].is_up = False
        self.ports[index].stopListening()
        for connection in list(self.open[index].protocols):
            connection.transport.abortConnection()

    def revive(self, index: int) -> None:
        """Start a server again, as a follower."""
        self.zone.servers[index].is_up = True
        self.ports[index] = self._listening(index, self.numbers[index])

    async def until(self, condition: Callable[[], Any], description: str) -> None:
        """Wait for a condition."""
        began = self.reactor.seconds()
        while not condition():
            assert self.reactor.seconds() - began < TIMEOUT, f"not in time:  {description}"
            await deferLater(self.reactor, 0.02)

    async def stop(self) -> None:
        """Stop econed and the servers."""
        await deferToThread(self.econed.process.stop)
        for port in self.ports:
            await DeferredList([port.stopListening() or Deferred.fromCoroutine(_nothing())])


async def _nothing() -> None:
    pass


@dataclass
class Load:
    """The requests of clients and their outcomes; threads add to it."""

    reads: Counter[str] = field(default_factory=Counter)
    writes: dict[str, str] = field(default_factory=dict)
    refused: dict[str, tuple[str, int]] = field(default_factory=dict)
    tagged: dict[str, str] = field(default_factory=dict)
    untagged: dict[str, tuple[str, int]] = field(default_factory=dict)
    is_over: bool = False

    def read(self, ec2: Any) -> None:
        """Describe instances, images and volumes until `is_over`."""
        while not self.is_over:
            for describe in (ec2.describe_instances, ec2.describe_images, ec2.describe_volumes):
                try:
                    describe()
                    self.reads["answered"] += 1
                except ClientError as error:
                    self.reads[str(refusal(error))] += 1

    def write(self, ec2: Any, ami: str) -> None:
        """Run instances, one at a time, each with its own client token, and tag them."""
        for _ in range(WRITES):
            token = secrets.token_hex(8)
            try:
                response = ec2.run_instances(
                    ImageId=ami, InstanceType="m1.small", MinCount=1, MaxCount=1, ClientToken=token
                )
                self.writes[token] = response["Instances"][0]["InstanceId"]
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
    """Return a running deployment."""
    from twisted.internet import reactor

    running = HADeployment(reactor, tmp_path)
    await running.start()
    yield running
    await running.stop()


def machines(deployment: HADeployment) -> Counter[str]:
    """Return the number of machines for each client token."""
    return Counter(str(vm.user_template.get("EC2_CLIENT_TOKEN")) for vm in deployment.oned.cloud.vms)


@pytest.mark.parametrize("is_abrupt", [True, False], ids=["replies are lost", "connections are refused"])
@pytest_twisted.ensureDeferred
async def test_with_a_failover_under_load_reads_succeed_and_each_change_is_made_at_most_once(
    deployment: HADeployment, is_abrupt: bool
) -> None:
    """Server 0 fails, later server 1 is elected; then 0 is started again, and 1 fails."""
    clients = [await deferToThread(boto, deployment.alice, deployment.econed.url) for _ in range(READERS + WRITERS)]
    images = await deferToThread(clients[0].describe_images)
    ami = images["Images"][0]["ImageId"]
    load = Load()
    reading = gatherResults([deferToThread(load.read, ec2) for ec2 in clients[WRITERS:]])
    writing = gatherResults([deferToThread(load.write, ec2, ami) for ec2 in clients[:WRITERS]])
    await deployment.until(lambda: len(load.writes) >= WRITES_BEFORE_FAILOVER, "the load")
    assert not deployment.resources[1].calls.keys() - {RAFT_STATUS_METHOD}, "a follower gets no other calls"
    await fail_over(deployment, 0, 1, is_abrupt)
    writes_before = len(load.writes)
    await deployment.until(lambda: len(load.writes) >= writes_before + WRITES_BEFORE_FAILOVER, "new writes")
    deployment.revive(0)
    await fail_over(deployment, 1, 0, is_abrupt)
    await writing
    load.is_over = True
    await reading
    assert load.reads.keys() == {"answered"}
    assert load.reads["answered"] > WRITES
    assert set(load.refused.values()) <= {("ServiceUnavailable", 503)}
    counts = machines(deployment)
    assert all(counts[token] == 1 for token in load.writes), "successful requests were carried out once"
    assert all(counts[token] <= 1 for token in load.refused), "failed requests were carried out at most once"
    assert len(load.writes) + len(load.refused) == WRITERS * WRITES
    assert counts.total() == len(load.writes) + sum(counts[token] for token in load.refused)
    response = await deferToThread(clients[0].describe_tags)
    assert load.tagged.items() <= {(tag["Key"], tag["ResourceId"]) for tag in response["Tags"]}
    assert set(load.untagged.values()) <= {("ServiceUnavailable", 503)}
    assert len(load.tagged) + len(load.untagged) == len(load.writes)
    assert len(load.untagged) >= (2 if is_abrupt else 0), "requests with a lost reply are not repeated"
    log = deployment.econed.process.text
    assert "no oned leads" in log
    assert log.count("leads now, not") == 2
    assert "Traceback" not in log


async def fail_over(deployment: HADeployment, index: int, successor: int, is_abrupt: bool) -> None:
    """Stop the leader, and elect the other server when econed has looked up the leader a few times."""
    resource = deployment.resources[index]
    if is_abrupt:
        last_reply_lost: Deferred[None] = Deferred()
        resource.on_last_lost_reply = lambda: deployment.reactor.callLater(0, last_reply_lost.callback, None)
        resource.lost_replies = Counter(LOST_REPLIES)
        await last_reply_lost
    deployment.kill(index)
    deployment.zone.begin_election()
    calls = deployment.resources[successor].calls
    lookups_before = calls[RAFT_STATUS_METHOD]
    await deployment.until(lambda: calls[RAFT_STATUS_METHOD] >= lookups_before + LOOKUPS, "lookups of the leader")
    deployment.zone.elect(deployment.zone.servers[successor])
