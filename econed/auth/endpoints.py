"""The hosts and paths for which a request may have been signed: both are part of every signature.

A client signs the URL that it was configured with. The request that econed receives may differ: a TLS proxy in front of
econed may replace the Host and remove a path prefix (econe.conf, `ssl_server`: "a URL that may contain a custom path"),
and boto 2 and the Perl clients sign Version 2 without the port that they send. A signature is therefore verified for
several endpoints, all of them of this server.
"""

from __future__ import annotations

import re
from itertools import product
from typing import NamedTuple
from urllib.parse import urlsplit

from econed.auth.failures import incomplete_signature
from econed.wire.signed_request import SignedRequest

_PORT = re.compile(rb":[0-9]*\Z")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Endpoint(NamedTuple):
    """A host, as in a Host header, and an undecoded path, for which a request may have been signed."""

    host: bytes
    path: bytes


class Endpoints:
    """The endpoints of this server.

    `ssl_server` is the URL at which a proxy serves the API, None if clients connect to econed directly. Raises
    `ValueError` if it is not an http or https URL with a host.
    """

    def __init__(self, ssl_server: str | None = None) -> None:
        self._hosts: tuple[bytes, ...] = ()
        self._prefix = b""
        if ssl_server is not None:
            self._hosts, self._prefix = _hosts_and_prefix(ssl_server)

    def candidates(self, request: SignedRequest) -> tuple[Endpoint, ...]:
        """Return the endpoints to verify a signature for, as received first; raises `EC2Error` IncompleteSignature."""
        host_headers = request.header("host")
        if len(host_headers) > 1:
            raise incomplete_signature("The request must contain one Host header.")
        host = host_headers[0].strip() if host_headers else b""
        path = request.path or b"/"
        hosts = (host, host.lower(), _PORT.sub(b"", host.lower()), *self._hosts)
        paths = (path, self._prefix + b"/", self._prefix, self._prefix + path) if self._prefix else (path,)
        return tuple(dict.fromkeys(Endpoint(*pair) for pair in product(hosts, paths)))


def _hosts_and_prefix(ssl_server: str) -> tuple[tuple[bytes, ...], bytes]:
    """Return the Host headers that clients may send for the URL, and its path without a trailing slash."""
    url = urlsplit(ssl_server)
    if url.scheme not in _DEFAULT_PORTS or not url.hostname:
        raise ValueError(f"not an http or https URL: {ssl_server!r}")
    name = f"[{url.hostname}]".encode() if ":" in url.hostname else url.hostname.encode("idna")
    port = url.port or _DEFAULT_PORTS[url.scheme]
    return (b"%s:%d" % (name, port), name), url.path.rstrip("/").encode()
