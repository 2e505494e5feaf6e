"""Listening sockets: their addresses, and whether they serve TLS."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.protocol import Factory
from twisted.logger import LogEvent, Logger, formatEvent

from econed.config.settings import Settings
from econed.process.listening import (
    BoundSocket,
    CannotListen,
    ListenAddress,
    adopt,
    bind_all,
    close_all,
    from_description,
    listen_addresses,
    sockets_from_systemd,
    warn_of_plain_http,
)
from tests.support.ports import free_port

reactor: Any = _reactor
TLS: dict[str, Any] = {"ssl_cert": "/etc/one/cert.pem", "ssl_key": "/etc/one/key.pem"}


@pytest.fixture
def sockets() -> Iterator[list[BoundSocket]]:
    """A list for the sockets that a test binds; they are closed at its end."""
    bound: list[BoundSocket] = []
    yield bound
    close_all(bound)


def at(port: int, host: str = "127.0.0.1") -> ListenAddress:
    """Return a place without TLS."""
    return ListenAddress(host, port, False)


@pytest.mark.parametrize(
    ("settings", "port", "expected"),
    [
        (Settings(), None, [ListenAddress("localhost", 4567, False)]),
        (Settings(host="::"), 0, [ListenAddress("::", 0, False)]),
        (Settings(**TLS), None, [ListenAddress("localhost", 4567, True)]),
        (Settings(ssl_host="0.0.0.0", **TLS), None, [ListenAddress("0.0.0.0", 4567, True)]),
        (
            Settings(ssl_port=4568, **TLS),
            None,
            [ListenAddress("localhost", 4567, False), ListenAddress("localhost", 4568, True)],
        ),
        (
            Settings(ssl_port=4568, ssl_host="0.0.0.0", **TLS),
            99,
            [ListenAddress("localhost", 99, False), ListenAddress("0.0.0.0", 4568, True)],
        ),
    ],
)
def test_tls_is_on_ssl_port_or_else_on_the_only_port(
    settings: Settings, port: int | None, expected: list[ListenAddress]
) -> None:
    """--port replaces `port`."""
    assert list(listen_addresses(settings, port)) == expected


def test_a_bound_socket_listens(sockets: list[BoundSocket]) -> None:
    """Connections wait to be accepted."""
    sockets += bind_all([at(0)])
    with socket.create_connection(sockets[0].socket.getsockname()):
        assert sockets[0].where == f"127.0.0.1:{sockets[0].socket.getsockname()[1]}"
        assert not sockets[0].socket.getblocking()


def test_an_ipv6_address_is_written_in_brackets(sockets: list[BoundSocket]) -> None:
    """As in a URL."""
    sockets += bind_all([at(0, "::1")])
    assert sockets[0].where == f"[::1]:{sockets[0].socket.getsockname()[1]}"
    assert sockets[0].is_loopback
    assert str(at(80, "::1")) == "[::1]:80"


def test_of_a_host_name_the_ipv4_address_is_preferred(sockets: list[BoundSocket]) -> None:
    """`localhost` is 127.0.0.1, also on systems where ::1 comes first."""
    sockets += bind_all([at(0, "localhost")])
    assert sockets[0].socket.family == socket.AF_INET


def test_a_place_that_is_bound_already_keeps_its_socket(sockets: list[BoundSocket]) -> None:
    """Also if it serves TLS from now on. A new place is bound in addition."""
    port = free_port()
    sockets += bind_all([at(port)])
    rebound = bind_all([ListenAddress("127.0.0.1", port, True), at(0)], sockets)
    sockets += rebound
    assert rebound[0].socket is sockets[0].socket
    assert rebound[0].is_tls
    assert rebound[1].socket is not sockets[0].socket


def test_if_one_place_cannot_be_bound_new_sockets_are_closed_and_current_ones_kept(sockets: list[BoundSocket]) -> None:
    """The error names the place, and whether another process listens there."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port_in_use = other.getsockname()[1]
        current, new = free_port(), free_port()
        sockets += bind_all([at(current)])
        with pytest.raises(CannotListen, match=rf"127\.0\.0\.1:{port_in_use}: Address already in use") as raised:
            bind_all([at(current), at(new), at(port_in_use)], sockets)
        assert raised.value.in_use == at(port_in_use)
    assert sockets[0].socket.fileno() != -1
    sockets += bind_all([at(new)])


def test_an_address_that_does_not_exist_is_an_error(sockets: list[BoundSocket]) -> None:
    """Different from a port in use."""
    with pytest.raises(CannotListen, match=r"nothing can listen on 192\.0\.2\.1:0: ") as raised:
        sockets += bind_all([at(0, "192.0.2.1")])
    assert raised.value.in_use is None
    with pytest.raises(CannotListen, match=r"no-such-host\.invalid"):
        bind_all([at(0, "no-such-host.invalid")])


@pytest.mark.parametrize("only_tls", [True, False])
def test_the_port_of_a_socket_from_systemd_decides_on_tls(only_tls: bool) -> None:
    """TLS on ssl_port; without an ssl_port on all sockets, if there is a certificate."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        settings = Settings(ssl_port=None if only_tls else second.getsockname()[1], **TLS)
        assert [bound.is_tls for bound in sockets_from_systemd([first, second], settings)] == [only_tls, True]
        assert [bound.is_tls for bound in sockets_from_systemd([first, second], Settings())] == [False, False]


def test_sockets_that_do_not_fit_the_configuration_are_refused(tmp_path: Path) -> None:
    """No socket on ssl_port, or a Unix domain socket, which Twisted would remove from the file system."""
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(CannotListen, match=r"on ssl_port \(4568\)"):
        sockets_from_systemd([server], Settings(ssl_port=4568, **TLS))
    with socket.socket(socket.AF_UNIX) as local:
        local.bind(str(tmp_path / "socket"))
        local.listen()
        with pytest.raises(CannotListen, match="is not a TCP socket"):
            sockets_from_systemd([local], Settings())


def test_plain_http_that_other_machines_can_reach_is_logged_as_a_warning(sockets: list[BoundSocket]) -> None:
    """Not on loopback, and not with TLS."""
    events: list[LogEvent] = []
    for host in ("127.0.0.1", "::1", "0.0.0.0"):
        sockets += bind_all([at(0, host), ListenAddress(host, 0, True)])
    warn_of_plain_http(sockets, Logger(observer=events.append))  # type: ignore[arg-type]
    (warning,) = [str(formatEvent(event)) for event in events]
    assert warning.startswith(
        f"plain HTTP on 0.0.0.0:{sockets[4].socket.getsockname()[1]}, which other machines can reach"
    )


@pytest.mark.parametrize(
    ("description", "is_tls"),
    [("tcp:4567", False), ("tcp:port=4568:interface=127.0.0.1", True), ("tcp6:4568", True), ("unix:/tmp/x", False)],
)
def test_an_endpoint_description_for_ssl_port_serves_tls(description: str, is_tls: bool) -> None:
    """The port of a TCP endpoint decides."""
    listener = from_description(reactor, description, Settings(ssl_port=4568, **TLS))
    assert (listener.is_tls, listener.where) == (is_tls, description)


@pytest.mark.parametrize("description", ["carrier-pigeon:1", "tcp:x", "tcp", ""])
def test_an_invalid_endpoint_description_is_refused(description: str) -> None:
    """Each of Twisted's endpoint parsers raises its own errors."""
    with pytest.raises(CannotListen, match="nothing can listen on"):
        from_description(reactor, description, Settings())


@pytest_twisted.ensureDeferred
async def test_an_adopted_socket_still_listens_in_other_processes_after_one_has_stopped() -> None:
    """The descriptor is closed, the socket is not shut down."""
    with socket.create_server(("127.0.0.1", 0)) as shared:
        listener = adopt(reactor, shared.dup(), False, "here")
        port = await listener.endpoint.listen(Factory())
        await port.stopListening()  # type: ignore[misc]
        with socket.create_connection(shared.getsockname()):
            shared.settimeout(5)
            shared.accept()[0].close()


def test_a_socket_is_kept_for_another_name_of_its_host(sockets: list[BoundSocket]) -> None:
    """A reload from localhost to 127.0.0.1 changes nothing."""
    sockets += bind_all([at(free_port(), "localhost")])
    port = sockets[0].socket.getsockname()[1]
    (kept,) = bind_all([at(port, "127.0.0.1")], sockets)
    assert kept.socket is sockets[0].socket
