"""The zones and clusters of the cloud, remembered for some seconds.

They belong to no user, an administrator changes them about once a month, and nearly every request needs them. They are
read by serveradmin: users cannot list clusters, and which zones are shown to users is decided by econe.conf
(`regions`), not by access control lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from econed.cached_lookup import CachedLookup

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from econed.opennebula.documents import Zone
    from econed.opennebula.session import Session

MAX_AGE: Final = 10.0
"""Seconds for which zones and clusters are used without asking oned."""


class ZonesAndClusters:
    """The zones and clusters as one process knows them.

    Concurrent requests share a call, and a failed call fails only for those that wait for it. Errors are those of
    `IOpenNebula`.
    """

    def __init__(self, serveradmin: Session, clock: IReactorTime) -> None:
        self._serveradmin = serveradmin
        self._zones = CachedLookup(clock, serveradmin.zones, retry_interval=0)
        self._cluster_names = CachedLookup(clock, self._read_cluster_names, retry_interval=0)

    async def zones(self) -> tuple[Zone, ...]:
        """Return the zones of the federation, at most `MAX_AGE` seconds old."""
        return await self._zones.get(MAX_AGE)

    async def cluster_names(self) -> Mapping[int, str]:
        """Return the names of the clusters by id, at most `MAX_AGE` seconds old."""
        return await self._cluster_names.get(MAX_AGE)

    async def _read_cluster_names(self) -> Mapping[int, str]:
        return MappingProxyType({cluster.id: cluster.name for cluster in await self._serveradmin.clusters()})
