"""From the certificate of a client to the OpenNebula user whose it is (econe.conf, `auth: x509`).

A user comes in by the subject of a certificate that his PASSWORD names, and by nothing else. Who issued it is the
business of whoever verified it, our own TLS or a trusted proxy. The Ruby server also looked for the issuer's name among
the users, to take proxy certificates (RFC 3820), without looking whether it was one: where a user's PASSWORD named an
authority, everybody with a certificate of that authority was that user. Proxy certificates are not taken here.
"""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography.x509 import Certificate, load_der_x509_certificate
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from econed.auth.failures import auth_failure, missing_authentication_token
from econed.auth.subjects import spellings
from econed.interfaces import IAuthenticator, IUserDirectory
from econed.user import User
from econed.wire.signed_request import SignedRequest


@implementer(IAuthenticator)
class CertificateAuthenticator:
    """Tells who is calling by the certificate of the client, which has been verified; signatures are not looked at.

    `clock` gives the time in seconds since the epoch. `log` is told where OpenNebula names two users for one subject.
    """

    def __init__(self, users: IUserDirectory, clock: IReactorTime, log: Logger) -> None:
        self._users = users
        self._clock = clock
        self._log = log

    async def authenticate(self, request: SignedRequest) -> User:
        """Return the user whose certificate came with `request`; raises as `IAuthenticator.authenticate`."""
        if request.certificate is None:
            raise missing_authentication_token()
        certificate = _read(request.certificate)
        if certificate is None or not self._is_valid(certificate):
            raise auth_failure()
        subject = spellings(certificate)
        users = [user for user in await self._users.find_by_subject(subject) if user.enabled]
        if len(users) > 1:
            self._log.warn(
                "nobody is let in by the certificate of {subject}, it is named for the users {users}",
                subject=subject[0],
                users=", ".join(sorted(user.name for user in users)),
            )
        if len(users) != 1:
            raise auth_failure()
        return users[0]

    def _is_valid(self, certificate: Certificate) -> bool:
        """Whether it counts now: it may have ended since the connection began."""
        now = datetime.fromtimestamp(self._clock.seconds(), UTC)
        return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _read(der: bytes) -> Certificate | None:
    try:
        return load_der_x509_certificate(der)
    except ValueError:
        return None
