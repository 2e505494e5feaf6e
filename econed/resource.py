"""The resource at the root: HTTP in, the one pipeline through which every request goes, HTTP out.

Decode, authenticate, dispatch, run, encode; whatever fails on the way becomes an answer in `econed.answers` and nowhere
else.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from econed.actions.call import Call
from econed.actions.pacing import PARAMETER, Pacer, WorkBudget
from econed.actions.shared_reads import SharedReads
from econed.answers import failure
from econed.auth.sigv4 import signed_region
from econed.errors import EC2Error
from econed.http.computations import Computing
from econed.http.limits import Limits
from econed.http.malloc import trim
from econed.http.response import ALLOWED, PRODUCED_FROM, Answer, Response
from econed.http.response_memory import AnswerMemory
from econed.http.work_in_progress import WorkInProgress
from econed.pipeline import Invocation, unsupported_body
from econed.telemetry.access_log import AccessRecord, call_logger
from econed.telemetry.log_lines import safe_message
from econed.telemetry.metrics import Metrics
from econed.telemetry.observed_calls import CallCounter, ObservedOpenNebula
from econed.wire.encoder import Encoder, ResponseBody, encode_error
from econed.wire.signed_request import SignedRequest

if TYPE_CHECKING:
    from econed.actions.action import Parts, Result
    from econed.config.settings import Settings
    from econed.dispatch import Dispatcher
    from econed.http.peers import Peers
    from econed.http.request import RawRequest
    from econed.interfaces import IAuthenticator, IImageFetcher, InThread, IOpenNebula, IScripts
    from econed.opennebula.file_templates import FileTypes
    from econed.user import User

_FORM = b"application/x-www-form-urlencoded"
_GONE = "ClientGone"
"""What the log and the metrics say of a request whose client went away before it had the answer."""


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
    on_read: Callable[[str], None] | None = None
    """Called with each element read from oned's documents; for tests."""
    metrics: Metrics = field(default_factory=Metrics)
    shared: SharedReads = field(default_factory=SharedReads)
    give_back: Callable[[], None] = trim
    """Gives memory that was freed back to the system."""


class EC2Resource(Resource):
    """Answers every request, whatever its path: a proxy in front may have one of its own."""

    isLeaf = True

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service
        self.changes = WorkInProgress()
        self._limits = Limits(service.settings, service.clock, service.peers.trusts, service.metrics.limit_exceeded)
        self.memory = AnswerMemory(service.clock, service.give_back)
        self._computing = Computing(service.in_thread)

    def render(self, request: RawRequest) -> int:
        """Take a request through the pipeline; whatever comes of it, it is answered, unless the client has gone."""
        exchange = _Exchange(self._service, self._limits, self.changes, self.memory, self._computing, request)
        running = Deferred.fromCoroutine(exchange.run())
        request.notifyFinish().addErrback(lambda _: running.cancel())
        return NOT_DONE_YET


class _Exchange:
    """One request and its answer."""

    def __init__(
        self,
        service: Service,
        limits: Limits,
        changes: WorkInProgress,
        memory: AnswerMemory,
        computing: Computing,
        request: RawRequest,
    ) -> None:
        self._service = service
        self._limits = limits
        self._changes = changes
        self._memory = memory
        self._computing = computing
        self._request = request
        self._peer = service.peers.of(request)
        self._id = str(uuid.uuid4())
        self._action = ""
        self._user = ""
        self._held = 0
        self._changing: Deferred[Any] | None = None
        self._is_counted = False
        self._tally = CallCounter()

    async def run(self) -> None:
        """Answer the request, count it, and say so in the log."""
        began = self._service.clock.seconds()
        self._service.metrics.request_started()
        response = Response(self._request, self._id, self._release)
        answer, code = Answer(0, deque()), _GONE
        try:
            answer = await self._answer()
            code = await self._sent(response, answer)
        except CancelledError:
            pass
        finally:
            if answer.rest is not None:
                await answer.rest.aclose()
            self._release(self._held)
            self._end()
            self._service.metrics.request_ended(self._action, code, self._service.clock.seconds() - began)
        AccessRecord(
            action=self._action,
            user=self._user,
            source=self._peer.address,
            status=answer.status,
            code=code,
            length=response.length,
            seconds=self._service.clock.seconds() - began,
            oned_calls=self._tally.calls,
            oned_seconds=self._tally.seconds,
            request_id=self._id,
        ).write(self._service.log)

    async def _sent(self, response: Response, answer: Answer) -> str:
        """Send an answer; return EC2's code of what went wrong before or while it was sent."""
        try:
            await response.send(answer)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the one boundary: the status is out, only the end can tell
            response.break_off()
            return self._failed(error).code
        return answer.code

    async def _answer(self) -> Answer:
        try:
            return await self._carried_out()
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the one boundary: nothing else may reach the client
            return self._failed(error)

    def _failed(self, error: Exception) -> Answer:
        told = failure(error)
        if told.is_unforeseen:
            self._service.log.failure("request {request_id} failed", failure=Failure(error), request_id=self._id)
        elif error is not told.answer:
            self._service.log.warn("request {request_id}: {error}", error=safe_message(error), request_id=self._id)
        else:
            self._service.log.debug("request {request_id}: {error}", error=safe_message(error), request_id=self._id)
        answer = told.answer
        return Answer(answer.status, deque([encode_error(answer.code, answer.message, self._id)]), answer.code)

    async def _carried_out(self) -> Answer:
        signed = signed_request(self._request, self._peer.certificate)
        self._limits.check_parameter_count(signed.parameter_count)
        budget = WorkBudget(self._service.pacer)
        # A unit for each byte, as for each character of a pattern.
        work = PARAMETER * signed.parameter_count + signed.size
        await budget.spend(work)
        pairs = (*signed.query_pairs, *signed.form_pairs)
        self._action = next((value for name, value in pairs if name == "Action"), "")
        user = await self._caller(signed)
        self._user = user.name
        self._begin()
        await budget.spend(work)
        invocation = Invocation.of(self._service.dispatcher, self._call(user, signed, budget), pairs)
        body = invocation.body(self._service.encoder)
        result = await self._result(invocation)
        if isinstance(result, AsyncGenerator):
            return await self._begun(self._pieces(result, body))
        pieces = await self._encoded(body, result or {})
        pieces.append(body.end())
        length = sum(map(len, pieces))
        if length >= PRODUCED_FROM and invocation.route.action.only_reads:
            self._memory.check_room(self._user)
        self._hold(length)
        return Answer(200, pieces)

    def _call(self, user: User, signed: SignedRequest, budget: WorkBudget) -> Call:
        """Return the call of this request, without the parameters of its action."""
        service = self._service
        return Call.of(
            user,
            ObservedOpenNebula(service.one, service.clock, self._tally, call_logger(service.log, self._id)),
            service.on_read,
            settings=service.settings,
            clock=service.clock,
            in_thread=self._computing.of(user.name),
            scripts=service.scripts,
            budget=budget,
            endpoint=endpoint(self._request, self._peer.is_secure, service.settings.ssl_server),
            request_id=self._id,
            file_types=service.file_types,
            shared=service.shared,
            upload=self._request.upload,
            fetcher=service.fetcher,
            signed_region=signed_region(signed),
        )

    async def _begun(self, sets: AsyncGenerator[deque[bytes], None]) -> Answer:
        """Return an answer as far as it is made before its status goes out: what is short is whole by then.

        What fails until here is an error that the client is told.
        """
        begun: deque[bytes] = deque()
        try:
            async for pieces in sets:
                begun.extend(pieces)
                pieces.clear()
                if sum(map(len, begun)) >= PRODUCED_FROM:
                    return Answer(200, begun, rest=sets)
        except BaseException:
            await sets.aclose()
            raise
        return Answer(200, begun)

    async def _pieces(self, result: Parts[Any], body: ResponseBody) -> AsyncGenerator[deque[bytes], None]:
        """Yield the body of a result that comes in parts, each encoded at once, so that nothing else of it stays."""
        async with aclosing(result):
            while True:
                async with self._memory.turn(self._user):
                    pieces = await self._next(result, body)
                if pieces is None:
                    break
                yield pieces
        yield deque([body.end()])

    async def _next(self, result: Parts[Any], body: ResponseBody) -> deque[bytes] | None:
        """Return the next part of a result, encoded; None at its end."""
        try:
            part = await result.__anext__()  # anext() with a default takes apart what it is sent, in Python 3.11
        except StopAsyncIteration:
            return None
        pieces = await self._encoded(body, part)
        pieces.append(body.take())
        self._hold(sum(map(len, pieces)))
        return pieces

    async def _caller(self, signed: SignedRequest) -> User:
        """Return who sent the request, unless there are too many from where it comes, or of his."""
        self._limits.check_address(self._peer.address)
        try:
            user = await self._service.authenticator.authenticate(signed)
        except EC2Error:
            self._limits.record_failure(self._peer.address)
            raise
        self._limits.check_rate(user.name)
        return user

    async def _result(self, invocation: Invocation) -> Result | Parts[Any]:
        """Run an action to its end: one that changes something is not cancelled when the client disconnects."""
        running = Deferred.fromCoroutine(invocation.run())
        if not invocation.route.action.only_reads:
            self._changing = running
            running = self._changes.shielded(running)
        result: Result | Parts[Any] = await running
        return result

    async def _encoded(self, body: ResponseBody, part: Mapping[str, Any]) -> deque[bytes]:
        """Encode a part of a result, giving way to other requests between its slices."""
        pieces: deque[bytes] = deque()
        for piece in body.slices(part):
            pieces.append(piece)
            await self._service.pacer.turn()
        return pieces

    # What the request takes

    def _begin(self) -> None:
        self._limits.begin(self._user)
        self._is_counted = True

    def _end(self) -> None:
        """Let the caller have another request, as soon as what this one changes is done."""
        if not self._is_counted:
            return
        if self._changing is None or self._changing.called:
            self._limits.end(self._user)
        else:
            self._changing.addBoth(self._ended)

    def _ended(self, result: Any) -> Any:
        self._limits.end(self._user)
        return result

    def _hold(self, count: int) -> None:
        self._held += count
        self._memory.hold(self._user, count)

    def _release(self, count: int) -> None:
        count = min(count, self._held)
        self._held -= count
        self._memory.release(self._user, count)


def signed_request(request: RawRequest, certificate: bytes | None = None) -> SignedRequest:
    """Return a request as it was received; raises `EC2Error` for one that cannot be EC2's at all.

    `certificate` is the client's (DER), if it brought one.
    """
    if request.refusal is not None:
        raise request.refusal
    if request.method not in ALLOWED:
        raise EC2Error("MethodNotAllowed", "Only GET and POST are taken.", HTTPStatus.METHOD_NOT_ALLOWED)
    assert request.content is not None  # noqa: S101 - read in full before it is rendered
    fields = None if request.upload is None else request.upload.fields
    body = request.content.read()
    if body and request.media_type != _FORM:
        raise unsupported_body()
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
