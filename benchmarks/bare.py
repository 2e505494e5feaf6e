"""`python -m benchmarks.bare PORT LENGTH`: Twisted's HTTP server with a constant response, to compare with."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.web.resource import Resource
from twisted.web.server import Request, Site


class Constant(Resource):
    """Responds to every request with the same bytes."""

    isLeaf = True

    def __init__(self, body: bytes) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._body = body

    def render(self, request: Request) -> bytes:
        """Return the bytes."""
        request.setHeader(b"Content-Type", b"text/xml;charset=UTF-8")
        return self._body


def main(port: int, length: int) -> None:
    """Serve until the process is ended; prints the port."""
    reactor: Any = installed
    endpoint = TCP4ServerEndpoint(reactor, port, interface="127.0.0.1")

    def listening(where: Any) -> None:
        print(f"listening on {where.getHost().port}.", flush=True)

    endpoint.listen(Site(Constant(b"x" * length))).addCallback(listening)
    reactor.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
