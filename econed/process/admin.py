"""The administrator's port: whether econed lives, whether it is ready, and what it counts.

It is plain HTTP on 127.0.0.1, apart from the port of the clients: it answers when that is full, and nobody from outside
can ask it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from econed.process.interfaces import IWatched
from econed.process.listening import CannotListen, Place, adopted, bound
from econed.telemetry.merging import exposition, gauge, merged
from econed.telemetry.metrics import Metrics, Snapshot

HOST = "127.0.0.1"

PATIENCE = 5.0
"""Seconds after which a request is answered, whatever the processes do that are asked for it."""

_IDLE = 60
"""Seconds after which a connection on which nothing happens is closed."""

_TEXT = "text/plain; charset=utf-8"


def admin_service(reactor: Any, port: int, watched: IWatched, log: Logger) -> StreamServerEndpointService:
    """Return the service that tells what is to be known of `watched` on `port`; 0 is any free one.

    The port is bound at once, so that one that is taken is found before anything runs: raises `CannotListen`.
    """
    try:
        (socket,) = bound((Place(HOST, port, is_tls=False),))
    except CannotListen as error:
        raise CannotListen(f"admin_port: {error}") from None
    place = adopted(reactor, socket.socket, is_tls=False, where=socket.where)
    return StreamServerEndpointService(place.endpoint, AdminSite(AdminResource(watched, reactor, log), reactor))


class AdminPort:
    """The administrator's port as part of the service `parent`, and where the configuration wants it."""

    def __init__(self, reactor: Any, watched: IWatched, parent: MultiService, log: Logger) -> None:
        self._reactor = reactor
        self._watched = watched
        self._parent = parent
        self._log = log
        self._port: int | None = None
        self._service: StreamServerEndpointService | None = None

    def follow(self, port: int | None) -> None:
        """Listen on `port`, if on any; raises `CannotListen`, and then stays where it is."""
        if port == self._port:
            return
        made = None if port is None else admin_service(self._reactor, port, self._watched, self._log)
        if self._service is not None:
            self._service.disownServiceParent()
        if made is not None:
            made.setServiceParent(self._parent)
        self._port, self._service = port, made


class _Request(Request):
    """A request of which nobody wants a body: none is kept."""

    def handleContentChunk(self, data: bytes) -> None:
        """Drop it."""


class AdminSite(Site):
    """The administrator's port as HTTP; it says nothing in the log, since it is asked every few seconds."""

    def __init__(self, resource: Resource, reactor: IReactorTime) -> None:
        super().__init__(resource, requestFactory=_Request, reactor=reactor, timeout=_IDLE)

    def log(self, request: object) -> None:
        """Say nothing."""


class AdminResource(Resource):
    """/healthz, /readyz and /metrics."""

    isLeaf = True

    def __init__(self, watched: IWatched, clock: IReactorTime, log: Logger) -> None:
        super().__init__()
        self._watched = watched
        self._clock = clock
        self._log = log
        self._pages = {b"/healthz": self._health, b"/readyz": self._readiness, b"/metrics": self._metrics}

    def render(self, request: Request) -> bytes | int:
        """Answer a GET or HEAD of one of the paths, in `PATIENCE` seconds."""
        page = self._pages.get(request.path)
        if page is None:
            return _answered(request, 404, "There are /healthz, /readyz and /metrics.")
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"allow", b"GET, HEAD")
            return _answered(request, 405, "Only GET and HEAD are taken.")
        answering = Deferred.fromCoroutine(page(request))
        request.notifyFinish().addErrback(lambda _: answering.cancel())
        answering.addTimeout(PATIENCE, self._clock)
        answering.addCallbacks(partial(_send, request), partial(self._failed, request))
        return NOT_DONE_YET

    async def _health(self, request: Request) -> bytes:
        """Answer that it answers: nothing else would be mended by a restart."""
        return _worded(request, None)

    async def _readiness(self, request: Request) -> bytes:
        return _worded(request, self._watched.unready() or oned_missing(merged(await self._watched.snapshots())))

    async def _metrics(self, request: Request) -> bytes:
        numbers = merged(await self._watched.snapshots())
        is_ready = (self._watched.unready() or oned_missing(numbers)) is None
        numbers["econed_ready"] = [([], [float(is_ready)])]
        text, media_type = exposition(numbers, (request.getHeader("accept") or ""))
        request.setHeader(b"content-type", media_type.encode())
        return text

    def _failed(self, request: Request, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        if failure.check(DeferredTimeout):
            _send(request, _answered(request, 503, "The processes that serve do not answer."))
        else:
            self._log.failure("the administrator's port could not answer", failure=failure)
            _send(request, _answered(request, 500, "What happened is in the log."))


@implementer(IWatched)
class WatchedProcess:
    """One process that serves, without a supervisor."""

    def __init__(self, metrics: Metrics, is_draining: Callable[[], bool]) -> None:
        self._metrics = metrics
        self._is_draining = is_draining

    def unready(self) -> str | None:
        """See `IWatched.unready`; there is no process that does not listen."""
        return DRAINING if self._is_draining() else None

    async def snapshots(self) -> tuple[Snapshot, ...]:
        """See `IWatched.snapshots`."""
        return (self._metrics.snapshot(),)


DRAINING = "draining: it is about to end and takes no new connections"
"""Why a daemon is not ready that is to end."""


def oned_missing(numbers: Snapshot) -> str | None:
    """Return in words that oned has lately not answered to any process, None if it has."""
    if gauge(numbers, "econed_oned_reachable"):
        return None
    last = gauge(numbers, "econed_oned_last_answer_timestamp_seconds")
    if not last:
        return "oned has not answered yet"
    return f"oned last answered at {datetime.fromtimestamp(last, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _worded(request: Request, trouble: str | None) -> bytes:
    return _answered(request, 200 if trouble is None else 503, trouble or "ok")


def _answered(request: Request, status: int, text: str) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"content-type", _TEXT.encode())
    return f"{text}\n".encode()


def _send(request: Request, body: bytes) -> None:
    request.setHeader(b"content-length", b"%d" % len(body))
    request.setHeader(b"cache-control", b"no-store")
    request.write(body)
    request.finish()
