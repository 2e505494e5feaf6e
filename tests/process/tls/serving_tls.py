"""Certificates of the servers of these tests, and their reload."""

from __future__ import annotations

import ssl
from typing import Any

from twisted.internet.defer import Deferred

from tests.support.certificates import Authority, Issued
from tests.support.handshakes import Server

AUTHORITY = Authority()
V1_1, V1_2, V1_3 = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def issued(*names: str, **how: Any) -> Issued:
    """Return a server's certificate."""
    return AUTHORITY.server(*(names or ("ec2.example.org",)), **how)


def reload(server: Server) -> None:
    """Reload the files."""
    results: list[Any] = []
    Deferred.fromCoroutine(server.tls.reload()).addBoth(results.append)
    assert results == [None]
