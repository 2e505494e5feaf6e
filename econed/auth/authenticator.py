"""Authenticates requests by their signature: returns the OpenNebula user who signed, or raises EC2's error."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from econed.auth import sigv2, sigv4
from econed.auth.endpoints import Endpoint, Endpoints
from econed.auth.failures import (
    AuthenticationFailed,
    auth_failure,
    incomplete_signature,
    missing_authentication_token,
    request_expired,
)
from econed.auth.signature import SignatureClaim
from econed.auth.signers import Candidate, Signers
from econed.interfaces import IAuthenticator
from econed.user import Sender
from econed.wire.query import require_unique
from econed.wire.signed_request import SignedRequest

DUMMY_SECRET = "0123456789abcdef" * 4
"""The secret that is tried where there are fewer secrets than slots, so that verification takes the same time.

It authenticates nobody. It is as long as the secrets of the driver core, because the time for a digest depends
on the length of the key.
"""

LONG_TEXTS = 1 << 16
"""Bytes of all strings to sign of a request, beyond which the reactor runs between two secrets.

Those of Version 4 are short. Those of Version 2 contain all parameters.
"""


@implementer(IAuthenticator)
class SignatureAuthenticator:
    """Authenticates users by their signature; certificates are ignored.

    An access key is of the first kind of `signers` that recognizes it; the last one recognizes all. `clock` gives the
    time in seconds since the epoch. `ssl_server` is the URL of a proxy in front of econed (econe.conf), None if there
    is none; raises `ValueError` if it is not a URL.
    """

    def __init__(self, signers: Sequence[Signers], clock: IReactorTime, *, ssl_server: str | None = None) -> None:
        self._signers = signers
        self._clock = clock
        self._endpoints = Endpoints(ssl_server)

    async def authenticate(self, request: SignedRequest) -> Sender:
        """Return the user who signed `request`; raises as `IAuthenticator.authenticate`."""
        claim = read_claim(request)
        violation = claim.validity.violation(self._clock.seconds())
        if violation is not None:
            raise AuthenticationFailed(request_expired(), claim.access_key, violation)
        texts = _Texts(claim, self._endpoints.candidates(request))
        signers = next(kind for kind in self._signers if kind.recognizes(claim))
        signer = await self._signer(claim, texts, signers)
        if signer is None:
            # The user may be new, or have a new secret. The refresh must be the same whether or not the user exists.
            await signers.refresh(claim)
            signer = await self._signer(claim, texts, signers)
        if signer is None:
            reason = signers.reason(claim, self._clock.seconds())
            raise AuthenticationFailed(auth_failure(), claim.access_key, reason)
        return Sender(signer.user, signer.credential)

    async def _signer(self, claim: SignatureClaim, texts: _Texts, signers: Signers) -> Candidate | None:
        """Return who signed, or None; oned is asked only about users whose signature was verified."""
        now = self._clock.seconds()
        matching = await self._matching(claim, texts, signers.cached(claim, now), signers.slots)
        return None if matching is None else await signers.confirm(claim, matching, now)

    async def _matching(
        self, claim: SignatureClaim, texts: _Texts, candidates: Sequence[Candidate], slots: int
    ) -> Candidate | None:
        """Return the candidate with whose secret the request was signed; None if there is none.

        Then the number of digests is the same however many candidates there are.
        """
        for index in range(slots):
            candidate = candidates[index] if index < len(candidates) else None
            key = claim.signing_key(DUMMY_SECRET if candidate is None else candidate.secret)
            for text in texts:
                if hmac.compare_digest(claim.sign(key, text), claim.signature) and candidate is not None:
                    return candidate
            if texts.length > LONG_TEXTS:
                await deferLater(self._clock, 0)
        return None


class _Texts:
    """The strings to sign of a claim, one for each endpoint; each is made when it is first needed.

    `length` is the sum of the lengths of those that were made.
    """

    def __init__(self, claim: SignatureClaim, endpoints: Sequence[Endpoint]) -> None:
        self._claim = claim
        self._endpoints = endpoints
        self._made: list[bytes] = []
        self.length = 0

    def __iter__(self) -> Iterator[bytes]:
        for index, endpoint in enumerate(self._endpoints):
            if index == len(self._made):
                self._made.append(self._claim.string_to_sign(endpoint))
                self.length += len(self._made[index])
            yield self._made[index]


def read_claim(request: SignedRequest) -> SignatureClaim:
    """Return the signature in a request, not verified yet.

    Raises `EC2Error` if there is no signature, if there are several, or if it is malformed; also for duplicates among
    the parameters that it covers.
    """
    methods = (
        (sigv4.is_in_header(request), sigv4.read_header, request.query_pairs),
        (sigv4.is_in_query(request), sigv4.read_query, request.query_pairs),
        (sigv2.is_present(request), sigv2.read, request.query_pairs or request.form_pairs),
    )
    used = [(read, covered) for is_used, read, covered in methods if is_used]
    if not used:
        raise missing_authentication_token()
    if len(used) > 1:
        raise incomplete_signature("Only one way of signing may be used in a request.")
    read, covered = used[0]
    require_unique(covered)
    return read(request)
