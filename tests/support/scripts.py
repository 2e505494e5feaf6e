"""Scripts for elastic IPs that record their runs, and the network as it would be after them."""

from __future__ import annotations

from ipaddress import IPv4Address

from twisted.internet.defer import Deferred
from zope.interface import implementer

from econed.errors import ScriptFailed
from econed.interfaces import IScripts


@implementer(IScripts)
class FakeScripts:
    """`runs` has the arguments of each run, `network` the private address that each elastic IP is associated with.

    A script in `failing` fails by itself, a script in `broken` is killed half-way, and a script in `hanging` waits
    for `go_on`. `seconds` are the time limits.
    """

    has_any = True

    def __init__(self) -> None:
        self.runs: list[tuple[str, str, str]] = []
        self.documents: list[str] = []
        self.network: dict[str, str] = {}
        self.failing: set[str] = set()
        self.broken: set[str] = set()
        self.hanging: set[str] = set()
        self.go_on: Deferred[None] = Deferred()
        self.seconds: list[float] = []

    async def associate(
        self, elastic_ip: IPv4Address, private_ip: IPv4Address, network: str, max_seconds: float
    ) -> None:
        """Associate the elastic IP with the private address."""
        await self._run("associate", elastic_ip, private_ip, network, max_seconds)
        self.network[str(elastic_ip)] = str(private_ip)

    async def disassociate(
        self, elastic_ip: IPv4Address, private_ip: IPv4Address | None, network: str, max_seconds: float
    ) -> None:
        """Disassociate the elastic IP."""
        await self._run("disassociate", elastic_ip, private_ip, network, max_seconds)
        self.network.pop(str(elastic_ip), None)

    async def _run(
        self, what: str, elastic_ip: IPv4Address, private_ip: IPv4Address | None, network: str, max_seconds: float
    ) -> None:
        self.runs.append((what, str(elastic_ip), "" if private_ip is None else str(private_ip)))
        self.documents.append(network)
        self.seconds.append(max_seconds)
        if what in self.hanging:
            await self.go_on
        if what in self.broken:
            raise ScriptFailed("was ended", was_killed=True)
        if what in self.failing:
            raise ScriptFailed("failed", was_killed=False)
