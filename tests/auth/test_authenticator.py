"""Authentication by signature: every row of the table of errors, validity, tampering, and changed secrets."""

from __future__ import annotations

import hmac
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from econed.auth import sigv2
from econed.auth.authenticator import DUMMY_SECRET, SignatureAuthenticator
from econed.auth.endpoints import Endpoint, Endpoints
from econed.errors import EC2Error, OpenNebulaUnavailable
from econed.interfaces import IUserDirectory
from econed.user import User
from econed.wire.signed_request import SignedRequest
from tests.auth.support import (
    ALICE,
    ListedUsers,
    Signed,
    authenticated,
    presign_v4,
    refusal,
    sign_v2,
    sign_v4,
    with_header,
)

DESCRIBE = {"Action": "DescribeInstances", "Version": "2016-11-15", "InstanceId.1": "i-00000001"}
MINUTES = 60


@cache
def posted() -> Signed:
    """Return a form signed with Version 4."""
    return sign_v4("POST", form=DESCRIBE, token="token")


@cache
def presigned() -> Signed:
    """Return a query string with a Version 4 signature."""
    return presign_v4(query=DESCRIBE)


@cache
def v2_get() -> Signed:
    """Return a query string signed with Version 2."""
    return sign_v2("GET", DESCRIBE)


@cache
def v2_post() -> Signed:
    """Return a form signed with Version 2."""
    return sign_v2("POST", DESCRIBE)


every_method = pytest.mark.parametrize("method", [posted, presigned, v2_get, v2_post])


def edited(request: SignedRequest, old: bytes, new: bytes) -> SignedRequest:
    """Return `request` with every `old` replaced by `new`; fails if there is none."""
    changed = replace(
        request,
        query=request.query.replace(old, new),
        body=request.body.replace(old, new),
        headers=tuple((name, value.replace(old, new)) for name, value in request.headers),
    )
    assert changed != request
    return changed


# Every row of the table in `econed.auth.failures`

ROWS: list[tuple[str, int, Callable[[], Signed], Callable[[SignedRequest], SignedRequest]]] = [
    ("MissingAuthenticationToken", 403, posted, lambda r: with_header(r, "authorization")),
    ("MissingAuthenticationToken", 403, posted, lambda r: with_header(r, "authorization", b"Basic YTpi")),
    ("MissingAuthenticationToken", 403, presigned, lambda r: replace(r, query=b"Action=DescribeInstances")),
    ("IncompleteSignature", 400, posted, lambda r: edited(r, b"Credential=", b"Credentials=")),
    ("IncompleteSignature", 400, posted, lambda r: edited(r, b" Credential=", b" Realm=x, Credential=")),
    ("IncompleteSignature", 400, posted, lambda r: edited(r, b", Signature=", b", Signature=0, Signature=")),
    ("IncompleteSignature", 400, posted, lambda r: edited(r, b"AWS4-HMAC-SHA256", b"AWS4-ECDSA-P256-SHA256")),
    ("IncompleteSignature", 400, posted, lambda r: edited(r, b"/aws4_request", b"")),
    ("IncompleteSignature", 400, posted, lambda r: edited(r, b"=content-type;", b"=host;")),
    ("IncompleteSignature", 400, posted, lambda r: with_header(r, "x-amz-date")),
    ("IncompleteSignature", 400, posted, lambda r: with_header(r, "x-amz-date", b"yesterday")),
    ("IncompleteSignature", 400, posted, lambda r: with_header(r, "x-amz-date", b"20151332T123600Z")),
    (
        "IncompleteSignature",
        400,
        posted,
        lambda r: with_header(r, "x-amz-date", b"20150830T123600Z", b"20150830T123600Z"),
    ),
    ("IncompleteSignature", 400, posted, lambda r: with_header(r, "host", b"a", b"b")),
    ("IncompleteSignature", 400, posted, lambda r: with_header(r, "authorization", *r.header("authorization") * 2)),
    ("IncompleteSignature", 400, posted, lambda r: replace(r, query=v2_get().request.query)),
    ("IncompleteSignature", 400, posted, lambda r: replace(r, query=presigned().request.query)),
    ("IncompleteSignature", 400, posted, lambda r: replace(r, body=v2_post().request.body)),
    ("IncompleteSignature", 400, presigned, lambda r: edited(r, b"X-Amz-Credential", b"X-Amz-Credentials")),
    ("IncompleteSignature", 400, presigned, lambda r: edited(r, b"X-Amz-Date", b"X-Amz-Dates")),
    ("IncompleteSignature", 400, presigned, lambda r: edited(r, b"X-Amz-Expires=3600", b"X-Amz-Expires=604801")),
    ("IncompleteSignature", 400, presigned, lambda r: edited(r, b"X-Amz-Expires=3600", b"X-Amz-Expires=0")),
    ("IncompleteSignature", 400, presigned, lambda r: edited(r, b"X-Amz-Expires=3600", b"X-Amz-Expires=1h")),
    ("IncompleteSignature", 400, presigned, lambda r: edited(r, b"X-Amz-Algorithm=AWS4", b"X-Amz-Algorithm=AWS5")),
    ("MissingParameter", 400, v2_get, lambda r: edited(r, b"&Signature=", b"&Signatur=")),
    ("MissingParameter", 400, v2_get, lambda r: edited(r, b"AWSAccessKeyId=", b"Key=")),
    ("MissingParameter", 400, v2_get, lambda r: edited(r, b"SignatureVersion=", b"V=")),
    ("MissingParameter", 400, v2_post, lambda r: edited(r, b"SignatureMethod=", b"M=")),
    ("MissingParameter", 400, v2_post, lambda r: edited(r, b"Timestamp=", b"Time=")),
    ("InvalidParameterValue", 400, v2_get, lambda r: edited(r, b"SignatureVersion=2", b"SignatureVersion=1")),
    ("InvalidParameterValue", 400, v2_get, lambda r: edited(r, b"=HmacSHA256", b"=HmacMD5")),
    ("InvalidParameterValue", 400, v2_get, lambda r: edited(r, b"Timestamp=2", b"Timestamp=x")),
    ("InvalidParameterValue", 400, presigned, lambda r: replace(r, query=r.query + b"&X-Amz-Signature=0")),
    ("InvalidParameterValue", 400, posted, lambda r: replace(r, query=b"A=1&A=2")),
    (
        "InvalidParameterCombination",
        400,
        v2_get,
        lambda r: edited(r, b"&Signature=", b"&Expires=2014-06-20T08:40:23Z&Signature="),
    ),
    ("SignatureDoesNotMatch", 403, posted, lambda r: edited(r, b"aws4_request", b"aws5_request")),
    ("SignatureDoesNotMatch", 403, posted, lambda r: edited(r, b"/us-east-1/", b"//")),
    ("SignatureDoesNotMatch", 403, posted, lambda r: edited(r, b"=alice/20", b"=alice/19")),
    ("SignatureDoesNotMatch", 403, posted, lambda r: edited(r, b";host;", b";")),
    ("SignatureDoesNotMatch", 403, posted, lambda r: with_header(r, "x-amz-content-sha256", b"0" * 64)),
    ("InvalidClientTokenId", 403, posted, lambda r: edited(r, b"Credential=alice", b"Credential=")),
    ("InvalidClientTokenId", 403, posted, lambda r: edited(r, b"Credential=alice", b"Credential=" + b"a" * 129)),
    ("InvalidClientTokenId", 403, v2_get, lambda r: edited(r, b"AWSAccessKeyId=alice", b"AWSAccessKeyId=a%00")),
    ("AuthFailure", 401, posted, lambda r: edited(r, b"Credential=alice", b"Credential=mallory")),
    ("AuthFailure", 401, posted, lambda r: edited(r, b", Signature=", b", Signature=0")),
    ("AuthFailure", 401, presigned, lambda r: edited(r, b"X-Amz-Signature=", b"X-Amz-Signature=%E2%9C%93")),
    ("AuthFailure", 401, v2_get, lambda r: edited(r, b"=HmacSHA256", b"=HmacSHA1")),
]


@pytest.mark.parametrize(("code", "status", "method", "modify"), ROWS)
def test_each_invalid_signature_gets_amazons_error(
    code: str, status: int, method: Callable[[], Signed], modify: Callable[[SignedRequest], SignedRequest]
) -> None:
    """The rows of the table that do not depend on time."""
    signed = method()
    error = refusal(modify(signed.request), signed.at)
    assert (error.code, error.status) == (code, status)


@every_method
def test_no_user_is_looked_up_for_an_expired_signature(method: Callable[[], Signed]) -> None:
    """The time is checked first."""
    signed, users = method(), ListedUsers()
    refusal(signed.request, signed.at + 8 * 24 * 60 * MINUTES, users)
    assert users.calls == []


# Validity


@pytest.mark.parametrize("method", [posted, v2_get, v2_post])
@pytest.mark.parametrize("delay", [-15 * MINUTES, 0, 15 * MINUTES])
def test_a_signature_is_valid_15_minutes_before_and_after_its_date(method: Callable[[], Signed], delay: float) -> None:
    """To the second, to allow for clocks that differ."""
    signed = method()
    assert authenticated(signed.request, signed.at + delay) == ALICE


@every_method
@pytest.mark.parametrize("delay", [-15 * MINUTES - 1, 60 * MINUTES + 1])
def test_a_signature_with_an_earlier_or_later_date_is_refused(method: Callable[[], Signed], delay: float) -> None:
    """Both get RequestExpired, 400."""
    signed = method()
    error = refusal(signed.request, signed.at + delay)
    assert (error.code, error.status, error.message) == ("RequestExpired", 400, "Request has expired.")


@pytest.mark.parametrize("method", [posted, v2_get, v2_post])
def test_a_signature_expires_after_15_minutes(method: Callable[[], Signed]) -> None:
    """Signatures without an expiry of their own, a second later."""
    signed = method()
    assert refusal(signed.request, signed.at + 15 * MINUTES + 1).code == "RequestExpired"


@pytest.mark.parametrize("expires", [1, 60, 604800])
def test_a_presigned_request_is_valid_until_its_expiry(expires: int) -> None:
    """X-Amz-Expires, from a second to a week, without an allowance of 15 minutes."""
    signed = presign_v4(query=DESCRIBE, expires=expires)
    assert authenticated(signed.request, signed.at + expires) == ALICE
    assert refusal(signed.request, signed.at + expires + 1).code == "RequestExpired"


def expiring(at: str) -> SignedRequest:
    """Return a correctly signed Version 2 GET that expires at `at`."""
    query = f"AWSAccessKeyId=alice&Expires={at}&SignatureMethod=HmacSHA256&SignatureVersion=2&Signature="
    claim = sigv2.read(SignedRequest("GET", b"/", query.encode() + b"x", (), b""))
    signature = claim.expected(ALICE.secret, Endpoint(b"h", b"/")).replace(b"+", b"%2B")
    return SignedRequest("GET", b"/", query.encode() + signature, (("host", b"h"),), b"")


@pytest.mark.parametrize(
    ("remaining", "code"), [(0, None), (24 * 60 * MINUTES, None), (-1, "RequestExpired"), (604801, "RequestExpired")]
)
@pytest.mark.parametrize("at", ["2014-06-20T08:40:23Z", "2014-06-20T08:40:23", "2014-06-20T10:40:23.000%2B02:00"])
def test_a_version_2_signature_may_expire_within_a_week(at: str, remaining: float, code: str | None) -> None:
    """Expires, in the formats of ISO 8601 that clients send."""
    now = 1403253623.0 - remaining
    if code is None:
        assert authenticated(expiring(at), now) == ALICE
    else:
        assert refusal(expiring(at), now).code == code


# Tampering

TAMPERED: list[Callable[[SignedRequest], SignedRequest]] = [
    lambda r: replace(r, method="PUT"),
    lambda r: replace(r, path=b"/elsewhere"),
    lambda r: with_header(r, "host", b"elsewhere.example.com:4567"),
    lambda r: edited(r, b"DescribeInstances", b"TerminateInstances"),
    lambda r: edited(r, b"i-00000001", b"i-00000002"),
    lambda r: edited(r, b"i-00000001", b"i-0000000%31%32"),
    lambda r: edited(r, b"InstanceId.1", b"InstanceId.2"),
    lambda r: edited(r, b"&Version", b"&DryRun=false&Version"),
    lambda r: edited(r, b"&InstanceId.1=i-00000001", b""),
    lambda r: edited(r, b"=alice", b"=bob"),
]


@every_method
@pytest.mark.parametrize("tamper", TAMPERED)
def test_any_change_to_a_signed_request_is_refused(
    method: Callable[[], Signed], tamper: Callable[[SignedRequest], SignedRequest]
) -> None:
    """Method, path, host, name and value of a parameter, an additional, a missing parameter, another signer."""
    signed = method()
    bob = replace(ALICE, id=3, name="bob", secret="another")
    assert refusal(tamper(signed.request), signed.at, ListedUsers((ALICE, bob))).code == "AuthFailure"


@pytest.mark.parametrize(
    "tamper",
    [
        lambda r: with_header(r, "content-type", b"text/plain"),
        lambda r: with_header(r, "x-amz-security-token", b"tokem"),
        lambda r: with_header(r, "x-amz-security-token"),
        lambda r: edited(r, b"/us-east-1/", b"/us-east-2/"),
        lambda r: edited(r, b"/ec2/", b"/sts/"),
        lambda r: edited(r, b"=content-type;host;", b"=host;"),
        lambda r: replace(r, query=b"DryRun=false"),
        lambda r: replace(r, body=r.body + b"&"),
    ],
)
def test_any_change_that_version_4_covers_is_refused(
    tamper: Callable[[SignedRequest], SignedRequest],
) -> None:
    """The signed headers, the scope, the query string of a form, and each byte of the body."""
    signed = posted()
    assert refusal(tamper(signed.request), signed.at).code == "AuthFailure"


@given(st.data())
def test_a_changed_byte_is_refused_unless_the_parameters_stay_the_same(data: st.DataObject) -> None:
    """For any byte of the parameters."""
    signed = data.draw(st.sampled_from([posted(), presigned(), v2_get(), v2_post()]))
    request = signed.request
    raw = bytearray(request.body or request.query)
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    changed = replace(request, body=bytes(raw)) if request.body else replace(request, query=bytes(raw))
    try:
        authenticated(changed, signed.at)
    except EC2Error:
        return
    assert sorted((*changed.query_pairs, *changed.form_pairs)) == sorted((*request.query_pairs, *request.form_pairs))


# Users


@every_method
@pytest.mark.parametrize(
    "user",
    [
        replace(ALICE, enabled=False),
        replace(ALICE, driver="x509"),
        replace(ALICE, driver="ldap"),
        replace(ALICE, driver="server_cipher"),
        replace(ALICE, secret="another"),
        None,
    ],
)
def test_all_users_who_may_not_sign_get_the_same_error(method: Callable[[], Signed], user: Any) -> None:
    """Disabled, of a driver without a secret, with another secret, or nonexistent."""
    signed = method()
    error = refusal(signed.request, signed.at, ListedUsers((user,) if user else ()))
    assert (error.code, error.status, error.message) == (
        "AuthFailure",
        401,
        "AWS was not able to validate the provided access credentials",
    )


@pytest.mark.parametrize("secret", ["", DUMMY_SECRET])
def test_the_empty_secret_and_the_dummy_secret_authenticate_nobody(secret: str) -> None:
    """Neither as a user without a password nor as a nonexistent user."""
    without_secret = replace(ALICE, secret="")
    signed = sign_v4("POST", form=DESCRIBE, user=replace(ALICE, secret=secret))
    assert refusal(signed.request, signed.at, ListedUsers((without_secret,))).code == "AuthFailure"
    assert refusal(signed.request, signed.at, ListedUsers(())).code == "AuthFailure"


@pytest.mark.parametrize("driver", ["core", "public"])
def test_users_of_the_drivers_core_and_public_may_sign(driver: str) -> None:
    """Their PASSWORD is a secret."""
    user = replace(ALICE, driver=driver)
    signed = posted()
    assert authenticated(signed.request, signed.at, ListedUsers((user,))) == user


def test_a_changed_password_is_accepted_after_a_refresh() -> None:
    """A signature that does not match causes one."""
    changed = replace(ALICE, secret="new")
    signed = sign_v4("POST", form=DESCRIBE, user=changed)
    users = ListedUsers((ALICE,), refreshed=(changed,))
    assert authenticated(signed.request, signed.at, users) == changed
    assert users.calls == [("refresh", "alice"), ("confirm", "alice")]


def test_an_enabled_user_is_accepted_after_a_refresh() -> None:
    """The cached user is disabled."""
    users = ListedUsers((replace(ALICE, enabled=False),), refreshed=(ALICE,))
    signed = posted()
    assert authenticated(signed.request, signed.at, users) == ALICE


@pytest.mark.parametrize("refreshed", [(), (replace(ALICE, secret="new"),), (replace(ALICE, enabled=False),)])
def test_a_wrong_signature_is_refused_also_after_a_refresh(refreshed: tuple[Any, ...]) -> None:
    """The user was removed, has a third secret, or was disabled meanwhile."""
    signed = sign_v4("POST", form=DESCRIBE, user=replace(ALICE, secret="wrong"))
    assert refusal(signed.request, signed.at, ListedUsers((ALICE,), refreshed=refreshed)).code == "AuthFailure"


def test_a_correct_signature_only_confirms_its_user() -> None:
    """A refresh is for signatures that do not match."""
    users, signed = ListedUsers(), posted()
    authenticated(signed.request, signed.at, users)
    assert users.calls == [("confirm", "alice")]


@pytest.mark.parametrize("current", [(), (replace(ALICE, secret="new"),), (replace(ALICE, enabled=False),)])
def test_a_signature_that_matches_an_outdated_user_is_refused(current: tuple[Any, ...]) -> None:
    """The user was removed or disabled, or has a new secret since."""

    class Stale(ListedUsers):
        def cached(self, access_key: str) -> User | None:
            return ALICE

    signed = posted()
    assert refusal(signed.request, signed.at, Stale(current)).code == "AuthFailure"


@contextmanager
def counting_digests() -> Iterator[list[int]]:
    """Count the calls of `hmac.digest`, by the interpreter's profiler."""
    digests: list[int] = []

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is hmac.digest.__code__:
            digests.append(1)

    sys.setprofile(profile)
    try:
        yield digests
    finally:
        sys.setprofile(None)


SIGNERS = [
    pytest.param(ALICE, id="another secret"),
    pytest.param(replace(ALICE, enabled=False), id="disabled"),
    pytest.param(replace(ALICE, enabled=False, secret="wrong"), id="disabled, with the right secret"),
    pytest.param(replace(ALICE, driver="x509"), id="driver x509"),
    pytest.param(replace(ALICE, driver="ldap"), id="driver ldap"),
    pytest.param(replace(ALICE, secret=""), id="no secret"),
    pytest.param(None, id="no such user"),
]


@pytest.mark.parametrize("ssl_server", [None, "https://cloud.example.com/ec2"])
@pytest.mark.parametrize("version", ["v4", "v4 presigned", "v2"])
@pytest.mark.parametrize("user", SIGNERS)
def test_a_failed_signature_costs_the_same_digests_and_calls_for_any_user(
    user: User | None, version: str, ssl_server: str | None
) -> None:
    """Two chains of HMACs for each endpoint, and one refresh, whether or not the user exists and may sign."""
    stranger = replace(ALICE, secret="wrong")
    signers = {
        "v4": lambda: sign_v4("POST", form=DESCRIBE, user=stranger),
        "v4 presigned": lambda: presign_v4(query=DESCRIBE, user=stranger),
        "v2": lambda: sign_v2("GET", DESCRIBE, user=stranger),
    }
    signed = signers[version]()
    users = ListedUsers(() if user is None else (user,))
    with counting_digests() as digests:
        assert refusal(signed.request, signed.at, users, ssl_server).code == "AuthFailure"
    endpoints = len(Endpoints(ssl_server).candidates(signed.request))
    assert sum(digests) == 2 * endpoints * (1 if version == "v2" else 5)
    assert users.calls == [("refresh", "alice")]


def test_while_oned_is_unavailable_errors_do_not_depend_on_the_user() -> None:
    """The error of the directory is raised for correct and for wrong signatures, and becomes Unavailable."""

    class Down(ListedUsers):
        async def confirm(self, user: User) -> User | None:
            raise OpenNebulaUnavailable("one.user.info", "connection refused")

        async def refresh(self, access_key: str) -> None:
            raise OpenNebulaUnavailable("one.grouppool.info", "connection refused")

    signed = posted()
    for users in (Down(), Down((replace(ALICE, secret="another"),)), Down(())):
        with pytest.raises(OpenNebulaUnavailable):
            authenticated(signed.request, signed.at, users)


def test_the_directory_of_these_tests_provides_its_interface() -> None:
    """`IUserDirectory`."""
    assert verifyObject(IUserDirectory, ListedUsers())


def test_an_invalid_ssl_server_is_refused_by_the_constructor() -> None:
    """Not at the first request."""
    with pytest.raises(ValueError, match="not an http or https URL"):
        SignatureAuthenticator(ListedUsers(), Clock(), ssl_server="cloud.example.com")


def test_the_repr_of_a_user_does_not_contain_the_secret() -> None:
    """It may be in a log or a traceback."""
    assert ALICE.secret not in repr(ALICE)
