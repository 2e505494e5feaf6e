"""Who is let in by a certificate (`auth: x509`), and who is not."""

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
from econed.auth.x509 import CertificateAuthenticator
from econed.errors import EC2Error, OpenNebulaUnavailable
from econed.interfaces import IAuthenticator, IUserDirectory
from econed.user import User
from econed.wire.signed_request import SignedRequest
from tests.auth.support import ALICE, ListedUsers, done, sign_v4
from tests.support.certificates import Authority, Issued, named

AUTHORITY = Authority("ONE Authority")
ANNA = User(id=7, name="anna", gid=100, groups=(100,), secret=r"/O=ONE\20cloud/CN=anna", driver="x509", enabled=True)
BERT = replace(ANNA, id=8, name="bert", secret=r"/O=ONE\20cloud/CN=bert|/C=ES/CN=bert\20two")


@dataclass
class X509Harness:
    """An authenticator of certificates with its users, its time and its log."""

    users: IUserDirectory = field(default_factory=lambda: ListedUsers((ALICE, ANNA, BERT)))
    clock: Clock = field(default_factory=Clock)
    said: list[LogEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock.rightNow = datetime.now(UTC).timestamp()
        log = Logger("test", observer=self.said.append)  # type: ignore[arg-type]
        self.authenticator = CertificateAuthenticator(self.users, self.clock, log)

    def let_in(self, certificate: bytes | None, request: SignedRequest | None = None) -> User:
        """Return who is let in with this certificate."""
        unsigned = SignedRequest("GET", b"/", b"Action=DescribeInstances&Version=2016-11-15", (), b"")
        asked = replace(request or unsigned, certificate=certificate)
        user: User = done(Deferred.fromCoroutine(self.authenticator.authenticate(asked)))
        return user

    def refused(self, certificate: bytes | None, request: SignedRequest | None = None) -> tuple[str, int]:
        """Return code and status of the error that a certificate gets."""
        with pytest.raises(EC2Error) as caught:
            self.let_in(certificate, request)
        return caught.value.code, caught.value.status


def with_users(*users: User) -> X509Harness:
    """Return a harness for these users."""
    return X509Harness(ListedUsers(users))


NOBODY = ("AuthFailure", 401)


def test_both_ways_of_telling_callers_keep_the_interface() -> None:
    """The daemon takes either, by econe.conf."""
    assert verifyObject(IAuthenticator, X509Harness().authenticator)
    assert verifyObject(IAuthenticator, SignatureAuthenticator(ListedUsers(), Clock()))


def test_a_user_comes_in_by_his_certificate() -> None:
    """Its subject is his PASSWORD."""
    assert X509Harness().let_in(AUTHORITY.client("anna").der) == ANNA


@pytest.mark.parametrize(
    "subject", ["bert", named((NameOID.COUNTRY_NAME, "ES"), (NameOID.COMMON_NAME, "bert two"))], ids=["first", "second"]
)
def test_a_password_may_name_several_subjects(subject: Any) -> None:
    """Separated by a bar."""
    assert X509Harness().let_in(AUTHORITY.client(subject).der) == BERT


def test_a_subject_that_differs_in_a_blank_is_another() -> None:
    """An authority may give out both."""
    squeezed = replace(ANNA, secret="/O=ONEcloud/CN=anna")
    assert with_users(squeezed).refused(AUTHORITY.client("anna").der) == NOBODY


def test_a_subject_that_an_older_openssl_spelled_counts() -> None:
    """With a slash in a value as it is; today's spelling goes first."""
    old = replace(ANNA, secret=r"/O=ONE\20cloud/CN=host/node")
    today = replace(BERT, secret=r"/O=ONE\20cloud/CN=host\/node")
    certificate = AUTHORITY.client("host/node").der
    assert with_users(old).let_in(certificate) == old
    assert with_users(old, today).let_in(certificate) == today


def test_without_a_certificate_nobody_comes_in() -> None:
    """Amazon's answer to a request that nothing proves."""
    assert X509Harness().refused(None) == ("MissingAuthenticationToken", 403)


def test_signatures_are_not_looked_at() -> None:
    """The right one lets nobody in, and a user's certificate does whoever signed."""
    signed = sign_v4(form={"Action": "DescribeInstances", "Version": "2016-11-15"}, user=ALICE).request
    assert X509Harness().refused(None, signed) == ("MissingAuthenticationToken", 403)
    assert X509Harness().let_in(AUTHORITY.client("anna").der, signed) == ANNA


def test_with_auth_ec2_certificates_are_not_looked_at() -> None:
    """They neither help nor harm."""
    signed = sign_v4(form={"Action": "DescribeInstances", "Version": "2016-11-15"}, user=ALICE)
    clock = Clock()
    clock.rightNow = signed.at
    authenticator = SignatureAuthenticator(ListedUsers((ALICE, ANNA)), clock)
    request = replace(signed.request, certificate=AUTHORITY.client("anna").der)
    assert done(Deferred.fromCoroutine(authenticator.authenticate(request))) == ALICE
    unsigned = SignedRequest("GET", b"/", b"", (), b"", certificate=AUTHORITY.client("anna").der)
    with pytest.raises(EC2Error, match="must contain"):
        done(Deferred.fromCoroutine(authenticator.authenticate(unsigned)))


@pytest.mark.parametrize("subject", ["ann", "anna2", "xanna", "ANNA", "anna/CN=x"])
def test_subjects_are_compared_as_wholes(subject: str) -> None:
    """No part of one, no other case, nothing around it."""
    assert X509Harness().refused(AUTHORITY.client(subject).der) == NOBODY


def test_who_issued_a_certificate_lets_nobody_in() -> None:
    """Were the authority's own name some user's, all its certificates would be his on the Ruby server."""
    authority = replace(ANNA, secret=r"/O=ONE\20cloud/CN=ONE\20Authority")
    harness = with_users(authority)
    assert harness.refused(AUTHORITY.client("anna").der) == NOBODY
    assert harness.refused(AUTHORITY.client(named((NameOID.COMMON_NAME, "whoever"))).der) == NOBODY


def test_a_proxy_certificate_is_not_its_issuers() -> None:
    """RFC 3820: its subject is the user's with a CN more, its issuer the user."""
    user = AUTHORITY.client("anna")
    proxy = Authority("proxies")
    proxy.name = user.certificate.subject
    parts = [(each.oid, str(each.value)) for each in user.certificate.subject]
    delegated = proxy.client(named(*parts, (NameOID.COMMON_NAME, "1234567")))
    assert delegated.certificate.issuer == user.certificate.subject
    assert X509Harness().refused(delegated.der) == NOBODY


@pytest.mark.parametrize("driver", ["core", "public", "server_x509", "server_cipher", "ldap", ""])
def test_only_users_of_the_driver_x509_come_in(driver: str) -> None:
    """What others have for a PASSWORD is no subject, even if it reads like one."""
    assert with_users(replace(ANNA, driver=driver)).refused(AUTHORITY.client("anna").der) == NOBODY


def test_a_disabled_user_is_refused() -> None:
    """As with signatures."""
    assert with_users(replace(ANNA, enabled=False)).refused(AUTHORITY.client("anna").der) == NOBODY


def test_a_subject_of_two_users_lets_neither_in() -> None:
    """Which of them it is nobody can say; the log names both."""
    twin = replace(BERT, secret=f"/CN=other|{ANNA.secret}")
    harness = with_users(ANNA, twin)
    assert harness.refused(AUTHORITY.client("anna").der) == NOBODY
    (event,) = harness.said
    assert formatEvent(event).endswith(r"/O=ONE\20cloud/CN=anna: several users have this subject: anna, bert")
    assert event["log_level"].name == "warn"


def test_of_two_users_with_a_subject_the_one_who_is_enabled_comes_in() -> None:
    """The other one's account has been replaced."""
    harness = with_users(replace(ANNA, enabled=False), replace(BERT, secret=ANNA.secret))
    assert harness.let_in(AUTHORITY.client("anna").der).name == "bert"
    assert harness.said == []


@pytest.mark.parametrize(
    "issued", [AUTHORITY.client("anna", days=-1, since=-5), AUTHORITY.client("anna", since=1)], ids=["ended", "to come"]
)
def test_a_certificate_out_of_its_time_is_refused(issued: Issued) -> None:
    """Whoever verified it may have done so when the connection began, days ago."""
    assert X509Harness().refused(issued.der) == NOBODY


def test_a_certificate_that_ends_while_the_connection_goes_on_ends_with_it() -> None:
    """The time of the request counts."""
    harness = X509Harness()
    issued = AUTHORITY.client("anna", days=1)
    assert harness.let_in(issued.der) == ANNA
    harness.clock.advance(timedelta(days=2).total_seconds())
    assert harness.refused(issued.der) == NOBODY


@pytest.mark.parametrize("nonsense", [b"", b"nonsense", AUTHORITY.client("anna").der[:-9]])
def test_what_is_no_certificate_is_refused(nonsense: bytes) -> None:
    """Not an error of ours."""
    assert X509Harness().refused(nonsense) == NOBODY


def test_when_oned_does_not_answer_that_is_the_answer() -> None:
    """Not that the user does not exist."""

    class Down(ListedUsers):
        async def find_by_subject(self, spellings: Sequence[str]) -> Sequence[User]:
            raise OpenNebulaUnavailable("one.userpool.info", "connection refused")

    with pytest.raises(OpenNebulaUnavailable):
        X509Harness(Down()).let_in(AUTHORITY.client("anna").der)
