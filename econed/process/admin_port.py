"""Opens, moves and closes the administrator's port, and what it shows of a process without a supervisor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import MultiService
from twisted.logger import Logger
from zope.interface import implementer

from econed.process.interfaces import DRAINING, IWatched
from econed.telemetry.metrics import Metrics, Snapshot


class AdminPort:
    """The administrator's port as a child of the service `parent`; a reload may move it."""

    def __init__(self, reactor: Any, watched: IWatched, parent: MultiService, log: Logger) -> None:
        self._reactor = reactor
        self._watched = watched
        self._parent = parent
        self._log = log
        self._port: int | None = None
        self._service: StreamServerEndpointService | None = None

    def set_port(self, port: int | None) -> None:
        """Listen on `port`, or not at all if None; raises `CannotListen`, and then keeps the current port."""
        if port == self._port:
            return
        service = None if port is None else self._admin_service(port)
        if self._service is not None:
            self._service.disownServiceParent()
        if service is not None:
            service.setServiceParent(self._parent)
        self._port, self._service = port, service

    def _admin_service(self, port: int) -> StreamServerEndpointService:
        # Without this port a supervisor serves no HTTP: twisted.web and prometheus-client are 2 MB.
        from econed.process.admin import admin_service

        return admin_service(self._reactor, port, self._watched, self._log)


@implementer(IWatched)
class WatchedProcess:
    """One serving process, without a supervisor."""

    def __init__(self, metrics: Metrics, is_draining: Callable[[], bool]) -> None:
        self._metrics = metrics
        self._is_draining = is_draining

    def unready_reason(self) -> str | None:
        """See `IWatched.unready_reason`; a process that runs listens."""
        return DRAINING if self._is_draining() else None

    async def snapshots(self) -> tuple[Snapshot, ...]:
        """See `IWatched.snapshots`."""
        return (self._metrics.snapshot(),)
