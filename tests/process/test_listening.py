"""What is listened on, and what is spoken there."""

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
    Bound,
    CannotListen,
    Place,
    adopted,
    bound,
    close,
    described,
    handed_over,
    places,
    warn_of_plain,
)
from tests.support.ports import free_port

reactor: Any = _reactor
TLS: dict[str, Any] = {"ssl_cert": "/etc/one/cert.pem", "ssl_key": "/etc/one/key.pem"}


@pytest.fixture
def sockets() -> Iterator[list[Bound]]:
    """What a test has bound; closed at its end."""
    kept: list[Bound] = []
    yield kept
    close(kept)


def at(port: int, host: str = "127.0.0.1") -> Place:
    """Return a plain place."""
    return Place(host, port, False)


@pytest.mark.parametrize(
    ("settings", "port", "expected"),
    [
        (Settings(), None, [Place("localhost", 4567, False)]),
        (Settings(host="::"), 0, [Place("::", 0, False)]),
        (Settings(**TLS), None, [Place("localhost", 4567, True)]),
        (Settings(ssl_host="0.0.0.0", **TLS), None, [Place("0.0.0.0", 4567, True)]),
        (Settings(ssl_port=4568, **TLS), None, [Place("localhost", 4567, False), Place("localhost", 4568, True)]),
        (
            Settings(ssl_port=4568, ssl_host="0.0.0.0", **TLS),
            99,
            [Place("localhost", 99, False), Place("0.0.0.0", 4568, True)],
        ),
    ],
)
def test_tls_is_on_its_own_port_or_on_the_one_there_is(
    settings: Settings, port: int | None, expected: list[Place]
) -> None:
    """As ssl_port says; --port is in place of `port`."""
    assert list(places(settings, port)) == expected


def test_a_place_is_bound_at_once_and_connections_wait_there(sockets: list[Bound]) -> None:
    """Before anybody accepts them."""
    sockets += bound([at(0)])
    with socket.create_connection(sockets[0].socket.getsockname()):
        assert sockets[0].where == f"127.0.0.1:{sockets[0].socket.getsockname()[1]}"
        assert not sockets[0].socket.getblocking()


def test_an_ipv6_address_is_shown_as_in_a_url(sockets: list[Bound]) -> None:
    """So that its port can be told."""
    sockets += bound([at(0, "::1")])
    assert sockets[0].where == f"[::1]:{sockets[0].socket.getsockname()[1]}"
    assert sockets[0].is_loopback
    assert str(at(80, "::1")) == "[::1]:80"


def test_of_a_name_the_ipv4_address_is_taken(sockets: list[Bound]) -> None:
    """`localhost` has always been 127.0.0.1 here, also where it is ::1 first."""
    sockets += bound([at(0, "localhost")])
    assert sockets[0].socket.family == socket.AF_INET


def test_a_place_that_is_bound_already_keeps_its_socket(sockets: list[Bound]) -> None:
    """Also when it is to speak something else from now on; a new one is bound beside it."""
    port = free_port()
    sockets += bound([at(port)])
    again = bound([Place("127.0.0.1", port, True), at(0)], sockets)
    sockets += again
    assert again[0].socket is sockets[0].socket
    assert again[0].is_tls
    assert again[1].socket is not sockets[0].socket


def test_if_one_place_cannot_be_had_none_is_kept_and_what_was_there_stays(sockets: list[Bound]) -> None:
    """The error names the place, and whether another process is the reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        ours, new = free_port(), free_port()
        sockets += bound([at(ours)])
        with pytest.raises(CannotListen, match=rf"127\.0\.0\.1:{number}: Address already in use") as raised:
            bound([at(ours), at(new), at(number)], sockets)
        assert raised.value.taken == at(number)
    assert sockets[0].socket.fileno() != -1
    sockets += bound([at(new)])


def test_a_place_that_there_is_not_is_an_error(sockets: list[Bound]) -> None:
    """Which is not that of a port that is taken."""
    with pytest.raises(CannotListen, match=r"nothing can listen on 192\.0\.2\.1:0: ") as raised:
        sockets += bound([at(0, "192.0.2.1")])
    assert raised.value.taken is None
    with pytest.raises(CannotListen, match=r"no-such-host\.invalid"):
        bound([at(0, "no-such-host.invalid")])


@pytest.mark.parametrize("only_tls", [True, False])
def test_of_handed_sockets_the_port_says_what_is_spoken(only_tls: bool) -> None:
    """The one on ssl_port speaks TLS; all do where econed speaks nothing else."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        settings = Settings(ssl_port=None if only_tls else second.getsockname()[1], **TLS)
        assert [each.is_tls for each in handed_over([first, second], settings)] == [only_tls, True]
        assert [each.is_tls for each in handed_over([first, second], Settings())] == [False, False]


def test_a_unit_that_does_not_fit_the_configuration_is_refused(tmp_path: Path) -> None:
    """Clients of TLS would find nobody, or a socket of the file system would be removed under systemd's hands."""
    with socket.create_server(("127.0.0.1", 0)) as made, pytest.raises(CannotListen, match=r"on ssl_port \(4568\)"):
        handed_over([made], Settings(ssl_port=4568, **TLS))
    with socket.socket(socket.AF_UNIX) as local:
        local.bind(str(tmp_path / "socket"))
        local.listen()
        with pytest.raises(CannotListen, match="is no TCP socket"):
            handed_over([local], Settings())


def test_plain_http_is_warned_of_where_others_can_reach_it(sockets: list[Bound]) -> None:
    """Not on loopback, and not where TLS is spoken."""
    events: list[LogEvent] = []
    for host in ("127.0.0.1", "::1", "0.0.0.0"):
        sockets += bound([at(0, host), Place(host, 0, True)])
    warn_of_plain(sockets, Logger(observer=events.append))  # type: ignore[arg-type]
    (said,) = [str(formatEvent(event)) for event in events]
    assert said.startswith(
        f"plain HTTP on 0.0.0.0:{sockets[4].socket.getsockname()[1]}, which other machines can reach"
    )


@pytest.mark.parametrize(
    ("description", "is_tls"),
    [("tcp:4567", False), ("tcp:port=4568:interface=127.0.0.1", True), ("tcp6:4568", True), ("unix:/tmp/x", False)],
)
def test_a_description_speaks_tls_on_ssl_port(description: str, is_tls: bool) -> None:
    """Its port is the only thing by which econed can tell."""
    found = described(reactor, description, Settings(ssl_port=4568, **TLS))
    assert (found.is_tls, found.where) == (is_tls, description)


@pytest.mark.parametrize("description", ["carrier-pigeon:1", "tcp:x", "tcp", ""])
def test_what_is_no_description_is_refused(description: str) -> None:
    """Each parser has errors of its own."""
    with pytest.raises(CannotListen, match="nothing can listen on"):
        described(reactor, description, Settings())


@pytest_twisted.ensureDeferred
async def test_an_adopted_socket_goes_on_when_one_process_stops_to_listen() -> None:
    """It is common to several: it is closed here and not shut down."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        mine = adopted(reactor, held.dup(), False, "here")
        port = await mine.endpoint.listen(Factory())
        await port.stopListening()  # type: ignore[misc]
        with socket.create_connection(held.getsockname()):
            held.settimeout(5)
            held.accept()[0].close()
