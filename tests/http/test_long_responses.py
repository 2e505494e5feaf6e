"""Long answers over real sockets: made set by set as the client takes them, and never a half for the whole."""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
import pytest_twisted
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from lxml import etree
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from econed.config.settings import Settings
from econed.errors import OpenNebulaUnavailable
from econed.http.channel import MIN_RESPONSE_RATE
from econed.http.response import PRODUCED_FROM
from econed.http.response_memory import MAX_BYTES_PER_USER, MAX_PARTS_PER_USER, ResponseMemory
from econed.interfaces import IOpenNebula
from econed.opennebula.read_session import SET_SIZE
from econed.resource import EC2Resource
from tests.support.cloud import Cloud
from tests.support.reactor_turns import one_turn, wait_until, wait_until_unchanged
from tests.support.serving import Client, Server, connected, get, signed
from tests.support.twisted_privates import unsent_bytes

pytestmark = pytest.mark.slow

PARTS = 4
MACHINES = PARTS * SET_SIZE
READERS = 10
PUBLIC_KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJaTttRaXbZqQ+XP0KMNAglZTHmWCYi/rPR7zO6tHUQ5 alice"
ENOUGH = 2 * int(MIN_RESPONSE_RATE * Settings.idle_timeout)
"""Bytes of an answer at half the least rate, by which the time for it is up."""


@implementer(IOpenNebula)
class Counted:
    """oned, with a count of the sets of machines that are read; from `fails_from` on it is away.

    Changes of users wait for `held`, if there is one.
    """

    def __init__(self, one: IOpenNebula) -> None:
        self._one = one
        self.sets = 0
        self.reading = 0
        self.most_at_once = 0
        self.fails_from: int | None = None
        self.held: Deferred[None] | None = None

    async def call(self, user: str | None, method: str, *args: object) -> Any:
        """Pass a call on (`IOpenNebula`)."""
        if method == "one.user.update" and self.held is not None:
            await self.held
        return await self._one.call(user, method, *args)

    async def document(self, user: str | None, method: str, *args: object) -> Any:
        """Pass a call on (`IOpenNebula`)."""
        if method == "one.vmpool.infoset":
            self.sets += 1
            self.reading += 1
            self.most_at_once = max(self.most_at_once, self.reading)
            await one_turn()
            self.reading -= 1
            if self.fails_from is not None and self.sets >= self.fails_from:
                raise OpenNebulaUnavailable(method, "it is away")
        return await self._one.document(user, method, *args)


@pytest.fixture(scope="module")
def cloud() -> Cloud:
    """A cloud with machines enough for a dozen sets."""
    return Cloud(vms=MACHINES)


@pytest.fixture
def server(cloud: Cloud, tmp_path: Path) -> Iterator[Server]:
    """Econed in front of it."""
    yield from _served(cloud, Settings(tmpdir=str(tmp_path), describe_with_terminated_instances=False))


@pytest.fixture
def wall(server: Server) -> Iterator[Server]:
    """The same at the time of day, by which boto3 signs."""
    was, server.cloud.clock.rightNow = server.cloud.clock.rightNow, time.time()
    yield server
    server.cloud.clock.rightNow = was


def _served(cloud: Cloud, settings: Settings) -> Iterator[Server]:
    one = cloud.backend
    cloud.backend = Counted(one)
    running = Server(settings, cloud=cloud)
    yield running
    running.close()
    running.site.abort()
    cloud.backend = one


def _oned(server: Server) -> Counted:
    assert isinstance(server.cloud.backend, Counted)
    return server.cloud.backend


async def until(server: Server, condition: Callable[[], object]) -> None:
    """Wait until `condition` is true; in each turn the calls that the server has put off to it are made, too."""
    await wait_until(condition, lambda: server.cloud.clock.advance(0))


async def _turn(server: Server) -> None:
    """Let the reactor make one turn, and the server make the calls that it has put off to it."""
    server.cloud.clock.advance(0)
    await one_turn()


async def _quiet(server: Server) -> None:
    """Wait until nothing more is read of oned and nothing is being made."""
    await wait_until_unchanged(lambda: _oned(server).sets, each_turn=lambda: server.cloud.clock.advance(0))


@contextmanager
def reader(server: Server, request: bytes) -> Iterator[socket.socket]:
    """Ask on a connection with a small buffer, and read nothing."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.number))
        connection.sendall(request)
        connection.setblocking(False)
        yield connection


def listing(server: Server, *headers: str, **parameters: str) -> bytes:
    """Return a request for all instances."""
    return get(server, signed(server, Action="DescribeInstances", **parameters), *headers)


def small(server: Server) -> None:
    """Let connections of the server's have as little room in the kernel as those of the readers."""
    server.port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


def body_of(received: bytes) -> tuple[bytes, bytes]:
    """Return the head and the body of an answer in chunks, taken apart as RFC 9112, 7.1 says; it has to be complete."""
    head, _, rest = received.partition(b"\r\n\r\n")
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        body += rest[:length]
        assert rest[length : length + 2] == b"\r\n"
        rest = rest[length + 2 :]
        if not length:
            assert rest == b""
            return head.lower(), body


def instances(body: bytes) -> list[str]:
    """Return the ids of the instances in an answer, in its order."""
    found = etree.fromstring(body).findall(".//{*}instancesSet/{*}item/{*}instanceId")
    return [str(each.text) for each in found]


def _held(server: Server) -> int:
    """Return the bytes that are kept in the process for clients: encoded, and handed to transports."""
    transports = [channel.transport for channel in server.site._channels]
    return sum(map(unsent_bytes, transports)) + _memory(server).held


def _memory(server: Server) -> ResponseMemory:
    resource = server.site.resource
    assert isinstance(resource, EC2Resource)
    return resource.memory


@pytest_twisted.ensureDeferred
async def test_of_what_nobody_reads_no_more_than_a_set_is_made(server: Server) -> None:
    """Clients that do not read have a set each, and bytes of no more than that, however long the list is."""
    small(server)
    one, _, _ = await _one_set(server)
    with ExitStack() as readers:
        for _ in range(READERS):
            readers.enter_context(reader(server, listing(server)))
        await until(server, lambda: _oned(server).sets >= READERS)
        await _quiet(server)
        assert _oned(server).sets == READERS
        assert _held(server) <= READERS * (one + (1 << 17))
        assert _memory(server).producing == 0
    await until(server, lambda: server.site.connections == 0)
    assert _held(server) == 0
    await _quiet(server)
    assert _oned(server).sets == READERS, "who has gone away has nothing more read"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("action", ["DescribeInstances", "DescribeInstanceStatus"])
async def test_few_instances_that_are_named_are_read_in_turns_too(server: Server, action: str) -> None:
    """Their documents may be long, and a user may ask for them many times at the same time."""
    request = get(server, signed(server, Action=action, **{"InstanceId.1": "i-00000000", "InstanceId.2": "i-00000001"}))
    clients = [await connected(server) for _ in range(READERS)]
    for client in clients:
        client.send(request)
    await until(server, lambda: all(each.received.endswith(f"</{action}Response>".encode()) for each in clients))
    assert _oned(server).most_at_once == MAX_PARTS_PER_USER


async def _one_set(server: Server) -> tuple[int, bytes, bytes]:
    """Return how long an answer is that shows one set of machines, and the answer; and forget that it was read."""
    client = await connected(server)
    client.send(listing(server, MaxResults=str(SET_SIZE)))
    await until(server, lambda: client.received.endswith(b"\r\n0\r\n\r\n"))
    client.close()
    await client.closed
    head, body = body_of(client.received)
    _oned(server).sets = 0
    return len(body), head, body


@pytest_twisted.ensureDeferred
async def test_what_is_read_is_made_and_comes_whole_and_in_order(server: Server) -> None:
    """In chunks, in one well-formed document, with each instance once."""
    client = await connected(server)
    client.send(listing(server))
    await until(server, lambda: client.received.endswith(b"\r\n0\r\n\r\n"))
    head, body = body_of(client.received)
    assert b"transfer-encoding: chunked" in head
    assert b"content-length" not in head
    found = instances(body)
    assert len(found) == MACHINES
    assert found == sorted(set(found))
    assert _oned(server).sets == PARTS
    assert _held(server) == 0
    client.send(get(server, signed(server)))
    await until(server, lambda: client.received.endswith(b"</DescribeRegionsResponse>"))
    assert client.received.count(b"HTTP/1.1 200") == 2, "the connection serves on"


@pytest_twisted.ensureDeferred
async def test_a_short_answer_has_a_length(server: Server) -> None:
    client = await connected(server)
    client.send(listing(server, MaxResults="5"))
    await until(server, lambda: client.has_response)
    head, _, body = client.received.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head.lower()
    assert b"transfer-encoding" not in head.lower()
    assert len(instances(body)) == 5
    assert etree.fromstring(body).findtext("{*}nextToken")


@pytest_twisted.ensureDeferred
async def test_a_page_of_several_sets_ends_with_its_token(server: Server) -> None:
    """The token is known when the last of them has been looked at, and stands behind the list."""
    client = await connected(server)
    client.send(listing(server, MaxResults="600"))
    await until(server, lambda: client.received.endswith(b"\r\n0\r\n\r\n"))
    _, body = body_of(client.received)
    first = instances(body)
    assert len(first) == 600
    assert [etree.QName(each).localname for each in etree.fromstring(body)][-2:] == ["reservationSet", "nextToken"]
    token = str(etree.fromstring(body).findtext("{*}nextToken"))
    client.received = b""
    client.send(listing(server, MaxResults="1000", NextToken=token))
    await until(server, lambda: client.received.endswith(b"\r\n0\r\n\r\n"))
    assert min(instances(body_of(client.received)[1])) > max(first)


@pytest_twisted.ensureDeferred
async def test_a_client_of_http_1_0_gets_the_same_until_the_connection_ends(server: Server) -> None:
    client = await connected(server)
    client.send(listing(server).replace(b"HTTP/1.1", b"HTTP/1.0"))
    await until(server, lambda: client.is_closed)
    head, _, body = client.received.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert len(instances(body)) == MACHINES


# Where it goes wrong


@pytest_twisted.ensureDeferred
async def test_what_fails_before_the_answer_has_begun_is_an_error_as_always(server: Server) -> None:
    _oned(server).fails_from = 1
    client = await connected(server)
    client.send(listing(server))
    await until(server, lambda: client.has_response)
    assert (client.status, client.code) == (503, "Unavailable")


@pytest_twisted.ensureDeferred
async def test_what_fails_in_the_middle_ends_the_connection_and_is_logged_and_counted(server: Server) -> None:
    """The client has a body without its end; the request's line has the status that was sent, and the code."""
    _oned(server).fails_from = 4
    client = await connected(server)
    client.send(listing(server))
    await until(server, lambda: client.is_closed)
    assert client.received.startswith(b"HTTP/1.1 200 ")
    assert not client.received.endswith(b"0\r\n\r\n")
    assert b"</DescribeInstancesResponse>" not in client.received
    (line,) = [event for event in server.events if "access" in event]
    assert (line["status"], line["code"]) == (200, "Unavailable")
    assert 0 < line["bytes"] < len(client.received) + (1 << 22)
    assert _held(server) == 0
    assert ["DescribeInstances", "Unavailable"] in _outcomes(server)


def _outcomes(server: Server) -> list[list[str]]:
    return [labels for labels, _ in server.metrics.snapshot()["econed_requests"]]


@pytest_twisted.ensureDeferred
async def test_a_client_that_goes_away_ends_the_reading_of_oned(server: Server) -> None:
    """The iterator is closed, its place is free again, and the line says that it went away."""
    small(server)
    with reader(server, listing(server)):
        await until(server, lambda: _oned(server).sets == 1)
        await _quiet(server)
    await until(server, lambda: server.site.connections == 0)
    await _quiet(server)
    assert _oned(server).sets == 1
    (line,) = [event for event in server.events if "access" in event]
    assert (line["status"], line["code"]) == (200, "ClientGone")
    assert _held(server) == 0


@pytest_twisted.ensureDeferred
async def test_a_client_that_takes_nothing_is_cut_off(server: Server) -> None:
    """By the clock, after the idle timeout."""
    small(server)
    with reader(server, listing(server)):
        await until(server, lambda: _oned(server).sets == 1)
        await _quiet(server)
        server.cloud.clock.advance(Settings.idle_timeout - 1)
        await _quiet(server)
        assert server.site.connections == 1
        server.cloud.clock.advance(1)
        await until(server, lambda: server.site.connections == 0)


@pytest_twisted.ensureDeferred
async def test_a_client_that_takes_less_than_the_least_rate_is_cut_off_in_the_middle(server: Server) -> None:
    """Each byte that is taken buys as much time as it may take, and no more; one that is fast enough gets all."""
    small(server)
    for share, comes_through in ((0.5, False), (2.0, True)):
        with reader(server, listing(server)) as connection:
            await until(server, lambda: server.site.connections == 1)
            taken = 0
            while server.site.connections and taken < ENOUGH:
                began = taken
                while taken < began + (1 << 17) and server.site.connections:
                    taken += _some_of(connection)
                    await _turn(server)
                server.cloud.clock.advance((taken - began) / (MIN_RESPONSE_RATE * share))
                await _turn(server)
            assert bool(server.site.connections) is comes_through
        await until(server, lambda: server.site.connections == 0)


def _some_of(connection: socket.socket) -> int:
    with suppress(BlockingIOError, ConnectionResetError):
        return len(connection.recv(1 << 16))
    return 0


@pytest_twisted.ensureDeferred
async def test_long_answers_that_are_made_whole_have_their_bound_too(server: Server) -> None:
    """A user who leaves as much untaken as may be is refused another; what is short is answered."""
    for number in range(200):
        name = f"{number:03}{'k' * 200}"
        server.cloud.run("alice", "ImportKeyPair", KeyName=name, PublicKeyMaterial=PUBLIC_KEY)
    memory = _memory(server)
    memory.hold("alice", MAX_BYTES_PER_USER)
    keys = get(server, signed(server, Action="DescribeKeyPairs"))
    refused = await _answer(server, keys)
    assert (refused.status, refused.code) == (503, "RequestLimitExceeded")
    assert (await _answer(server, get(server, signed(server)))).status == 200
    memory.release("alice", MAX_BYTES_PER_USER)
    answer = await _answer(server, keys)
    assert answer.status == 200
    assert len(answer.received) > PRODUCED_FROM
    assert memory.held == 0


# How many requests a user has under way


@pytest.fixture
def narrow(cloud: Cloud, tmp_path: Path) -> Iterator[Server]:
    """One with two requests at a time for each user."""
    settings = Settings(tmpdir=str(tmp_path), describe_with_terminated_instances=False, max_requests_per_user=2)
    yield from _served(cloud, settings)


@pytest_twisted.ensureDeferred
async def test_a_user_has_so_many_requests_under_way_and_no_more(narrow: Server) -> None:
    """An answer that is not taken is under way; when one of the clients has gone, there is a place again."""
    small(narrow)
    with reader(narrow, listing(narrow)):
        with reader(narrow, listing(narrow)):
            await until(narrow, lambda: _oned(narrow).sets == 2)
            await _quiet(narrow)
            refused = await _answer(narrow, get(narrow, signed(narrow)))
            assert (refused.status, refused.code) == (503, "RequestLimitExceeded")
            assert (await _answer(narrow, get(narrow, signed(narrow, "bob", "bobpw")))).status == 200
        await until(narrow, lambda: narrow.site.connections == 1)
        assert (await _answer(narrow, get(narrow, signed(narrow)))).status == 200
        assert (await _answer(narrow, get(narrow, signed(narrow)))).status == 200
    assert narrow.metrics.snapshot()["econed_refusals"] == [(["max_requests_per_user"], [1])]


@pytest_twisted.ensureDeferred
async def test_a_change_is_under_way_until_it_is_done_though_its_client_has_gone(narrow: Server) -> None:
    """Or a client that goes away each time could have any number of them made."""
    _oned(narrow).held = Deferred()
    material = base64.b64encode(PUBLIC_KEY).decode()
    query = signed(narrow, Action="ImportKeyPair", KeyName="held", PublicKeyMaterial=material)
    for _ in range(2):
        with reader(narrow, get(narrow, query)):
            await until(narrow, lambda: narrow.site.busy == 1)
            await _quiet(narrow)
        await until(narrow, lambda: narrow.site.connections == 0)
    refused = await _answer(narrow, get(narrow, signed(narrow)))
    assert (refused.status, refused.code) == (503, "RequestLimitExceeded")
    held, _oned(narrow).held = _oned(narrow).held, None
    assert held is not None
    held.callback(None)
    await _quiet(narrow)
    assert (await _answer(narrow, get(narrow, signed(narrow)))).status == 200


async def _answer(server: Server, request: bytes) -> Client:
    client = await connected(server)
    client.send(request)
    await until(server, lambda: client.has_response)
    client.close()
    await until(server, lambda: client.is_closed)
    return client


# As boto3 sees it


def _boto(server: Server) -> Any:
    session = boto3.Session("alice", "alicepw", region_name="us-east-1")
    config = Config(retries={"total_max_attempts": 1}, proxies={}, read_timeout=60)
    return session.client("ec2", endpoint_url=f"http://{server.address}/", config=config)


async def _of_boto(server: Server, work: Callable[[Any], Any]) -> Any:
    """Return what boto3 returns, or the exception that it raises; the server goes on meanwhile."""
    ended: list[Any] = []
    deferToThread(lambda: work(_boto(server))).addBoth(ended.append)
    await until_slowly(server, ended)
    return ended[0]


async def until_slowly(server: Server, ended: list[Any]) -> None:
    """Let the server go on until something has ended in a thread."""
    while not ended:
        await _turn(server)


@pytest_twisted.ensureDeferred
async def test_boto3_reads_a_long_list(wall: Server) -> None:
    found = await _of_boto(wall, lambda ec2: ec2.describe_instances())
    ids = [each["InstanceId"] for reservation in found["Reservations"] for each in reservation["Instances"]]
    assert len(set(ids)) == len(ids) == MACHINES


@pytest_twisted.ensureDeferred
async def test_boto3_does_not_take_half_a_list_for_the_whole(wall: Server) -> None:
    _oned(wall).fails_from = 4
    failed = await _of_boto(wall, lambda ec2: ec2.describe_instances())
    assert failed.check(BotoCoreError, ClientError), failed
