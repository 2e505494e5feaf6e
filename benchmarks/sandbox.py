"""`python -m benchmarks.sandbox FORM PORT`: the sandbox as an XML-RPC server, with a control port for ended machines.

`POST /ended/ID/COUNT` adds machines that ended long ago: copies of a machine in all but their ids, states and times.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from econed.opennebula.states import LcmState, VmState
from econed.sandbox.demo_cloud import populate
from econed.sandbox.oned import Oned
from econed.sandbox.server import SandboxResource

ONEADMIN = "oneadmin:opennebula"
SERVERADMIN = "serveradmin:serverpassword"

_DAY = 24 * 3600


class EndedMachines(Resource):
    """Adds machines that ended long ago."""

    isLeaf = True

    def __init__(self, oned: Oned) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._oned = oned

    def render_POST(self, request: Request) -> bytes:
        """Add the machines of the path."""
        machine_id, count = (int(part) for part in request.postpath or [])
        add_ended_machines(self._oned, machine_id, count)
        return b""


def add_ended_machines(oned: Oned, machine_id: int, count: int) -> None:
    """Add copies of a machine that ended, one a minute, up to a day ago."""
    vms = oned.cloud.vms
    machine, last = vms.get(machine_id), oned.cloud.now() - _DAY
    for index in range(count):
        ended = last - 60 * (count - index)
        started = ended - _DAY
        record = replace(machine.history[-1], started=started, ended=ended, running=(started, ended))
        copy = replace(
            machine,
            id=vms.allocate_id(),
            state=VmState.DONE,
            lcm_state=LcmState.LCM_INIT,
            started=started,
            ended=ended,
            nics=[],
            history=[record],
            charges=[],
            on_images_ready=None,
        )
        copy.invalidate()
        vms.add(copy)


def main(form: str, port: int) -> None:
    """Serve an oned of that form until the process is ended; prints the port."""
    reactor: Any = installed
    oned = Oned(reactor, version=form, oneadmin=ONEADMIN, serveradmin=SERVERADMIN)
    populate(oned)
    root: Any = Resource()
    root.putChild(b"RPC2", SandboxResource(oned))
    root.putChild(b"ended", EndedMachines(oned))
    endpoint = TCP4ServerEndpoint(reactor, port, interface="127.0.0.1")

    def listening(where: Any) -> None:
        print(f"listening on {where.getHost().port}.", flush=True)

    endpoint.listen(Site(root)).addCallback(listening)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
