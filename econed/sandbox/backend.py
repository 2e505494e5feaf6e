"""`IOpenNebula` on a sandbox in the same process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xmlrpc.client import Fault

from zope.interface import implementer

from econed.errors import InvalidReply, OpenNebulaRefusal
from econed.interfaces import IOpenNebula, Parse
from econed.opennebula.methods import check_arguments
from econed.opennebula.replies import parse_document, parse_document_text
from econed.opennebula.tokens import CipherForm, PasswordKey, session_token, token_session
from econed.sandbox.server import reply_body
from econed.user import Login, TokenLogin

if TYPE_CHECKING:
    from econed.sandbox.oned import Oned


@implementer(IOpenNebula)
class SandboxBackend:
    """Calls an `Oned` without a socket, as any user, with server tokens of serveradmin or login tokens."""

    def __init__(self, oned: Oned) -> None:
        self._oned = oned
        self._server_user, _, password = oned.serveradmin.partition(":")
        self._key = PasswordKey(password)

    def _session(self, user: Login) -> str:
        if isinstance(user, TokenLogin):
            return token_session(user)
        cloud = self._oned.cloud
        form = CipherForm.KEY_IV if cloud.version.is_v7 else CipherForm.ZERO_IV
        return session_token(self._server_user, self._key, user, cloud.clock.seconds(), form)

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        """Call `method` and return the value of the reply (`IOpenNebula.call`)."""
        check_arguments(method, args)
        try:
            reply = self._oned.execute(method, self._session(user), *args)
        except Fault as fault:
            raise OpenNebulaRefusal(method, fault.faultCode, fault.faultString) from None
        match reply:
            case [True, str() | int() as value, *_]:
                return value
            case [False, str() as text, int() as code, *_]:
                raise OpenNebulaRefusal(method, code, text)
        raise InvalidReply(method, f"a reply of an unknown form: {reply!r:.60}")

    async def document(self, user: Login, method: str, *args: object, parse: Parse[Any] = parse_document) -> Any:
        """Call `method` and return the root of the document in the reply (`IOpenNebula.document`)."""
        text = await self.call(user, method, *args)
        if parse is parse_document:
            return parse_document_text(method, text)
        return parse(method, reply_body([True, text, 0]))
