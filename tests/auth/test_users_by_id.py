"""Users whose ids are in access keys: from memory, and read again with a limited rate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from econed.auth.users import MAX_ASKED_FOR, REFRESH_INTERVAL, UNREADABLE_RETRY_INTERVAL, USER_MAX_AGE
from econed.errors import OpenNebulaUnavailable
from econed.user import LoginToken, User
from tests.auth.directory import BOB, GROUPS, FakeCloud, reading
from tests.auth.support import ALICE, done

NEW = replace(BOB, id=7, name="new")


def start_read(cloud: FakeCloud, user_id: int, access_key: str = "") -> Deferred[User | None]:
    """Read a user as for an access key, by default always the same one of this user."""
    return Deferred.fromCoroutine(cloud.directory.read(user_id, access_key or f"AKIA{user_id}"))


def read(cloud: FakeCloud, user_id: int, access_key: str = "") -> Any:
    """Return the user, who must be available immediately."""
    return done(start_read(cloud, user_id, access_key))


def test_a_known_user_is_found_by_id_without_a_call(filled: FakeCloud) -> None:
    assert filled.directory.cached_by_id(ALICE.id) == ALICE
    assert filled.directory.cached_by_id(99) is None
    assert filled.one.calls == []


def test_a_known_user_is_read_again_at_once_and_then_once_in_2_seconds(filled: FakeCloud) -> None:
    """However recently they were read for another reason: they may have a new key since."""
    changed, again = replace(ALICE, secret="new"), replace(ALICE, secret="newer")
    filled.one.change(changed)
    assert read(filled, ALICE.id) == changed
    filled.one.change(again)
    assert filled.advance(REFRESH_INTERVAL - 0.1) == [reading(changed)]
    assert read(filled, ALICE.id) == changed
    assert filled.advance(0.1) == []
    assert read(filled, ALICE.id) == again
    assert read(filled, ALICE.id) == again
    assert filled.one.calls == [reading(again)]
    assert filled.directory.cached("alice") == again


def test_each_access_key_has_its_own_2_seconds(filled: FakeCloud) -> None:
    """One that was created a moment ago is accepted, although another has just failed."""
    for access_key in ("first", "second", "first"):
        read(filled, ALICE.id, access_key)
    assert filled.one.calls == [reading(ALICE)] * 2


def test_a_read_that_began_before_is_too_old_for_an_access_key(filled: FakeCloud) -> None:
    """The user is read once more when it has ended."""
    changed = replace(ALICE, secret="new")
    filled.advance(USER_MAX_AGE)
    filled.one.is_held = True
    confirming = filled.start_find("alice")
    filled.clock.advance(0.1)
    filled.one.change(changed)
    reads = [start_read(filled, ALICE.id, access_key) for access_key in ("first", "second")]
    assert filled.one.calls == [reading(ALICE)]
    filled.one.release()
    assert done(confirming) == ALICE
    assert filled.one.calls == [reading(ALICE)] * 2
    filled.one.release()
    assert [done(each) for each in reads] == [changed] * 2


def test_a_new_user_is_read_by_one_call_and_known_from_then_on(filled: FakeCloud) -> None:
    filled.one.users.append(NEW)
    assert read(filled, NEW.id) == NEW
    assert filled.directory.cached("new") == NEW
    assert read(filled, NEW.id) == NEW
    assert filled.one.calls == [reading(NEW)]


def test_an_unknown_id_costs_one_call_in_2_seconds(filled: FakeCloud) -> None:
    for _ in range(10):
        assert read(filled, 99) is None
    assert filled.advance(REFRESH_INTERVAL) == [("one.user.info", 99, False)]
    assert read(filled, 99) is None
    assert filled.one.calls == [("one.user.info", 99, False)]


def test_reads_of_one_user_at_the_same_time_are_one_call(filled: FakeCloud) -> None:
    filled.one.users.append(NEW)
    filled.one.is_held = True
    reads = [start_read(filled, NEW.id) for _ in range(5)]
    assert filled.one.calls == [reading(NEW)]
    filled.one.release()
    assert [done(each) for each in reads] == [NEW] * 5


def test_a_user_who_is_read_before_all_others_does_not_hide_them(cloud: FakeCloud) -> None:
    """A process may get a request with an access key first."""
    assert read(cloud, ALICE.id) == ALICE
    assert cloud.find("bob") == BOB
    assert cloud.find("alice") == ALICE


def test_a_removed_user_is_not_found_after_2_seconds(filled: FakeCloud) -> None:
    filled.one.users = [BOB]
    filled.advance(REFRESH_INTERVAL)
    assert read(filled, ALICE.id) is None
    assert filled.directory.cached_by_id(ALICE.id) is None
    assert filled.find("alice") is None
    assert GROUPS in filled.one.calls


def test_a_user_whose_document_is_too_long_is_not_read_again_for_a_minute(filled: FakeCloud) -> None:
    filled.one.users.append(NEW)
    filled.one.long_users.add(NEW.id)
    for _ in range(5):
        assert read(filled, NEW.id) is None
        filled.clock.advance(REFRESH_INTERVAL)
    assert filled.one.calls == [reading(NEW)]
    filled.clock.advance(UNREADABLE_RETRY_INTERVAL)
    assert read(filled, NEW.id) is None
    assert filled.one.calls == [reading(NEW)] * 2


def test_unknown_ids_are_remembered_in_a_limited_number(filled: FakeCloud) -> None:
    """The first is forgotten first."""
    for user_id in range(1000, 1000 + MAX_ASKED_FOR + 1):
        read(filled, user_id)
    assert len(filled.directory._asked_for) == MAX_ASKED_FOR
    filled.one.calls.clear()
    read(filled, 1001)
    assert filled.one.calls == []
    read(filled, 1000)
    assert filled.one.calls == [("one.user.info", 1000, False)]


def test_while_oned_does_not_respond_a_read_fails(filled: FakeCloud) -> None:
    filled.advance(REFRESH_INTERVAL)
    filled.one.is_down = True
    for user_id in (ALICE.id, 99):
        with pytest.raises(OpenNebulaUnavailable):
            read(filled, user_id)


def test_login_tokens_are_read_with_the_user(cloud: FakeCloud) -> None:
    changed = replace(ALICE, login_tokens=(LoginToken("first", 1795840048, None), LoginToken("second", None, 101)))
    cloud.one.change(changed)
    assert cloud.find("alice") == changed
