"""Who listens on the ports of this machine: a port in use may be the port of the daemon that is to be replaced."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final, TypeAlias

from econed.config.settings import Settings
from econed.process import systemd
from econed.process.listening import (
    CannotListen,
    ListenAddress,
    admin_address,
    bind_all,
    close_all,
    listen_addresses,
    resolve,
)

_LISTEN: Final = "0A"
"""The state of a listening socket (Linux, include/net/tcp_states.h: TCP_LISTEN)."""

_PROC: Final = Path("/proc")
_SOCKET: Final = re.compile(r"socket:\[([0-9]+)\]")
_IPAddress: TypeAlias = IPv4Address | IPv6Address


@dataclass(frozen=True)
class OpenPort:
    """An address on which a process listens; `inode` identifies its socket."""

    host: _IPAddress
    port: int
    inode: int

    def conflicts_with(self, host: _IPAddress, port: int) -> bool:
        """Whether no other socket can listen there. `::` may include all IPv4 addresses."""
        return self.port == port and (self.host == host or self.host.is_unspecified or host.is_unspecified)


@dataclass(frozen=True)
class OpenPorts:
    """The ports of this machine, and the sockets of one process, the daemon that runs.

    `passed` are the ports of the sockets that the daemon gets from systemd, whatever econe.conf says; None if it gets
    none. `own_inodes` is empty if no daemon runs.
    """

    listening: tuple[OpenPort, ...]
    own_inodes: frozenset[int]
    passed: frozenset[int] | None = None

    def are_all_own(self, host: _IPAddress, port: int) -> bool:
        """Whether the daemon alone keeps others from listening there."""
        conflicts = [listening for listening in self.listening if listening.conflicts_with(host, port)]
        return bool(conflicts) and all(listening.inode in self.own_inodes for listening in conflicts)

    def has_own(self, host: _IPAddress, port: int) -> bool:
        """Whether the daemon listens on exactly this address."""
        own = (listening for listening in self.listening if listening.inode in self.own_inodes)
        return any((listening.host, listening.port) == (host, port) for listening in own)


def open_ports_of(pid: int, proc: Path = _PROC) -> OpenPorts:
    """Return the ports of this machine as a daemon's process sees them; raises `OSError` if it may not be examined."""
    inodes: set[int] = set()
    for name in os.listdir(proc / str(pid) / "fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            match = _SOCKET.fullmatch(os.readlink(proc / str(pid) / "fd" / name))
            if match:
                inodes.add(int(match[1]))
    listening = tuple(_listening(proc))
    are_passed = systemd.passed_descriptors(systemd.initial_environment(proc / str(pid) / "environ"), pid)
    own_ports = frozenset(open_port.port for open_port in listening if open_port.inode in inodes)
    return OpenPorts(listening, frozenset(inodes), own_ports if are_passed else None)


def refused_ports(
    settings: Settings, running: OpenPorts | None = None, *, is_reload: bool = False
) -> Iterator[CannotListen]:
    """Yield why a new process could not listen, for each address. `running` are the ports of the daemon that runs.

    After a restart they are free. A reload keeps those whose address stays the same, and all that systemd has passed.
    """
    addresses = listen_addresses(settings)
    if running is not None and running.passed is not None:
        if settings.ssl_port is not None and settings.ssl_port not in running.passed:
            yield CannotListen(f"none of the sockets that systemd passes is on ssl_port ({settings.ssl_port})")
        addresses = ()
    if settings.admin_port is not None:
        addresses += (admin_address(settings.admin_port),)
    for address in addresses:
        try:
            close_all(bind_all((address,)))
        except CannotListen as error:
            refusal = error if running is None or error.in_use is None else _taken(address, error, running, is_reload)
            if refusal is not None:
                yield refusal


def _taken(address: ListenAddress, error: CannotListen, running: OpenPorts, is_reload: bool) -> CannotListen | None:
    """Return `error` if another process than the daemon that runs listens on an address in use."""
    host = ip_address(resolve(address)[1][0].partition("%")[0])
    if running.has_own(host, address.port):
        return None
    if not running.are_all_own(host, address.port):
        return error
    text = f"listening on {address} needs a restart: econed has this port open on another address"
    return CannotListen(text) if is_reload else None


def _listening(proc: Path) -> Iterator[OpenPort]:
    """Yield the listening TCP sockets of this machine (proc(5), /proc/net/tcp)."""
    for name in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):  # without IPv6
            for line in (proc / "net" / name).read_text("ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN:
                    host, _, port = fields[1].partition(":")
                    yield OpenPort(_host(host), int(port, 16), int(fields[9]))


def _host(digits: str) -> _IPAddress:
    """Return an address, which is printed as 32-bit numbers in the byte order of the machine."""
    words = (int(digits[start : start + 8], 16) for start in range(0, len(digits), 8))
    return ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
