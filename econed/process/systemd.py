"""systemd's protocols for daemons: notifications (sd_notify(3)), the watchdog, and socket activation.

All three use environment variables. These are removed from the environment when they are read, so that workers and
scripts do not inherit them.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

FIRST_DESCRIPTOR = 3
"""The first of the passed sockets (SD_LISTEN_FDS_START)."""

_MAX_DIGITS = 9
"""Maximum length of LISTEN_FDS, which is a C int."""

SOCKET_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
"""The environment variables of socket activation."""


@dataclass(frozen=True)
class Notifier:
    """Sends notifications to the service manager; does nothing if the daemon was not started by one.

    `address` is the address of the manager's datagram socket, as in NOTIFY_SOCKET. `watchdog` is the watchdog's
    timeout in seconds, None without a watchdog. No method raises: the daemon serves even if the manager is unreachable.
    """

    address: str | None = None
    watchdog: float | None = None
    monotonic: Callable[[], float] = time.monotonic

    def ready(self, status: str) -> None:
        """Notify that the daemon serves: after the start or a reload."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Notify that a reload begins; `ready` ends it (Type=notify-reload requires the time)."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={round(self.monotonic() * 1e6)}", "STATUS=reloading")

    def stopping(self, status: str, within: float) -> None:
        """Notify that the daemon is stopping, and extend TimeoutStopSec of the unit to `within` seconds."""
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round(within * 1e6)}", f"STATUS={status}")

    def status(self, text: str) -> None:
        """Set the status line that `systemctl status` displays."""
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        """Notify the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self.address is None:
            return
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(line.replace("\n", " ") for line in lines).encode(), address)
        except OSError:
            pass


def notifier(environ: MutableMapping[str, str], pid: int) -> Notifier:
    """Remove NOTIFY_SOCKET and the watchdog's variables from `environ`; `pid` is that of this process."""
    address = environ.pop("NOTIFY_SOCKET", None)
    usec, watched_pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", str(pid))
    is_watched = usec.isdecimal() and int(usec) > 0 and watched_pid == str(pid)
    is_valid = address is not None and address.startswith(("/", "@")) and len(address) > 1
    return Notifier(address if is_valid else None, int(usec) / 1e6 if is_watched else None)


def initial_environment(path: Path = Path("/proc/self/environ")) -> dict[str, str]:
    """Return the environment with which this program was started, including variables that were removed since.

    Twisted removes LISTEN_FDS and LISTEN_PID when its endpoints are imported, for its own descriptions (`systemd:`),
    and loses the sockets if LISTEN_FDNAMES is not set.
    """
    try:
        pairs = (pair.partition(b"=") for pair in path.read_bytes().split(b"\0") if pair)
    except OSError:
        return {}
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def passed_descriptors(environ: Mapping[str, str], pid: int) -> range:
    """Return the descriptors that were passed to this process, `pid` (sd_listen_fds(3))."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(pid) or not count.isdecimal() or len(count) > _MAX_DIGITS:
        return range(0)
    return range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count))


def socket_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of socket activation in `environ`."""
    return {name: environ[name] for name in SOCKET_VARIABLES if name in environ}


def forget_sockets(environ: MutableMapping[str, str]) -> None:
    """Remove the variables of socket activation from `environ`."""
    for name in SOCKET_VARIABLES:
        environ.pop(name, None)


def sockets(descriptors: Iterable[int]) -> tuple[socket.socket, ...]:
    """Return the passed sockets; raises `ValueError` for a socket that does not listen."""
    return tuple(_listening_socket(descriptor) for descriptor in descriptors)


def _listening_socket(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
        is_listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ValueError(f"descriptor {descriptor} in LISTEN_FDS is not a socket: {error.strerror}") from None
    if sock.type != socket.SOCK_STREAM or not is_listening:
        sock.close()
        raise ValueError(f"descriptor {descriptor} in LISTEN_FDS is not a listening socket")
    sock.setblocking(False)
    return sock
