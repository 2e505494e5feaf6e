"""Long responses over real sockets: produced in parts as the client reads them, and never mistaken when incomplete."""

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
"""Bytes of a response after which the deadline has expired at half the minimum rate."""


@implementer(IOpenNebula)
class CountingOned:
    """oned, with a count of the sets of machines that are read; from the set `fails_from` on it is unavailable.

    Changes of users wait for `held`, if it is set.
    """

    def __init__(self, one: IOpenNebula) -> None:
        self._one = one
        self.sets = 0
        self.reads_in_flight = 0
        self.max_in_flight = 0
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
            self.reads_in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.reads_in_flight)
            await one_turn()
            self.reads_in_flight -= 1
            if self.fails_from is not None and self.sets >= self.fails_from:
                raise OpenNebulaUnavailable(method, "not reachable")
        return await self._one.document(user, method, *args)


@pytest.fixture(scope="module")
def cloud() -> Cloud:
    """A cloud with machines for four sets."""
    return Cloud(vms=MACHINES)


@pytest.fixture
def server(cloud: Cloud, tmp_path: Path) -> Iterator[Server]:
    """A server for this cloud."""
    yield from _served(cloud, Settings(tmpdir=str(tmp_path), describe_with_terminated_instances=False))


@pytest.fixture
def server_at_wall_time(server: Server) -> Iterator[Server]:
    """The same server at the time of day, with which boto3 signs."""
    fake_time, server.cloud.clock.rightNow = server.cloud.clock.rightNow, time.time()
    yield server
    server.cloud.clock.rightNow = fake_time


def _served(cloud: Cloud, settings: Settings) -> Iterator[Server]:
    oned = cloud.backend
    cloud.backend = CountingOned(oned)
    server = Server(settings, cloud=cloud)
    yield server
    server.close()
    server.site.abort()
    cloud.backend = oned


def _oned(server: Server) -> CountingOned:
    assert isinstance(server.cloud.backend, CountingOned)
    return server.cloud.backend


async def until(server: Server, condition: Callable[[], object]) -> None:
    """Wait until `condition` is true, running the delayed calls of the server meanwhile."""
    await wait_until(condition, lambda: server.cloud.clock.advance(0))


async def _turn(server: Server) -> None:
    """Let the reactor run once, with the delayed calls of the server."""
    server.cloud.clock.advance(0)
    await one_turn()


async def _quiet(server: Server) -> None:
    """Wait until nothing more is read from oned."""
    await wait_until_unchanged(lambda: _oned(server).sets, each_turn=lambda: server.cloud.clock.advance(0))


@contextmanager
def reader(server: Server, request: bytes) -> Iterator[socket.socket]:
    """Send a request on a connection with a small receive buffer, and read nothing."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.number))
        connection.sendall(request)
        connection.setblocking(False)
        yield connection


def listing(server: Server, *headers: str, **parameters: str) -> bytes:
    """Return a request for all instances."""
    return get(server, signed(server, Action="DescribeInstances", **parameters), *headers)


def use_small_send_buffers(server: Server) -> None:
    """Give the server's connections send buffers as small as the receive buffers of `reader`."""
    server.port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


def body_of(received: bytes) -> tuple[bytes, bytes]:
    """Return the headers and the decoded body of a complete chunked response (RFC 9112, 7.1)."""
    headers, _, rest = received.partition(b"\r\n\r\n")
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        body += rest[:length]
        assert rest[length : length + 2] == b"\r\n"
        rest = rest[length + 2 :]
        if not length:
            assert rest == b""
            return headers.lower(), body


def instances(body: bytes) -> list[str]:
    """Return the ids of the instances in a response, in order."""
    elements = etree.fromstring(body).findall(".//{*}instancesSet/{*}item/{*}instanceId")
    return [str(element.text) for element in elements]


def _held(server: Server) -> int:
    """Return the bytes in memory for clients: encoded, or in the buffers of transports."""
    transports = [channel.transport for channel in server.site._channels]
    return sum(map(unsent_bytes, transports)) + _memory(server).held


def _memory(server: Server) -> ResponseMemory:
    resource = server.site.resource
    assert isinstance(resource, EC2Resource)
    return resource.memory


@pytest_twisted.ensureDeferred
async def test_one_part_of_a_response_is_produced_if_the_client_does_not_read(server: Server) -> None:
    """For each client that does not read, one part is in memory, however long the list is."""
    use_small_send_buffers(server)
    part_length, _, _ = await _one_part(server)
    with ExitStack() as readers:
        for _ in range(READERS):
            readers.enter_context(reader(server, listing(server)))
        await until(server, lambda: _oned(server).sets >= READERS)
        await _quiet(server)
        assert _oned(server).sets == READERS
        assert _held(server) <= READERS * (part_length + (1 << 17))
        assert _memory(server).producing == 0
    await until(server, lambda: server.site.connections == 0)
    assert _held(server) == 0
    await _quiet(server)
    assert _oned(server).sets == READERS, "nothing more is read for a client that has disconnected"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("action", ["DescribeInstances", "DescribeInstanceStatus"])
async def test_a_few_instances_given_by_id_are_read_in_turns_too(server: Server, action: str) -> None:
    """Their documents may be long, and a user may send many such requests at a time."""
    request = get(server, signed(server, Action=action, **{"InstanceId.1": "i-00000000", "InstanceId.2": "i-00000001"}))
    clients = [await connected(server) for _ in range(READERS)]
    for client in clients:
        client.send(request)
    await until(server, lambda: all(client.received.endswith(f"</{action}Response>".encode()) for client in clients))
    assert _oned(server).max_in_flight == MAX_PARTS_PER_USER


async def _one_part(server: Server) -> tuple[int, bytes, bytes]:
    """Return the length, headers and body of a response with one set of machines, and reset the count of sets."""
    client = await connected(server)
    client.send(listing(server, MaxResults=str(SET_SIZE)))
    await until(server, lambda: client.received.endswith(b"\r\n0\r\n\r\n"))
    client.close()
    await client.closed
    headers, body = body_of(client.received)
    _oned(server).sets = 0
    return len(body), headers, body


@pytest_twisted.ensureDeferred
async def test_a_client_that_reads_gets_all_instances_in_order(server: Server) -> None:
    """In one well-formed document in chunks, with each instance once."""
    client = await connected(server)
    client.send(listing(server))
    await until(server, lambda: client.received.endswith(b"\r\n0\r\n\r\n"))
    headers, body = body_of(client.received)
    assert b"transfer-encoding: chunked" in headers
    assert b"content-length" not in headers
    ids = instances(body)
    assert len(ids) == MACHINES
    assert ids == sorted(set(ids))
    assert _oned(server).sets == PARTS
    assert _held(server) == 0
    client.send(get(server, signed(server)))
    await until(server, lambda: client.received.endswith(b"</DescribeRegionsResponse>"))
    assert client.received.count(b"HTTP/1.1 200") == 2, "the connection is persistent"


@pytest_twisted.ensureDeferred
async def test_a_short_response_has_a_content_length(server: Server) -> None:
    client = await connected(server)
    client.send(listing(server, MaxResults="5"))
    await until(server, lambda: client.has_response)
    headers, _, body = client.received.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in headers.lower()
    assert b"transfer-encoding" not in headers.lower()
    assert len(instances(body)) == 5
    assert etree.fromstring(body).findtext("{*}nextToken")


@pytest_twisted.ensureDeferred
async def test_a_page_of_several_parts_ends_with_its_token(server: Server) -> None:
    """The token is known only after the last part, so it follows the list."""
    client = await connected(server)
    client.send(listing(server, MaxResults="600"))
    await until(server, lambda: client.received.endswith(b"\r\n0\r\n\r\n"))
    _, body = body_of(client.received)
    first_page = instances(body)
    assert len(first_page) == 600
    assert [etree.QName(element).localname for element in etree.fromstring(body)][-2:] == [
        "reservationSet",
        "nextToken",
    ]
    token = str(etree.fromstring(body).findtext("{*}nextToken"))
    client.received = b""
    client.send(listing(server, MaxResults="1000", NextToken=token))
    await until(server, lambda: client.received.endswith(b"\r\n0\r\n\r\n"))
    assert min(instances(body_of(client.received)[1])) > max(first_page)


@pytest_twisted.ensureDeferred
async def test_an_http_1_0_client_gets_the_body_until_the_connection_is_closed(server: Server) -> None:
    client = await connected(server)
    client.send(listing(server).replace(b"HTTP/1.1", b"HTTP/1.0"))
    await until(server, lambda: client.is_closed)
    headers, _, body = client.received.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in headers.lower()
    assert len(instances(body)) == MACHINES


# Failures


@pytest_twisted.ensureDeferred
async def test_a_failure_before_the_status_is_sent_becomes_an_error_response(server: Server) -> None:
    _oned(server).fails_from = 1
    client = await connected(server)
    client.send(listing(server))
    await until(server, lambda: client.has_response)
    assert (client.status, client.code) == (503, "Unavailable")


@pytest_twisted.ensureDeferred
async def test_a_failure_in_the_middle_aborts_the_connection_and_is_logged_and_counted(server: Server) -> None:
    """The body is incomplete; the access log has the status that was sent, and the error code."""
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
async def test_no_more_is_read_from_oned_after_the_client_disconnects(server: Server) -> None:
    """The iterator is closed, its memory is released, and the access log says that the client has gone."""
    use_small_send_buffers(server)
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
async def test_a_client_that_reads_nothing_is_disconnected(server: Server) -> None:
    """After the idle timeout."""
    use_small_send_buffers(server)
    with reader(server, listing(server)):
        await until(server, lambda: _oned(server).sets == 1)
        await _quiet(server)
        server.cloud.clock.advance(Settings.idle_timeout - 1)
        await _quiet(server)
        assert server.site.connections == 1
        server.cloud.clock.advance(1)
        await until(server, lambda: server.site.connections == 0)


@pytest_twisted.ensureDeferred
async def test_a_client_that_reads_below_the_minimum_rate_is_disconnected(server: Server) -> None:
    """Each byte extends the deadline by the time it takes at the minimum rate; a faster client gets everything."""
    use_small_send_buffers(server)
    for factor, is_fast_enough in ((0.5, False), (2.0, True)):
        with reader(server, listing(server)) as connection:
            await until(server, lambda: server.site.connections == 1)
            received = 0
            while server.site.connections and received < ENOUGH:
                before = received
                while received < before + (1 << 17) and server.site.connections:
                    received += _receive(connection)
                    await _turn(server)
                server.cloud.clock.advance((received - before) / (MIN_RESPONSE_RATE * factor))
                await _turn(server)
            assert bool(server.site.connections) is is_fast_enough
        await until(server, lambda: server.site.connections == 0)


def _receive(connection: socket.socket) -> int:
    with suppress(BlockingIOError, ConnectionResetError):
        return len(connection.recv(1 << 16))
    return 0


@pytest_twisted.ensureDeferred
async def test_long_responses_that_do_not_come_in_parts_are_limited_too(server: Server) -> None:
    """A user with the maximum of unread bytes is refused another one; short responses are still sent."""
    for number in range(200):
        name = f"{number:03}{'k' * 200}"
        server.cloud.run("alice", "ImportKeyPair", KeyName=name, PublicKeyMaterial=PUBLIC_KEY)
    memory = _memory(server)
    memory.hold("alice", MAX_BYTES_PER_USER)
    keys = get(server, signed(server, Action="DescribeKeyPairs"))
    refused = await _response(server, keys)
    assert (refused.status, refused.code) == (503, "RequestLimitExceeded")
    assert (await _response(server, get(server, signed(server)))).status == 200
    memory.release("alice", MAX_BYTES_PER_USER)
    accepted = await _response(server, keys)
    assert accepted.status == 200
    assert len(accepted.received) > PRODUCED_FROM
    assert memory.held == 0


# Requests in flight


@pytest.fixture
def limited_server(cloud: Cloud, tmp_path: Path) -> Iterator[Server]:
    """A server that allows each user two requests in flight."""
    settings = Settings(tmpdir=str(tmp_path), describe_with_terminated_instances=False, max_requests_per_user=2)
    yield from _served(cloud, settings)


@pytest_twisted.ensureDeferred
async def test_the_requests_in_flight_of_a_user_are_limited(limited_server: Server) -> None:
    """A request is in flight until its response has been read, or its client has disconnected."""
    use_small_send_buffers(limited_server)
    with reader(limited_server, listing(limited_server)):
        with reader(limited_server, listing(limited_server)):
            await until(limited_server, lambda: _oned(limited_server).sets == 2)
            await _quiet(limited_server)
            refused = await _response(limited_server, get(limited_server, signed(limited_server)))
            assert (refused.status, refused.code) == (503, "RequestLimitExceeded")
            assert (
                await _response(limited_server, get(limited_server, signed(limited_server, "bob", "bobpw")))
            ).status == 200
        await until(limited_server, lambda: limited_server.site.connections == 1)
        assert (await _response(limited_server, get(limited_server, signed(limited_server)))).status == 200
        assert (await _response(limited_server, get(limited_server, signed(limited_server)))).status == 200
    assert limited_server.metrics.snapshot()["econed_refusals"] == [(["max_requests_per_user"], [1])]


@pytest_twisted.ensureDeferred
async def test_a_change_is_in_flight_until_it_is_complete_even_if_the_client_disconnects(
    limited_server: Server,
) -> None:
    """Otherwise a client that disconnects each time could start any number of changes."""
    _oned(limited_server).held = Deferred()
    material = base64.b64encode(PUBLIC_KEY).decode()
    query = signed(limited_server, Action="ImportKeyPair", KeyName="held", PublicKeyMaterial=material)
    for _ in range(2):
        with reader(limited_server, get(limited_server, query)):
            await until(limited_server, lambda: limited_server.site.busy == 1)
            await _quiet(limited_server)
        await until(limited_server, lambda: limited_server.site.connections == 0)
    refused = await _response(limited_server, get(limited_server, signed(limited_server)))
    assert (refused.status, refused.code) == (503, "RequestLimitExceeded")
    held, _oned(limited_server).held = _oned(limited_server).held, None
    assert held is not None
    held.callback(None)
    await _quiet(limited_server)
    assert (await _response(limited_server, get(limited_server, signed(limited_server)))).status == 200


async def _response(server: Server, request: bytes) -> Client:
    client = await connected(server)
    client.send(request)
    await until(server, lambda: client.has_response)
    client.close()
    await until(server, lambda: client.is_closed)
    return client


# With boto3


def _boto(server: Server) -> Any:
    session = boto3.Session("alice", "alicepw", region_name="us-east-1")
    config = Config(retries={"total_max_attempts": 1}, proxies={}, read_timeout=60)
    return session.client("ec2", endpoint_url=f"http://{server.address}/", config=config)


async def _with_boto(server: Server, work: Callable[[Any], Any]) -> Any:
    """Return what boto3 returns, or a Failure with what it raises, while the server runs."""
    results: list[Any] = []
    deferToThread(lambda: work(_boto(server))).addBoth(results.append)
    await until_slowly(server, results)
    return results[0]


async def until_slowly(server: Server, results: list[Any]) -> None:
    """Let the server run until a thread has added its result."""
    while not results:
        await _turn(server)


@pytest_twisted.ensureDeferred
async def test_boto3_reads_a_long_list(server_at_wall_time: Server) -> None:
    response = await _with_boto(server_at_wall_time, lambda ec2: ec2.describe_instances())
    ids = [instance["InstanceId"] for reservation in response["Reservations"] for instance in reservation["Instances"]]
    assert len(set(ids)) == len(ids) == MACHINES


@pytest_twisted.ensureDeferred
async def test_boto3_raises_an_error_for_half_a_list(server_at_wall_time: Server) -> None:
    _oned(server_at_wall_time).fails_from = 4
    failure = await _with_boto(server_at_wall_time, lambda ec2: ec2.describe_instances())
    assert failure.check(BotoCoreError, ClientError), failure
