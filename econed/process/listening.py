"""What to listen on: the configured hosts and ports, sockets handed over by systemd, or Twisted's own descriptions.

Sockets are bound before anything runs, so that a port that is taken is found at once, and while the daemon may still
be root. They outlive the processes that accept from them: what arrives while one drains waits for the next.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import resource
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger

from econed.config.settings import Settings

BACKLOG = 1024
"""Connections that may wait to be accepted; the system's own limit (net.core.somaxconn) holds too."""


_RESERVED = 256
"""Open files of a process that are not connections of clients: calls to oned, uploads, fetches, scripts, logs."""


def max_connections() -> int | None:
    """Return how many connections this process can have and still do its own work; None: any number."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if files == resource.RLIM_INFINITY else max(files - _RESERVED, files // 2)


class CannotListen(Exception):
    """There is a place where nothing can listen; the message says which and why.

    `taken` is the place, if another process listens there.
    """

    def __init__(self, message: str, taken: Place | None = None) -> None:
        super().__init__(message)
        self.taken = taken


@dataclass(frozen=True)
class Place:
    """A host and a port to listen on, and whether TLS is spoken there."""

    host: str
    port: int
    is_tls: bool

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Bound:
    """A socket that listens, and whether TLS is spoken there; `place` is what it was bound for, None if handed over."""

    socket: socket.socket
    is_tls: bool
    place: Place | None = None

    @property
    def where(self) -> str:
        """Its address, for people."""
        host, port = self.socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine can reach it."""
        return ipaddress.ip_address(self.socket.getsockname()[0].partition("%")[0]).is_loopback


@dataclass(frozen=True)
class Listening:
    """An endpoint to listen by, whether TLS is to be spoken over it, and where it is, for people."""

    endpoint: IStreamServerEndpoint
    is_tls: bool
    where: str


def places(settings: Settings, port: int | None = None) -> tuple[Place, ...]:
    """Return where to listen as the settings say; `port`, if given, in place of theirs.

    With a certificate, TLS is on ssl_port beside the plain port, and without an ssl_port on the one port there is.
    """
    plain = settings.port if port is None else port
    for_tls = settings.ssl_host or settings.host
    if settings.ssl_cert is None:
        return (Place(settings.host, plain, False),)
    if settings.ssl_port is None:
        return (Place(for_tls, plain, True),)
    return (Place(settings.host, plain, False), Place(for_tls, settings.ssl_port, True))


def bound(wanted: Iterable[Place], before: Sequence[Bound] = ()) -> tuple[Bound, ...]:
    """Return a socket for each place: one of `before` where that has it already, else a new one.

    Raises `CannotListen`; nothing new is then left open.
    """
    had = {(each.place.host, each.place.port): each.socket for each in before if each.place is not None}
    made: list[Bound] = []
    for place in wanted:
        known = had.get((place.host, place.port))
        try:
            made.append(Bound(known or _bind(place), place.is_tls, place))
        except OSError as error:
            close(made, but=before)
            taken = place if error.errno == errno.EADDRINUSE else None
            raise CannotListen(f"nothing can listen on {place}: {error.strerror}", taken) from None
    return tuple(made)


def handed_over(sockets: Sequence[socket.socket], settings: Settings) -> tuple[Bound, ...]:
    """Return the sockets that systemd has bound, each with what is to be spoken there; raises `CannotListen`.

    Its unit says where they are, econe.conf what they speak: one on ssl_port TLS, and all of them where econed speaks
    nothing else.
    """
    for each in sockets:
        if each.family not in (socket.AF_INET, socket.AF_INET6):
            raise CannotListen(f"{each.getsockname()!r} is no TCP socket, and was handed over in LISTEN_FDS")
    found = tuple(Bound(each, speaks_tls(settings, each.getsockname()[1])) for each in sockets)
    if settings.ssl_port is not None and not any(each.is_tls for each in found):
        raise CannotListen(f"none of the sockets in LISTEN_FDS is on ssl_port ({settings.ssl_port})")
    return found


def speaks_tls(settings: Settings, port: int | None) -> bool:
    """Whether TLS is spoken on a port, that somebody else has chosen."""
    if settings.ssl_cert is None:
        return False
    return settings.ssl_port is None or port == settings.ssl_port


def close(sockets: Iterable[Bound], but: Iterable[Bound] = ()) -> None:
    """Close sockets that are none of `but`. They stay open in the processes that have them, too."""
    kept = {id(each.socket) for each in but}
    for each in sockets:
        if id(each.socket) not in kept:
            each.socket.close()


def adopted(reactor: Any, sock: socket.socket, is_tls: bool, where: str) -> Listening:
    """Return the way to accept from a socket that listens already; the socket is used up."""
    sock.setblocking(False)
    return Listening(AdoptedStreamServerEndpoint(reactor, sock.detach(), sock.family), is_tls, where)


def described(reactor: Any, description: str, settings: Settings) -> Listening:
    """Return where to listen by one of Twisted's descriptions; raises `CannotListen` for one that is none."""
    try:
        endpoint = serverFromString(reactor, description)
    except (ValueError, TypeError, LookupError, OSError) as error:  # what endpoint parsers raise, each its own
        raise CannotListen(f"nothing can listen on {description!r}: {error}") from None
    tcp = re.match(r"tcp6?:(?:port=)?([0-9]+)", description)
    return Listening(endpoint, tcp is not None and speaks_tls(settings, int(tcp[1])), description)


def warn_of_plain(sockets: Iterable[Bound], log: Logger) -> None:
    """Say where others than this machine are served without TLS."""
    for each in sockets:
        if not (each.is_tls or each.is_loopback):
            log.warn(
                "plain HTTP on {where}, which other machines can reach: what goes over it can be read and changed;"
                " set ssl_cert, or listen on loopback behind a proxy that speaks TLS",
                where=each.where,
            )


def _bind(place: Place) -> socket.socket:
    """Return a socket that listens there; of a name the IPv4 address, if it has one."""
    found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made
