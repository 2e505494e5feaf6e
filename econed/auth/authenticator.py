"""From a signed request to the OpenNebula user who signed it, or to the error that EC2 gives."""

from __future__ import annotations

import hmac

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from econed.auth import sigv2, sigv4
from econed.auth.claim import Claim
from econed.auth.endpoints import Endpoint, Endpoints
from econed.auth.failures import auth_failure, incomplete_signature, missing_authentication_token
from econed.interfaces import IAuthenticator, IUserDirectory
from econed.user import User
from econed.wire.query import each_once
from econed.wire.signed_request import SignedRequest

NOBODY = "0123456789abcdef" * 4
"""Stands in for the secret of callers who do not exist or may not sign, so that they cost the same time.

It lets nobody in. It is as long as the secrets of the driver core: a digest takes longer for a longer key.
"""


@implementer(IAuthenticator)
class Authenticator:
    """Tells who is calling by his signature; certificates are not looked at.

    `clock` gives the time in seconds since the epoch. `ssl_server` is the URL of a proxy in front (econe.conf), None
    where there is none; `ValueError` is raised if it is no URL.
    """

    def __init__(self, users: IUserDirectory, clock: IReactorTime, *, ssl_server: str | None = None) -> None:
        self._users = users
        self._clock = clock
        self._endpoints = Endpoints(ssl_server)

    async def authenticate(self, request: SignedRequest) -> User:
        """Return the user who signed `request`; raises as `IAuthenticator.authenticate`."""
        claim = read_claim(request)
        claim.validity.check(self._clock.seconds())
        endpoints = self._endpoints.candidates(request)
        caller = await self._caller(claim, endpoints)
        if caller is None:
            # They may be new, or their secret may have changed. Whether there is such a user makes no difference here.
            await self._users.refresh(claim.access_key)
            caller = await self._caller(claim, endpoints)
        if caller is None:
            raise auth_failure()
        return caller

    async def _caller(self, claim: Claim, endpoints: tuple[Endpoint, ...]) -> User | None:
        """Return the user whose signature a claim is; oned is asked only about users who have shown their secret."""
        known = _proven(claim, endpoints, self._users.cached(claim.access_key))
        if known is None:
            return None
        confirmed = await self._users.confirm(known)
        return known if confirmed == known else _proven(claim, endpoints, confirmed)


def read_claim(request: SignedRequest) -> Claim:
    """Return the one signature in a request; raises `EC2Error` if there is none, or two, or if it cannot be one."""
    claims = (
        (sigv4.in_header(request), sigv4.read_header),
        (sigv4.in_query(request), sigv4.read_query),
        (sigv2.present(request), sigv2.read),
    )
    readers = [read for there, read in claims if there]
    if not readers:
        raise missing_authentication_token()
    if len(readers) > 1:
        raise incomplete_signature("Only one way of signing may be used in a request.")
    each_once(request.query_pairs)
    return readers[0](request)


def _proven(claim: Claim, endpoints: tuple[Endpoint, ...], user: User | None) -> User | None:
    """Return the user if the signature is theirs, else None.

    It takes the same number of digests whether they exist, or may sign, or not.
    """
    signer = user if user is not None and user.may_sign else None
    secret = signer.secret if signer is not None else NOBODY
    found = False
    for endpoint in endpoints:
        found |= hmac.compare_digest(claim.expected(secret, endpoint), claim.signature)
    return signer if found else None
