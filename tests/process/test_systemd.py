"""systemd's protocols, with the tests in the part of systemd: real datagram sockets, real descriptors."""

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
    """The manager's socket, and its address as NOTIFY_SOCKET gives it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@econed-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(name.replace("@", "\0"))
        made.setblocking(False)
        yield made, name


def told(manager: tuple[socket.socket, str]) -> list[str]:
    """Return the lines of the next datagram."""
    return manager[0].recv(65536).decode().split("\n")


def test_every_word_goes_to_the_manager_as_one_datagram(manager: tuple[socket.socket, str]) -> None:
    """As sd_notify(3) has it, to a socket in the file system or an abstract one."""
    notes = Notifier(manager[1], monotonic=lambda: 12.5)
    notes.ready("2 of 2 workers serve")
    assert told(manager) == ["READY=1", "STATUS=2 of 2 workers serve"]
    notes.reloading()
    assert told(manager) == ["RELOADING=1", "MONOTONIC_USEC=12500000", "STATUS=reading its configuration"]
    notes.status("two\nlines")
    assert told(manager) == ["STATUS=two lines"]
    notes.alive()
    assert told(manager) == ["WATCHDOG=1"]
    notes.stopping("finishes", 50.0)
    assert told(manager) == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=50000000", "STATUS=finishes"]


def test_notifications_are_dropped_while_the_manager_does_not_listen_and_sent_when_it_does(tmp_path: Path) -> None:
    """A missing manager is no reason not to serve; without NOTIFY_SOCKET there is none."""
    Notifier().ready("there is no manager")
    notifier = Notifier(str(tmp_path / "notify"))
    notifier.ready("nobody listens")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        notifier.status("the manager listens")
        assert told((manager, "")) == ["STATUS=the manager listens"]
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
        assert told((manager, "")) == ["STATUS=there is room again"]


def test_where_to_tell_is_taken_out_of_the_environment() -> None:
    """No worker and no script is to speak for the daemon."""
    environ = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(PID), "HOME": "/"}
    found = notifier(environ, PID)
    assert (found.address, found.watchdog) == ("@x", 60.0)
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
def test_the_watchdog_is_that_of_this_process(environ: dict[str, str], watchdog: float | None) -> None:
    """As sd_watchdog_enabled(3)."""
    assert notifier(dict(environ), PID).watchdog == watchdog


@pytest.mark.parametrize("address", ["", "notify", "@", "/"])
def test_an_address_that_is_none_is_nobodys(address: str) -> None:
    """Nothing is sent anywhere."""
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
def test_sockets_are_those_from_3_on_that_were_meant_for_this_process(environ: dict[str, str], count: int) -> None:
    """As sd_listen_fds(3); with names or without."""
    assert list(systemd.handed_over(environ, PID)) == list(range(3, 3 + count))


def test_what_says_so_is_taken_out_of_the_environment() -> None:
    """All of it."""
    environ = {"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "a", "LISTEN_PIDFDID": "7", "HOME": "/"}
    systemd.forget_sockets(environ)
    assert environ == {"HOME": "/"}


def test_a_socket_that_listens_is_taken_and_kept_from_programs_that_are_started() -> None:
    """It waits for nobody, and no script gets to have it."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        descriptor = os.dup(made.fileno())
        os.set_inheritable(descriptor, True)
        (taken,) = systemd.sockets([descriptor])
        with taken:
            assert taken.getsockname() == made.getsockname()
            assert not taken.get_inheritable()
            assert not taken.getblocking()


def test_what_accepts_no_connections_is_refused(tmp_path: Path) -> None:
    """With its number: a unit file says something wrong."""
    with (tmp_path / "file").open("wb") as file:
        descriptor = os.dup(file.fileno())
        with pytest.raises(ValueError, match=f"descriptor {descriptor} of LISTEN_FDS is no socket"):
            systemd.sockets([descriptor])
        os.close(descriptor)
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as other, pytest.raises(ValueError, match="no socket that listens"):
            systemd.sockets([os.dup(other.fileno())])


def test_the_environment_at_the_start_is_known_whatever_was_taken_out_since(tmp_path: Path) -> None:
    """As the kernel tells it."""
    path = tmp_path / "environ"
    path.write_bytes(b"LISTEN_FDS=1\0EMPTY=\0ODD=a=b\0")
    assert systemd.initial(path) == {"LISTEN_FDS": "1", "EMPTY": "", "ODD": "a=b"}
    assert systemd.initial(tmp_path / "none") == {}
    assert systemd.initial()["PATH"]
