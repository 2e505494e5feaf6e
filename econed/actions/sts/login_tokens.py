"""The login token of oned behind temporary credentials: finding it, or making it (`econed.credentials.temporary`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from econed.credentials.temporary import LOGIN_TOKEN_LIFE, login_token_text, shared_login_token
from econed.errors import EC2Error, OpenNebulaRefusal
from econed.opennebula.documents import MAX_LOGIN_TOKENS

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import UserDocument
    from econed.user import LoginToken

_PAUSES = (0.2, 0.5, 1.0, 2.0, 0.0)
"""Seconds to wait before a user is read again: on a slave of a federation, changes arrive late."""


async def login_token(call: Call, user: UserDocument, group: int | None, until: float) -> LoginToken:
    """Return a login token of the caller for one of their groups, None for all, that lives until a time if it can.

    `user` is the caller's document, read in this request. oned may make the token's life shorter. It is made in the
    caller's session, so that oned refuses what exceeds their rights. Raises `EC2Error` LimitExceeded if the user has as
    many login tokens as oned allows, AccessDenied if oned refuses it, ServiceUnavailable if it cannot be read yet.
    """

    def found(user: UserDocument, until: float) -> LoginToken | None:
        return shared_login_token(call.sealer, user.login_tokens, call.caller.id, group, call.now, until)

    token = found(user, until)
    if token is not None:
        return token
    refusal = await _make(call, group)
    for pause in _PAUSES:
        user = await call.session.user_by_id(call.caller.id)
        token = found(user, call.now)
        if token is not None:
            return token
        if refusal is not None:
            raise _refused(user, call.now) from refusal
        await call.pause(pause)
    raise EC2Error("ServiceUnavailable", "The request has failed due to a temporary failure of the server.", 503)


async def _make(call: Call, group: int | None) -> OpenNebulaRefusal | None:
    """Make a login token; return oned's refusal. Requests of a process that need the same token make one call."""
    name, session = call.caller.name, call.session
    text = login_token_text(call.sealer, call.caller.id, group, call.now)
    try:
        await call.memory.login_tokens.run(
            (session.user, text), lambda: session.user_login(name, text, LOGIN_TOKEN_LIFE, group)
        )
    except OpenNebulaRefusal as refusal:
        return refusal
    return None


def _refused(user: UserDocument, now: int) -> EC2Error:
    """Return the error for a refused login token; oned has one code for all reasons (4096)."""
    if sum(token.is_valid_at(now) for token in user.login_tokens) >= MAX_LOGIN_TOKENS:
        text = f"Cannot exceed quota for LoginTokensPerUser: {MAX_LOGIN_TOKENS}"
        return EC2Error("LimitExceeded", text, 409)
    return EC2Error("AccessDenied", "OpenNebula does not allow a login token for these credentials.", 403)
