"""Authentication by certificate (`auth: x509`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.x509.oid import NameOID
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, formatEvent
from zope.interface.verify import verifyObject

from econed.auth.authenticator import SignatureAuthenticator
from econed.auth.failures import AuthenticationFailed, auth_failure
from econed.auth.user_names import UserNames
from econed.auth.x509 import CertificateAuthenticator
from econed.errors import EC2Error, OpenNebulaUnavailable
from econed.interfaces import IAuthenticator, IUserDirectory
from econed.user import CredentialKind, Sender, User, origin_of
from econed.wire.signed_request import SignedRequest
from tests.auth.support import ALICE, ListedUsers, done, sign_v4
from tests.support.certificates import Authority, Issued, named

AUTHORITY = Authority("ONE Authority")
ANNA = User(id=7, name="anna", gid=100, groups=(100,), secret=r"/O=ONE\20cloud/CN=anna", driver="x509", enabled=True)
BERT = replace(ANNA, id=8, name="bert", secret=r"/O=ONE\20cloud/CN=bert|/C=ES/CN=bert\20two")


@dataclass
class X509Harness:
    """An authenticator of certificates with its users, clock and log."""

    users: IUserDirectory = field(default_factory=lambda: ListedUsers((ALICE, ANNA, BERT)))
    clock: Clock = field(default_factory=Clock)
    events: list[LogEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock.rightNow = datetime.now(UTC).timestamp()
        log = Logger("test", observer=self.events.append)  # type: ignore[arg-type]
        self.authenticator = CertificateAuthenticator(self.users, self.clock, log)

    def authenticated(self, certificate: bytes | None, request: SignedRequest | None = None) -> User:
        """Return the user who is authenticated by this certificate."""
        unsigned = SignedRequest("GET", b"/", b"Action=DescribeInstances&Version=2016-11-15", (), b"")
        certified = replace(request or unsigned, certificate=certificate)
        return self.sender(certified).user

    def sender(self, request: SignedRequest) -> Sender:
        """Return the user who is authenticated by the certificate of a request, and its subject."""
        sender: Sender = done(Deferred.fromCoroutine(self.authenticator.authenticate(request)))
        return sender

    def refusal(self, certificate: bytes | None, request: SignedRequest | None = None) -> tuple[str, int]:
        """Return code and status of the error for a certificate."""
        with pytest.raises(EC2Error) as caught:
            self.authenticated(certificate, request)
        return caught.value.code, caught.value.status


def with_users(*users: User) -> X509Harness:
    """Return a harness for these users."""
    return X509Harness(ListedUsers(users))


AUTH_FAILURE = ("AuthFailure", 401)


def test_both_authenticators_provide_their_interface() -> None:
    """`IAuthenticator`."""
    assert verifyObject(IAuthenticator, X509Harness().authenticator)
    assert verifyObject(IAuthenticator, SignatureAuthenticator((UserNames(ListedUsers()),), Clock()))


def test_a_user_is_authenticated_by_their_certificate() -> None:
    """Its subject is in their PASSWORD."""
    assert X509Harness().authenticated(AUTHORITY.client("anna").der) == ANNA


@pytest.mark.parametrize(
    "subject", ["bert", named((NameOID.COUNTRY_NAME, "ES"), (NameOID.COMMON_NAME, "bert two"))], ids=["first", "second"]
)
def test_a_password_may_contain_several_subjects(subject: Any) -> None:
    """Separated by bars."""
    assert X509Harness().authenticated(AUTHORITY.client(subject).der) == BERT


def test_a_subject_without_the_space_is_another_subject() -> None:
    """An authority may issue both."""
    without_space = replace(ANNA, secret="/O=ONEcloud/CN=anna")
    assert with_users(without_space).refusal(AUTHORITY.client("anna").der) == AUTH_FAILURE


def test_a_subject_written_with_openssl_1_is_accepted() -> None:
    """With an unescaped slash in a value; today's spelling takes precedence."""
    old = replace(ANNA, secret=r"/O=ONE\20cloud/CN=host/node")
    current = replace(BERT, secret=r"/O=ONE\20cloud/CN=host\/node")
    certificate = AUTHORITY.client("host/node").der
    assert with_users(old).authenticated(certificate) == old
    assert with_users(old, current).authenticated(certificate) == current


def test_a_request_without_a_certificate_is_refused() -> None:
    """With Amazon's error for requests without authentication."""
    assert X509Harness().refusal(None) == ("MissingAuthenticationToken", 403)


def test_signatures_are_ignored() -> None:
    """A correct signature is not enough, and a certificate is, with the signature of any key."""
    signed = sign_v4(form={"Action": "DescribeInstances", "Version": "2016-11-15"}, user=ALICE).request
    assert X509Harness().refusal(None, signed) == ("MissingAuthenticationToken", 403)
    assert X509Harness().authenticated(AUTHORITY.client("anna").der, signed) == ANNA


def test_with_auth_ec2_certificates_are_ignored() -> None:
    """A signature is required and sufficient."""
    signed = sign_v4(form={"Action": "DescribeInstances", "Version": "2016-11-15"}, user=ALICE)
    clock = Clock()
    clock.rightNow = signed.at
    authenticator = SignatureAuthenticator((UserNames(ListedUsers((ALICE, ANNA))),), clock)
    request = replace(signed.request, certificate=AUTHORITY.client("anna").der)
    sender: Sender = done(Deferred.fromCoroutine(authenticator.authenticate(request)))
    assert (sender.user, sender.key, sender.credential.kind) == (ALICE, "alice", CredentialKind.PASSWORD)
    unsigned = SignedRequest("GET", b"/", b"", (), b"", certificate=AUTHORITY.client("anna").der)
    with pytest.raises(EC2Error, match="must contain"):
        done(Deferred.fromCoroutine(authenticator.authenticate(unsigned)))


@pytest.mark.parametrize("subject", ["ann", "anna2", "xanna", "ANNA", "anna/CN=x"])
def test_subjects_are_compared_as_a_whole(subject: str) -> None:
    """A part, another case and additional text are refused."""
    assert X509Harness().refusal(AUTHORITY.client(subject).der) == AUTH_FAILURE


def test_the_issuer_of_a_certificate_authenticates_nobody() -> None:
    """On the Ruby server, a user with the name of an authority could be authenticated by all its certificates."""
    authority = replace(ANNA, secret=r"/O=ONE\20cloud/CN=ONE\20Authority")
    harness = with_users(authority)
    assert harness.refusal(AUTHORITY.client("anna").der) == AUTH_FAILURE
    assert harness.refusal(AUTHORITY.client(named((NameOID.COMMON_NAME, "unknown"))).der) == AUTH_FAILURE


def test_a_proxy_certificate_does_not_authenticate_its_issuer() -> None:
    """RFC 3820: its issuer is the user, its subject the user's with an additional CN."""
    user = AUTHORITY.client("anna")
    proxy = Authority("proxies")
    proxy.name = user.certificate.subject
    parts = [(attribute.oid, str(attribute.value)) for attribute in user.certificate.subject]
    delegated = proxy.client(named(*parts, (NameOID.COMMON_NAME, "1234567")))
    assert delegated.certificate.issuer == user.certificate.subject
    assert X509Harness().refusal(delegated.der) == AUTH_FAILURE


@pytest.mark.parametrize("driver", ["core", "public", "server_x509", "server_cipher", "ldap", ""])
def test_only_users_of_the_driver_x509_are_accepted(driver: str) -> None:
    """The PASSWORD of other users is not a subject, even if it looks like one."""
    assert with_users(replace(ANNA, driver=driver)).refusal(AUTHORITY.client("anna").der) == AUTH_FAILURE


def test_a_disabled_user_is_refused() -> None:
    """As with signatures."""
    assert with_users(replace(ANNA, enabled=False)).refusal(AUTHORITY.client("anna").der) == AUTH_FAILURE


def test_a_subject_of_two_users_authenticates_neither() -> None:
    """It is ambiguous; the log contains both names."""
    twin = replace(BERT, secret=f"/CN=other|{ANNA.secret}")
    harness = with_users(ANNA, twin)
    assert harness.refusal(AUTHORITY.client("anna").der) == AUTH_FAILURE
    (event,) = harness.events
    assert formatEvent(event).endswith(r"/O=ONE\20cloud/CN=anna: several users have this subject: anna, bert")
    assert event["log_level"].name == "warn"


def test_of_two_users_with_a_subject_only_the_enabled_one_is_accepted() -> None:
    """The account of the disabled one has been replaced."""
    harness = with_users(replace(ANNA, enabled=False), replace(BERT, secret=ANNA.secret))
    assert harness.authenticated(AUTHORITY.client("anna").der).name == "bert"
    assert harness.events == []


@pytest.mark.parametrize(
    "issued",
    [AUTHORITY.client("anna", days=-1, since=-5), AUTHORITY.client("anna", since=1)],
    ids=["expired", "not yet valid"],
)
def test_a_certificate_outside_its_validity_is_refused(issued: Issued) -> None:
    """It may have been verified when the connection was opened, days ago."""
    assert X509Harness().refusal(issued.der) == AUTH_FAILURE


def test_the_subject_and_the_reason_are_in_the_exception() -> None:
    """For the log: the message, which is sent, is the same for all."""
    disabled, twin = replace(ANNA, enabled=False), replace(BERT, secret=ANNA.secret)
    expired = AUTHORITY.client("anna", days=-1, since=-5).der
    for users, der, reason in (
        ((), AUTHORITY.client("anna").der, "no user of the driver x509 has this subject"),
        ((disabled,), AUTHORITY.client("anna").der, "the user is disabled"),
        ((ANNA, twin), AUTHORITY.client("anna").der, "several users have this subject"),
        ((ANNA,), expired, "the certificate has expired, or is not valid yet"),
    ):
        with pytest.raises(AuthenticationFailed) as caught:
            with_users(*users).authenticated(der)
        assert (caught.value.key, caught.value.reason) == (ANNA.secret, reason)
        assert str(caught.value) == str(auth_failure())
    with pytest.raises(AuthenticationFailed) as caught:
        X509Harness().authenticated(b"nonsense")
    assert (caught.value.key, caught.value.reason) == ("", "the certificate cannot be parsed")


def test_the_key_of_a_user_is_the_subject_of_the_certificate() -> None:
    """A user may have several."""
    request = SignedRequest("GET", b"/", b"", (), b"", certificate=AUTHORITY.client("anna").der)
    sender = X509Harness().sender(request)
    credential = sender.credential
    assert (sender.user, sender.key, credential.kind) == (ANNA, ANNA.secret, CredentialKind.CERTIFICATE)
    assert credential.origin == origin_of(CredentialKind.CERTIFICATE, ANNA.secret)


def test_a_certificate_may_expire_during_a_connection() -> None:
    """Its validity is checked at the time of the request."""
    harness = X509Harness()
    issued = AUTHORITY.client("anna", days=1)
    assert harness.authenticated(issued.der) == ANNA
    harness.clock.advance(timedelta(days=2).total_seconds())
    assert harness.refusal(issued.der) == AUTH_FAILURE


@pytest.mark.parametrize("invalid", [b"", b"nonsense", AUTHORITY.client("anna").der[:-9]])
def test_an_invalid_certificate_is_refused(invalid: bytes) -> None:
    """As an error of the client."""
    assert X509Harness().refusal(invalid) == AUTH_FAILURE


def test_while_oned_is_unavailable_the_error_says_so() -> None:
    """It does not say that the user does not exist."""

    class Down(ListedUsers):
        async def find_by_subject(self, spellings: Sequence[str]) -> Sequence[User]:
            raise OpenNebulaUnavailable("one.userpool.info", "connection refused")

    with pytest.raises(OpenNebulaUnavailable):
        X509Harness(Down()).authenticated(AUTHORITY.client("anna").der)
