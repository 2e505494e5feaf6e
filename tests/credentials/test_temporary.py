"""Session tokens of temporary credentials, and the login tokens behind them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from econed.credentials.temporary import (
    LOGIN_TOKEN_LIFE,
    LOGIN_TOKEN_PERIOD,
    MAX_DURATION,
    MAX_EARLIER,
    MAX_SESSION_TOKEN,
    LoginTokenMark,
    TemporaryCredentials,
    login_token_text,
    open_session_token,
    seal_session_token,
    shared_login_token,
)
from econed.sealing import KEY_SIZE, NotSealed, Sealer
from econed.user import LoginToken

NOW = 1_800_000_000
DAY = 86_400
OLD_KEY, NEW_KEY = b"o" * KEY_SIZE, b"n" * KEY_SIZE
SEALER = Sealer([OLD_KEY])

TOKEN = LoginToken("econed-0-" + "0" * 64, NOW + DAY, 100)
HELD = TemporaryCredentials(
    key_id="ASIAAAAAAAAAAAAAAAAA",
    secret="s" * 40,
    user_id=2,
    group=100,
    role="ec2",
    session_name="terraform",
    created=NOW,
    expires=NOW + 3600,
    origin="password:0123456789abcdef",
    login_token=LoginTokenMark.of(TOKEN),
)


def login_token(now: float, group: int | None = None, *, life: int = LOGIN_TOKEN_LIFE, user: int = 2) -> LoginToken:
    """Return the login token that oned makes at a time."""
    return LoginToken(login_token_text(SEALER, user, group, now), int(now) + life, group)


def shared(*tokens: LoginToken, until: float, now: float = NOW, group: int | None = None) -> LoginToken | None:
    """Return the login token that is behind credentials of the user 2 until a time."""
    return shared_login_token(SEALER, tokens, 2, group, now, until)


# Session tokens


def test_a_session_token_holds_the_credentials() -> None:
    assert open_session_token(SEALER, seal_session_token(SEALER, HELD)) == HELD


def test_a_session_token_is_opened_with_an_older_sealing_key() -> None:
    assert open_session_token(Sealer([NEW_KEY, OLD_KEY]), seal_session_token(SEALER, HELD)) == HELD


def test_the_longest_names_fit_into_a_session_token() -> None:
    longest = replace(
        HELD,
        role="ü" * 128,
        session_name="x" * 64,
        user_id=2**31 - 1,
        group=2**31 - 1,
        earlier=(HELD.key_id,) * MAX_EARLIER,
    )
    sealed = seal_session_token(SEALER, longest)
    assert len(sealed) <= MAX_SESSION_TOKEN
    assert open_session_token(SEALER, sealed) == longest


def test_a_session_token_of_other_keys_is_refused() -> None:
    with pytest.raises(NotSealed):
        open_session_token(Sealer([NEW_KEY]), seal_session_token(SEALER, HELD))


def test_no_changed_character_of_a_session_token_is_accepted() -> None:
    sealed = seal_session_token(SEALER, HELD)
    for position, character in enumerate(sealed):
        changed = sealed[:position] + ("A" if character != "A" else "B") + sealed[position + 1 :]
        with pytest.raises(NotSealed):
            open_session_token(SEALER, changed)


def test_no_beginning_of_a_session_token_is_accepted() -> None:
    sealed = seal_session_token(SEALER, HELD)
    for length in range(len(sealed)):
        with pytest.raises(NotSealed):
            open_session_token(SEALER, sealed[:length])


@pytest.mark.parametrize("text", ["", "é", "A" * (MAX_SESSION_TOKEN + 1), "=", "a b"])
def test_what_is_no_session_token_is_refused(text: str) -> None:
    with pytest.raises(NotSealed):
        open_session_token(SEALER, text)


def test_what_was_sealed_for_another_purpose_is_no_session_token() -> None:
    with pytest.raises(NotSealed):
        open_session_token(SEALER, SEALER.seal("access-key", "", b"{}"))


@pytest.mark.parametrize("content", [b"{}", b'{"login_token":{}}', b'{"key_id":"x"}'])
def test_a_session_token_of_another_version_of_econed_is_refused(content: bytes) -> None:
    with pytest.raises(NotSealed):
        open_session_token(SEALER, SEALER.seal("session-token", "", content))


def test_neither_secret_nor_text_of_the_login_token_are_shown() -> None:
    assert HELD.secret not in repr(HELD)
    assert TOKEN.text not in repr(HELD)


# The login token behind credentials


def test_the_login_token_is_found_among_those_of_the_user() -> None:
    other = LoginToken("econed-1-" + "1" * 64, NOW + DAY, 100)
    assert HELD.login_token_in([other, TOKEN], NOW) == TOKEN
    assert HELD.login_token_in([other], NOW) is None


def test_a_login_token_that_has_ended_is_not_found() -> None:
    assert HELD.login_token_in([TOKEN], NOW + DAY) is None


def test_a_login_token_of_another_group_is_not_found() -> None:
    assert HELD.login_token_in([replace(TOKEN, group=None)], NOW) is None


def test_a_login_token_that_was_removed_and_made_again_is_not_found() -> None:
    assert HELD.login_token_in([replace(TOKEN, expires=NOW + DAY + 1)], NOW) is None


def test_a_token_that_the_user_chose_is_not_found() -> None:
    """Even if its text is what the credentials name, which is only possible for a text that econed did not make."""
    own = LoginToken("chosen-by-me", NOW + DAY, 100)
    assert replace(HELD, login_token=LoginTokenMark.of(own)).login_token_in([own], NOW) is None


# Sharing login tokens


def test_all_processes_make_the_same_text_for_some_minutes() -> None:
    begin = NOW // LOGIN_TOKEN_PERIOD * LOGIN_TOKEN_PERIOD
    texts = [login_token_text(SEALER, 2, None, begin + seconds) for seconds in range(LOGIN_TOKEN_PERIOD + 1)]
    assert len(set(texts[:-1])) == 1
    assert texts[-1] != texts[0]


def test_users_and_groups_have_texts_of_their_own() -> None:
    texts = {login_token_text(SEALER, user, group, NOW) for user in (2, 21) for group in (None, 0, 1, 11)}
    assert len(texts) == 8


def test_a_login_token_that_lives_long_enough_is_shared() -> None:
    token = login_token(NOW - 36_000)
    assert shared(token, until=NOW + MAX_DURATION) == token


def test_a_login_token_that_ends_before_the_credentials_is_not_shared() -> None:
    token = login_token(NOW - LOGIN_TOKEN_LIFE + 3600)
    assert shared(token, until=NOW + 3601) is None
    assert shared(token, until=NOW + 3600) == token


def test_the_login_token_that_ends_last_is_shared() -> None:
    early, late = login_token(NOW - 2 * DAY), login_token(NOW - DAY)
    assert shared(early, late, until=NOW + 900) == shared(late, early, until=NOW + 900) == late


def test_login_tokens_of_others_groups_and_users_are_not_shared() -> None:
    assert shared(login_token(NOW, 100), until=NOW + 900) is None
    assert shared(login_token(NOW, user=3), until=NOW + 900) is None
    assert shared(replace(login_token(NOW, 100), group=None), until=NOW + 900) is None


@pytest.mark.parametrize("text", ["econed-", "econed-5b8d80-" + "0" * 64, "chosen-by-me", "econed-x-" + "0" * 64])
def test_texts_that_the_user_chose_are_not_shared(text: str) -> None:
    assert shared(LoginToken(text, None, None), until=NOW + 900) is None


def test_a_login_token_of_an_older_sealing_key_is_shared() -> None:
    token = login_token(NOW)
    assert shared_login_token(Sealer([NEW_KEY, OLD_KEY]), [token], 2, None, NOW, NOW + 900) == token


def test_a_login_token_whose_life_oned_made_shorter_is_shared_until_its_half() -> None:
    """A new one would not live long enough either; so there are no more of them than oned allows."""
    made_at = NOW // LOGIN_TOKEN_PERIOD * LOGIN_TOKEN_PERIOD
    token = login_token(made_at, life=DAY)
    until = made_at + 3 * DAY
    assert shared(token, now=made_at, until=until) == token
    assert shared(token, now=made_at + DAY / 2, until=until) == token
    assert shared(token, now=made_at + DAY / 2 + 1, until=until) is None
    assert shared(token, now=made_at + DAY - 900, until=made_at + DAY) == token


@pytest.mark.parametrize("life", [DAY, LOGIN_TOKEN_LIFE, 3600])
def test_whatever_is_requested_at_most_three_login_tokens_are_alive(life: int) -> None:
    tokens: list[LoginToken] = []
    for now in range(NOW, NOW + 10 * DAY, 611):
        tokens = [token for token in tokens if token.is_valid_at(now)]
        for seconds in (900, 3600, 43_200, MAX_DURATION):
            if shared(*tokens, now=now, until=now + seconds) is None:
                tokens.append(login_token(now, life=life))
        assert len(tokens) <= (2 if life == LOGIN_TOKEN_LIFE else 3)
