"""User names as access keys: which secrets of a user count, and with what rights each of them acts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from econed.auth.authenticator import SignatureAuthenticator
from econed.auth.failures import AuthenticationFailed
from econed.auth.user_names import UserNames, candidates
from econed.errors import EC2Error
from econed.interfaces import IUserDirectory
from econed.user import (
    OWN_TOKEN_PREFIX,
    CredentialKind,
    LoginToken,
    SecretKeys,
    Sender,
    TokenLogin,
    User,
    origin_of,
)
from tests.auth.signed_requests import DESCRIBE
from tests.auth.support import ALICE, ListedUsers, done, sign_v4

TOKEN = LoginToken("024d241000ce272c85848e01597a246663984b8a84f6a50895c38238f91a3814", None, None)
GROUP_TOKEN = LoginToken("318f8f208bd0308d346b910e90a93a94d98d5b8fc18a1adbad1252b82f88ef78", None, 101)
LENA = replace(
    ALICE, id=6, name="lena", groups=(100, 101), secret="-", driver="ldap", login_tokens=(TOKEN, GROUP_TOKEN)
)


def signed_by(
    user: User,
    secret: str,
    users: IUserDirectory | None = None,
    kinds: Collection[SecretKeys] = frozenset(SecretKeys),
) -> Sender:
    """Return the sender of a request that is signed with a secret."""
    signed = sign_v4("POST", form=DESCRIBE, user=replace(user, secret=secret))
    clock = Clock()
    clock.rightNow = signed.at
    authenticator = SignatureAuthenticator((UserNames(users or ListedUsers((user,)), kinds),), clock)
    sender: Sender = done(Deferred.fromCoroutine(authenticator.authenticate(signed.request)))
    return sender


def reason_for(user: User, secret: str, kinds: Collection[SecretKeys] = frozenset(SecretKeys)) -> str:
    """Return the reason in the log for the refusal of a request that is signed with a secret."""
    with pytest.raises(AuthenticationFailed) as caught:
        signed_by(user, secret, kinds=kinds)
    return caught.value.reason


@pytest.mark.parametrize("driver", ["ldap", "ssh", "x509", "saml", "no-such-driver"])
def test_a_login_token_is_the_only_secret_key_of_other_drivers(driver: str) -> None:
    """Whatever is in PASSWORD."""
    user = replace(LENA, driver=driver, secret="/C=ES/CN=lena")
    sender = signed_by(user, TOKEN.text)
    assert (sender.user.name, sender.key) == ("lena", "lena")
    assert sender.credential.kind is CredentialKind.LOGIN_TOKEN
    assert sender.credential.origin == origin_of(CredentialKind.LOGIN_TOKEN, TOKEN.text)
    with pytest.raises(EC2Error, match="AuthFailure"):
        signed_by(user, user.secret)


@pytest.mark.parametrize("driver", ["core", "public"])
def test_with_a_driver_that_stores_a_secret_tokens_are_secret_keys_beside_the_password(driver: str) -> None:
    user = replace(ALICE, driver=driver, login_tokens=(TOKEN,))
    assert signed_by(user, TOKEN.text).credential.kind is CredentialKind.LOGIN_TOKEN
    sender = signed_by(user, ALICE.secret)
    assert (sender.user, sender.credential.kind) == (user, CredentialKind.PASSWORD)


@pytest.mark.parametrize("driver", ["server_cipher", "server_x509"])
def test_server_accounts_have_no_secret_key(driver: str) -> None:
    """Oned accepts no token of theirs either (recorded)."""
    with pytest.raises(EC2Error, match="AuthFailure"):
        signed_by(replace(LENA, driver=driver), TOKEN.text)


def test_a_request_with_a_token_is_made_in_the_session_of_the_token() -> None:
    """So it can do nothing from the moment at which the token has ended in oned."""
    user = signed_by(LENA, TOKEN.text).user
    assert user.login == TokenLogin("lena", TOKEN.text)
    assert (user.gid, user.groups, user.only_group) == (LENA.gid, LENA.groups, None)


def test_a_request_with_the_token_of_a_group_acts_in_that_group_alone() -> None:
    user = signed_by(LENA, GROUP_TOKEN.text).user
    assert user.login == TokenLogin("lena", GROUP_TOKEN.text)
    assert (user.gid, user.groups, user.only_group) == (101, (101,), 101)


def test_the_token_of_a_group_that_the_user_has_left_does_not_count() -> None:
    """OpenNebula shows it still, but refuses it."""
    left = replace(LENA, groups=(100,))
    assert [each.credential.origin for each in candidates(left, 0)] == [
        origin_of(CredentialKind.LOGIN_TOKEN, TOKEN.text)
    ]


@pytest.mark.parametrize(("now", "counts"), [(999.9, True), (1000, False), (1001, False)])
def test_a_token_counts_until_it_expires(now: float, counts: bool) -> None:
    """As in oned, it has ended at the second of its expiry."""
    user = replace(LENA, login_tokens=(replace(TOKEN, expires=1000),))
    assert [each.credential.expires for each in candidates(user, now)] == ([1000] if counts else [])


def test_a_request_that_is_signed_with_an_expired_token_is_refused() -> None:
    expired = replace(LENA, login_tokens=(replace(TOKEN, expires=1000),))
    with pytest.raises(EC2Error, match="AuthFailure"):
        signed_by(expired, TOKEN.text)


@pytest.mark.parametrize(
    "current",
    [(), (replace(LENA, login_tokens=()),), (replace(LENA, enabled=False),), (replace(LENA, driver="server_x"),)],
)
def test_a_token_that_has_ended_since_the_user_was_read_is_refused(current: tuple[User, ...]) -> None:
    """It was removed, its user was removed or disabled, or got the driver of a server account."""

    class Stale(ListedUsers):
        def cached(self, access_key: str) -> User | None:
            return LENA

    with pytest.raises(EC2Error, match="AuthFailure"):
        signed_by(LENA, TOKEN.text, Stale(current))


def test_a_token_is_used_with_the_group_that_it_has_now() -> None:
    """It was created again since the user was read."""

    class Stale(ListedUsers):
        def cached(self, access_key: str) -> User | None:
            return LENA

    current = replace(LENA, login_tokens=(replace(TOKEN, group=101),))
    assert signed_by(LENA, TOKEN.text, Stale((current,))).user.only_group == 101


def test_a_new_token_is_accepted_after_a_refresh() -> None:
    """A signature that matches nothing causes one."""
    users = ListedUsers((replace(LENA, login_tokens=()),), refreshed=(LENA,))
    assert signed_by(LENA, TOKEN.text, users).user.name == "lena"
    assert users.calls == [("refresh", "lena"), ("confirm", "lena")]


def test_each_of_ten_tokens_is_accepted() -> None:
    """Oned allows ten."""
    tokens = tuple(LoginToken(f"{number:064x}", None, None) for number in range(10))
    user = replace(ALICE, login_tokens=tokens)
    assert UserNames(ListedUsers()).slots == 11
    for token in tokens:
        assert signed_by(user, token.text).user.acts_by == token


def test_tokens_that_econed_made_are_no_secret_keys() -> None:
    """They are behind temporary credentials, whose secrets are others."""
    own = LoginToken(f"{OWN_TOKEN_PREFIX}{TOKEN.text}", None, 101)
    with pytest.raises(EC2Error, match="AuthFailure"):
        signed_by(replace(LENA, login_tokens=(own,)), own.text)


@pytest.mark.parametrize(
    ("kinds", "slots", "accepted"),
    [
        ({SecretKeys.PASSWORD}, 1, {"password"}),
        ({SecretKeys.TOKENS}, 10, {"token"}),
        ({SecretKeys.PASSWORD, SecretKeys.TOKENS}, 11, {"password", "token"}),
        ({SecretKeys.ACCESS_KEYS}, 0, set()),
    ],
)
def test_only_the_kinds_of_secret_keys_that_the_administrator_allows_count(
    kinds: set[SecretKeys], slots: int, accepted: set[str]
) -> None:
    """And only for these are signing keys computed."""
    user = replace(ALICE, login_tokens=(TOKEN,))
    assert UserNames(ListedUsers(), kinds).slots == slots
    assert {each.credential.kind.value for each in candidates(user, 0, kinds)} == accepted
    for kind, secret in (("password", ALICE.secret), ("token", TOKEN.text)):
        if kind in accepted:
            assert signed_by(user, secret, kinds=kinds).credential.kind.value == kind
        else:
            with pytest.raises(EC2Error, match="AuthFailure"):
                signed_by(user, secret, kinds=kinds)


def test_the_log_says_which_secret_keys_a_user_could_have() -> None:
    prefix = "the user has no secret key: "
    lena = replace(LENA, login_tokens=())
    assert reason_for(lena, "x") == f"{prefix}no password with the driver ldap, no valid login token"
    assert reason_for(lena, "x", {SecretKeys.PASSWORD}) == f"{prefix}no password with the driver ldap"
    assert reason_for(ALICE, "x", {SecretKeys.TOKENS}) == f"{prefix}no valid login token"
    assert reason_for(ALICE, ALICE.secret, {SecretKeys.ACCESS_KEYS}) == f"{prefix}only access keys count"


def test_no_secret_is_in_the_repr_of_what_authentication_passes_on() -> None:
    """A repr may get into a log or a traceback."""
    user = replace(ALICE, groups=(100, 101), login_tokens=(TOKEN, GROUP_TOKEN))
    sender = signed_by(user, GROUP_TOKEN.text)
    texts = [repr(each) for each in (user, sender, sender.user.login, sender.user.session_key, *candidates(user, 0))]
    for secret in (ALICE.secret, TOKEN.text, GROUP_TOKEN.text):
        assert not [text for text in texts if secret in text]
    assert "TokenLogin(name='alice')" in texts[2]
