"""Which users may sign: their drivers, and changed secrets."""

from __future__ import annotations

import hmac
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from econed.auth.authenticator import DUMMY_SECRET, SignatureAuthenticator
from econed.auth.endpoints import Endpoints
from econed.auth.failures import AuthenticationFailed, auth_failure
from econed.auth.signature import MAX_SKEW
from econed.auth.user_names import UserNames
from econed.errors import OpenNebulaUnavailable
from econed.interfaces import IUserDirectory
from econed.user import LoginToken, User
from tests.auth.signed_requests import DESCRIBE, every_method, posted
from tests.auth.support import ALICE, ListedUsers, Signed, authenticated, presign_v4, refusal, sign_v2, sign_v4


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


NO_PASSWORD = "the user has no secret key: no password"

REASONS = [
    (replace(ALICE, secret="another"), "wrong secret key, or the request was changed after it was signed"),
    (replace(ALICE, enabled=False), "the user is disabled"),
    (
        replace(ALICE, driver="ldap" * 99),
        f"{NO_PASSWORD} with the driver ldapldapldapldap, no valid login token",
    ),
    (replace(ALICE, secret=""), f"{NO_PASSWORD} with the driver core, no valid login token"),
    (None, "no user with this name is known"),
]


@pytest.mark.parametrize(("user", "reason"), REASONS)
def test_the_reason_for_a_failure_is_in_the_exception_but_not_in_its_message(user: User | None, reason: str) -> None:
    """The message, which is sent, is the same for all."""
    signed = posted()
    error = refusal(signed.request, signed.at, ListedUsers(() if user is None else (user,)))
    assert isinstance(error, AuthenticationFailed)
    assert (error.key, error.reason) == ("alice", reason)
    assert str(error) == str(auth_failure())


@pytest.mark.parametrize(
    ("late_by", "reason"), [(MAX_SKEW + 60, "expired 60 s ago"), (-MAX_SKEW - 5, "not valid for another 5 s")]
)
def test_the_reason_of_an_expired_request_says_by_how_much(late_by: float, reason: str) -> None:
    """And whose it is, since their clock may be wrong."""
    signed = posted()
    error = refusal(signed.request, signed.at + late_by)
    assert isinstance(error, AuthenticationFailed)
    assert (error.code, error.key, error.reason) == ("RequestExpired", "alice", reason)


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


TOKENS = tuple(LoginToken(f"{number:064x}", None, None) for number in range(10))

SIGNERS = [
    pytest.param(ALICE, id="another secret"),
    pytest.param(replace(ALICE, enabled=False), id="disabled"),
    pytest.param(replace(ALICE, enabled=False, secret="wrong"), id="disabled, with the right secret"),
    pytest.param(replace(ALICE, driver="x509"), id="driver x509"),
    pytest.param(replace(ALICE, driver="ldap"), id="driver ldap"),
    pytest.param(replace(ALICE, secret=""), id="no secret"),
    pytest.param(replace(ALICE, login_tokens=TOKENS), id="ten tokens"),
    pytest.param(replace(ALICE, driver="ldap", login_tokens=TOKENS[:3]), id="driver ldap, with tokens"),
    pytest.param(None, id="no such user"),
]


@pytest.mark.parametrize("ssl_server", [None, "https://cloud.example.com/ec2"])
@pytest.mark.parametrize("version", ["v4", "v4 presigned", "v2"])
@pytest.mark.parametrize("secret", ["wrong", DUMMY_SECRET])
@pytest.mark.parametrize("user", SIGNERS)
def test_a_failed_signature_costs_the_same_digests_and_calls_for_any_user(
    user: User | None, secret: str, version: str, ssl_server: str | None
) -> None:
    """Eleven keys are derived twice, before and after one refresh, whether or not the user exists and may sign.

    Deriving one takes four HMACs in Version 4; each endpoint takes one more. The secret that stands in for those that
    a user does not have is known to all.
    """
    stranger = replace(ALICE, secret=secret)
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
    assert sum(digests) == 2 * 11 * (endpoints + (0 if version == "v2" else 4))
    assert users.calls == [("refresh", "alice")]


@pytest.mark.parametrize("ssl_server", [None, "https://cloud.example.com/ec2"])
def test_a_correct_signature_for_the_received_host_costs_one_digest_with_its_key(ssl_server: str | None) -> None:
    """The key takes four. Other endpoints are tried only for a signature that does not match."""
    signed, users = posted(), ListedUsers()
    with counting_digests() as digests:
        authenticated(signed.request, signed.at, users, ssl_server)
    assert sum(digests) == 5


def test_while_oned_is_unavailable_errors_do_not_depend_on_the_user() -> None:
    """The error of the directory is raised for correct and for wrong signatures, and becomes ServiceUnavailable."""

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
        SignatureAuthenticator((UserNames(ListedUsers()),), Clock(), ssl_server="cloud.example.com")


def test_the_repr_of_a_user_does_not_contain_the_secret() -> None:
    """It may be in a log or a traceback."""
    assert ALICE.secret not in repr(ALICE)
