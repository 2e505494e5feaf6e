"""Requests signed with temporary credentials: which are accepted, and what a thief cannot do with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from econed.auth.authenticator import SignatureAuthenticator
from econed.auth.failures import AuthenticationFailed
from econed.auth.temporary import TemporaryKeys
from econed.auth.user_names import UserNames
from econed.credentials.key_ids import new_key_id, new_temporary_id
from econed.credentials.revocations import Revocations
from econed.credentials.temporary import (
    LOGIN_TOKEN_LIFE,
    LoginTokenMark,
    TemporaryCredentials,
    login_token_text,
    seal_session_token,
)
from econed.interfaces import IUserDirectory
from econed.sealing import KEY_SIZE, Sealer
from econed.user import CredentialKind, LoginToken, SecretKeys, Sender, TokenLogin, User, origin_of
from tests.auth.signed_requests import DESCRIBE
from tests.auth.support import ALICE, ListedUsers, Signed, done, presign_v4, sign_v2, sign_v4
from tests.auth.test_signing_users import counting_digests

SEALER = Sealer([b"k" * KEY_SIZE])
SECRET = "temporarysecret" * 2
LIFE = 3600

SIGN: list[Callable[[User, str | None], Signed]] = [
    lambda user, token: sign_v4("POST", form=DESCRIBE, user=user, token=token),
    lambda user, token: presign_v4(query=DESCRIBE, user=user, token=token),
    lambda user, token: sign_v2("GET", DESCRIBE, user=user, token=token),
]
every_way = pytest.mark.parametrize("sign", SIGN, ids=["header", "query", "version-2"])


@dataclass
class FixedRevocations:
    """What is revoked, as a test says."""

    revoked: Revocations = field(default_factory=Revocations)

    async def current(self) -> Revocations:
        return self.revoked


@dataclass
class Wallet:
    """Temporary credentials of alice, the users in oned, and the clock of the server."""

    held: TemporaryCredentials
    users: ListedUsers
    clock: Clock
    revocations: FixedRevocations = field(default_factory=FixedRevocations)
    kinds: frozenset[SecretKeys] = frozenset(SecretKeys)

    @property
    def token(self) -> str:
        """The session token."""
        return seal_session_token(SEALER, self.held)

    def sender(
        self,
        *,
        key: str | None = None,
        secret: str | None = None,
        token: str | None = "",
        sign: Callable[[User, str | None], Signed] = SIGN[0],
    ) -> Sender:
        """Return who signed a request with these credentials, of which some may be others; a token of None: without."""
        signer = replace(ALICE, name=key or self.held.key_id, secret=secret or self.held.secret)
        signed = sign(signer, self.token if token == "" else token)
        names = UserNames(self.users, self.kinds)
        keys = TemporaryKeys(self.users, SEALER, (names,), self.revocations)
        clock = Clock()
        clock.rightNow = signed.at
        authenticator = SignatureAuthenticator((keys, names), clock)
        sender: Sender = done(Deferred.fromCoroutine(authenticator.authenticate(signed.request)))
        return sender

    def refusal(self, **changes: str | None) -> str:
        """Return the error code and the reason of a request that must be refused."""
        with pytest.raises(AuthenticationFailed) as refused:
            self.sender(**changes)  # type: ignore[arg-type]
        return f"{refused.value.code}: {refused.value.reason}"

    def change(self, **changes: object) -> None:
        """Change alice in oned."""
        self.users.users = tuple(
            replace(user, **changes) if user.id == ALICE.id else user  # type: ignore[arg-type]
            for user in self.users.users
        )


def wallet(group: int | None = None, *, age: float = 60, life: int = LIFE, secret: str = SECRET) -> Wallet:
    """Return credentials that alice requested with her password some seconds ago, for a group or all of hers."""
    now = int(sign_v4("POST", form=DESCRIBE).at)
    created = int(now - age)
    login_token = LoginToken(login_token_text(SEALER, ALICE.id, group, created), created + LOGIN_TOKEN_LIFE, group)
    alice = replace(ALICE, groups=(100, 101), login_tokens=(login_token,))
    held = TemporaryCredentials(
        key_id=new_temporary_id(SEALER, ALICE.id),
        secret=secret,
        user_id=ALICE.id,
        group=group,
        role=None if group is None else "research",
        session_name=None if group is None else "terraform",
        created=created,
        expires=created + life,
        origin=origin_of(CredentialKind.PASSWORD, ALICE.secret),
        login_token=LoginTokenMark.of(login_token),
    )
    return Wallet(held, ListedUsers((alice,)), Clock())


# What is accepted


@every_way
def test_temporary_credentials_authenticate_their_user(sign: Callable[[User, str | None], Signed]) -> None:
    credentials = wallet()
    sender = credentials.sender(sign=sign)
    assert (sender.user.id, sender.user.gid, sender.user.groups) == (ALICE.id, 100, (100, 101))
    assert sender.user.login == TokenLogin("alice", credentials.users.users[0].login_tokens[0].text)
    assert sender.credential.kind is CredentialKind.TEMPORARY
    assert sender.key == credentials.held.key_id
    assert sender.credential.expires == credentials.held.expires
    assert sender.credential.origin == credentials.held.origin


def test_credentials_of_a_group_act_in_it_alone_by_its_login_token() -> None:
    credentials = wallet(101)
    user = credentials.sender().user
    assert (user.gid, user.groups) == (101, (101,))
    assert user.login == TokenLogin("alice", credentials.users.users[0].login_tokens[0].text)


def test_credentials_of_assume_role_name_role_and_session() -> None:
    credential = wallet(101).sender().credential
    assert (credential.role, credential.session_name) == ("research", "terraform")


def test_no_secret_is_shown_of_a_sender() -> None:
    credentials = wallet(101)
    shown = repr(credentials.sender())
    for secret in (SECRET, ALICE.secret, credentials.token, credentials.users.users[0].login_tokens[0].text):
        assert secret not in shown


def test_a_verified_signature_reads_the_user_as_a_password_does() -> None:
    credentials = wallet()
    credentials.sender()
    assert credentials.users.calls == [("confirm", "alice")]


def test_new_credentials_are_accepted_by_a_process_that_read_the_user_before() -> None:
    """The record of a user may be some seconds old, and then lacks the login token."""
    credentials = wallet(age=1)
    current = credentials.users.users

    @implementer(IUserDirectory)
    class Late(ListedUsers):
        async def read(self, user_id: int, credential: str) -> User | None:
            self.users = current
            return await super().read(user_id, credential)

    credentials.users = Late((replace(current[0], login_tokens=()),))
    assert credentials.sender().user.id == ALICE.id
    assert credentials.users.calls == [("confirm", "alice"), ("read", "2"), ("confirm", "alice")]


def test_the_user_is_read_if_the_process_does_not_know_them() -> None:
    credentials = wallet()
    current = credentials.users.users

    @implementer(IUserDirectory)
    class Empty(ListedUsers):
        async def read(self, user_id: int, credential: str) -> User | None:
            self.users = current
            return await super().read(user_id, credential)

    credentials.users = Empty(())
    assert credentials.sender().user.id == ALICE.id
    assert credentials.users.calls == [("read", "2"), ("confirm", "alice")]


# What a thief may try


@every_way
def test_a_secret_without_its_session_token_is_refused(sign: Callable[[User, str | None], Signed]) -> None:
    credentials = wallet()
    with pytest.raises(AuthenticationFailed) as refused:
        credentials.sender(token=None, sign=sign)
    assert refused.value.code == "AuthFailure"
    assert credentials.users.calls == []


def test_the_secret_of_other_credentials_is_refused() -> None:
    assert wallet().refusal(secret="another").startswith("AuthFailure: wrong secret key")


def test_the_session_token_of_other_credentials_is_refused() -> None:
    """Though they are the same user's."""
    ours, theirs = wallet(), wallet(secret="another")
    assert ours.refusal(token=theirs.token).startswith("AuthFailure: the session token is")
    assert ours.refusal(token=theirs.token, secret="another").startswith("AuthFailure: the session token is")


def test_the_id_of_other_credentials_is_refused() -> None:
    assert wallet().refusal(key=new_temporary_id(SEALER, ALICE.id)).startswith("AuthFailure: the session token is")


def test_an_id_that_econed_has_not_made_is_taken_for_a_user_name() -> None:
    assert wallet().refusal(key="ASIA" + "A" * 16).startswith("AuthFailure: the request has a session token")


def test_a_session_token_with_another_kind_of_key_is_refused() -> None:
    credentials = wallet()
    assert credentials.refusal(key=new_key_id(SEALER, ALICE.id)).startswith("AuthFailure")
    assert credentials.refusal(key="alice", secret=ALICE.secret).startswith("AuthFailure")


@pytest.mark.parametrize("change", [str.swapcase, lambda text: text[:-1], lambda text: text + "A", lambda text: "x"])
def test_a_changed_session_token_is_refused(change: Callable[[str], str]) -> None:
    credentials = wallet()
    assert credentials.refusal(token=change(credentials.token)).startswith("AuthFailure: the session token is")
    assert credentials.users.calls == []


def test_a_session_token_of_another_cloud_is_refused() -> None:
    credentials = wallet()
    forged = seal_session_token(Sealer([b"x" * KEY_SIZE]), credentials.held)
    assert credentials.refusal(token=forged).startswith("AuthFailure: the session token is")


@every_way
def test_credentials_are_refused_from_their_end_on(sign: Callable[[User, str | None], Signed]) -> None:
    """Without a call to oned, and with an error that tells clients to get new ones."""
    ended = wallet(age=LIFE)
    with pytest.raises(AuthenticationFailed) as refused:
        ended.sender(sign=sign)
    assert (refused.value.code, refused.value.status) == ("ExpiredToken", 403)
    assert ended.users.calls == []
    assert wallet(age=LIFE - 5).sender(sign=sign).user.id == ALICE.id


def test_credentials_of_a_disabled_user_are_refused() -> None:
    credentials = wallet()
    credentials.change(enabled=False)
    assert credentials.refusal() == "AuthFailure: the user is disabled"


def test_credentials_of_a_removed_user_are_refused() -> None:
    credentials = wallet()
    credentials.users.users = ()
    assert credentials.refusal() == "AuthFailure: the user of the temporary credentials is not known"


def test_credentials_end_with_the_login_token_behind_them() -> None:
    """The user can remove it in OpenNebula."""
    credentials = wallet()
    credentials.change(login_tokens=())
    assert credentials.refusal().startswith("AuthFailure: the login token behind the temporary credentials")


def test_a_login_token_that_was_made_again_does_not_revive_credentials() -> None:
    credentials = wallet()
    (token,) = credentials.users.users[0].login_tokens
    assert token.expires is not None
    credentials.change(login_tokens=(replace(token, expires=token.expires + 1),))
    assert credentials.refusal().startswith("AuthFailure: the login token behind the temporary credentials")


def test_credentials_of_a_group_end_when_the_user_leaves_it() -> None:
    """The login token stays in the document then, but oned refuses it."""
    credentials = wallet(101)
    credentials.change(groups=(100,))
    assert credentials.refusal().startswith("AuthFailure")


def test_credentials_end_with_the_password_that_requested_them() -> None:
    """Even if the login token behind them is there."""
    credentials = wallet()
    credentials.change(secret="new")
    assert credentials.refusal().startswith("AuthFailure")


def test_credentials_end_when_passwords_do_not_count_any_longer() -> None:
    credentials = wallet()
    credentials.kinds = frozenset({SecretKeys.TOKENS})
    assert credentials.refusal().startswith("AuthFailure")


def test_credentials_end_with_the_login_token_that_requested_them() -> None:
    credentials = wallet()
    own = LoginToken("a-token-of-alice", None, None)
    credentials.held = replace(credentials.held, origin=origin_of(CredentialKind.LOGIN_TOKEN, own.text))
    behind = credentials.users.users[0].login_tokens
    credentials.change(login_tokens=(own, *behind))
    assert credentials.sender().user.id == ALICE.id
    credentials.change(login_tokens=behind)
    assert credentials.refusal().startswith("AuthFailure")


def test_the_login_token_behind_credentials_is_no_origin() -> None:
    """Otherwise credentials could be renewed by themselves."""
    credentials = wallet()
    (behind,) = credentials.users.users[0].login_tokens
    credentials.held = replace(credentials.held, origin=origin_of(CredentialKind.LOGIN_TOKEN, behind.text))
    assert credentials.refusal().startswith("AuthFailure")


def test_an_origin_that_no_kind_knows_does_not_count() -> None:
    credentials = wallet()
    credentials.held = replace(credentials.held, origin="key:AKIAAAAAAAAAAAAAAAAA")
    assert credentials.refusal().startswith("AuthFailure")


def test_what_an_administrator_has_revoked_is_refused() -> None:
    """By the id, or by the time: all that the user had made until then."""
    credentials = wallet()
    created = credentials.held.created
    credentials.revocations.revoked = Revocations(before={ALICE.id: created - 1, 3: created + 1})
    assert credentials.sender().user.id == ALICE.id
    for revoked in (Revocations(frozenset({credentials.held.key_id})), Revocations(before={ALICE.id: created})):
        credentials.revocations.revoked = revoked
        assert credentials.refusal().startswith("AuthFailure")


def test_refused_credentials_cost_a_bounded_number_of_calls() -> None:
    credentials = wallet()
    credentials.change(login_tokens=())
    credentials.refusal()
    assert credentials.users.calls == [("confirm", "alice"), ("read", "2"), ("confirm", "alice")]


@pytest.mark.parametrize(
    "users", [ListedUsers(()), ListedUsers((ALICE,)), ListedUsers((replace(ALICE, enabled=False),))]
)
def test_a_wrong_signature_costs_the_same_digests_whatever_there_is(users: ListedUsers) -> None:
    """One key is derived twice, before and after a refresh, also without a session token and with another's.

    Deriving it takes four HMACs, each endpoint one more. Calls to oned are made only for what econed has sealed.
    """
    credentials = wallet()
    credentials.users = users
    counts = []
    for token in ("", None, "forged", wallet(secret="another").token):
        users.calls.clear()
        with counting_digests() as digests:
            credentials.refusal(secret="wrong", token=token)
        counts.append(sum(digests))
        assert users.calls == ([("read", "2")] if token == "" else [])
    assert len(set(counts)) == 1
    assert counts[0] >= 2 * 5
