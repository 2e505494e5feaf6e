"""What users may have written into their own documents: login tokens, which oned does not escape."""

from __future__ import annotations

import sys
from types import FrameType

import pytest
from lxml import etree

from econed.auth.users import REFRESH_INTERVAL, UNREADABLE_RETRY_INTERVAL, USER_MAX_AGE, user_in
from econed.errors import EC2Error
from econed.opennebula.documents import MAX_LOGIN_TOKENS, MAX_TOKEN_LENGTH, UserDocument
from econed.user import LoginToken, User
from tests.actions.sts.requests import password_of
from tests.support.cloud import Cloud
from tests.support.signing_in import Keys, Process

MALFORMING = ("a&amp;b", "x&lt;/TOKEN>")
"""Texts of tokens that oned accepts, and decodes when it reads them again (seen in 7.4)."""

_HEAD = (
    "<USER><ID>2</ID><GID>100</GID><GROUPS><ID>100</ID></GROUPS><GNAME>ec2</GNAME><NAME>alice</NAME>"
    "<PASSWORD>secret</PASSWORD><AUTH_DRIVER>core</AUTH_DRIVER><ENABLED>1</ENABLED>"
)


def user_with(text: str) -> User:
    """Return the user in a document with a text in place of the login tokens."""
    return user_in(UserDocument(etree.fromstring(f"{_HEAD}{text}<TEMPLATE/></USER>")))


def token(text: str = "text", expires: str = "-1", group: str = "-1") -> str:
    """Return a login token as oned writes it."""
    times = f"<EXPIRATION_TIME>{expires}</EXPIRATION_TIME>"
    return f"<LOGIN_TOKEN><TOKEN>{text}</TOKEN>{times}<EGID>{group}</EGID></LOGIN_TOKEN>"


def test_login_tokens_are_read_with_their_ends_and_groups() -> None:
    user = user_with(token("first", "1795840048", "101") + token("second"))
    assert user.login_tokens == (LoginToken("first", 1795840048, 101), LoginToken("second", None, None))


def test_a_token_without_a_group_is_of_an_oned_that_has_none() -> None:
    user = user_with("<LOGIN_TOKEN><TOKEN>text</TOKEN><EXPIRATION_TIME>5</EXPIRATION_TIME></LOGIN_TOKEN>")
    assert user.login_tokens == (LoginToken("text", 5, None),)


@pytest.mark.parametrize(
    "text",
    [
        token(""),
        token("t" * (MAX_TOKEN_LENGTH + 1)),
        token(expires=""),
        token(expires="-2"),
        token(expires="soon"),
        token(expires="9" * 400),
        token(group=""),
        token(group="-2"),
        token(group="ec2"),
        token("<b>text</b>"),
        token(expires="<b>-1</b>"),
        "<LOGIN_TOKEN/>",
        "<LOGIN_TOKEN>text</LOGIN_TOKEN>",
        "<LOGIN_TOKEN><TOKEN>text</TOKEN></LOGIN_TOKEN>",
    ],
)
def test_what_oned_does_not_write_is_no_token(text: str) -> None:
    """The others of the user, and the user, are read nevertheless."""
    assert user_with(text + token("good")).login_tokens == (LoginToken("good", None, None),)


def test_no_more_tokens_are_read_than_oned_allows() -> None:
    user = user_with("".join(token(str(number)) for number in range(50)))
    assert [each.text for each in user.login_tokens] == [str(number) for number in range(MAX_LOGIN_TOKENS)]


@pytest.mark.parametrize(
    "element",
    [
        "<ID>0</ID>",
        "<GID>0</GID>",
        "<GROUPS><ID>0</ID></GROUPS>",
        "<GROUPS><ID>none</ID></GROUPS>",
        "<NAME>oneadmin</NAME>",
        "<PASSWORD>another</PASSWORD>",
        "<AUTH_DRIVER>public</AUTH_DRIVER>",
        "<ENABLED>0</ENABLED>",
    ],
)
def test_an_element_within_the_text_of_a_token_does_not_change_the_user(element: str) -> None:
    """Seen in 7.4: oned keeps the text of a token as XML if the document remains well-formed."""
    text = f"x</TOKEN></LOGIN_TOKEN>{element}<LOGIN_TOKEN><TOKEN>y"
    user = user_with(token(text))
    assert (user.id, user.gid, user.groups, user.name) == (2, 100, (100,), "alice")
    assert (user.secret, user.driver, user.enabled) == ("secret", "core", True)


@pytest.mark.parametrize("text", MALFORMING)
def test_a_user_whose_document_is_malformed_does_not_affect_the_others(text: str) -> None:
    """Not their new passwords, not new users, and not the error for a wrong signature; with a cache and without."""
    cloud = Cloud()
    known, alice, old = Process(cloud), password_of(cloud, "alice"), password_of(cloud, "bob")
    for keys in (alice, old):
        known.sender(keys)
    cloud.as_user("alice", "one.user.login", "alice", text, 3600, -1)
    cloud.clock.advance(USER_MAX_AGE)
    cloud.oneadmin("one.user.passwd", cloud.user("bob").id, "newpw")
    cloud.oneadmin("one.user.allocate", "carol", "carolpw", "core", [])
    for process in (known, Process(cloud)):
        for keys in (alice, old, Keys("nobody", "secret")):
            with pytest.raises(EC2Error, match="AuthFailure"):
                process.sender(keys)
            cloud.clock.advance(REFRESH_INTERVAL)
        for keys in (password_of(cloud, "bob"), password_of(cloud, "carol")):
            assert process.sender(keys).user.name == keys.access_key
    cloud.as_user("alice", "one.user.login", "alice", "", 0, -1)
    cloud.clock.advance(UNREADABLE_RETRY_INTERVAL)
    assert known.sender(alice).user.name == "alice"


_KEY = "EC2_ACCESS_KEY_AKIA" + "A" * 16
_MARK = "EC2_KEY_STATE_AKIA" + "A" * 16


@pytest.mark.parametrize("repeated", [f"<{_MARK}><STATE/></{_MARK}>", "<LOGIN_TOKEN><TOKEN/></LOGIN_TOKEN>"])
def test_what_is_repeated_in_a_long_document_is_not_read(repeated: str) -> None:
    """Users are read in the reactor's thread."""

    def count_calls(times: int) -> int:
        """Return how many functions are called for a user whose document has an element so many times."""
        key = f"<TEMPLATE><{_KEY}><SEALED>x</SEALED></{_KEY}>"
        text = f"{_HEAD}{key}{repeated * times}</TEMPLATE></USER>"
        if repeated.startswith("<LOGIN_TOKEN>"):
            text = f"{_HEAD}{repeated * times}{key}</TEMPLATE></USER>"
        document, calls = UserDocument(etree.fromstring(text)), [0]

        def count(_: FrameType, event: str, __: object) -> None:
            calls[0] += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            user_in(document)
        finally:
            sys.setprofile(None)
        return calls[0]

    assert count_calls(1010) - count_calls(10) <= 4 * 1000
