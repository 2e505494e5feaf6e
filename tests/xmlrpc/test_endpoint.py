"""The endpoint of an oned: names are resolved at most once in `ADDRESS_MAX_AGE` seconds, addresses never."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from econed.xmlrpc.endpoint import ADDRESS_MAX_AGE, oned_endpoint

NAMED = "http://oned.example:2633/RPC2"


@implementer(IHostResolution)
class Resolution:
    """The resolution of a name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Do nothing: it has ended."""


@implementer(IHostnameResolver)
class Network:
    """A reactor whose connections a test completes; names have the address `address`."""

    def __init__(self) -> None:
        self.reactor = MemoryReactorClock()
        self.reactor.installNameResolver(self)
        self.address = "192.0.2.1"
        self.resolved: list[str] = []

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type] | None = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """Resolve a name immediately (`IHostnameResolver`)."""
        self.resolved.append(hostName)
        resolution: Any = Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        resolutionReceiver.addressResolved(IPv4Address("TCP", self.address, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution

    def connect(self, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        """Begin to connect."""
        return endpoint.connect(Factory.forProtocol(Protocol))

    def accept(self) -> str:
        """Complete the last connection; return the host that it was made to."""
        host, port, factory, *_ = self.reactor.tcpClients[-1]
        kind = IPv6Address if ":" in host else IPv4Address
        protocol: Any = factory.buildProtocol(kind("TCP", host, port))
        protocol.makeConnection(StringTransport(peerAddress=kind("TCP", host, port)))
        return str(host)

    def refuse(self) -> None:
        """Refuse the last connection."""
        factory: Any = self.reactor.tcpClients[-1][2]
        factory.clientConnectionFailed(None, Failure(Refused()))


@pytest.mark.parametrize(("url", "host"), [("http://127.0.0.1:2633/RPC2", "127.0.0.1"), ("http://[::1]/RPC2", "::1")])
def test_an_address_is_not_resolved(url: str, host: str) -> None:
    network = Network()
    network.connect(oned_endpoint(network.reactor, url))
    assert network.accept() == host
    assert network.resolved == []


def test_a_name_is_resolved_once_for_the_calls_of_some_seconds() -> None:
    network = Network()
    endpoint = oned_endpoint(network.reactor, NAMED)
    assert verifyObject(IStreamClientEndpoint, endpoint)
    for _ in range(10):
        connected = network.connect(endpoint)
        assert network.accept() == "192.0.2.1"
        assert connected.called
        network.reactor.advance(ADDRESS_MAX_AGE / 10)
    assert network.resolved == ["oned.example"]
    network.address = "192.0.2.2"
    network.connect(endpoint)
    assert network.accept() == "192.0.2.2"


def test_a_name_is_resolved_again_if_its_address_refuses_the_connection() -> None:
    """In the same attempt: nothing was sent yet."""
    network = Network()
    endpoint = oned_endpoint(network.reactor, NAMED)
    network.connect(endpoint)
    network.accept()
    network.address = "192.0.2.2"
    connected = network.connect(endpoint)
    network.refuse()
    assert network.accept() == "192.0.2.2"
    assert connected.called
    network.connect(endpoint)
    assert network.accept() == "192.0.2.2"


def test_a_connection_that_nobody_accepts_fails() -> None:
    network = Network()
    endpoint = oned_endpoint(network.reactor, NAMED)
    failures: list[Failure] = []
    network.connect(endpoint).addErrback(failures.append)
    network.refuse()
    network.reactor.advance(1)  # HostnameEndpoint waits for further addresses
    assert failures[0].check(Refused)


def test_a_connection_that_is_cancelled_is_not_tried_again() -> None:
    network = Network()
    endpoint = oned_endpoint(network.reactor, NAMED)
    network.connect(endpoint)
    network.accept()
    connected = network.connect(endpoint)
    failures: list[Failure] = []
    connected.addErrback(failures.append)
    connected.cancel()
    assert len(failures) == 1
    assert network.resolved == ["oned.example"]
