"""The client of oned: `IOpenNebula` over Twisted's XML-RPC proxy.

It adds to the proxy: a session for each user, one deadline for a whole call, one retry of reading calls, and decoding
of large replies in a thread. oned closes the connection after every reply, so none is kept. `econed.calls` limits the
number of concurrent calls.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

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
from econed.interfaces import InThread, IOnedProxy, IOpenNebula, Parse
from econed.opennebula.methods import check_arguments, is_read_only
from econed.opennebula.replies import Scalar, parse_document, parse_value
from econed.opennebula.tokens import (
    CertificateKey,
    CipherForm,
    PasswordKey,
    ServerKey,
    UnusableName,
    session_token,
    token_session,
)
from econed.single_flight import SingleFlight
from econed.user import Login, TokenLogin
from econed.xmlrpc.endpoint import oned_endpoint
from econed.xmlrpc.failover import CONNECT_TIMEOUT, proxy_for
from econed.xmlrpc.leader import ServerGroup, ServerStatus
from econed.xmlrpc.proxy import OnedProxy

_T = TypeVar("_T")

_MAX_INLINE = 256 * 1024
"""Maximum bytes of a reply that is decoded in the reactor's thread (a few milliseconds), not in another."""


@dataclass(frozen=True)
class CallLimits:
    """The limits on the calls of one client of oned.

    `deadline` is in seconds and for a whole call: connecting, a retry, decoding. `reply_bytes` is the maximum length of
    a reply.
    """

    deadline: float = 30.0
    reply_bytes: int = 256 * 1024 * 1024


@implementer(IOpenNebula)
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
        log: Logger,
        limits: CallLimits = CallLimits(),
        now: Callable[[], float] = time.time,
        group: ServerGroup | None = None,
    ) -> None:
        """Call oned through `proxy`, as the server user (serveradmin), whom it trusts to act for other users.

        `key` is the server user's. `clock` times the deadlines, `now` (seconds since the epoch) the tokens. Large
        replies are decoded by `in_thread`. `group` is only for `statuses`. Nothing is sent before the first call.
        """
        self._proxy = proxy
        self._server_user = server_user
        self._key = key
        self._clock = clock
        self._in_thread = in_thread
        self._limits = limits
        self._now = now
        self._group = group
        self._log = log
        self._forms = _CipherForms(self._is_accepted, key.forms)

    @classmethod
    def at(
        cls,
        reactor: Any,
        urls: Sequence[str],
        server_user: str,
        key: ServerKey,
        *,
        log: Logger,
        ca_file: Path | None = None,
        limits: CallLimits = CallLimits(),
    ) -> XMLRPCBackend:
        """Return the backend for oned at one or several URLs, with the reactor's clock, connections and threads.

        For https URLs `ca_file` has authorities that replace the system's. Raises as `oned_endpoint`.
        """

        def in_thread(work: Callable[[], _T]) -> Deferred[_T]:
            return deferToThreadPool(reactor, reactor.getThreadPool(), work)

        def sessions() -> list[str]:
            return [session_token(server_user, key, None, time.time(), form) for form in key.forms]

        timeout = limits.deadline if len(urls) == 1 else min(limits.deadline, CONNECT_TIMEOUT)
        proxies = [
            OnedProxy(reactor, url, oned_endpoint(reactor, url, ca_file, timeout), limits.reply_bytes) for url in urls
        ]
        group = ServerGroup(proxies, sessions, reactor)
        proxy = proxy_for(group, reactor, random.random, log)
        return cls(proxy, server_user, key, reactor, in_thread, log=log, limits=limits, group=group)

    @classmethod
    def configured(
        cls, reactor: Any, settings: Settings, server: Credentials | Certificate, log: Logger
    ) -> XMLRPCBackend:
        """Return the backend for the settings of econe.conf, with these server credentials; raises as `at`."""
        key = CertificateKey(server.key) if isinstance(server, Certificate) else PasswordKey(server.password)
        limits = CallLimits(settings.one_timeout, settings.one_max_reply)
        ca_file = None if settings.one_ca_file is None else Path(settings.one_ca_file)
        return cls.at(reactor, settings.one_xmlrpc, server.name, key, log=log, ca_file=ca_file, limits=limits)

    async def call(self, user: Login, method: str, *args: object) -> Scalar:
        """Call `method` and return the value of the reply (`IOpenNebula.call`)."""
        return await self._checked(user, method, args, parse_value)

    async def document(self, user: Login, method: str, *args: object, parse: Parse[Any] = parse_document) -> Any:
        """Call `method` and return the root of the document in the reply (`IOpenNebula.document`)."""
        return await self._checked(user, method, args, parse)

    async def statuses(self) -> Sequence[ServerStatus]:
        """Return the current Raft status of each server."""
        return () if self._group is None else await self._group.statuses()

    async def _checked(
        self, user: Login, method: str, args: tuple[object, ...], decode: Callable[[str, bytes], _T]
    ) -> _T:
        check_arguments(method, args)
        return await self._with_deadline(method, self._authenticated(user, method, args, decode))

    async def _with_deadline(self, method: str, work: Coroutine[Deferred[Any], Any, _T]) -> _T:
        try:
            return await Deferred.fromCoroutine(work).addTimeout(self._limits.deadline, self._clock)
        except DeferredTimeout:
            raise OpenNebulaUnavailable(method, f"no reply within {self._limits.deadline:g} s") from None

    async def _authenticated(
        self, user: Login, method: str, args: tuple[object, ...], decode: Callable[[str, bytes], _T]
    ) -> _T:
        """Make a call with a token of the form that oned accepts; if it refuses the form, find the accepted form.

        The session of a login token has no other form: it has ended if oned refuses it.
        """
        if isinstance(user, TokenLogin):
            return await self._with_retry(_session(method, lambda: token_session(user)), method, args, decode)
        form = await self._forms.accepted()
        try:
            return await self._with_retry(self._server_session(method, user, form), method, args, decode)
        except OpenNebulaRefusal as refusal:
            # The call was refused before it began, so a changing call may be repeated too.
            if refusal.code != OpenNebulaCode.AUTHENTICATION:
                raise
            if await self._forms.is_still_accepted(form):  # so the token is valid, and oned does not know the user
                if user is None:
                    raise ServerAccountRefused(method, refusal.code, refusal.reason) from refusal
                raise
        session = self._server_session(method, user, await self._forms.accepted())
        return await self._with_retry(session, method, args, decode)

    def _server_session(self, method: str, user: str | None, form: CipherForm) -> str:
        return _session(method, lambda: session_token(self._server_user, self._key, user, self._now(), form))

    async def _with_retry(
        self, session: str, method: str, args: tuple[object, ...], decode: Callable[[str, bytes], _T]
    ) -> _T:
        try:
            body = await self._proxy.callRemote(method, session, *args)
        except OpenNebulaUnavailable as error:
            if not is_read_only(method):
                raise
            self._log.debug("retrying: {error}", error=str(error))
            body = await self._proxy.callRemote(method, session, *args)
        if len(body) <= _MAX_INLINE:
            return decode(method, body)
        last_reference = [body]
        del body  # so that the decoder can free it while it decodes
        return await self._in_thread(lambda: decode(method, last_reference.pop()))

    async def _is_accepted(self, form: CipherForm) -> bool:
        """Whether oned accepts tokens of this form, by reading the server user."""
        method = "one.user.info"
        session = self._server_session(method, None, form)
        try:
            await self._with_deadline(method, self._with_retry(session, method, (-1, False), parse_value))
        except OpenNebulaRefusal as refusal:
            if refusal.code == OpenNebulaCode.AUTHENTICATION:
                return False
            raise
        return True


def _session(method: str, make: Callable[[], str]) -> str:
    """Return the session string that `make` makes; raises `OpenNebulaRefusal` if no user can have the name."""
    try:
        return make()
    except UnusableName:
        raise OpenNebulaRefusal(method, OpenNebulaCode.AUTHENTICATION, "no user can have this name") from None


class _CipherForms:
    """The form of server tokens that oned accepts: determined once, and again when oned may have been upgraded."""

    def __init__(self, is_accepted: Callable[[CipherForm], Awaitable[bool]], forms: Sequence[CipherForm]) -> None:
        self._is_accepted = is_accepted
        self._forms = forms
        self._form: CipherForm | None = None if len(forms) > 1 else forms[0]
        self._search = SingleFlight(self._find)

    async def accepted(self) -> CipherForm:
        """Return the accepted form; raises what the calls for it raise, a refusal if oned accepts no form."""
        return self._form or await self._search.join()

    async def is_still_accepted(self, form: CipherForm) -> bool:
        """Whether oned accepts the form that it accepted before; if not, `accepted` has the other form afterwards."""
        if self._form is not form:
            return False
        return await self._search.join() is form

    async def _find(self) -> CipherForm:
        first = self._form or self._forms[0]
        for form in (first, *(other for other in self._forms if other is not first)):
            if await self._is_accepted(form):
                self._form = form
                return form
        reason = "oned accepts no token of the server account: wrong credentials?"
        raise ServerAccountRefused("one.user.info", OpenNebulaCode.AUTHENTICATION, reason)
