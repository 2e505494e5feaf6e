"""The kinds of access keys: each finds the secrets with which a signature may have been made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from econed.auth.signature import SignatureClaim
from econed.user import Credential, User


@dataclass(frozen=True)
class Candidate:
    """A secret with which a request may be signed, and the user and the credential that it then authenticates."""

    secret: str = field(repr=False)
    user: User
    credential: Credential


class Origins(Protocol):
    """A kind of long-term credentials, with which temporary ones may have been made."""

    async def holds(self, origin: str, user: User, now: float) -> bool:
        """Whether a credential (`Credential.origin`) counts for a user, as read from oned; raises as `IOpenNebula`."""


class Signers(Protocol):
    """The users who sign with one kind of access key.

    What a failed signature costs must not depend on what exists: not in calls to oned, not in computation.
    """

    @property
    def slots(self) -> int:
        """How many secrets are tried for every request that fails, however many there are."""

    def recognizes(self, claim: SignatureClaim) -> bool:
        """Whether the access key is of this kind, by its form alone."""

    def cached(self, claim: SignatureClaim, now: float) -> Sequence[Candidate]:
        """Return the secrets of the access key as last read, at most as many as `slots`; never calls oned."""

    async def confirm(self, claim: SignatureClaim, candidate: Candidate, now: float) -> Candidate | None:
        """Return a secret with which the request was signed, as oned has it now; None if it counts no longer.

        Raises `OpenNebulaUnavailable` where oned must be called and does not reply.
        """

    async def refresh(self, claim: SignatureClaim) -> None:
        """Look for new users and secrets, after a signature that matches none; raises as `confirm`.

        The calls to oned do not depend on what there is.
        """

    def reason(self, claim: SignatureClaim, now: float) -> str:
        """Return for the log why a signature matches none of the cached secrets."""
