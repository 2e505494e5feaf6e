"""User names as access keys: their secret keys are the PASSWORD of the user and the user's login tokens.

For the drivers core and public both count. All other drivers store no secret in PASSWORD, so tokens alone count; for
server accounts (`server_cipher`, `server_x509`) oned accepts no token either. Tokens that econed has made, behind
temporary credentials, never count.

A request signed with a token is made in the session of that token. So oned decides what it may do: in the group of the
token, if it has one, and nothing from the moment at which the token has ended. econed alone cannot know that group:
oned does not escape the texts of tokens, so one text can look like another token.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from econed.auth.signature import SignatureClaim
from econed.auth.signers import Candidate
from econed.credentials.key_ids import has_form_of_key_id
from econed.interfaces import IUserDirectory
from econed.opennebula.documents import MAX_LOGIN_TOKENS
from econed.user import Credential, CredentialKind, LoginToken, SecretKeys, User, origin_of

_MAX_DRIVER = 16
"""Characters of a driver's name that are logged."""


class UserNames:
    """Users who sign with their names. `kinds` are the kinds of secret keys that count."""

    def __init__(self, users: IUserDirectory, kinds: Collection[SecretKeys] = frozenset(SecretKeys)) -> None:
        self._users = users
        self._kinds = frozenset(kinds)

    @property
    def slots(self) -> int:
        """The greatest number of secrets that a user can have."""
        return (SecretKeys.PASSWORD in self._kinds) + MAX_LOGIN_TOKENS * (SecretKeys.TOKENS in self._kinds)

    def recognizes(self, claim: SignatureClaim) -> bool:
        """Any text may be the name of a user."""
        return True

    def cached(self, claim: SignatureClaim, now: float) -> Sequence[Candidate]:
        """Return the secrets of the user with this name (`Signers.cached`)."""
        user = self._users.cached(claim.access_key)
        if user is None or claim.session_token is not None:
            return ()
        return candidates(user, now, self._kinds)

    async def confirm(self, claim: SignatureClaim, candidate: Candidate, now: float) -> Candidate | None:
        """Return the secret if it is still one of the user's (`Signers.confirm`)."""
        user = await self._users.confirm(candidate.user)
        if user is candidate.user:  # it was not read again
            return candidate
        current = () if user is None else candidates(user, now, self._kinds)
        return next((each for each in current if _are_equal(each.secret, candidate.secret)), None)

    async def refresh(self, claim: SignatureClaim) -> None:
        """Look for new users and secrets (`Signers.refresh`), but not for ids of keys that econed has not made."""
        if not has_form_of_key_id(claim.access_key):
            await self._users.refresh(claim.access_key)

    async def holds(self, origin: str, user: User, now: float) -> bool:
        """Whether the password or a login token is still a secret key of the user (`Origins.holds`)."""
        return any(each.credential.origin == origin for each in candidates(user, now, self._kinds))

    def reason(self, claim: SignatureClaim, now: float) -> str:
        """Return why a signature in the name of a user matches none of their secrets (`Signers.reason`)."""
        user = self._users.cached(claim.access_key)
        if claim.session_token is not None:
            return "the request has a session token, which belongs to temporary credentials alone"
        if user is None:
            return "no user with this name is known"
        if not user.enabled:
            return "the user is disabled"
        if not candidates(user, now, self._kinds):
            return f"the user has no secret key: {self._missing(user)}"
        return "wrong secret key, or the request was changed after it was signed"

    def _missing(self, user: User) -> str:
        """Return which secrets a user could have."""
        missing = {
            SecretKeys.PASSWORD: f"no password with the driver {user.driver[:_MAX_DRIVER]}",
            SecretKeys.TOKENS: "no valid login token",
        }
        return ", ".join(missing[kind] for kind in missing if kind in self._kinds) or "only access keys count"


def candidates(user: User, now: float, kinds: Collection[SecretKeys] = frozenset(SecretKeys)) -> tuple[Candidate, ...]:
    """Return the secret keys that a user signs with at `now`, in seconds since the epoch.

    A disabled user has none: oned still accepts server tokens for them.
    """
    return tuple(_candidates(user, now, kinds)) if user.enabled else ()


def _candidates(user: User, now: float, kinds: Collection[SecretKeys]) -> Iterator[Candidate]:
    if SecretKeys.PASSWORD in kinds and user.has_secret_password:
        origin = origin_of(CredentialKind.PASSWORD, user.secret)
        yield Candidate(user.secret, user, Credential(CredentialKind.PASSWORD, user.name, origin))
    if SecretKeys.TOKENS in kinds and user.may_use_tokens:
        for token in user.login_tokens:
            if _counts(token, user, now):
                kind = CredentialKind.LOGIN_TOKEN
                origin = origin_of(kind, token.text)
                credential = Credential(kind, user.name, origin, token.expires)
                yield Candidate(token.text, replace(user.within(token), acts_by=token), credential)


def _counts(token: LoginToken, user: User, now: float) -> bool:
    """Whether a login token is a secret key; oned shows those of groups that the user has left, and refuses them."""
    is_usable = token.group is None or token.group in user.groups
    return is_usable and token.is_valid_at(now) and not token.is_own


def _are_equal(secret: str, other: str) -> bool:
    return hmac.compare_digest(secret.encode(), other.encode())
