"""Where a request may have been addressed when it was signed: host and path are part of every signature.

A client signs the URL that it was given. What arrives may differ: a proxy that speaks TLS in front of econed may put
its own Host and take a path prefix away (econe.conf, `ssl_server`: "a URL that may contain a custom path"); boto 2
and the Perl clients sign Version 2 without the port that they send. So a signature is tried for a few endpoints, all
of them this server's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from urllib.parse import urlsplit

from econed.auth.failures import incomplete_signature
from econed.wire.signed_request import SignedRequest

_PORT = re.compile(rb":[0-9]*\Z")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Endpoint:
    """A host, as in a Host header, and an undecoded path under which a request may have been signed."""

    host: bytes
    path: bytes


class Endpoints:
    """The endpoints of this server.

    `ssl_server` is the URL under which a proxy serves the API, None where clients reach econed itself. Raises
    `ValueError` if it is not an http or https URL with a host.
    """

    def __init__(self, ssl_server: str | None = None) -> None:
        self._hosts: tuple[bytes, ...] = ()
        self._prefix = b""
        if ssl_server is not None:
            self._hosts, self._prefix = _parts(ssl_server)

    def candidates(self, request: SignedRequest) -> tuple[Endpoint, ...]:
        """Return the endpoints to try for this request, as received first; raises `EC2Error` IncompleteSignature."""
        received = request.header("host")
        if len(received) > 1:
            raise incomplete_signature("The request must contain one Host header.")
        host = received[0].strip() if received else b""
        path = request.path or b"/"
        hosts = (host, host.lower(), _PORT.sub(b"", host.lower()), *self._hosts)
        paths = (path, self._prefix + b"/", self._prefix, self._prefix + path) if self._prefix else (path,)
        return tuple(dict.fromkeys(Endpoint(*place) for place in product(hosts, paths)))


def _parts(ssl_server: str) -> tuple[tuple[bytes, ...], bytes]:
    """Return the Host headers that stand for the URL, and its path without the slash at its end."""
    url = urlsplit(ssl_server)
    if url.scheme not in _DEFAULT_PORTS or not url.hostname:
        raise ValueError(f"not an http or https URL: {ssl_server!r}")
    name = f"[{url.hostname}]".encode() if ":" in url.hostname else url.hostname.encode("idna")
    port = url.port or _DEFAULT_PORTS[url.scheme]
    return (b"%s:%d" % (name, port), name), url.path.rstrip("/").encode()
