"""Authenticates requests by their signature: returns the OpenNebula user who signed, or raises EC2's error."""

from __future__ import annotations

import hmac

from twisted.internet.interfaces import IReactorTime
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
from econed.interfaces import IAuthenticator, IUserDirectory
from econed.user import Sender, User
from econed.wire.query import require_unique
from econed.wire.signed_request import SignedRequest

DUMMY_SECRET = "0123456789abcdef" * 4
"""The secret that is used for users who do not exist or may not sign, so that verification takes the same time.

It never authenticates a user. It is as long as the secrets of the driver core, because the time for a digest depends
on the length of the key.
"""

_MAX_DRIVER = 16
"""Characters of a driver's name that are logged."""


@implementer(IAuthenticator)
class SignatureAuthenticator:
    """Authenticates users by their signature; certificates are ignored.

    `clock` gives the time in seconds since the epoch. `ssl_server` is the URL of a proxy in front of econed
    (econe.conf), None if there is none; raises `ValueError` if it is not a URL.
    """

    def __init__(self, users: IUserDirectory, clock: IReactorTime, *, ssl_server: str | None = None) -> None:
        self._users = users
        self._clock = clock
        self._endpoints = Endpoints(ssl_server)

    async def authenticate(self, request: SignedRequest) -> Sender:
        """Return the user who signed `request`; raises as `IAuthenticator.authenticate`."""
        claim = read_claim(request)
        violation = claim.validity.violation(self._clock.seconds())
        if violation is not None:
            raise AuthenticationFailed(request_expired(), claim.access_key, violation)
        endpoints = self._endpoints.candidates(request)
        user = await self._signer(claim, endpoints)
        if user is None:
            # The user may be new, or have a new secret. The refresh must be the same whether or not the user exists.
            await self._users.refresh(claim.access_key)
            user = await self._signer(claim, endpoints)
        if user is None:
            reason = _reason(self._users.cached(claim.access_key))
            raise AuthenticationFailed(auth_failure(), claim.access_key, reason)
        return Sender(user, claim.access_key)

    async def _signer(self, claim: SignatureClaim, endpoints: tuple[Endpoint, ...]) -> User | None:
        """Return the user who signed, or None; oned is asked only about users whose signature was verified."""
        cached = _verified(claim, endpoints, self._users.cached(claim.access_key))
        if cached is None:
            return None
        current = await self._users.confirm(cached)
        return cached if current == cached else _verified(claim, endpoints, current)


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


def _verified(claim: SignatureClaim, endpoints: tuple[Endpoint, ...], user: User | None) -> User | None:
    """Return the user if the signature is theirs, else None.

    If it is not, the number of digests is the same whether or not the user exists and may sign.
    """
    signer = user if user is not None and user.may_sign else None
    secret = signer.secret if signer is not None else DUMMY_SECRET
    key = claim.signing_key(secret)
    for endpoint in endpoints:
        if hmac.compare_digest(claim.expected(key, endpoint), claim.signature) and signer is not None:
            return signer
    return None


def _reason(user: User | None) -> str:
    """Return why a signature in the name of `user`, as cached, was refused; None: no user has the name."""
    if user is None:
        return "no user with this name is known"
    if not user.enabled:
        return "the user is disabled"
    if not user.may_sign:
        return f"the user has no secret key, with the driver {user.driver[:_MAX_DRIVER]}"
    return "wrong secret key, or the request was changed after it was signed"
