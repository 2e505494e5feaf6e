"""The user who makes a request."""

from __future__ import annotations

from dataclasses import replace

import pytest

from econed.user import CredentialKind, LoginToken, TokenLogin, User, origin_of


def user(secret: str, driver: str) -> User:
    """Return an enabled user with this PASSWORD and AUTH_DRIVER."""
    return User(id=7, name="alice", gid=1, groups=(1,), secret=secret, driver=driver, enabled=True)


@pytest.mark.parametrize(
    ("secret", "subjects"),
    [
        ("/O=ONE/CN=a", ("/O=ONE/CN=a",)),
        (r"/O=ONE/CN=a|/O=ONE\20cloud/CN=b", ("/O=ONE/CN=a", r"/O=ONE\20cloud/CN=b")),
        ("||", ()),
    ],
)
def test_the_password_of_an_x509_user_holds_subjects_separated_by_bars(secret: str, subjects: tuple[str, ...]) -> None:
    """There may be one or more; an empty text is not a subject."""
    assert user(secret, "x509").subjects == subjects


def test_users_of_other_drivers_have_no_subjects() -> None:
    """Their PASSWORD is a secret."""
    assert user("/O=ONE/CN=a", "core").subjects == ()


def test_a_user_acts_by_a_server_token_unless_they_act_by_a_login_token() -> None:
    alice, token = user("secret", "core"), LoginToken("text", 1000, 101)
    assert (alice.login, alice.only_group) == ("alice", None)
    within = alice.within(token)
    assert (within.login, within.only_group) == (TokenLogin("alice", "text"), 101)
    assert (within.gid, within.groups) == (101, (101,))
    assert alice.within(replace(token, group=None)) == alice


def test_the_session_key_depends_on_the_token_but_not_on_its_end() -> None:
    """What is remembered of a session is used by no other; a longer life does not make it another."""
    alice, token = user("secret", "core"), LoginToken("text", 1000, 1)
    others = [alice, alice.within(replace(token, text="another")), alice.within(replace(token, group=2))]
    assert alice.within(token).session_key not in [each.session_key for each in others]
    assert alice.within(token).session_key == alice.within(replace(token, expires=2000)).session_key


def test_the_origin_of_a_credential_depends_on_kind_and_secret_and_shows_neither_whole() -> None:
    origin = origin_of(CredentialKind.LOGIN_TOKEN, "secret")
    assert origin.startswith("token:")
    assert len(origin) == len("token:") + 16
    assert origin != origin_of(CredentialKind.LOGIN_TOKEN, "secret2")
    assert origin.partition(":")[2] != origin_of(CredentialKind.PASSWORD, "secret").partition(":")[2]
