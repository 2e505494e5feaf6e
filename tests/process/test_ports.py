"""Ports that a new process could not listen on, and those that the daemon in its place leaves to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from econed.config.settings import Settings
from econed.process.ports import OpenPort, OpenPorts, open_ports_of, refused_ports

LOOPBACK, OTHER, EVERYWHERE = (ip_address(text) for text in ("127.0.0.1", "127.0.0.2", "0.0.0.0"))


@pytest.fixture
def held() -> Iterator[socket.socket]:
    """A socket of this process that listens on 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def port_of(listening: socket.socket) -> int:
    """Return the port of a socket."""
    return int(listening.getsockname()[1])


def without_sockets(ports: OpenPorts) -> OpenPorts:
    """Return the ports as they are for a daemon that has none of the sockets."""
    return OpenPorts(ports.listening, frozenset({1}))


def refusals(settings: Settings, running: OpenPorts | None = None, *, is_reload: bool = False) -> list[str]:
    """Return the reasons as texts."""
    return [str(error) for error in refused_ports(settings, running, is_reload=is_reload)]


def test_the_sockets_of_a_process_are_told_from_those_of_others(held: socket.socket) -> None:
    """This test's process has the socket, a child does not."""
    port = port_of(held)
    own = open_ports_of(os.getpid())
    assert own.has_own(LOOPBACK, port)
    assert own.are_all_own(LOOPBACK, port)
    assert own.passed is None
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        others = open_ports_of(child.pid)
        child.communicate(b"\n")
    assert not others.has_own(LOOPBACK, port)
    assert port in {listening.port for listening in others.listening}


def test_addresses_of_both_protocols_are_read(tmp_path: Path) -> None:
    """As Linux prints them, in the byte order of this machine; other states than LISTEN are left out."""
    (tmp_path / "net").mkdir()
    (tmp_path / "7/fd").mkdir(parents=True)
    (tmp_path / "7/fd/9").symlink_to("socket:[41]")
    (tmp_path / "7/environ").write_bytes(b"LISTEN_FDS=1\0LISTEN_PID=7\0")
    row = " 0: {} {} {} 00000000:00000000 00:00000000 00000000 0 0 {} 1 0 100 0 0 10 0\n"
    (tmp_path / "net/tcp").write_text(
        "header\n"
        + row.format("0100007F:11D7", "00000000:0000", "0A", 41)
        + row.format("0100007F:11D8", "0100007F:9999", "01", 42),
        "ascii",
    )
    (tmp_path / "net/tcp6").write_text(
        "header\n" + row.format("0" * 24 + "01000000:11D9", "0" * 32 + ":0000", "0A", 43), "ascii"
    )
    ports = open_ports_of(7, tmp_path)
    assert ports.listening == (OpenPort(LOOPBACK, 4567, 41), OpenPort(ip_address("::1"), 4569, 43))
    assert (ports.own_inodes, ports.passed) == (frozenset({41}), frozenset({4567}))


def test_a_port_of_another_process_is_refused_with_or_without_a_daemon(held: socket.socket) -> None:
    port = port_of(held)
    settings = Settings(host="127.0.0.1", port=port)
    expected = [f"nothing can listen on 127.0.0.1:{port}: Address already in use"]
    assert refusals(settings) == expected
    assert refusals(settings, without_sockets(open_ports_of(os.getpid()))) == expected


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_ports_of_the_daemon_are_left_to_the_next(held: socket.socket, host: str) -> None:
    settings = Settings(host=host, port=port_of(held))
    own = open_ports_of(os.getpid())
    assert refusals(settings, own) == refusals(settings, own, is_reload=True) == []


def test_a_port_of_the_daemon_on_another_address_is_free_only_after_a_restart(held: socket.socket) -> None:
    """A reload keeps the old socket until the new one listens."""
    port = port_of(held)
    settings = Settings(host="0.0.0.0", port=port)
    own = open_ports_of(os.getpid())
    assert refusals(settings, own) == []
    assert refusals(settings, own, is_reload=True) == [
        f"listening on 0.0.0.0:{port} needs a restart: econed has this port open on another address"
    ]


def test_another_process_on_the_same_port_conflicts_with_all_addresses() -> None:
    """And on its own address with that one only."""
    ports = OpenPorts((OpenPort(LOOPBACK, 4567, 1), OpenPort(OTHER, 4567, 2)), frozenset({1}))
    assert ports.are_all_own(LOOPBACK, 4567)
    assert not ports.are_all_own(OTHER, 4567)
    assert not ports.are_all_own(EVERYWHERE, 4567)
    assert not ports.are_all_own(LOOPBACK, 4568), "nobody listens there"


def test_the_port_for_tls_and_the_one_of_the_administrator_are_looked_at_too(held: socket.socket) -> None:
    port = port_of(held)
    with socket.create_server(("127.0.0.1", 0)) as free:
        free_port = port_of(free)
    tls = Settings(host="127.0.0.1", port=free_port, ssl_cert="cert.pem", ssl_key="key.pem", ssl_port=port)
    admin = Settings(host="127.0.0.1", port=free_port, admin_port=port)
    for settings in (tls, admin):
        assert refusals(settings) == [f"nothing can listen on 127.0.0.1:{port}: Address already in use"]


def test_an_address_of_another_machine_is_refused() -> None:
    assert refusals(Settings(host="192.0.2.1", port=4567)) == [
        "nothing can listen on 192.0.2.1:4567: Cannot assign requested address"
    ]


def test_with_sockets_from_systemd_the_ports_of_the_configuration_do_not_matter(held: socket.socket) -> None:
    """Except that one must be ssl_port; the administrator's port is never passed."""
    port = port_of(held)
    passed = OpenPorts((OpenPort(EVERYWHERE, 443, 1),), frozenset({1}), frozenset({443}))
    assert refusals(Settings(host="127.0.0.1", port=port), passed) == []
    tls = Settings(host="127.0.0.1", port=port, ssl_cert="cert.pem", ssl_key="key.pem", ssl_port=443)
    assert refusals(tls, passed) == []
    none = OpenPorts((OpenPort(EVERYWHERE, 80, 1),), frozenset({1}), frozenset({80}))
    assert refusals(tls, none) == ["none of the sockets that systemd passes is on ssl_port (443)"]
    assert refusals(tls, OpenPorts((), frozenset(), frozenset({80, 443}))) == [], "no daemon runs"
    assert refusals(Settings(admin_port=port), passed) == [
        f"nothing can listen on 127.0.0.1:{port}: Address already in use"
    ]
