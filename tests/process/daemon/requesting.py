"""Requests to a daemon on a port of this machine."""

from __future__ import annotations

import http.client
import socket
from contextlib import closing

from tests.support.processes import STARTING

WORKERS = 2


def url(port: int) -> str:
    """Return the URL for clients."""
    return f"http://127.0.0.1:{port}/"


def connection(port: int) -> http.client.HTTPConnection:
    """Return a persistent connection."""
    return http.client.HTTPConnection("127.0.0.1", port, timeout=STARTING)


def get(kept: http.client.HTTPConnection, path: str) -> tuple[int, str | None]:
    """Send a request, and return the status and the Connection header of the response."""
    kept.request("GET", path)
    response = kept.getresponse()
    response.read()
    return response.status, response.getheader("connection")


def get_once(port: int, path: str) -> tuple[int, str | None]:
    """Send a request on a new connection, and return as `get`."""
    with closing(connection(port)) as short:
        return get(short, path)


def is_closed(kept: http.client.HTTPConnection) -> bool:
    """Whether the server has closed or reset a connection."""
    assert kept.sock is not None
    try:
        return kept.sock.recv(1) == b""
    except ConnectionResetError:
        return True


def is_open(port: int) -> bool:
    """Whether a process listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
