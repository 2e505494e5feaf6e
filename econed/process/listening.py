"""Listening sockets: on the configured hosts and ports, passed by systemd, or from Twisted's endpoint descriptions.

Sockets are bound before anything else starts, so that a port in use is an error at once, and while the daemon may
still be root. They stay open when processes are replaced: connections that arrive while one process drains are
accepted by the next.
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
"""Connections that may wait to be accepted; limited by the system too (net.core.somaxconn)."""

ADMIN_HOST = "127.0.0.1"
"""Where the administrator's port is."""

_RESERVED_FILES = 256
"""Open files of a process that are not connections of clients: calls to oned, uploads, fetches, scripts, logs."""


def max_connections() -> int | None:
    """Return how many connections of clients this process can have within its limit of open files; None: any number."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if files == resource.RLIM_INFINITY else max(files - _RESERVED_FILES, files // 2)


class CannotListen(Exception):
    """Listening failed; the message says where and why.

    `in_use` is the address, if another process listens there.
    """

    def __init__(self, message: str, in_use: ListenAddress | None = None) -> None:
        super().__init__(message)
        self.in_use = in_use


@dataclass(frozen=True)
class ListenAddress:
    """A host and a port to listen on, with TLS or without."""

    host: str
    port: int
    is_tls: bool

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class BoundSocket:
    """A listening socket, with TLS or without. `listen_address` is None if systemd passed it."""

    socket: socket.socket
    is_tls: bool
    listen_address: ListenAddress | None = None

    @property
    def where(self) -> str:
        """Its address, for log messages."""
        host, port = self.socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.socket.getsockname()[0].partition("%")[0]).is_loopback


@dataclass(frozen=True)
class Listener:
    """An endpoint to listen on, with TLS or without; `where` is its address for log messages."""

    endpoint: IStreamServerEndpoint
    is_tls: bool
    where: str


def listen_addresses(settings: Settings, port: int | None = None) -> tuple[ListenAddress, ...]:
    """Return the addresses to listen on according to the settings; `port`, if given, replaces theirs.

    With a certificate, TLS is on ssl_port in addition to the plain port; without an ssl_port it is on the only port.
    """
    plain_port = settings.port if port is None else port
    tls_host = settings.ssl_host or settings.host
    if settings.ssl_cert is None:
        return (ListenAddress(settings.host, plain_port, False),)
    if settings.ssl_port is None:
        return (ListenAddress(tls_host, plain_port, True),)
    return (ListenAddress(settings.host, plain_port, False), ListenAddress(tls_host, settings.ssl_port, True))


def admin_address(port: int) -> ListenAddress:
    """Return the address of the administrator's port."""
    return ListenAddress(ADMIN_HOST, port, False)


def bind_all(addresses: Iterable[ListenAddress], current: Sequence[BoundSocket] = ()) -> tuple[BoundSocket, ...]:
    """Return a socket for each address: that of `current` if it has the address, else a new socket.

    Raises `CannotListen`; then no new socket is left open.
    """
    sockets: list[BoundSocket] = []
    for listen_address in addresses:
        try:
            open_socket = _open_socket(listen_address, current)
            sockets.append(BoundSocket(open_socket or _bind(listen_address), listen_address.is_tls, listen_address))
        except OSError as error:
            close_all(sockets, but=current)
            in_use = listen_address if error.errno == errno.EADDRINUSE else None
            raise CannotListen(f"nothing can listen on {listen_address}: {error.strerror}", in_use) from None
    return tuple(sockets)


def _open_socket(listen_address: ListenAddress, current: Sequence[BoundSocket]) -> socket.socket | None:
    """Return the socket that was opened for this host and port, or for another name of the host."""
    for bound in current:
        opened_for = bound.listen_address
        if opened_for is not None and (opened_for.host, opened_for.port) == (listen_address.host, listen_address.port):
            return bound.socket
    if not current:
        return None
    _, address = resolve(listen_address)
    return next((bound.socket for bound in current if bound.socket.getsockname() == address), None)


def sockets_from_systemd(sockets: Sequence[socket.socket], settings: Settings) -> tuple[BoundSocket, ...]:
    """Return the sockets that systemd has passed, each with TLS or without; raises `CannotListen`.

    The socket unit sets the addresses, econe.conf the protocol: TLS on ssl_port, or on all sockets if a certificate is
    configured and no ssl_port.
    """
    for sock in sockets:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            raise CannotListen(f"a socket in LISTEN_FDS is not a TCP socket: {sock.getsockname()!r}")
    bound = tuple(BoundSocket(sock, is_tls_port(settings, sock.getsockname()[1])) for sock in sockets)
    if settings.ssl_port is not None and not any(item.is_tls for item in bound):
        raise CannotListen(f"none of the sockets in LISTEN_FDS is on ssl_port ({settings.ssl_port})")
    return bound


def is_tls_port(settings: Settings, port: int | None) -> bool:
    """Whether TLS is served on a port that the socket unit or an endpoint description has set."""
    if settings.ssl_cert is None:
        return False
    return settings.ssl_port is None or port == settings.ssl_port


def close_all(sockets: Iterable[BoundSocket], but: Iterable[BoundSocket] = ()) -> None:
    """Close the sockets that are not in `but`. In other processes that have them they stay open."""
    open_ids = {id(bound.socket) for bound in but}
    for bound in sockets:
        if id(bound.socket) not in open_ids:
            bound.socket.close()


def adopt(reactor: Any, sock: socket.socket, is_tls: bool, where: str) -> Listener:
    """Return a listener for a socket that listens already. The socket object is detached."""
    sock.setblocking(False)
    return Listener(AdoptedStreamServerEndpoint(reactor, sock.detach(), sock.family), is_tls, where)


def from_description(reactor: Any, description: str, settings: Settings) -> Listener:
    """Return a listener for one of Twisted's endpoint descriptions; raises `CannotListen` if it is invalid."""
    try:
        endpoint = serverFromString(reactor, description)
    except (ValueError, TypeError, LookupError, OSError) as error:  # each endpoint parser raises its own
        raise CannotListen(f"nothing can listen on {description!r}: {error}") from None
    tcp = re.match(r"tcp6?:(?:port=)?([0-9]+)", description)
    return Listener(endpoint, tcp is not None and is_tls_port(settings, int(tcp[1])), description)


def warn_of_plain_http(sockets: Iterable[BoundSocket], log: Logger) -> None:
    """Log a warning for each socket without TLS that other machines can reach."""
    for bound in sockets:
        if not (bound.is_tls or bound.is_loopback):
            log.warn(
                "plain HTTP on {where}, which other machines can reach: requests can be read and modified;"
                " set ssl_cert, or listen on loopback behind a proxy with TLS",
                where=bound.where,
            )


def resolve(listen_address: ListenAddress) -> tuple[socket.AddressFamily, Any]:
    """Return the address for a socket; of a host name with several addresses, an IPv4 address is preferred."""
    addresses = socket.getaddrinfo(
        listen_address.host, listen_address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, _, _, _, address = min(addresses, key=lambda info: info[0] != socket.AF_INET)
    return family, address


def _bind(listen_address: ListenAddress) -> socket.socket:
    family, address = resolve(listen_address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
