"""The user directory finds users by the subject of a certificate."""

from __future__ import annotations

from dataclasses import replace

import pytest

from econed.errors import OpenNebulaUnavailable
from econed.user import User
from tests.auth.directory import ANNA, BOB, POOL, SUBJECT, FakeCloud, find_by_subject, reading


def test_users_are_found_by_each_subject_and_only_of_the_driver_x509(certified: FakeCloud) -> None:
    """The PASSWORD of other users is not a subject."""
    assert find_by_subject(certified, "/CN=anna") == (ANNA,)
    certified.one.users.append(replace(BOB, id=9, name="odd", secret="/CN=odd"))
    certified.advance(60)
    assert find_by_subject(certified, "/CN=odd") == ()


def test_the_first_spelling_that_a_user_has_decides(certified: FakeCloud) -> None:
    """The following spellings count only if no user has an earlier one."""
    other = replace(ANNA, id=9, name="other", secret="/CN=other")
    certified.one.users.append(other)
    certified.advance(60)
    assert find_by_subject(certified, "/CN=nobody", "/CN=other", "/CN=anna") == (other,)


def test_a_cached_subject_is_used_for_3_seconds_without_a_call(certified: FakeCloud) -> None:
    """Then only its user is read again."""
    certified.advance(2.9)
    assert find_by_subject(certified, *SUBJECT) == (ANNA,)
    assert certified.advance(0.1) == []
    assert find_by_subject(certified, *SUBJECT) == (ANNA,)
    assert certified.one.calls == [reading(ANNA)]


@pytest.mark.parametrize("changed", [replace(ANNA, secret="/CN=new"), replace(ANNA, driver="core")])
def test_a_subject_removed_from_a_user_is_not_found_after_3_seconds(certified: FakeCloud, changed: User) -> None:
    """After 10 seconds all users are read: it may belong to another user."""
    certified.one.change(changed)
    certified.advance(3)
    assert find_by_subject(certified, *SUBJECT) == ()
    assert certified.advance(7) == [reading(ANNA)]
    assert find_by_subject(certified, *SUBJECT) == ()
    assert certified.one.calls == [reading(ANNA), POOL]


def test_a_disabled_user_is_returned_as_disabled_after_3_seconds(certified: FakeCloud) -> None:
    """A new user with the same subject is found 10 seconds after all users were last read."""
    disabled = replace(ANNA, enabled=False)
    certified.one.change(disabled)
    certified.advance(3)
    assert find_by_subject(certified, *SUBJECT) == (disabled,)
    successor = replace(ANNA, id=9, name="successor")
    certified.one.users.append(successor)
    certified.advance(7)
    assert find_by_subject(certified, *SUBJECT) == (disabled, successor)


def test_a_new_subject_is_found_after_10_seconds(certified: FakeCloud) -> None:
    """An additional subject of a cached user."""
    assert find_by_subject(certified, "/CN=two") == ()
    changed = replace(ANNA, secret=ANNA.secret + "|/CN=two")
    certified.one.change(changed)
    certified.advance(10)
    assert find_by_subject(certified, "/CN=two") == (changed,)


def test_a_second_user_with_a_subject_is_found_after_a_minute(certified: FakeCloud) -> None:
    """However many requests of the first user there are."""
    twin = replace(ANNA, id=9, name="twin")
    certified.one.users.append(twin)
    for _ in range(29):
        certified.advance(2)
        find_by_subject(certified, *SUBJECT)
    certified.advance(2)
    assert find_by_subject(certified, *SUBJECT) == (ANNA, twin)


def test_unknown_subjects_cause_a_read_of_all_users_every_10_seconds(certified: FakeCloud) -> None:
    """However many certificates without a user there are."""
    for number in range(1000):
        assert find_by_subject(certified, f"/CN={number}") == ()
        certified.clock.advance(0.05)
    assert certified.one.calls == [POOL] * 4


def test_a_certificate_without_a_spelling_causes_no_call(cloud: FakeCloud) -> None:
    """No user can have its subject."""
    assert find_by_subject(cloud) == ()
    assert cloud.one.calls == []


def test_cached_subjects_are_used_for_3_seconds_without_oned(certified: FakeCloud) -> None:
    """Then the error is raised."""
    certified.one.is_down = True
    certified.advance(2.9)
    assert find_by_subject(certified, *SUBJECT) == (ANNA,)
    certified.advance(0.1)
    with pytest.raises(OpenNebulaUnavailable):
        find_by_subject(certified, *SUBJECT)
