"""The root resource: it authenticates a request, checks the limits, runs the action and sends the response.

An exception anywhere in between becomes an error response by `econed.answers`, and nowhere else.
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

from econed.actions.call import Call, sessions_of
from econed.actions.pacing import PARAMETER_COST, Pacer, WorkBudget
from econed.actions.process_memory import ProcessMemory
from econed.answers import failure
from econed.auth.failures import AuthenticationFailed
from econed.auth.sigv4 import service_in_header, signed_region
from econed.errors import EC2Error
from econed.http.computations import Computations
from econed.http.heap import trim
from econed.http.limits import Limits
from econed.http.response import ALLOWED_METHODS, STREAMING_THRESHOLD, EncodedResponse, ResponseWriter
from econed.http.response_memory import ResponseMemory
from econed.http.work_in_progress import WorkInProgress
from econed.pipeline import Invocation, unsupported_body
from econed.services import AmazonService
from econed.telemetry.access_log import AccessRecord, call_logger
from econed.telemetry.audit_log import AuditLog, CallAudit
from econed.telemetry.log_lines import safe_message
from econed.telemetry.metrics import Metrics
from econed.telemetry.observed_calls import CallCounter, ObservedOpenNebula
from econed.wire.encoder import Encoder, ResponseBody, encode_error
from econed.wire.signed_request import SignedRequest

if TYPE_CHECKING:
    from econed.actions.action import Parts, Result
    from econed.calls.queue import CallQueue
    from econed.config.settings import Settings
    from econed.dispatch import Dispatcher
    from econed.http.peers import Peers
    from econed.http.request import RawRequest
    from econed.interfaces import IAuthenticator, IImageFetcher, InThread, IScripts
    from econed.opennebula.file_templates import FileTypes
    from econed.sealing import Sealer
    from econed.user import Sender

_FORM = b"application/x-www-form-urlencoded"
_CLIENT_GONE = "ClientGone"
"""The code in the log and the metrics of a request whose client disconnected before it had the response."""


@dataclass(frozen=True)
class Service:
    """The parts of the daemon that carry out requests, assembled once when it starts."""

    dispatcher: Dispatcher
    authenticator: IAuthenticator
    peers: Peers
    encoder: Encoder
    calls: CallQueue
    settings: Settings
    clock: IReactorTime
    in_thread: InThread
    log: Logger
    scripts: IScripts
    pacer: Pacer
    memory: ProcessMemory
    sealer: Sealer
    file_types: FileTypes | None = None
    """The files of the instance types by name; None if instance types are OpenNebula templates."""
    fetcher: IImageFetcher | None = None
    """Fetches images from URLs; None: only oned does."""
    on_read: Callable[[str], None] | None = None
    """Called with each element read from oned's documents; for tests."""
    metrics: Metrics = field(default_factory=Metrics)
    audit_log: AuditLog | None = None
    """Receives the calls that changed something or were refused; None: there is no such log."""
    trim_heap: Callable[[], None] = trim
    """Returns freed memory to the system."""


class EC2Resource(Resource):
    """Serves every request, whatever its path: a proxy in front may add a path."""

    isLeaf = True

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service
        self.changes = WorkInProgress()
        self._limits = Limits(service.settings, service.clock, service.peers.trusts, service.metrics.limit_exceeded)
        self.memory = ResponseMemory(service.clock, service.trim_heap)
        self._computations = Computations(service.in_thread)

    def render(self, request: RawRequest) -> int:
        """Carry a request out; it always gets a response, unless the client disconnects first."""
        exchange = _Exchange(self._service, self._limits, self.changes, self.memory, self._computations, request)
        running = Deferred.fromCoroutine(exchange.run())
        request.notifyFinish().addErrback(lambda _: running.cancel())
        return NOT_DONE_YET


class _Exchange:
    """One request and its response."""

    def __init__(
        self,
        service: Service,
        limits: Limits,
        changes: WorkInProgress,
        memory: ResponseMemory,
        computations: Computations,
        request: RawRequest,
    ) -> None:
        self._service = service
        self._limits = limits
        self._changes = changes
        self._memory = memory
        self._computations = computations
        self._request = request
        self._peer = service.peers.of(request)
        self._id = str(uuid.uuid4())
        self._called: AmazonService | None = None
        """The service that the request asks for; None until its parameters have been read."""
        self._action = ""
        self._user = ""
        self._refused_key = ""
        self._refusal_reason = ""
        self._audit = CallAudit(service.audit_log, self._peer.address, self._id)
        self._held_bytes = 0
        self._running_change: Deferred[Any] | None = None
        self._is_in_flight = False
        self._oned_calls = CallCounter()

    async def run(self) -> None:
        """Carry the request out, send the response, then count and log the request."""
        started_at = self._service.clock.seconds()
        self._service.metrics.request_started()
        writer = ResponseWriter(self._request, self._id, self._release)
        response, code = EncodedResponse(0, deque()), _CLIENT_GONE
        try:
            response = await self._response()
            code = await self._send(writer, response)
        except CancelledError:
            pass
        finally:
            if response.more_pieces is not None:
                await response.more_pieces.aclose()
            self._release(self._held_bytes)
            self._end_request()
            self._service.metrics.request_ended(self._action, code, self._service.clock.seconds() - started_at)
        AccessRecord(
            action=self._action,
            user=self._user,
            source=self._peer.address,
            status=response.status,
            code=code,
            length=writer.length,
            seconds=self._service.clock.seconds() - started_at,
            oned_calls=self._oned_calls.calls,
            oned_seconds=self._oned_calls.seconds,
            request_id=self._id,
            refused_key=self._refused_key,
            refusal_reason=self._refusal_reason,
        ).write(self._service.log)

    async def _send(self, writer: ResponseWriter, response: EncodedResponse) -> str:
        """Send a response; return EC2's error code if the request failed before or while it was sent, else ""."""
        try:
            await writer.send(response)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the status is sent: only aborting can tell the client
            writer.abort()
            return self._error_response(error).code
        return response.code

    async def _response(self) -> EncodedResponse:
        try:
            return await self._carry_out()
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - every exception becomes an error response here
            return self._error_response(error)

    def _error_response(self, error: Exception) -> EncodedResponse:
        service = self._service_for_errors()
        failed = failure(error, service)
        if isinstance(error, AuthenticationFailed):
            self._refused_key, self._refusal_reason = error.key, error.reason
            self._audit.not_authenticated(self._action, error.key, failed.error.code, error.reason)
        elif failed.is_refusal:
            self._audit.failed(failed.error.code, failed.cause)
        if failed.is_unforeseen:
            self._service.log.failure("request {request_id} failed", failure=Failure(error), request_id=self._id)
        elif failed.cause is not None:
            cause = safe_message(failed.cause)
            self._service.log.warn("request {request_id}: {error}", error=cause, request_id=self._id)
        else:
            self._service.log.debug("request {request_id}: {error}", error=safe_message(error), request_id=self._id)
        body = encode_error(service, failed.error, self._id)
        return EncodedResponse(failed.error.status, deque([body]), failed.error.code)

    def _service_for_errors(self) -> AmazonService:
        """Return the service that the request asks for; if its parameters cannot be read, that of its signature."""
        return self._called or service_in_header(self._request.getHeader(b"authorization") or b"")

    async def _carry_out(self) -> EncodedResponse:
        signed = signed_request(self._request, self._peer.certificate)
        self._limits.check_parameter_count(signed.parameter_count)
        budget = WorkBudget(self._service.pacer)
        # A unit for each byte, as for each character of a pattern.
        work = PARAMETER_COST * signed.parameter_count + signed.size
        await budget.spend(work)
        pairs, self._called = signed.pairs, signed.service
        self._action = next((value for name, value in pairs if name == "Action"), "")
        sender = await self._authenticate(signed)
        user = sender.user
        self._user = user.name
        self._audit.begin(sender, self._action)
        self._begin_request()
        self._audit.name(pairs)
        await budget.spend(work)
        invocation = Invocation.of(self._service.dispatcher, self._call(sender, signed, budget), pairs)
        body = invocation.body(self._service.encoder)
        result = await self._run(invocation)
        if isinstance(result, AsyncGenerator):
            return await self._long_response(self._encode_parts(result, body))
        pieces = await self._encode(body, result or {})
        pieces.append(body.end())
        length = sum(map(len, pieces))
        if length >= STREAMING_THRESHOLD and invocation.route.action.only_reads:
            self._memory.check_room(self._user)
        self._hold(length)
        return EncodedResponse(200, pieces)

    def _call(self, sender: Sender, signed: SignedRequest, budget: WorkBudget) -> Call:
        """Return the call of this request, without the parameters of its action."""
        service, user = self._service, sender.user
        oned = ObservedOpenNebula(
            service.calls.for_user(user), service.clock, self._oned_calls, call_logger(service.log, self._id)
        )
        session, serveradmin = sessions_of(user, oned, service.memory, service.on_read)
        return Call(
            caller=user,
            credential=sender.credential,
            session=session,
            serveradmin=serveradmin,
            settings=service.settings,
            clock=service.clock,
            in_thread=self._computations.of(user.name),
            scripts=service.scripts,
            budget=budget,
            endpoint=endpoint(self._request, self._peer.is_secure, service.settings.ssl_server),
            request_id=self._id,
            file_types=service.file_types,
            memory=service.memory,
            sealer=service.sealer,
            upload=self._request.upload,
            fetcher=service.fetcher,
            signed_region=signed_region(signed),
        )

    async def _long_response(self, encoded_parts: AsyncGenerator[deque[bytes], None]) -> EncodedResponse:
        """Return a response with its first `STREAMING_THRESHOLD` bytes encoded, which is all of a short response.

        An exception until then becomes an error response; later the status is sent already.
        """
        beginning: deque[bytes] = deque()
        try:
            async for pieces in encoded_parts:
                beginning.extend(pieces)
                pieces.clear()
                if sum(map(len, beginning)) >= STREAMING_THRESHOLD:
                    return EncodedResponse(200, beginning, more_pieces=encoded_parts)
        except BaseException:
            await encoded_parts.aclose()
            raise
        return EncodedResponse(200, beginning)

    async def _encode_parts(self, result: Parts[Any], body: ResponseBody) -> AsyncGenerator[deque[bytes], None]:
        """Yield the body of a result that comes in parts; each part is encoded immediately and then dropped."""
        async with aclosing(result):
            while True:
                async with self._memory.turn(self._user):
                    pieces = await self._encode_next(result, body)
                if pieces is None:
                    break
                yield pieces
        yield deque([body.end()])

    async def _encode_next(self, result: Parts[Any], body: ResponseBody) -> deque[bytes] | None:
        """Return the next part of a result, encoded; None at its end."""
        try:
            part = await result.__anext__()  # anext() with a default unpacks what is sent to it, in Python 3.11
        except StopAsyncIteration:
            return None
        pieces = await self._encode(body, part)
        pieces.append(body.take())
        self._hold(sum(map(len, pieces)))
        return pieces

    async def _authenticate(self, signed: SignedRequest) -> Sender:
        """Return who sent the request; raises `EC2Error` if authentication fails, or failed too often before."""
        self._limits.check_address(self._peer.address)
        try:
            return await self._service.authenticator.authenticate(signed)
        except EC2Error:
            self._limits.record_failure(self._peer.address)
            raise

    async def _run(self, invocation: Invocation) -> Result | Parts[Any]:
        """Run the action; if it may change something, it is not cancelled when the client disconnects."""
        if invocation.route.action.only_reads:
            return await invocation.run()
        running = invocation.run() if invocation.call.dry_run else self._change(invocation)
        self._running_change = Deferred.fromCoroutine(running)
        result: Result | Parts[Any] = await self._changes.shielded(self._running_change)
        return result

    async def _change(self, invocation: Invocation) -> Result | Parts[Any]:
        """Run an action that may change something, and audit it, even if the client has disconnected."""
        try:
            result = await invocation.run()
        except Exception as error:
            failed = failure(error, self._service_for_errors())
            self._audit.failed(failed.error.code, failed.cause)
            raise
        self._audit.succeeded(result)
        return result

    async def _encode(self, body: ResponseBody, part: Mapping[str, Any]) -> deque[bytes]:
        """Encode a part of a result, letting the reactor run between its slices."""
        pieces: deque[bytes] = deque()
        for piece in body.slices(part):
            pieces.append(piece)
            await self._service.pacer.turn()
        return pieces

    # Limits that the request counts against

    def _begin_request(self) -> None:
        """Count the request for its user; raises `EC2Error` if they have too many, which the audit log records."""
        self._limits.check_rate(self._user)
        self._limits.begin_request(self._user)
        self._is_in_flight = True

    def _end_request(self) -> None:
        """Stop counting the request as in flight, or if it makes a change, once that change is complete."""
        if not self._is_in_flight:
            return
        if self._running_change is None or self._running_change.called:
            self._limits.end_request(self._user)
        else:
            self._running_change.addBoth(self._on_change_end)

    def _on_change_end(self, result: Any) -> Any:
        self._limits.end_request(self._user)
        return result

    def _hold(self, count: int) -> None:
        self._held_bytes += count
        self._memory.hold(self._user, count)

    def _release(self, count: int) -> None:
        count = min(count, self._held_bytes)
        self._held_bytes -= count
        self._memory.release(self._user, count)


def signed_request(request: RawRequest, certificate: bytes | None = None) -> SignedRequest:
    """Return a request as it was received; raises `EC2Error` for a request that EC2 does not accept.

    `certificate` is the client's (DER), if it presented one.
    """
    if request.refusal is not None:
        raise request.refusal
    if request.method not in ALLOWED_METHODS:
        raise EC2Error("MethodNotAllowed", "Only GET and POST are supported.", HTTPStatus.METHOD_NOT_ALLOWED)
    assert request.content is not None  # noqa: S101 - received in full before it is rendered
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
    """Return the URL of this server as the client reached it: `ssl_server` if set, else from the Host header."""
    if ssl_server is not None:
        return ssl_server
    host = request.getHeader(b"host") or request.getRequestHostname()
    return f"{'https' if is_secure else 'http'}://{host.decode('latin-1')}"
