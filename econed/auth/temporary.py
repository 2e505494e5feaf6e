"""Temporary credentials as access keys: their secret is in the session token, which econed has sealed.

So the secret is known without asking anybody, and everything else is asked once the signature has been verified: the
user must be enabled, the login token behind the credentials must be in their document, the long-term credential with
which they were made must still count, and none of the temporary ones in between may be disabled. A request is made in
the session of the login token, so that oned decides what it may do, and whether that token exists: the document is no
proof of it (`econed.auth.user_names`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from econed.auth.failures import AuthenticationFailed, expired_token
from econed.auth.signature import SignatureClaim
from econed.auth.signers import Candidate, Origins
from econed.credentials.key_ids import is_temporary_id
from econed.credentials.revocations import ReadsRevocations
from econed.credentials.temporary import TemporaryCredentials, open_session_token
from econed.interfaces import IUserDirectory
from econed.sealing import NotSealed, Sealer
from econed.user import Credential, CredentialKind, User

_KEY_ORIGIN = f"{CredentialKind.ACCESS_KEY.value}:"


class TemporaryKeys:
    """Users who sign with temporary credentials, while those in `origins` hold with which they were made."""

    slots = 1

    def __init__(
        self, users: IUserDirectory, sealer: Sealer, origins: Sequence[Origins], revocations: ReadsRevocations
    ) -> None:
        self._users = users
        self._sealer = sealer
        self._origins = origins
        self._revocations = revocations

    def recognizes(self, claim: SignatureClaim) -> bool:
        """Whether the access key is the id of temporary credentials (`Signers.recognizes`)."""
        return is_temporary_id(self._sealer, claim.access_key)

    def cached(self, claim: SignatureClaim, now: float) -> Sequence[Candidate]:
        """Return the secret in the session token, if its user is known (`Signers.cached`).

        Raises `EC2Error` ExpiredToken for credentials that have ended.
        """
        held = self._held(claim)
        if held is None:
            return ()
        if now >= held.expires:
            reason = f"the temporary credentials ended {now - held.expires:.0f} s ago"
            raise AuthenticationFailed(expired_token(), claim.access_key, reason)
        user = self._users.cached_by_id(held.user_id)
        return () if user is None else (Candidate(held.secret, user, _credential(held)),)

    async def confirm(self, claim: SignatureClaim, candidate: Candidate, now: float) -> Candidate | None:
        """Return the credentials if they still count (`Signers.confirm`)."""
        held = self._held(claim)
        if held is None:
            return None
        return await self._current(held, await self._users.confirm(candidate.user), now)

    async def refresh(self, claim: SignatureClaim) -> None:
        """Read the user of a session token; nothing where there is none that econed has sealed (`Signers.refresh`).

        One read is for all credentials that need the same of the user's document: a user may have any number of them.
        """
        held = self._held(claim)
        if held is not None:
            token = held.login_token
            needed = f"{held.user_id} {token.fingerprint} {token.expires} {held.origin}"
            await self._users.read(held.user_id, needed)

    def reason(self, claim: SignatureClaim, now: float) -> str:
        """Return why a signature does not count (`Signers.reason`)."""
        held = self._held(claim)
        if held is None:
            return "the session token is missing, not one of this server's, or of other credentials"
        user = self._users.cached_by_id(held.user_id)
        if user is None:
            return "the user of the temporary credentials is not known"
        if not user.enabled:
            return "the user is disabled"
        if held.login_token_in(user.login_tokens, now) is None:
            return "the login token behind the temporary credentials was removed in OpenNebula"
        return (
            "wrong secret key, the request was changed, or the credential that requested the temporary ones has ended"
        )

    def _held(self, claim: SignatureClaim) -> TemporaryCredentials | None:
        """Return what the session token holds; None if there is none, or if it is another's or forged."""
        try:
            held = open_session_token(self._sealer, claim.session_token or "")
        except NotSealed:
            return None
        return held if held.key_id == claim.access_key else None

    async def _current(self, held: TemporaryCredentials, user: User | None, now: float) -> Candidate | None:
        """Return the credentials of a user as read from oned; None if they do not count."""
        if user is None or not user.enabled or (held.group is not None and held.group not in user.groups):
            return None
        token = held.login_token_in(user.login_tokens, now)
        if token is None or not any([await origins.holds(held.origin, user, now) for origins in self._origins]):
            return None
        revocations = await self._revocations.current()
        ids = (held.origin.removeprefix(_KEY_ORIGIN), *held.earlier, held.key_id)
        if any(revocations.revokes(key_id, held.user_id, held.created) for key_id in ids):
            return None
        return Candidate(held.secret, replace(user.within(token), acts_by=token), _credential(held))


def _credential(held: TemporaryCredentials) -> Credential:
    return Credential(
        CredentialKind.TEMPORARY,
        held.key_id,
        held.origin,
        expires=held.expires,
        session_name=held.session_name,
        role=held.role,
        earlier=held.earlier,
    )
