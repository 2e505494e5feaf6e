"""An EC2 client that measures: it sends signed requests and receives the responses completely."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from lxml import etree

from benchmarks.signing import Keys, signed_v4

TIMEOUT = 600.0
"""Seconds that a response may take."""


@dataclass(frozen=True)
class Response:
    """A response as received, and the seconds from sending the request to its last byte."""

    status: int
    body: bytes
    seconds: float

    def texts(self, name: str) -> list[str]:
        """Return the texts of all elements of this name."""
        return [element.text or "" for element in etree.fromstring(self.body).iter(f"{{*}}{name}")]


class Failed(Exception):
    """A request was not answered with 200."""


@dataclass(frozen=True)
class EC2Client:
    """A client of econed at `url`, with the keys of a user; each request opens a connection."""

    url: str
    keys: Keys

    def __call__(self, action: str, parameters: Mapping[str, str] | None = None) -> Response:
        """Make a request; raises `Failed`."""
        response = self.attempt(action, parameters)
        if response.status != 200:
            raise Failed(f"{action}: {response.status} {response.body[:500]!r}")
        return response

    def attempt(self, action: str, parameters: Mapping[str, str] | None = None) -> Response:
        """Make a request and return the response, whatever it is."""
        message = signed_v4(self.keys, self.url, {"Action": action, **(parameters or {})}, time.time())
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=TIMEOUT)
        start = time.perf_counter()
        try:
            connection.request(message.method, message.path, message.body.encode(), dict(message.headers))
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        return Response(response.status, body, time.perf_counter() - start)
