"""The administrator's port: liveness, readiness and metrics of econed.

It serves plain HTTP on 127.0.0.1, separate from the port for clients: it responds even when that port has no
free connection, and other machines cannot reach it.

It does without twisted.web.server, whose resources and sessions would take 2.5 MB of the supervisor.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from twisted.application.internet import StreamServerEndpointService
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPFactory, Request, datetimeToString

from econed.process.interfaces import IWatched
from econed.process.listening import CannotListen, admin_address, adopt, bind_all
from econed.telemetry.exposition import exposition
from econed.telemetry.merging import gauge, merged
from econed.telemetry.metrics import Snapshot

REJECTED = "oned rejects the credentials of serveradmin"
"""Why a daemon is not ready whose own account oned does not accept: every request would fail."""

TIMEOUT = 5.0
"""Seconds after which a response is sent, even if the serving processes have not replied."""

_IDLE_TIMEOUT = 60
"""Seconds after which an idle connection is closed."""

_TEXT = "text/plain; charset=utf-8"


def admin_service(reactor: Any, port: int, watched: IWatched, log: Logger) -> StreamServerEndpointService:
    """Return the service that serves the state of `watched` on `port`; 0 is any free port.

    The port is bound at once, so that a port in use is an error before anything starts: raises `CannotListen`.
    """
    try:
        (bound,) = bind_all((admin_address(port),))
    except CannotListen as error:
        raise CannotListen(f"admin_port: {error}") from None
    listener = adopt(reactor, bound.socket, is_tls=False, where=bound.where)
    return StreamServerEndpointService(listener.endpoint, AdminSite(AdminPages(watched, reactor, log), reactor))


class _Request(Request):
    """A request whose body is ignored."""

    def __init__(self, respond: Callable[[Request], None], *arguments: Any) -> None:
        """`arguments` are those of `Request`."""
        super().__init__(*arguments)
        self._respond = respond

    def handleContentChunk(self, data: bytes) -> None:
        """Discard the data."""

    def process(self) -> None:
        """Respond to the request, which has been received completely."""
        self._respond(self)


class AdminSite(HTTPFactory):
    """The HTTP server of the administrator's port. It has no access log: it is polled every few seconds."""

    noisy = False

    def __init__(self, pages: AdminPages, reactor: IReactorTime) -> None:
        super().__init__(timeout=_IDLE_TIMEOUT, reactor=reactor)
        self._pages = pages

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Return the protocol for a connection."""
        channel: Any = super().buildProtocol(addr)
        channel.requestFactory = partial(_Request, self._pages.respond)
        return channel

    def log(self, request: object) -> None:
        """Log nothing."""


class AdminPages:
    """/healthz, /readyz and /metrics."""

    def __init__(self, watched: IWatched, clock: IReactorTime, log: Logger) -> None:
        self._watched = watched
        self._clock = clock
        self._log = log
        self._pages = {b"/healthz": self._health, b"/readyz": self._readiness, b"/metrics": self._metrics}

    def respond(self, request: Request) -> None:
        """Respond to GET or HEAD of one of the paths, within `TIMEOUT` seconds."""
        page = self._pages.get(request.path)
        if page is None:
            _send(request, _text_body(request, 404, "The paths are /healthz, /readyz and /metrics."))
            return
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"allow", b"GET, HEAD")
            _send(request, _text_body(request, 405, "The methods are GET and HEAD."))
            return
        rendering = Deferred.fromCoroutine(page(request))
        request.notifyFinish().addErrback(lambda _: rendering.cancel())
        rendering.addTimeout(TIMEOUT, self._clock)
        rendering.addCallbacks(partial(_send, request), partial(self._send_error, request))

    async def _health(self, request: Request) -> bytes:
        """Always respond "ok": any fault that a restart would repair shows as a missing response."""
        return _status_body(request, None)

    async def _readiness(self, request: Request) -> bytes:
        reason = self._watched.unready_reason() or oned_problem(merged(await self._watched.snapshots()))
        return _status_body(request, reason)

    async def _metrics(self, request: Request) -> bytes:
        counts = merged(await self._watched.snapshots())
        is_ready = (self._watched.unready_reason() or oned_problem(counts)) is None
        counts["econed_ready"] = [([], [float(is_ready)])]
        text, media_type = exposition(counts, (request.getHeader("accept") or ""))
        request.setHeader(b"content-type", media_type.encode())
        return text

    def _send_error(self, request: Request, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        if failure.check(DeferredTimeout):
            _send(request, _text_body(request, 503, "The serving processes do not reply."))
        else:
            self._log.failure("request to the administrator's port failed", failure=failure)
            _send(request, _text_body(request, 500, "The error is in the log."))


def oned_problem(counts: Snapshot) -> str | None:
    """Return since when oned has not replied to any process, or that it accepts none; None if it serves one."""
    if gauge(counts, "econed_oned_reachable"):
        return REJECTED if gauge(counts, "econed_oned_credentials_rejected") else None
    last_reply = gauge(counts, "econed_oned_last_answer_timestamp_seconds")
    if not last_reply:
        return "oned has not replied yet"
    return f"oned last replied at {datetime.fromtimestamp(last_reply, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _status_body(request: Request, reason: str | None) -> bytes:
    return _text_body(request, 200 if reason is None else 503, reason or "ok")


def _text_body(request: Request, status: int, text: str) -> bytes:
    """Set the status and type of the response, and return its body."""
    request.setResponseCode(status)
    request.setHeader(b"content-type", _TEXT.encode())
    return f"{text}\n".encode()


def _send(request: Request, body: bytes) -> None:
    request.setHeader(b"content-length", b"%d" % len(body))
    request.setHeader(b"cache-control", b"no-store")
    request.setHeader(b"date", datetimeToString())
    request.write(body)
    request.finish()
