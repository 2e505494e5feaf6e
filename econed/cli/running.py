"""What a start would find: a daemon that runs, with its ports, or the units `econe.service` and `econe.socket`."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from econed.config.settings import Settings
from econed.process.listening import CannotListen
from econed.process.ports import OpenPorts, open_ports_of, refused_ports

_COMMAND: Final = ("systemctl", "show", "--property=MainPID,ActiveState,Listen", "econe.service", "econe.socket")
_TIMEOUT: Final = 5.0
_TCP_SOCKET: Final = re.compile(r"^Listen=(?:.*:)?([0-9]+) \(Stream\)$", re.MULTILINE)
"""A socket of a unit, as `systemctl show` prints it: `Listen=127.0.0.1:4567 (Stream)`."""


@dataclass(frozen=True)
class ServiceState:
    """The main process of the service, None if it does not run, and the ports that the socket unit holds.

    `ports` is None if the socket unit is not active.
    """

    main_pid: int | None = None
    ports: frozenset[int] | None = None

    def pid_with(self, conf: Path) -> int | None:
        """Return the id of the main process, None if the service does not run or runs with another econe.conf."""
        try:
            words = Path(f"/proc/{self.main_pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return None
        return self.main_pid if os.fsencode(conf) in words else None


@dataclass(frozen=True)
class Running:
    """What a start would find.

    `open_ports` has the ports of the daemon that runs, None without one. `are_ports_known` is False if its process may
    not be examined; then nothing is known about the ports. `is_service`: systemd starts the daemon.
    """

    open_ports: OpenPorts | None = None
    are_ports_known: bool = True
    is_service: bool = False

    @classmethod
    def of_daemon(cls, pid: int, *, is_service: bool = False) -> Running:
        """Return them for a daemon that runs."""
        try:
            return cls(open_ports_of(pid), is_service=is_service)
        except OSError:
            return cls(are_ports_known=False, is_service=is_service)

    @classmethod
    def of_service(cls, state: ServiceState) -> Running:
        """Return them for the state of systemd's units."""
        if state.main_pid is not None:
            return cls.of_daemon(state.main_pid, is_service=True)
        if state.ports is not None:
            return cls(OpenPorts((), frozenset(), state.ports), is_service=True)
        return cls()

    def refused_ports(self, settings: Settings, *, is_reload: bool = False) -> Iterator[CannotListen]:
        """See `econed.process.ports.refused_ports`."""
        return refused_ports(settings, self.open_ports, is_reload=is_reload) if self.are_ports_known else iter(())


def service_state() -> ServiceState:
    """Ask systemd for the state of the units; without an answer they count as not running."""
    try:
        answer = subprocess.run(  # noqa: S603  a constant
            _COMMAND, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ServiceState()
    return parse_state(answer)


def parse_state(answer: str) -> ServiceState:
    """Return the state in the answer of `systemctl show`: the properties of two units, with a blank line between."""
    service, _, sockets = answer.partition("\n\n")
    main_pid = re.search(r"^MainPID=([1-9][0-9]*)$", service, re.MULTILINE)
    is_active = "ActiveState=active" in sockets.splitlines()
    ports = frozenset(map(int, _TCP_SOCKET.findall(sockets)))
    return ServiceState(int(main_pid[1]) if main_pid else None, ports if is_active else None)
