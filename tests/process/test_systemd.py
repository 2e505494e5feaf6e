"""systemd's protocols; the tests take the part of systemd, with real datagram sockets and descriptors."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from econed.process import systemd
from econed.process.systemd import Notifier, notifier

PID = 4711


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """The manager's socket, and its address as in NOTIFY_SOCKET."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@econed-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0"))
        sock.setblocking(False)
        yield sock, name


def received(manager: tuple[socket.socket, str]) -> list[str]:
    """Return the lines of the next datagram."""
    return manager[0].recv(65536).decode().split("\n")


def test_every_notification_is_one_datagram(manager: tuple[socket.socket, str]) -> None:
    """In the format of sd_notify(3), to a socket in the file system or an abstract one."""
    notifier = Notifier(manager[1], monotonic=lambda: 12.5)
    notifier.ready("2 of 2 workers serve")
    assert received(manager) == ["READY=1", "STATUS=2 of 2 workers serve"]
    notifier.reloading()
    assert received(manager) == ["RELOADING=1", "MONOTONIC_USEC=12500000", "STATUS=reloading"]
    notifier.status("two\nlines")
    assert received(manager) == ["STATUS=two lines"]
    notifier.alive()
    assert received(manager) == ["WATCHDOG=1"]
    notifier.stopping("finishes", 50.0)
    assert received(manager) == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=50000000", "STATUS=finishes"]


def test_notifications_are_dropped_while_the_manager_does_not_listen_and_sent_when_it_does(tmp_path: Path) -> None:
    """A missing manager is no reason not to serve; without NOTIFY_SOCKET there is none."""
    Notifier().ready("there is no manager")
    notifier = Notifier(str(tmp_path / "notify"))
    notifier.ready("nobody listens")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        notifier.status("the manager listens")
        assert received((manager, "")) == ["STATUS=the manager listens"]
        with pytest.raises(BlockingIOError):
            manager.recv(1)


def test_notifications_are_dropped_while_the_managers_queue_is_full(tmp_path: Path) -> None:
    """Sending must not block the reactor; what fits into the queue again is sent again."""
    sent, queued = 10_000, 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        notifier = Notifier(str(tmp_path / "notify"))
        for _ in range(sent):
            notifier.alive()
        with suppress(BlockingIOError):
            while manager.recv(65536):
                queued += 1
        assert 0 < queued < sent
        notifier.status("there is room again")
        assert received((manager, "")) == ["STATUS=there is room again"]


def test_the_variables_for_notifications_are_removed_from_the_environment() -> None:
    """Workers and scripts do not notify systemd."""
    environ = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(PID), "HOME": "/"}
    configured = notifier(environ, PID)
    assert (configured.address, configured.watchdog) == ("@x", 60.0)
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize(
    ("environ", "watchdog"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "500000"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(PID + 1)}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_a_watchdog_for_another_process_is_ignored(environ: dict[str, str], watchdog: float | None) -> None:
    """As by sd_watchdog_enabled(3)."""
    assert notifier(dict(environ), PID).watchdog == watchdog


@pytest.mark.parametrize("address", ["", "notify", "@", "/"])
def test_an_invalid_address_is_ignored(address: str) -> None:
    """No notification is sent."""
    assert notifier({"NOTIFY_SOCKET": address}, PID).address is None


@pytest.mark.parametrize(
    ("environ", "count"),
    [
        ({"LISTEN_FDS": "2", "LISTEN_PID": str(PID)}, 2),
        ({"LISTEN_FDS": "2", "LISTEN_PID": str(PID), "LISTEN_FDNAMES": "a:b"}, 2),
        ({"LISTEN_FDS": "2", "LISTEN_PID": str(PID + 1)}, 0),
        ({"LISTEN_FDS": "2"}, 0),
        ({"LISTEN_FDS": "-1", "LISTEN_PID": str(PID)}, 0),
        ({"LISTEN_FDS": "9" * 5000, "LISTEN_PID": str(PID)}, 0),
        ({}, 0),
    ],
)
def test_sockets_for_this_process_are_the_descriptors_from_3_on(environ: dict[str, str], count: int) -> None:
    """As in sd_listen_fds(3), with names or without."""
    assert list(systemd.passed_descriptors(environ, PID)) == list(range(3, 3 + count))


def test_the_variables_for_sockets_are_removed_from_the_environment() -> None:
    """All of them."""
    environ = {"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "a", "LISTEN_PIDFDID": "7", "HOME": "/"}
    systemd.forget_sockets(environ)
    assert environ == {"HOME": "/"}


def test_a_passed_socket_is_made_non_blocking_and_not_inheritable() -> None:
    """Scripts do not inherit it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        descriptor = os.dup(server.fileno())
        os.set_inheritable(descriptor, True)
        (passed,) = systemd.sockets([descriptor])
        with passed:
            assert passed.getsockname() == server.getsockname()
            assert not passed.get_inheritable()
            assert not passed.getblocking()


def test_a_descriptor_that_is_not_a_listening_socket_is_refused(tmp_path: Path) -> None:
    """The message has its number, for the unit file."""
    with (tmp_path / "file").open("wb") as file:
        descriptor = os.dup(file.fileno())
        with pytest.raises(ValueError, match=f"descriptor {descriptor} in LISTEN_FDS is not a socket"):
            systemd.sockets([descriptor])
        os.close(descriptor)
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as other, pytest.raises(ValueError, match="not a listening socket"):
            systemd.sockets([os.dup(other.fileno())])


def test_the_initial_environment_has_variables_that_were_removed_since(tmp_path: Path) -> None:
    """As the kernel keeps it."""
    path = tmp_path / "environ"
    path.write_bytes(b"LISTEN_FDS=1\0EMPTY=\0ODD=a=b\0")
    assert systemd.initial_environment(path) == {"LISTEN_FDS": "1", "EMPTY": "", "ODD": "a=b"}
    assert systemd.initial_environment(tmp_path / "none") == {}
    assert systemd.initial_environment()["PATH"]
