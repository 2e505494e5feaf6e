"""A backend and the servers it calls, on loopback, for the tests in this directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger

from econed.errors import OpenNebulaError
from econed.opennebula.tokens import CipherForm, PasswordKey, session_token
from econed.xmlrpc.endpoint import oned_endpoint
from econed.xmlrpc.proxy import OnedProxy
from econed.xmlrpc_backend import CallLimits, XMLRPCBackend
from tests.support.oned_stubs import Behaviour, OnedStub, StubConnection, reply

T = TypeVar("T")
DEFAULT_LIMITS = CallLimits()
NOW = 1_795_337_859.0
PASSWORD = "server password"
PROBE = "one.user.info"
REFUSED = (False, "[one.user.info] User couldn't be authenticated, aborting call.", 256, -1, -1)


def token(user: str | None, form: CipherForm = CipherForm.KEY_IV) -> str:
    """Return the session string that a backend of these tests sends."""
    return session_token("serveradmin", PasswordKey(PASSWORD), user, NOW, form)


def taking(form: CipherForm, then: Behaviour) -> Behaviour:
    """Return the behaviour of an oned that accepts one form of token, for serveradmin and alice."""

    def behave(peer: StubConnection) -> None:
        if peer.arguments[0] not in (token(None, form), token("alice", form)):
            peer.respond(reply(*REFUSED))
        elif peer.method == PROBE:
            peer.respond(reply(True, "<USER><ID>1</ID></USER>", 0))
        else:
            then(peer)

    return behave


def modern(then: Behaviour) -> Behaviour:
    """Return the behaviour of an oned of 6.2 or later."""
    return taking(CipherForm.KEY_IV, then)


@dataclass
class BackendHarness:
    """Servers on loopback, backends for them, and a clock."""

    reactor: Any
    clock: Clock = field(default_factory=Clock)
    ports: list[Any] = field(default_factory=list)
    servers: list[OnedStub] = field(default_factory=list)
    events: list[LogEvent] = field(default_factory=list)
    in_threads: int = 0

    def serve(
        self, behaviour: Behaviour, on_connect: Behaviour | None = None, port: int = 0, tls: Any = None
    ) -> OnedStub:
        """Start a server with this behaviour."""
        server = OnedStub(behaviour, on_connect)
        if tls is None:
            listening = self.reactor.listenTCP(port, server, interface="127.0.0.1")
        else:
            listening = self.reactor.listenSSL(port, server, tls, interface="127.0.0.1")
        server.url = f"http{'s' if tls else ''}://127.0.0.1:{listening.getHost().port}/RPC2"
        self.ports.append(listening)
        self.servers.append(server)
        return server

    def backend(self, url: str, limits: CallLimits = DEFAULT_LIMITS, ca_file: Path | None = None) -> XMLRPCBackend:
        """Return a backend for `url`, with the harness's clock for its deadlines."""

        async def in_thread(work: Callable[[], T]) -> T:
            self.in_threads += 1
            return work()

        proxy = OnedProxy(self.reactor, url, oned_endpoint(self.reactor, url, ca_file), limits.reply_bytes)
        return XMLRPCBackend(
            proxy,
            "serveradmin",
            PasswordKey(PASSWORD),
            self.clock,
            in_thread,
            limits=limits,
            now=lambda: NOW,
            log=Logger(namespace="econed", observer=self.events.append),  # type: ignore[arg-type]
        )

    async def close(self) -> None:
        """Stop all servers and close all connections."""
        for port in self.ports:
            await maybeDeferred(port.stopListening)
        for server in self.servers:
            for peer in server.peers:
                peer.reset()
                await peer.lost


def started(work: Any) -> Deferred[Any]:
    """Start a coroutine without waiting for it."""
    return Deferred.fromCoroutine(work)


async def failure_of(work: Any) -> OpenNebulaError:
    """Return the error that a call raises."""
    with pytest.raises(OpenNebulaError) as raised:
        await work
    return raised.value


def sends(data: bytes) -> Behaviour:
    """Return the behaviour of sending some bytes and closing the connection."""

    def behave(peer: StubConnection) -> None:
        peer.send(data)
        peer.close()

    return behave
