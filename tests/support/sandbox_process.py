"""The sandbox in a process of its own: `python -m tests.support.sandbox_process FORM PORT`.

`/RPC2` is the API of oned. `/control/` is for tests: the log of calls, how often oned ran an auth driver, and making
it fail.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from econed.sandbox.demo_cloud import populate
from econed.sandbox.oned import Oned
from econed.sandbox.server import SandboxResource
from econed.sandbox.versions import Delays

DELAYS = Delays(
    schedule=0.05,
    prolog=0.05,
    boot=0.1,
    shutdown=0.1,
    epilog=0.05,
    hotplug=0.05,
    queue=0.01,
    image=0.05,
    removal=0.1,
    network=0.05,
    monitor=0.1,
)
"""Shorter than in reality, so that tests are quick, but long enough for every transient state to be seen."""


class Control(Resource):
    """The control interface for tests."""

    isLeaf = True

    def __init__(self, oned: Oned) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._oned = oned

    def render_GET(self, request: Request) -> bytes:
        """Serve `calls/N`, the number of calls and the list of them from the Nth on, and `authentications`."""
        path, *rest = [part.decode() for part in request.postpath or []]
        if path == "calls":
            calls = list(self._oned.calls)
            shown = [[call.user, call.method, list(call.args), call.code] for call in calls[int(rest[0]) :]]
            return json.dumps([len(calls), shown], default=str).encode()
        assert path == "authentications"
        return json.dumps(self._oned.authentications).encode()

    def render_POST(self, request: Request) -> bytes:
        """Serve `fail-next-deployment`."""
        assert (request.postpath or []) == [b"fail-next-deployment"]
        self._oned.fail_next_deployment()
        return b"{}"


def main(form: str, port: str) -> None:
    """Serve a cloud of that form until the process is killed; prints the port it listens on."""
    reactor: Any = installed
    oned = Oned(reactor, version=form, delays=DELAYS)
    oned.calls = deque()  # all calls, not only the last ones
    populate(oned)
    root: Any = Resource()
    root.putChild(b"RPC2", SandboxResource(oned))
    root.putChild(b"control", Control(oned))
    endpoint = TCP4ServerEndpoint(reactor, int(port), interface="127.0.0.1")

    def listening(where: Any) -> None:
        print(f"listening on {where.getHost().port}.", flush=True)  # noqa: T201 - this is how it says so

    endpoint.listen(Site(root)).addCallback(listening)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
