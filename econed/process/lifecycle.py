"""One process that serves, from its first connection to its orderly end, and the signals that it gets."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorTime
from twisted.logger import Logger

from econed.interfaces import IDrainable
from econed.process.listening import Listening

Handler = Callable[[], None]


class Process:
    """One process that serves: where it listens, its site, and what runs beside it.

    `site` is the factory of the connections and `IDrainable`; `beside` what else runs for as long as requests are
    taken; `work` is what goes on although nobody waits for it any more, and is waited for.
    """

    def __init__(
        self,
        site: Any,
        places: Sequence[Listening],
        beside: IService,
        clock: IReactorTime,
        drain_timeout: float,
        log: Logger,
        work: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self._site = site
        self._places = places
        self._beside = beside
        self._clock = clock
        self.drain_timeout = drain_timeout
        """Seconds after which a drain cuts what is left."""
        self._log = log
        self._work = work
        self._ports: list[IListeningPort] = []
        self.is_draining = False
        """Whether it takes no more connections."""

    async def listen(self) -> None:
        """Take connections; raises what the endpoint does where that cannot be, `CannotListenError` most of all."""
        factory: IProtocolFactory = self._site
        for place in self._places:
            self._ports.append(await place.endpoint.listen(factory))

    def start(self) -> None:
        """Have what runs beside the requests run."""
        self._beside.startService()

    def stop(self) -> Any:
        """Stop what runs beside the requests; a process that has drained has done so."""
        return self._beside.stopService() if self._beside.running else None

    async def drain(self) -> None:
        """Take no more connections, finish the requests under way, and return when nothing is left.

        After `drain_timeout` seconds what is left is cut. This is done once.
        """
        self.is_draining = True
        connections: IDrainable = self._site
        self._log.info(
            "drains: no new connections, {connections} to finish in {timeout:g} s at most",
            connections=connections.connections,
            timeout=self.drain_timeout,
        )
        connections.drain()
        stopping = [maybeDeferred(stop) for stop in (*(port.stopListening for port in self._ports), self.stop)]
        finishing = Deferred.fromCoroutine(self._finish(connections, stopping))
        too_long = self._clock.callLater(self.drain_timeout, finishing.cancel)
        try:
            await finishing
        except CancelledError:
            say = self._log.warn if connections.busy else self._log.info
            say(
                "cut after {timeout:g} s: {connections} connections were left, {busy} of them with a request under way",
                timeout=self.drain_timeout,
                connections=connections.connections,
                busy=connections.busy,
            )
            connections.abort()
        else:
            too_long.cancel()
            self._log.info("nothing is left to finish")

    def drained(self) -> Deferred[None]:
        """Drain, and be done whatever goes wrong with that, which is then in the log."""
        draining = Deferred.fromCoroutine(self.drain())
        draining.addErrback(lambda failure: self._log.failure("the drain failed", failure=failure))
        return draining

    async def _finish(self, connections: IDrainable, stopping: Sequence[Deferred[Any]]) -> None:
        for stopped in stopping:
            await stopped
        await connections.empty()
        for idle in self._work:
            await idle()


class Signals:
    """Signals as calls in the reactor; installed when the reactor runs, because it installs its own then."""

    def __init__(self, reactor: Any, install: Callable[[int, Any], object] = signal.signal) -> None:
        self._reactor = reactor
        self._install = install

    def lead_to(self, handlers: Mapping[signal.Signals, Handler]) -> None:
        """Have each signal call its handler from now on, or from when the reactor runs."""
        self._reactor.callWhenRunning(self._install_all, dict(handlers))

    def _install_all(self, handlers: Mapping[signal.Signals, Handler]) -> None:
        for number, handler in handlers.items():
            self._install(number, lambda *_, handler=handler: self._reactor.callFromThread(handler))
