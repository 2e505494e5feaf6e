"""Access keys that econed has made for users (IAM), as they sign requests with them.

The id of a key names its user, so a request costs no call to oned before its signature is verified, unless the user or
the key is not known or the signature is wrong: then this user is read, once in some seconds for each id. An id that
econed has not made is not recognized: it is taken for the name of a user, and costs no call.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final

from econed.auth.signature import SignatureClaim
from econed.auth.signers import Candidate
from econed.credentials.access_keys import AccessKey, opened
from econed.credentials.key_ids import is_long_term_id, user_id_of_key
from econed.credentials.revocations import ReadsRevocations
from econed.interfaces import IUserDirectory
from econed.sealing import Sealer
from econed.user import Credential, CredentialKind, KeyState, StoredKey, User

_ORIGIN: Final = f"{CredentialKind.ACCESS_KEY.value}:"


class AccessKeys:
    """Users who sign with their access keys."""

    slots = 1

    def __init__(self, users: IUserDirectory, sealer: Sealer, revocations: ReadsRevocations) -> None:
        self._users = users
        self._sealer = sealer
        self._revocations = revocations

    def recognizes(self, claim: SignatureClaim) -> bool:
        """Whether the access key is the id of one that econed has made (`Signers.recognizes`)."""
        return is_long_term_id(self._sealer, claim.access_key)

    def cached(self, claim: SignatureClaim, now: float) -> Sequence[Candidate]:
        """Return the secret of the key, if its user is known and the key is Active (`Signers.cached`)."""
        user = self._user(claim)
        if user is None or claim.session_token is not None:
            return ()
        key = self._active(user, claim.access_key)
        return () if key is None else (_candidate(user, key),)

    async def confirm(self, claim: SignatureClaim, candidate: Candidate, now: float) -> Candidate | None:
        """Return the secret if it is still that of the key, and the key is not revoked (`Signers.confirm`)."""
        user = await self._users.confirm(candidate.user)
        key = None if user is None else self._active(user, claim.access_key)
        if user is None or key is None or not hmac.compare_digest(key.secret, candidate.secret):
            return None
        return None if await self._is_revoked(key) else _candidate(user, key)

    async def refresh(self, claim: SignatureClaim) -> None:
        """Read the user of the key (`Signers.refresh`)."""
        user_id = user_id_of_key(self._sealer, claim.access_key)
        if user_id is not None:
            await self._users.read(user_id, claim.access_key)

    async def holds(self, origin: str, user: User, now: float) -> bool:
        """Whether an access key can still be used by the user (`Origins.holds`)."""
        key = self._active(user, origin.removeprefix(_ORIGIN)) if origin.startswith(_ORIGIN) else None
        return key is not None and not await self._is_revoked(key)

    def reason(self, claim: SignatureClaim, now: float) -> str:
        """Return why a signature was refused (`Signers.reason`)."""
        if claim.session_token is not None:
            return "the request has a session token, which belongs to temporary credentials alone"
        user = self._user(claim)
        if user is None:
            return "the user of the access key is not known"
        if not user.enabled:
            return "the user is disabled"
        stored = _stored(user, claim.access_key)
        if stored is None:
            return "the user has no such access key"
        if stored.state is not KeyState.ACTIVE:
            return f"the access key is {stored.state.value}"
        if self._active(user, claim.access_key) is None:
            return "what OpenNebula has for the access key is not what econed has written for this user"
        return "wrong secret key, the request was changed after it was signed, or the access key is revoked"

    def _user(self, claim: SignatureClaim) -> User | None:
        user_id = user_id_of_key(self._sealer, claim.access_key)
        return None if user_id is None else self._users.cached_by_id(user_id)

    def _active(self, user: User, key_id: str) -> AccessKey | None:
        """Return an access key of a user; None if it cannot be used. Keys of server accounts never can."""
        stored = _stored(user, key_id)
        if stored is None or stored.state is not KeyState.ACTIVE or not (user.enabled and user.may_use_tokens):
            return None
        return opened(self._sealer, user.id, stored)

    async def _is_revoked(self, key: AccessKey) -> bool:
        revocations = await self._revocations.current()
        return revocations.revokes(key.id, key.user_id, key.created)


def _stored(user: User, key_id: str) -> StoredKey | None:
    return next((stored for stored in user.access_keys if stored.id == key_id), None)


def _candidate(user: User, key: AccessKey) -> Candidate:
    return Candidate(key.secret, user, Credential(CredentialKind.ACCESS_KEY, key.id, _ORIGIN + key.id))
