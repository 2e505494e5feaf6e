"""A serving process: it listens, drains and stops. And signal handlers that run in the reactor."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from twisted.application.service import IService
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorTime
from twisted.logger import Logger

from econed.interfaces import IDrainable
from econed.process.listening import Listener
from econed.telemetry.audit_log import AuditLog
from econed.telemetry.metrics import Metrics

Handler = Callable[[], None]

MakeLogger: TypeAlias = Callable[[str], Logger]
"""Returns the logger of a namespace; `Logger` itself where the log of the process filters by level."""


class Process:
    """A serving process: its listeners, its site, and the services that run in the background.

    `site` is the factory of the connections, and `IDrainable`. `background_services` run for as long as requests are
    accepted. Each of `pending_work` waits for the end of work that continues after its client has disconnected.
    """

    def __init__(
        self,
        site: Any,
        listeners: Sequence[Listener],
        background_services: IService,
        clock: IReactorTime,
        drain_timeout: float,
        log: Logger,
        pending_work: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self._site = site
        self._listeners = listeners
        self._background_services = background_services
        self._clock = clock
        self.drain_timeout = drain_timeout
        """Seconds after which draining closes the connections that are left."""
        self._log = log
        self._pending_work = pending_work
        self._ports: list[IListeningPort] = []
        self.is_draining = False
        """Whether it accepts no more connections."""

    async def listen(self) -> None:
        """Start to listen; raises what the endpoints raise, most often `CannotListenError`."""
        factory: IProtocolFactory = self._site
        for listener in self._listeners:
            self._ports.append(await listener.endpoint.listen(factory))

    def start(self) -> None:
        """Start the background services."""
        self._background_services.startService()

    def stop(self) -> Any:
        """Stop the background services, unless draining has stopped them."""
        return self._background_services.stopService() if self._background_services.running else None

    async def drain(self) -> None:
        """Stop listening, finish the requests in progress, and return when no connection and no work is left.

        Connections that are left after `drain_timeout` seconds are closed. May be called once.
        """
        self.is_draining = True
        connections: IDrainable = self._site
        self._log.info(
            "draining: {connections} connections to finish within {timeout:g} s",
            connections=connections.connections,
            timeout=self.drain_timeout,
        )
        connections.drain()
        stopping = [maybeDeferred(stop) for stop in (*(port.stopListening for port in self._ports), self.stop)]
        finishing = Deferred.fromCoroutine(self._finish(connections, stopping))
        timeout = self._clock.callLater(self.drain_timeout, finishing.cancel)
        try:
            await finishing
        except CancelledError:
            log = self._log.warn if connections.busy else self._log.info
            log(
                "closing {connections} connections, {busy} with a request in progress:"
                " not finished after {timeout:g} s",
                timeout=self.drain_timeout,
                connections=connections.connections,
                busy=connections.busy,
            )
            connections.abort()
        else:
            timeout.cancel()
            self._log.info("drained: all requests are finished")

    def drained(self) -> Deferred[None]:
        """Drain; errors are logged, and the result is always None."""
        draining = Deferred.fromCoroutine(self.drain())
        draining.addErrback(lambda failure: self._log.failure("draining failed", failure=failure))
        return draining

    async def _finish(self, connections: IDrainable, stopping: Sequence[Deferred[Any]]) -> None:
        for stopped in stopping:
            await stopped
        await connections.all_closed()
        for wait in self._pending_work:
            await wait()


@dataclass(frozen=True)
class Serving:
    """A serving process with its metrics. `renew_certificates` is None without TLS, `audit_log` if there is none."""

    process: Process
    metrics: Metrics
    renew_certificates: Callable[[], Awaitable[object]] | None
    audit_log: AuditLog | None = None


class Signals:
    """Installs signal handlers that run in the reactor.

    They are installed at once, because SIGHUP and SIGUSR1 end a process without handlers, and again when the reactor
    runs, because it installs its own when it starts. What they call runs in the reactor.
    """

    def __init__(self, reactor: Any, set_handler: Callable[[int, Any], object] = signal.signal) -> None:
        self._reactor = reactor
        self._set_handler = set_handler

    def install(self, handlers: Mapping[signal.Signals, Handler]) -> None:
        """Install the handlers, now and when the reactor runs."""
        self._install_now(handlers)
        self._reactor.callWhenRunning(self._install_now, dict(handlers))

    def _install_now(self, handlers: Mapping[signal.Signals, Handler]) -> None:
        for number, handler in handlers.items():
            self._set_handler(number, lambda *_, handler=handler: self._reactor.callFromThread(handler))
