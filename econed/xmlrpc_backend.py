"""The client of oned: `IOpenNebula` over Twisted's XML-RPC proxy.

oned closes the connection after every answer, so none is kept. What the proxy lacks is added here: a session for each
user, one deadline for a whole call, a bound on calls at once, a second try for reads, decoding that holds up nobody.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from zope.interface import implementer

from econed.config.credentials import Certificate, Credentials
from econed.config.settings import Settings
from econed.errors import (
    OpenNebulaCode,
    OpenNebulaRefusal,
    OpenNebulaUnavailable,
    ServerAccountRefused,
)
from econed.interfaces import ICallLimiter, InThread, IOnedProxy, IOpenNebula
from econed.opennebula.methods import check_arguments, is_read_only
from econed.opennebula.replies import Scalar, parse_document, parse_value
from econed.opennebula.tokens import CertificateKey, CipherForm, PasswordKey, ServerKey, UnusableName, session_token
from econed.single_flight import SingleFlight
from econed.slots import Slots
from econed.xmlrpc.failover import TO_CONNECT, as_one
from econed.xmlrpc.leader import Standing, Zone
from econed.xmlrpc.proxy import OnedProxy, oned_endpoint

if TYPE_CHECKING:
    from lxml.etree import _Element

_T = TypeVar("_T")

_LOG = Logger(namespace="econed")

_INLINE_BYTES = 256 * 1024
"""Answers up to this size are decoded at once (a few milliseconds), larger ones in a thread."""


@dataclass(frozen=True)
class CallLimits:
    """The limits on the calls of one client of oned.

    `deadline` is in seconds and for a whole call: waiting in the queue, connecting, a second attempt, decoding.
    `reply_bytes` is the longest reply that is read. `calls` is how many are in flight at once: oned serves 15
    (MAX_CONN) for all its clients together.
    """

    deadline: float = 30.0
    reply_bytes: int = 256 * 1024 * 1024
    calls: int = 8


@implementer(IOpenNebula, ICallLimiter)
class XMLRPCBackend:
    """oned over XML-RPC, in the session of any user."""

    def __init__(
        self,
        proxy: IOnedProxy,
        server_user: str,
        key: ServerKey,
        clock: IReactorTime,
        in_thread: InThread,
        *,
        limits: CallLimits = CallLimits(),
        now: Callable[[], float] = time.time,
        zone: Zone | None = None,
        log: Logger = _LOG,
    ) -> None:
        """Speak to oned through `proxy`, as the server user (serveradmin) whom it trusts to speak for others.

        `key` is what he proves himself with. `clock` times the deadlines, `now` (seconds since the epoch) the tokens;
        large answers are decoded by `in_thread`. `zone` is only for `standings`; `log` hears of calls that are made
        a second time. Nothing is sent before the first call.
        """
        self._proxy = proxy
        self._server_user = server_user
        self._key = key
        self._clock = clock
        self._in_thread = in_thread
        self._limits = limits
        self._now = now
        self._zone = zone
        self._log = log
        self._slots = Slots(limits.calls)
        self._forms = _CipherForms(self._takes, key.forms)

    @classmethod
    def at(
        cls,
        reactor: Any,
        urls: Sequence[str],
        server_user: str,
        key: ServerKey,
        *,
        ca_file: Path | None = None,
        limits: CallLimits = CallLimits(),
        log: Logger = _LOG,
    ) -> XMLRPCBackend:
        """Return the backend for the oned at one URL or several, with the reactor's clock, connections and threads.

        For https URLs `ca_file` names the authorities to trust in place of the system's. Raises as `oned_endpoint`.
        """

        def in_thread(work: Callable[[], _T]) -> Deferred[_T]:
            return deferToThreadPool(reactor, reactor.getThreadPool(), work)

        def sessions() -> list[str]:
            return [session_token(server_user, key, None, time.time(), form) for form in key.forms]

        to_connect = limits.deadline if len(urls) == 1 else min(limits.deadline, TO_CONNECT)
        proxies = [
            OnedProxy(reactor, url, oned_endpoint(reactor, url, ca_file, to_connect), limits.reply_bytes)
            for url in urls
        ]
        zone = Zone(proxies, sessions, reactor)
        proxy = as_one(zone, reactor, random.random, log)
        return cls(proxy, server_user, key, reactor, in_thread, limits=limits, zone=zone, log=log)

    @classmethod
    def configured(cls, reactor: Any, settings: Settings, server: Credentials | Certificate) -> XMLRPCBackend:
        """Return the backend that econe.conf describes, with these server credentials; raises as `at`."""
        key = CertificateKey(server.key) if isinstance(server, Certificate) else PasswordKey(server.password)
        limits = CallLimits(settings.one_timeout, settings.one_max_reply, settings.one_calls)
        ca_file = None if settings.one_ca_file is None else Path(settings.one_ca_file)
        return cls.at(reactor, settings.one_xmlrpc, server.name, key, ca_file=ca_file, limits=limits)

    @property
    def calls_in_flight(self) -> int:
        """How many calls are being made (`ICallLimiter`)."""
        return self._slots.taken

    @property
    def calls_waiting(self) -> int:
        """How many wait for their turn (`ICallLimiter`)."""
        return self._slots.waiting

    async def call(self, user: str | None, method: str, *args: object) -> Scalar:
        """Call `method` and return the value of the reply (`IOpenNebula.call`)."""
        return await self._checked(user, method, args, parse_value)

    async def document(self, user: str | None, method: str, *args: object) -> _Element:
        """Call `method` and return the root of the document in the reply (`IOpenNebula.document`)."""
        return await self._checked(user, method, args, parse_document)

    async def standings(self) -> Sequence[Standing]:
        """Return how the servers stand to each other, asked now, each for itself."""
        return () if self._zone is None else await self._zone.standings()

    async def _checked(
        self, user: str | None, method: str, args: tuple[object, ...], decode: Callable[[str, bytes], _T]
    ) -> _T:
        check_arguments(method, args)
        return await self._in_time(method, self._authenticated(user, method, args, decode))

    async def _in_time(self, method: str, work: Coroutine[Deferred[Any], Any, _T]) -> _T:
        try:
            return await Deferred.fromCoroutine(work).addTimeout(self._limits.deadline, self._clock)
        except DeferredTimeout:
            raise OpenNebulaUnavailable(method, f"no answer within {self._limits.deadline:g} s") from None

    async def _authenticated(
        self, user: str | None, method: str, args: tuple[object, ...], decode: Callable[[str, bytes], _T]
    ) -> _T:
        """Make a call with a token of the form that oned takes; a form it has stopped taking is found out anew."""
        form = await self._forms.known()
        try:
            return await self._tried(user, form, method, args, decode)
        except OpenNebulaRefusal as refusal:
            # Refused before anything was done, so also a write may be called again.
            if refusal.code != OpenNebulaCode.AUTHENTICATION:
                raise
            if await self._forms.still(form):  # so the token was good, and it is the user whom oned does not know
                if user is None:
                    raise ServerAccountRefused(method, refusal.code, refusal.reason) from refusal
                raise
        return await self._tried(user, await self._forms.known(), method, args, decode)

    async def _tried(
        self,
        user: str | None,
        form: CipherForm,
        method: str,
        args: tuple[object, ...],
        decode: Callable[[str, bytes], _T],
    ) -> _T:
        try:
            session = session_token(self._server_user, self._key, user, self._now(), form)
        except UnusableName:
            raise OpenNebulaRefusal(method, OpenNebulaCode.AUTHENTICATION, "no user can have this name") from None
        try:
            body = await self._turn(method, session, args)
        except OpenNebulaUnavailable as error:
            if not is_read_only(method):
                raise
            self._log.debug("called a second time: {error}", error=str(error))
            body = await self._turn(method, session, args)
        if len(body) <= _INLINE_BYTES:
            return decode(method, body)
        only = [body]
        del body  # so that the decoder can let go of it
        return await self._in_thread(lambda: decode(method, only.pop()))

    async def _turn(self, method: str, session: str, args: tuple[object, ...]) -> bytes:
        async with self._slots:
            return await self._proxy.callRemote(method, session, *args)

    async def _takes(self, form: CipherForm) -> bool:
        """Whether oned takes tokens of this form, by asking who the server account is."""
        method = "one.user.info"
        try:
            await self._in_time(method, self._tried(None, form, method, (-1, False), parse_value))
        except OpenNebulaRefusal as refusal:
            if refusal.code == OpenNebulaCode.AUTHENTICATION:
                return False
            raise
        return True


class _CipherForms:
    """Which form of server tokens oned takes: found out once, and again when oned may have been upgraded."""

    def __init__(self, takes: Callable[[CipherForm], Awaitable[bool]], forms: Sequence[CipherForm]) -> None:
        self._takes = takes
        self._forms = forms
        self._form: CipherForm | None = None if len(forms) > 1 else forms[0]
        self._search = SingleFlight(self._find)

    async def known(self) -> CipherForm:
        """Return the form; raises what the calls to find out raise, a refusal if oned takes neither."""
        return self._form or await self._search.join()

    async def still(self, form: CipherForm) -> bool:
        """Whether oned takes this form still, which it took before; if not, `known` has the other one after this."""
        if self._form is not form:
            return False
        return await self._search.join() is form

    async def _find(self) -> CipherForm:
        first = self._form or self._forms[0]
        for form in (first, *(other for other in self._forms if other is not first)):
            if await self._takes(form):
                self._form = form
                return form
        reason = "oned takes no token of the server account: wrong credentials?"
        raise ServerAccountRefused("one.user.info", OpenNebulaCode.AUTHENTICATION, reason)
