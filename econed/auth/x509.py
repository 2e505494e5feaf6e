"""Authenticates requests by the certificate of the client (econe.conf, `auth: x509`).

A user is identified by the subject of their certificate, which their PASSWORD contains, and by nothing else. The issuer
was checked when the certificate was verified, by our own TLS or by a trusted proxy. The Ruby server also looked for the
issuer's name among the users, to accept proxy certificates (RFC 3820), without checking that the certificate was a
proxy certificate: if a user's PASSWORD contained the name of an authority, every certificate of that authority
authenticated as that user. Proxy certificates are not accepted here.
"""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography.x509 import Certificate, load_der_x509_certificate
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from econed.auth.failures import AuthenticationFailed, auth_failure, missing_authentication_token
from econed.auth.subjects import spellings
from econed.interfaces import IAuthenticator, IUserDirectory
from econed.user import Credential, CredentialKind, Sender, origin_of
from econed.wire.signed_request import SignedRequest


@implementer(IAuthenticator)
class CertificateAuthenticator:
    """Authenticates users by the verified certificate of the client; signatures are ignored.

    `clock` gives the time in seconds since the epoch. `log` receives subjects that several users have.
    """

    def __init__(self, users: IUserDirectory, clock: IReactorTime, log: Logger) -> None:
        self._users = users
        self._clock = clock
        self._log = log

    async def authenticate(self, request: SignedRequest) -> Sender:
        """Return the user of the certificate in `request`; raises as `IAuthenticator.authenticate`."""
        if request.certificate is None:
            raise missing_authentication_token()
        certificate = _parse(request.certificate)
        if certificate is None:
            raise AuthenticationFailed(auth_failure(), "", "the certificate cannot be parsed")
        subject_spellings = spellings(certificate)
        if not subject_spellings:
            raise AuthenticationFailed(auth_failure(), "", "the certificate's subject is empty, ambiguous or malformed")
        subject = subject_spellings[0]
        if not self._is_valid(certificate):
            raise AuthenticationFailed(auth_failure(), subject, "the certificate has expired, or is not valid yet")
        users = await self._users.find_by_subject(subject_spellings)
        enabled = [user for user in users if user.enabled]
        if len(enabled) > 1:
            self._log.warn(
                "refusing the certificate of {subject}: several users have this subject: {users}",
                subject=subject,
                users=", ".join(sorted(user.name for user in enabled)),
            )
        if len(enabled) != 1:
            raise AuthenticationFailed(auth_failure(), subject, _reason(len(users), len(enabled)))
        kind = CredentialKind.CERTIFICATE
        return Sender(enabled[0], Credential(kind, subject, origin_of(kind, subject)))

    def _is_valid(self, certificate: Certificate) -> bool:
        """Whether the certificate is valid now: it may have expired since the connection was opened."""
        now = datetime.fromtimestamp(self._clock.seconds(), UTC)
        return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _reason(users: int, enabled: int) -> str:
    """Return why a certificate is refused, by the number of users with its subject, and of those that are enabled."""
    if enabled:
        return "several users have this subject"
    return "the user is disabled" if users else "no user of the driver x509 has this subject"


def _parse(der: bytes) -> Certificate | None:
    try:
        return load_der_x509_certificate(der)
    except ValueError:
        return None
