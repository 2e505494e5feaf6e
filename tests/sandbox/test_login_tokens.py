"""Login tokens: who may issue which, how long they last, and what a session with one may do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from lxml import etree

from econed.opennebula.tokens import server_cipher_token
from econed.sandbox.objects.users import MAX_LOGIN_TOKENS
from tests.sandbox.demo_cloud import BEGIN, DemoCloud

NO_EXISTS, AUTHENTICATION, AUTHORIZATION, BAD_CALL = 1024, 256, 512, 4096
DAY = 86_400
GROUP = 100
"""The group of the users of the demo cloud."""


@pytest.fixture(params=["5.12", "7.4"])
def demo(request: pytest.FixtureRequest) -> DemoCloud:
    """The demo cloud with the group `other`, which has CREATE rights; alice is in it, with `ec2` as primary group."""
    demo = DemoCloud(request.param)
    group = demo.admin("one.group.allocate", "other")[1]
    demo.admin("one.user.addgroup", alice(demo), group)
    demo.admin("one.acl.addrule", f"{0x200000000 | int(str(group)):x}", "21429400000000", "8")
    return demo


def alice(demo: DemoCloud) -> int:
    """Return the id of alice."""
    user = demo.oned.cloud.find_user("alice")
    assert user is not None
    return user.id


def other(demo: DemoCloud) -> int:
    """Return the id of the group `other`."""
    return next(group.id for group in demo.oned.cloud.groups if group.name == "other")


def server(demo: DemoCloud, target: str) -> str:
    """Return a session of serveradmin for a user."""
    password = demo.oned.serveradmin.partition(":")[2]
    return server_cipher_token(password, target, BEGIN + 10 * DAY, zero_iv=demo.oned.version.startswith("5"))


def login(demo: DemoCloud, session: str, name: str, token: str = "", seconds: int = 3600, egid: int = -1) -> list[Any]:
    """Return the whole reply of `one.user.login`."""
    return demo.oned.execute("one.user.login", session, name, token, seconds, egid)


def issue(demo: DemoCloud, name: str = "alice", token: str = "", seconds: int = 3600, egid: int = -1) -> str:
    """Issue a token in a session of serveradmin for the user; return a session with it."""
    reply = login(demo, server(demo, name), name, token, seconds, egid)
    assert reply[0] is True, reply
    return f"{name}:{reply[1]}"


def code(demo: DemoCloud, session: str, method: str = "one.user.info", *args: object) -> int:
    """Return the code of oned's refusal, 0 for success."""
    return int(str(demo.oned.execute(method, session, *(args or (-1, False)))[2]))


def document(demo: DemoCloud, session: str, method: str, *args: object) -> etree._Element:
    """Return a document that a session reads."""
    reply = demo.oned.execute(method, session, *args)
    assert reply[0] is True, reply
    return etree.fromstring(str(reply[1]).encode())


def tokens(demo: DemoCloud, name: str = "alice") -> Mapping[str, tuple[int, int]]:
    """Return the user's tokens in the document that serveradmin reads: seconds from the beginning, and EGID."""
    root = document(demo, server(demo, name), "one.user.info", -1, False)
    return {
        login.findtext("TOKEN", ""): (
            int(login.findtext("EXPIRATION_TIME", "")) - BEGIN,
            int(login.findtext("EGID", "")),
        )
        for login in root.iterfind("LOGIN_TOKEN")
    }


def test_a_token_is_accepted_until_it_expires(demo: DemoCloud) -> None:
    session = issue(demo, seconds=60)
    demo.clock.advance(59)
    assert code(demo, session) == 0
    demo.clock.advance(1)
    assert code(demo, session) == AUTHENTICATION


def test_a_token_of_minus_one_seconds_never_expires(demo: DemoCloud) -> None:
    session = issue(demo, seconds=-1)
    demo.clock.advance(1000 * DAY)
    assert code(demo, session) == 0


def test_other_negative_times_are_refused(demo: DemoCloud) -> None:
    assert login(demo, server(demo, "alice"), "alice", seconds=-2)[2] == BAD_CALL


def test_a_token_that_exists_keeps_its_time_and_group_when_it_is_issued_again(demo: DemoCloud) -> None:
    """As recorded: the reply is a success, and nothing has changed."""
    issue(demo, token="mine")
    first = tokens(demo)
    demo.clock.advance(100)
    for seconds, egid in ((60, -1), (7200, -1), (7200, GROUP)):
        issue(demo, token="mine", seconds=seconds, egid=egid)
    assert tokens(demo) == first


def test_a_user_has_ten_tokens_at_most_and_expired_ones_vanish_at_the_next_login(demo: DemoCloud) -> None:
    for number in range(MAX_LOGIN_TOKENS):
        issue(demo, token=f"token-{number}", seconds=60)
    for text in ("token-0", "eleventh"):
        assert login(demo, server(demo, "alice"), "alice", text)[2] == BAD_CALL
    demo.clock.advance(61)
    assert len(tokens(demo)) == MAX_LOGIN_TOKENS
    issue(demo, token="eleventh")
    assert list(tokens(demo)) == ["eleventh"]


def test_zero_seconds_remove_one_token_or_all(demo: DemoCloud) -> None:
    sessions = [issue(demo, token=f"token-{number}") for number in range(3)]
    assert login(demo, sessions[0], "alice", "token-0", 0)[1] == "token-0"
    assert code(demo, sessions[0]) == AUTHENTICATION
    assert login(demo, sessions[1], "alice", "token-0", 0)[2] == BAD_CALL
    assert sorted(tokens(demo)) == ["token-1", "token-2"]
    assert login(demo, sessions[1], "alice", "", 0)[1] == ""
    assert not tokens(demo)


def test_users_issue_no_tokens_for_other_users(demo: DemoCloud) -> None:
    assert login(demo, issue(demo), "bob")[2] == AUTHORIZATION
    assert login(demo, issue(demo), "nobody")[2] == NO_EXISTS


def test_administrators_issue_tokens_of_a_group_for_other_users_but_no_full_ones(demo: DemoCloud) -> None:
    for session in (demo.oned.oneadmin, server(demo, "serveradmin")):
        assert login(demo, session, "alice")[2] == BAD_CALL
        assert login(demo, session, "alice", egid=GROUP)[0] is True


def test_a_token_of_a_group_that_the_user_is_not_in_is_refused(demo: DemoCloud) -> None:
    """An administrator can issue one, but no session with it is accepted, and the first removes it."""
    assert login(demo, server(demo, "bob"), "bob", egid=other(demo))[2] == BAD_CALL
    reply = login(demo, demo.oned.oneadmin, "bob", egid=other(demo))
    assert reply[0] is True
    assert code(demo, f"bob:{reply[1]}") == AUTHENTICATION
    assert not tokens(demo, "bob")


def test_a_token_of_a_group_that_the_user_has_left_is_refused_and_removed(demo: DemoCloud) -> None:
    session, full = issue(demo, egid=other(demo)), issue(demo)
    assert code(demo, session) == 0
    demo.admin("one.user.delgroup", alice(demo), other(demo))
    assert (code(demo, session), code(demo, full)) == (AUTHENTICATION, 0)
    assert list(tokens(demo)) == [full.partition(":")[2]]


def test_a_token_of_a_group_issues_tokens_of_that_group_only(demo: DemoCloud) -> None:
    session = issue(demo, egid=other(demo))
    assert login(demo, session, "alice", egid=other(demo))[0] is True
    assert login(demo, session, "alice", egid=GROUP)[2] == BAD_CALL
    assert login(demo, session, "alice")[2] == BAD_CALL


def test_a_session_with_a_token_of_a_group_has_the_rights_of_that_group_alone(demo: DemoCloud) -> None:
    """And on what the user owns, whatever its group."""
    machine = demo.create_machine(hold=True)
    limited, full = issue(demo, egid=other(demo)), issue(demo)
    templates = [
        [element.text for element in document(demo, session, "one.templatepool.info", -2, -1, -1).iter("NAME")]
        for session in (limited, full)
    ]
    assert templates == [[], ["m1.large", "m1.small"]]
    assert code(demo, limited, "one.template.info", 0, False) == AUTHORIZATION
    assert code(demo, limited, "one.vm.info", machine, False) == 0


def test_what_a_session_with_a_token_of_a_group_creates_has_that_group(demo: DemoCloud) -> None:
    limited, full = issue(demo, egid=other(demo)), issue(demo)
    groups = []
    for session in (limited, full):
        reply = demo.oned.execute("one.vm.allocate", session, 'CPU="1" MEMORY="64"', True)
        assert reply[0] is True, reply
        groups.append((demo.vm(int(str(reply[1]))).findtext("GID"), demo.vm(int(str(reply[1]))).findtext("GNAME")))
    assert groups == [(str(other(demo)), "other"), (str(GROUP), "ec2")]


def test_the_users_document_is_the_same_in_a_session_with_a_token_of_a_group(demo: DemoCloud) -> None:
    """It has the primary group, and all tokens in clear."""
    sessions = issue(demo, egid=other(demo)), issue(demo)
    limited, full = (document(demo, session, "one.user.info", -1, False) for session in sessions)
    assert etree.tostring(limited) == etree.tostring(full)
    assert (limited.findtext("GID"), len(limited.findall("LOGIN_TOKEN"))) == (str(GROUP), 2)


def test_the_tokens_of_a_user_are_sorted_by_their_texts(demo: DemoCloud) -> None:
    for text in ("b", "c", "a"):
        issue(demo, token=text)
    assert list(tokens(demo)) == ["a", "b", "c"]


@pytest.mark.parametrize("driver", ["core", "public", "ldap", "ssh", "x509", "no-such-driver"])
def test_tokens_log_in_users_of_every_driver_but_those_of_servers(demo: DemoCloud, driver: str) -> None:
    demo.admin("one.user.allocate", "driven", "secret", driver, [GROUP])
    session = issue(demo, "driven")
    assert code(demo, session) == 0
    assert code(demo, "driven:secret") == (0 if driver == "core" else AUTHENTICATION)


def test_a_user_of_a_server_driver_has_tokens_that_log_nobody_in(demo: DemoCloud) -> None:
    demo.admin("one.user.allocate", "driven", "secret", "server_cipher", [GROUP])
    assert code(demo, issue(demo, "driven")) == AUTHENTICATION
    assert len(tokens(demo, "driven")) == 1


def test_tokens_of_ldap_users_last_a_day_at_most(demo: DemoCloud) -> None:
    """The MAX_TOKEN_TIME of oned.conf as it is delivered; the reply does not tell."""
    demo.admin("one.user.allocate", "driven", "-", "ldap", [GROUP])
    for text, seconds in (("never", -1), ("long", 10 * DAY), ("short", 60)):
        issue(demo, "driven", text, seconds)
    now = int(demo.clock.seconds()) - BEGIN
    assert tokens(demo, "driven") == {
        "long": (now + DAY, -1),
        "never": (now + DAY, -1),
        "short": (now + 60, -1),
    }


@pytest.mark.parametrize("call", [("one.user.passwd", "new"), ("one.user.chauth", "core", "new")])
def test_a_new_password_ends_all_tokens(demo: DemoCloud, call: tuple[str, ...]) -> None:
    session = issue(demo)
    demo.admin(call[0], alice(demo), *call[1:])
    assert code(demo, session) == AUTHENTICATION
    assert not tokens(demo)


def test_disabling_a_user_ends_all_tokens_and_enabling_brings_none_back() -> None:
    """A server token for the disabled user issues new ones, which are refused until the user is enabled."""
    demo = DemoCloud("7.4")
    session = issue(demo)
    demo.admin("one.user.enable", alice(demo), False)
    assert (code(demo, session), tokens(demo)) == (AUTHENTICATION, {})
    later = issue(demo)
    assert code(demo, later) == AUTHENTICATION
    demo.admin("one.user.enable", alice(demo), True)
    assert (code(demo, session), code(demo, later)) == (AUTHENTICATION, 0)


def test_a_text_with_elements_becomes_several_tokens(demo: DemoCloud) -> None:
    """Seen in 7.4: oned does not escape the text, and accepts what it then reads, but not the text itself."""
    text = "x</TOKEN><EXPIRATION_TIME>-1</EXPIRATION_TIME><EGID>-1</EGID></LOGIN_TOKEN><LOGIN_TOKEN><TOKEN>y"
    assert demo.oned.execute("one.user.info", issue(demo, token=text), -1, False)[2] == AUTHENTICATION
    root = etree.fromstring(str(demo.admin("one.user.info", alice(demo), False)[1]))
    assert [element.text for element in root.findall("LOGIN_TOKEN/TOKEN")] == ["x", "y"]
    for part in ("x", "y"):
        assert demo.oned.execute("one.user.info", f"alice:{part}", -1, False)[0] is True


def test_a_token_that_would_make_the_document_malformed_is_returned_and_not_kept(demo: DemoCloud) -> None:
    """Seen in 7.4, whose documents of users are stored only if they are well-formed."""
    for text in ("<", "x</TOKEN></LOGIN_TOKEN></USER><USER><LOGIN_TOKEN><TOKEN>y"):
        issue(demo, token=text)
        root = etree.fromstring(str(demo.admin("one.user.info", alice(demo), False)[1]))
        assert root.findall("LOGIN_TOKEN") == []
