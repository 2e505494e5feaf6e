"""systemd's protocols for daemons: word of how it is (sd_notify(3)), its watchdog, and the sockets it hands over.

All three are told by environment variables. They are taken out of the environment as they are read, so that no worker
and no script that the daemon starts believes that they are meant for it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

FIRST_DESCRIPTOR = 3
"""The first of the sockets handed over (SD_LISTEN_FDS_START)."""

_DIGITS = 9
"""Of the number of sockets, at most: an int of C."""

SOCKET_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
"""What says that there are any."""


@dataclass(frozen=True)
class Notifier:
    """Tells the service manager how the daemon is; nobody if it was not started by one.

    `address` is that of the manager's datagram socket, as NOTIFY_SOCKET gives it. `watchdog` is for how many seconds
    the manager goes without word before it takes the daemon for dead, None if it does not care. Nothing here raises: a
    manager that cannot be told is no reason not to serve.
    """

    address: str | None = None
    watchdog: float | None = None
    monotonic: Callable[[], float] = time.monotonic

    def ready(self, status: str) -> None:
        """Say that the daemon serves: for the first time, or with its new configuration."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Say that the configuration is being read anew; `ready` ends it (Type=notify-reload wants the time)."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={round(self.monotonic() * 1e6)}", "STATUS=reading its configuration")

    def stopping(self, status: str, within: float) -> None:
        """Say that the daemon is about to end, `within` so many seconds, whatever TimeoutStopSec the unit has."""
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round(within * 1e6)}", f"STATUS={status}")

    def status(self, text: str) -> None:
        """Say in a few words how the daemon is (`systemctl status` shows them)."""
        self._tell(f"STATUS={text}")

    def alive(self) -> None:
        """Keep the watchdog quiet."""
        self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if self.address is None:
            return
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as letters:
                letters.setblocking(False)
                letters.sendto("\n".join(line.replace("\n", " ") for line in lines).encode(), address)
        except OSError:
            pass


def notifier(environ: MutableMapping[str, str], pid: int) -> Notifier:
    """Take NOTIFY_SOCKET and the watchdog's variables out of `environ`; `pid` is this process."""
    address = environ.pop("NOTIFY_SOCKET", None)
    usec, meant = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", str(pid))
    is_watched = usec.isdecimal() and int(usec) > 0 and meant == str(pid)
    is_there = address is not None and address.startswith(("/", "@")) and len(address) > 1
    return Notifier(address if is_there else None, int(usec) / 1e6 if is_watched else None)


def initial(path: Path = Path("/proc/self/environ")) -> dict[str, str]:
    """Return the environment with which this program was started, whatever has been taken out of it since.

    Twisted takes LISTEN_FDS and LISTEN_PID when its endpoints are imported, for its own descriptions (`systemd:`), and
    loses them where there are no LISTEN_FDNAMES.
    """
    try:
        pairs = (pair.partition(b"=") for pair in path.read_bytes().split(b"\0") if pair)
    except OSError:
        return {}
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def handed_over(environ: Mapping[str, str], pid: int) -> range:
    """Return the descriptors that were handed to this process, `pid` (sd_listen_fds(3)); none if they were not."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(pid) or not count.isdecimal() or len(count) > _DIGITS:
        return range(0)
    return range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count))


def forget_sockets(environ: MutableMapping[str, str]) -> None:
    """Take out of `environ` what says that sockets are handed over."""
    for name in SOCKET_VARIABLES:
        environ.pop(name, None)


def sockets(descriptors: Iterable[int]) -> tuple[socket.socket, ...]:
    """Return the sockets that were handed over; raises `ValueError` for one that accepts no connections."""
    return tuple(_taken(descriptor) for descriptor in descriptors)


def _taken(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        taken = socket.socket(fileno=descriptor)
        listens = taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ValueError(f"descriptor {descriptor} of LISTEN_FDS is no socket: {error.strerror}") from None
    if taken.type != socket.SOCK_STREAM or not listens:
        taken.close()
        raise ValueError(f"descriptor {descriptor} of LISTEN_FDS is no socket that listens for connections")
    taken.setblocking(False)
    return taken
