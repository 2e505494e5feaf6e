"""`twistd econe-sandbox`: the sandbox as an XML-RPC server in place of oned."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import IService
from twisted.internet.endpoints import serverFromString
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError
from twisted.web.server import Site

from econed.clock import WallClock
from econed.sandbox.demo_cloud import populate
from econed.sandbox.oned import Oned
from econed.sandbox.server import SandboxResource
from econed.sandbox.versions import FORMS


class Options(UsageOptions):
    """The options of `twistd econe-sandbox`."""

    longdesc = "An OpenNebula in memory, with oned's XML-RPC API; nothing is stored."
    optParameters: ClassVar[list[list[Any]]] = [
        ["port", "p", 2633, "TCP port to listen on.", int],
        ["interface", "i", "127.0.0.1", "Address to listen on."],
        ["form", None, "7.4", f"The version of OpenNebula to behave as: {', '.join(FORMS)}."],
        ["oneadmin", None, "oneadmin:opennebula", "Name and password of the administrator."],
        ["serveradmin", None, "serveradmin:serverpassword", "Name and password of the user of server tokens."],
        ["vms", None, 0, "Number of running machines at the start.", int],
    ]
    optFlags: ClassVar[list[list[Any]]] = [["empty", None, "Start like a new oned, without the demo cloud."]]

    def __init__(self) -> None:
        super().__init__()
        self["users"] = []

    def opt_user(self, user: str) -> None:
        """A user NAME:SECRET of the demo cloud, with the secret key of EC2 clients; may be given repeatedly."""
        name, colon, secret = user.partition(":")
        if not (name and colon and secret):
            raise UsageError("--user takes NAME:SECRET")
        self["users"].append((name, secret))


def makeService(options: Options) -> IService:
    """Return the sandbox as a service (what `twistd` calls)."""
    from twisted.internet import reactor

    if options["form"] not in FORMS:
        raise UsageError(f"--form is one of {', '.join(FORMS)}")
    oned = Oned(
        WallClock(reactor),
        version=options["form"],
        oneadmin=options["oneadmin"],
        serveradmin=options["serveradmin"],
    )
    if not options["empty"]:
        populate(oned, users=options["users"], vms=options["vms"])
    endpoint = serverFromString(reactor, f"tcp:{options['port']}:interface={options['interface']}")
    service = StreamServerEndpointService(endpoint, Site(SandboxResource(oned)))
    service._raiseSynchronously = True  # a port in use aborts the start
    return service
