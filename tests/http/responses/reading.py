"""A server with a long list of instances, and clients that read it at their own speed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from lxml import etree
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from econed.config.settings import Settings
from econed.errors import OpenNebulaUnavailable
from econed.http.response_memory import ResponseMemory
from econed.interfaces import IOpenNebula
from econed.opennebula.read_session import SET_SIZE
from econed.resource import EC2Resource
from econed.user import Login
from tests.support.cloud import Cloud
from tests.support.reactor_turns import one_turn, wait_until, wait_until_unchanged
from tests.support.serving import Client, Server, connected, get, signed
from tests.support.twisted_privates import unsent_bytes

PARTS = 4
MACHINES = PARTS * SET_SIZE
PUBLIC_KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJaTttRaXbZqQ+XP0KMNAglZTHmWCYi/rPR7zO6tHUQ5 alice"


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

    async def call(self, user: Login, method: str, *args: object) -> Any:
        """Pass a call on (`IOpenNebula`)."""
        if method == "one.user.update" and self.held is not None:
            await self.held
        return await self._one.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Pass a call on (`IOpenNebula`)."""
        if method in ("one.vmpool.infoset", "one.vmpool.infoextended"):
            self.sets += 1
            self.reads_in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.reads_in_flight)
            await one_turn()
            self.reads_in_flight -= 1
            if self.fails_from is not None and self.sets >= self.fails_from:
                raise OpenNebulaUnavailable(method, "not reachable")
        return await self._one.document(user, method, *args, **options)


def served(cloud: Cloud, settings: Settings) -> Iterator[Server]:
    oned = cloud.backend
    cloud.backend = CountingOned(oned)
    server = Server(settings, cloud=cloud)
    yield server
    server.close()
    server.site.abort()
    cloud.backend = oned


def counting_oned(server: Server) -> CountingOned:
    assert isinstance(server.cloud.backend, CountingOned)
    return server.cloud.backend


async def until(server: Server, condition: Callable[[], object]) -> None:
    """Wait until `condition` is true, running the delayed calls of the server meanwhile."""
    await wait_until(condition, lambda: server.cloud.clock.advance(0))


async def one_server_turn(server: Server) -> None:
    """Let the reactor run once, with the delayed calls of the server."""
    server.cloud.clock.advance(0)
    await one_turn()


async def until_quiet(server: Server) -> None:
    """Wait until nothing more is read from oned."""
    await wait_until_unchanged(lambda: counting_oned(server).sets, each_turn=lambda: server.cloud.clock.advance(0))


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


def held_bytes(server: Server) -> int:
    """Return the bytes in memory for clients: encoded, or in the buffers of transports."""
    transports = [channel.transport for channel in server.site._channels]
    return sum(map(unsent_bytes, transports)) + memory_of(server).held


def memory_of(server: Server) -> ResponseMemory:
    resource = server.site.resource
    assert isinstance(resource, EC2Resource)
    return resource.memory


async def response_to(server: Server, request: bytes) -> Client:
    client = await connected(server)
    client.send(request)
    await until(server, lambda: client.has_response)
    client.close()
    await until(server, lambda: client.is_closed)
    return client


def _boto(server: Server) -> Any:
    session = boto3.Session("alice", "alicepw", region_name="us-east-1")
    config = Config(retries={"total_max_attempts": 1}, proxies={}, read_timeout=60)
    return session.client("ec2", endpoint_url=f"http://{server.address}/", config=config)


async def with_boto(server: Server, work: Callable[[Any], Any]) -> Any:
    """Return what boto3 returns, or a Failure with what it raises, while the server runs."""
    results: list[Any] = []
    deferToThread(lambda: work(_boto(server))).addBoth(results.append)
    await until_slowly(server, results)
    return results[0]


async def until_slowly(server: Server, results: list[Any]) -> None:
    """Let the server run until a thread has added its result."""
    while not results:
        await one_server_turn(server)
