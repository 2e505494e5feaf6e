"""The resource at the root: HTTP in, the one pipeline through which every request goes, HTTP out.

Decode, authenticate, dispatch, run, encode; whatever fails on the way becomes an answer in `econed.answers` and nowhere
else.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPullProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from econed.access_log import Access, said_calls
from econed.actions.call import Call, dry_run_succeeded
from econed.actions.pacing import Pacer, WorkBudget
from econed.answers import failure
from econed.auth.request import SignedRequest
from econed.auth.sigv4 import signed_region
from econed.dispatch import Route
from econed.errors import EC2Error
from econed.limits import Limits
from econed.log_lines import harmless
from econed.metrics import Metrics
from econed.observed import Observed, Tally
from econed.under_way import UnderWay
from econed.wire.encoder import Encoder, encode_error
from econed.wire.parameters import decode
from econed.wire.query import Pairs, value_of

if TYPE_CHECKING:
    from econed.actions.instance_types import FileTypes
    from econed.auth.users import User
    from econed.dispatch import Dispatcher
    from econed.interfaces import IAuthenticator, IImageFetcher, InThread, IOpenNebula, IScripts
    from econed.peers import Peers
    from econed.raw_request import RawRequest
    from econed.settings import Settings

_VERSION = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_FORM = b"application/x-www-form-urlencoded"
_WITH_A_FILE = "UploadImage"
_CONTENT_TYPE = b"text/xml;charset=UTF-8"
_SERVER = b"AmazonEC2"  # what Amazon says; a version would tell strangers which holes to try
_ALLOWED = (b"GET", b"POST")

PRODUCED_FROM = 1 << 16
"""Bytes from which an answer is sent no faster than the client reads it; at once, Twisted would cut a slow one off."""


@dataclass(frozen=True)
class Service:
    """What requests are carried out with, put together once when the daemon starts."""

    dispatcher: Dispatcher
    authenticator: IAuthenticator
    peers: Peers
    encoder: Encoder
    one: IOpenNebula
    settings: Settings
    clock: IReactorTime
    in_thread: InThread
    log: Logger
    scripts: IScripts
    pacer: Pacer
    file_types: FileTypes | None = None
    """The files of the instance types by their names; None where they are OpenNebula templates."""
    fetcher: IImageFetcher | None = None
    """Fetches images from URLs; None: oned alone does."""
    note: Callable[[str], None] | None = None
    """Is told which elements of oned's documents are read, for the tests."""
    metrics: Metrics = field(default_factory=Metrics)


@dataclass(frozen=True)
class Answer:
    """What goes back: an HTTP status, the body in pieces, and EC2's code of what went wrong (empty if nothing did)."""

    status: int
    pieces: tuple[bytes, ...]
    code: str = ""

    @property
    def length(self) -> int:
        """The bytes of the body."""
        return sum(map(len, self.pieces))


class EC2Resource(Resource):
    """Answers every request, whatever its path: a proxy in front may have one of its own."""

    isLeaf = True

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service
        self.under_way = UnderWay()
        self._limits = Limits(service.settings, service.clock, service.peers.trusts, service.metrics.refused)

    def render(self, request: RawRequest) -> int:
        """Take a request through the pipeline; whatever comes of it, it is answered, unless the client has gone."""
        running = Deferred.fromCoroutine(_Exchange(self._service, self._limits, self.under_way, request).run())
        request.notifyFinish().addErrback(lambda _: running.cancel())
        return NOT_DONE_YET


class _Exchange:
    """One request and its answer."""

    def __init__(self, service: Service, limits: Limits, under_way: UnderWay, request: RawRequest) -> None:
        self._service = service
        self._limits = limits
        self._under_way = under_way
        self._request = request
        self._peer = service.peers.of(request)
        self._id = str(uuid.uuid4())
        self._action = ""
        self._user = ""
        self._tally = Tally()

    async def run(self) -> None:
        """Answer the request, count it, and say so in the log."""
        began = self._service.clock.seconds()
        self._service.metrics.request_began()
        answer = Answer(0, (), "ClientGone")
        try:
            answer = await self._answer()
            self._send(answer)
        except CancelledError:
            pass
        finally:
            self._service.metrics.request_ended(self._action, answer.code, self._service.clock.seconds() - began)
        Access(
            action=self._action,
            user=self._user,
            source=self._peer.address,
            status=answer.status,
            code=answer.code,
            length=answer.length,
            seconds=self._service.clock.seconds() - began,
            oned_calls=self._tally.calls,
            oned_seconds=self._tally.seconds,
            request_id=self._id,
        ).say(self._service.log)

    async def _answer(self) -> Answer:
        try:
            return Answer(200, await self._carried_out())
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the one boundary: nothing else may reach the client
            return self._failed(error)

    def _failed(self, error: Exception) -> Answer:
        told = failure(error)
        if told.is_unforeseen:
            self._service.log.failure("request {request_id} failed", failure=Failure(error), request_id=self._id)
        elif error is not told.answer:
            self._service.log.warn("request {request_id}: {error}", error=harmless(error), request_id=self._id)
        else:
            self._service.log.debug("request {request_id}: {error}", error=harmless(error), request_id=self._id)
        answer = told.answer
        return Answer(answer.status, (encode_error(answer.code, answer.message, self._id),), answer.code)

    async def _carried_out(self) -> tuple[bytes, ...]:
        signed = signed_request(self._request, self._peer.certificate)
        self._limits.demand_few(signed.parameters)
        pairs = (*signed.query_pairs, *signed.form_pairs)
        self._action = next((value for name, value in pairs if name == "Action"), "")
        user = await self._caller(signed)
        self._user = user.name
        action, version = _asked(pairs)
        route = self._service.dispatcher.find(action)
        if self._request.upload is not None and action != _WITH_A_FILE:
            raise _unsupported_body()
        parameters = decode(route.operation, pairs, optional=route.optional)
        dry_run = parameters.pop("DryRun", False)
        admitted = route.admitted(parameters)
        call = Call.of(
            user,
            Observed(self._service.one, self._service.clock, self._tally, said_calls(self._service.log, self._id)),
            self._service.note,
            settings=self._service.settings,
            clock=self._service.clock,
            in_thread=self._service.in_thread,
            scripts=self._service.scripts,
            budget=WorkBudget(self._service.pacer),
            endpoint=endpoint(self._request, self._peer.is_secure, self._service.settings.ssl_server),
            request_id=self._id,
            file_types=self._service.file_types,
            parameters=admitted,
            upload=self._request.upload,
            fetcher=self._service.fetcher,
            signed_region=signed_region(signed),
        )
        result = await _run(route, call.as_dry_run() if dry_run else call, self._under_way)
        return await self._encoded(route, result or {}, version)

    async def _caller(self, signed: SignedRequest) -> User:
        """Return who sent the request, unless there are too many from where it comes, or of his."""
        self._limits.demand_good_faith(self._peer.address)
        try:
            user = await self._service.authenticator.authenticate(signed)
        except EC2Error:
            self._limits.failed(self._peer.address)
            raise
        self._limits.admit(user.name)
        return user

    async def _encoded(self, route: Route, result: Any, version: str) -> tuple[bytes, ...]:
        """Encode a result, giving way to other requests between its slices."""
        pieces: list[bytes] = []
        for piece in self._service.encoder.slices(route.operation, result, version=version, request_id=self._id):
            if pieces:
                await self._service.pacer.turn()
            pieces.append(piece)
        return tuple(pieces)

    def _send(self, answer: Answer) -> None:
        request = self._request
        request.setResponseCode(answer.status)
        request.setHeader(b"server", _SERVER)
        request.setHeader(b"content-type", _CONTENT_TYPE)
        request.setHeader(b"content-length", b"%d" % answer.length)
        request.setHeader(b"x-amzn-requestid", self._id.encode())
        request.setHeader(b"cache-control", b"no-cache, no-store")
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            request.setHeader(b"allow", b", ".join(_ALLOWED))  # RFC 9110, 15.5.6
        if answer.length < PRODUCED_FROM:
            request.write(b"".join(answer.pieces))
            request.finish()
        else:
            request.registerProducer(_Pieces(request, answer.pieces), False)


@implementer(IPullProducer)
class _Pieces:
    """Writes a body piece by piece, each when the client has taken the one before."""

    def __init__(self, request: RawRequest, pieces: Iterable[bytes]) -> None:
        self._request = request
        self._pieces = iter(pieces)

    def resumeProducing(self) -> None:
        piece = next(self._pieces, None)
        if piece is not None:
            self._request.write(piece)
        else:
            self._request.unregisterProducer()
            self._request.finish()

    def stopProducing(self) -> None:
        self._pieces = iter(())


def signed_request(request: RawRequest, certificate: bytes | None = None) -> SignedRequest:
    """Return a request as it was received; raises `EC2Error` for one that cannot be EC2's at all.

    `certificate` is the client's (DER), if it brought one.
    """
    if request.refusal is not None:
        raise request.refusal
    if request.method not in _ALLOWED:
        raise EC2Error("MethodNotAllowed", "Only GET and POST are taken.", HTTPStatus.METHOD_NOT_ALLOWED)
    assert request.content is not None  # noqa: S101 - read in full before it is rendered
    fields = None if request.upload is None else request.upload.fields
    body = request.content.read()
    if body and request.media_type != _FORM:
        raise _unsupported_body()
    path, _, query = request.uri.partition(b"?")
    headers = tuple(
        (name.decode("latin-1").lower(), value)
        for name, values in request.requestHeaders.getAllRawHeaders()
        for value in values
    )
    return SignedRequest(request.method.decode("ascii"), path, query, headers, body, fields, certificate)


def endpoint(request: RawRequest, is_secure: bool, ssl_server: str | None) -> str:
    """Return the URL of this server as the client reached it: `ssl_server` if that is set, else by its Host header."""
    if ssl_server is not None:
        return ssl_server
    host = request.getHeader(b"host") or request.getRequestHostname()
    return f"{'https' if is_secure else 'http'}://{host.decode('latin-1')}"


def _unsupported_body() -> EC2Error:
    return EC2Error("UnsupportedMediaType", "A body has to be application/x-www-form-urlencoded.", 415)


def _asked(pairs: Pairs) -> tuple[str, str]:
    action, version = value_of(pairs, "Action"), value_of(pairs, "Version")
    if not action:
        raise EC2Error("MissingAction", "The request must contain the parameter Action")
    if not version:
        raise EC2Error("MissingParameter", "The request must contain the parameter Version")
    if not _VERSION.fullmatch(version):
        raise EC2Error("NoSuchVersion", "The requested version of service AmazonEC2 does not exist")
    return action, version


async def _run(route: Route, call: Call, under_way: UnderWay) -> Any:
    """Run an action to its end: one that changes something is not broken off when the client goes."""
    running = Deferred.fromCoroutine(route.action.run(call, **route.action.keywords(call.parameters)))
    result = await (running if route.action.only_reads else under_way.shielded(running))
    if call.dry_run:
        raise dry_run_succeeded()
    return result
