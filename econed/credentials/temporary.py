"""Temporary credentials (STS): what their session tokens hold, and the login tokens of oned behind them.

A session token is sealed, so only econed's processes can make or read one, and nothing of it is stored. Behind
it is a login token of oned for the user and group, whose text never leaves econed: its holder could read the user's
other login tokens in oned. It is made with `one.user.login`, which

- allows a user ten tokens, so all temporary credentials of a user and group share one while it lives long enough;
- changes nothing if the user has a token with this text, so all processes make the same text within some minutes, and
  any number of calls at once make one token;
- may give it a shorter life than it was asked for (oned.conf, MAX_TOKEN_TIME: a day for the drivers ldap and saml).

A session token names its login token by fingerprint and end: a token that was removed and made again is another one.
"""

from __future__ import annotations

import hmac
import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Final

from econed.sealing import NotSealed, Sealer
from econed.user import OWN_TOKEN_PREFIX, CredentialKind, LoginToken, origin_of

MAX_DURATION: Final = 129_600
"""The longest life of temporary credentials, in seconds (STS, GetSessionToken)."""

LOGIN_TOKEN_LIFE: Final = 2 * MAX_DURATION + 3600
"""The life in seconds for which login tokens are made.

A new one is made when the last would end before the new credentials. Then the last has at most `MAX_DURATION` left, and
the new one twice as long, so at most two of a user and group are alive. The hour is for clocks that differ.
"""

LOGIN_TOKEN_PERIOD: Final = 300
"""Seconds for which all processes make the same text of a login token."""

MAX_EARLIER: Final = 10
"""The most temporary credentials that are requested one with the other. They end at the same time, so few need more."""

MAX_SESSION_TOKEN: Final = 2000
"""The longest session token that econed makes, in characters."""

_PURPOSE = "session-token"
_LOGIN_PURPOSE = "login-token"
_LOGIN_TOKEN = re.compile(re.escape(OWN_TOKEN_PREFIX) + r"([0-9a-f]{1,12})-([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True)
class LoginTokenMark:
    """What identifies a login token without its text: its fingerprint, and its end (None: never)."""

    fingerprint: str
    expires: int | None

    @classmethod
    def of(cls, token: LoginToken) -> LoginTokenMark:
        """Return the mark of a login token."""
        return cls(origin_of(CredentialKind.LOGIN_TOKEN, token.text), token.expires)


@dataclass(frozen=True)
class TemporaryCredentials:
    """Temporary credentials, as their session token holds them. All times are in seconds since the epoch.

    `group` is the only group in which they let the user act, None if they do not restrict them. `role` and
    `session_name` are those of AssumeRole: the group's name and the RoleSessionName. `origin` identifies the long-term
    credential with which they were made (`Credential.origin`), `login_token` the login token behind them. `earlier` are
    the ids of the temporary credentials between the two (`Credential.earlier`): with each of them these end.
    """

    key_id: str
    secret: str = field(repr=False)
    user_id: int
    group: int | None
    role: str | None
    session_name: str | None
    created: int
    expires: int
    origin: str
    login_token: LoginTokenMark
    earlier: tuple[str, ...] = ()

    def login_token_in(self, tokens: Iterable[LoginToken], now: float) -> LoginToken | None:
        """Return the login token behind these credentials among a user's; None if it was removed or has expired."""
        for token in tokens:
            if (
                token.is_own
                and token.group == self.group
                and token.is_valid_at(now)
                and LoginTokenMark.of(token) == self.login_token
            ):
                return token
        return None


def seal_session_token(sealer: Sealer, credentials: TemporaryCredentials) -> str:
    """Return the session token of temporary credentials."""
    content = json.dumps(asdict(credentials), separators=(",", ":"), ensure_ascii=False)
    return sealer.seal(_PURPOSE, "", content.encode())


def open_session_token(sealer: Sealer, session_token: str) -> TemporaryCredentials:
    """Return the credentials that a session token holds, which may have ended; raises `NotSealed`.

    What is sealed was made by econed, though perhaps by another version.
    """
    if len(session_token) > MAX_SESSION_TOKEN:
        raise NotSealed
    content = json.loads(sealer.open(_PURPOSE, "", session_token))
    try:
        mark = LoginTokenMark(**content.pop("login_token"))
        earlier = tuple(content.pop("earlier"))
        return TemporaryCredentials(**content, login_token=mark, earlier=earlier)
    except (KeyError, TypeError):
        raise NotSealed from None


def login_token_text(sealer: Sealer, user_id: int, group: int | None, now: float) -> str:
    """Return the text of the login token that every process makes at `now` for a user and group."""
    period = int(now // LOGIN_TOKEN_PERIOD)
    return f"{OWN_TOKEN_PREFIX}{period:x}-{sealer.digest(_LOGIN_PURPOSE, _subject(user_id, group, period)).hex()}"


def shared_login_token(
    sealer: Sealer, tokens: Iterable[LoginToken], user_id: int, group: int | None, now: float, until: float
) -> LoginToken | None:
    """Return the login token among a user's that was made for a group, and can be behind credentials until a time.

    If oned made its life shorter, half of that life must be left: a new one would not live long enough either. Users
    may write any text into their login tokens, so it is checked.
    """
    found = [token for token in tokens if token.group == group and token.is_valid_at(now)]
    periods = {token: _period_of(sealer, token.text, user_id, group) for token in found}
    lasting = [
        token for token, period in periods.items() if period is not None and _is_lasting(token, period, now, until)
    ]
    return max(lasting, key=_end, default=None)


def _is_lasting(token: LoginToken, period: int, now: float, until: float) -> bool:
    half_of_its_life = (_end(token) - period * LOGIN_TOKEN_PERIOD) / 2
    return _end(token) >= min(until, now + half_of_its_life)


def _end(token: LoginToken) -> float:
    return math.inf if token.expires is None else token.expires


def _period_of(sealer: Sealer, text: str, user_id: int, group: int | None) -> int | None:
    """Return the period in which a login token was made for a user and group; None if it was not."""
    match = _LOGIN_TOKEN.fullmatch(text)
    if match is None:
        return None
    period = int(match[1], 16)
    digests = sealer.digests(_LOGIN_PURPOSE, _subject(user_id, group, period))
    return period if any(hmac.compare_digest(digest.hex(), match[2]) for digest in digests) else None


def _subject(user_id: int, group: int | None, period: int) -> str:
    return f"{user_id}:{'' if group is None else group}:{period}"
