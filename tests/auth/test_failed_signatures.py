"""Failed signatures: the user directory finds changed secrets, and its calls to oned do not depend on the name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from econed.auth.users import USERS_PER_REFRESH
from econed.errors import OpenNebulaUnavailable
from tests.auth.directory import BOB, GROUPS, POOL, FakeCloud, reading
from tests.auth.support import ALICE


def test_a_changed_password_is_found_after_its_first_signature(filled: FakeCloud) -> None:
    """Users for whom signatures failed are read first."""
    changed = replace(ALICE, secret="new")
    filled.one.change(changed)
    filled.advance(2)
    filled.fail("alice")
    assert filled.directory.cached("alice") == changed
    assert filled.one.calls == [GROUPS, reading(ALICE), reading(BOB)]


def test_a_changed_password_is_found_2_seconds_after_the_last_refresh() -> None:
    """In a cloud of any size: users are read in the order of failed signatures, then those with the oldest data."""
    cloud = crowded(100)
    changed = replace(cloud.one.users[-1], secret="new")
    cloud.one.change(changed)
    cloud.fail("stranger", changed.name)
    assert cloud.directory.cached(changed.name) != changed
    cloud.advance(2)
    cloud.fail("stranger")
    assert cloud.directory.cached(changed.name) == changed


def test_failed_signatures_for_many_names_do_not_delay_a_changed_password_long() -> None:
    """Unknown names do not count, and users for whom signatures failed are read in order."""
    cloud = crowded(100)
    names = [user.name for user in cloud.one.users]
    cloud.fail(*names[:40], *(f"stranger-{number}" for number in range(1000)))
    changed = replace(cloud.one.users[50], secret="new")
    cloud.one.change(changed)
    refreshes = 0
    while cloud.directory.cached(changed.name) != changed:
        cloud.fail(changed.name, *names[:40], *(f"stranger-{refreshes}-{number}" for number in range(100)))
        cloud.advance(2)
        refreshes += 1
    assert refreshes == 1 + 40 // USERS_PER_REFRESH


def crowded(users: int) -> FakeCloud:
    """Return a cloud with many users that were read 2 seconds ago."""
    cloud = FakeCloud()
    cloud.one.users = [replace(ALICE, id=number, name=f"user-{number}") for number in range(users)]
    cloud.fail("stranger")
    assert cloud.advance(2) == [POOL]
    return cloud


# Calls for failed signatures do not depend on the name


DISABLED = replace(ALICE, id=5, name="disabled", enabled=False)
BY_CERTIFICATE = replace(ALICE, id=6, name="certified", secret="/CN=certified", driver="x509")
NAMES = ["user-7", "disabled", "certified", "stranger", "another stranger"]


def methods(calls: list[tuple[Any, ...]]) -> list[str]:
    """Return what is observable of calls from outside: their methods, in order."""
    return [str(call[0]) for call in calls]


@pytest.mark.parametrize("users", [3, 20, 200])
def test_a_failed_signature_causes_the_same_calls_whether_or_not_the_user_exists(users: int) -> None:
    """With an empty cache, immediately after, after short and long pauses, and among many names."""
    calls_by_name: dict[str, list[list[str]]] = {}
    for name in NAMES:
        cloud = FakeCloud()
        cloud.one.users = [replace(ALICE, id=7, name="user-7"), DISABLED, BY_CERTIFICATE]
        cloud.one.users += [replace(ALICE, id=number, name=f"user-{number}") for number in range(8, users + 5)]
        calls = calls_by_name.setdefault(name, [])
        for pause in (0, 0, 1, 1, 2, 3, 60, 3600, 0):
            cloud.advance(pause)
            cloud.fail(name)
            calls.append(methods(cloud.advance(0)))
        for number in range(20):
            cloud.fail(f"other-{number}", name)
            calls.append(methods(cloud.advance(0.5)))
    assert len(calls_by_name) == len(NAMES)
    assert all(calls == calls_by_name["stranger"] for calls in calls_by_name.values())
    refresh = ["one.grouppool.info"] + ["one.user.info"] * min(USERS_PER_REFRESH, users)
    assert calls_by_name["stranger"][:9] == [["one.userpool.info"], [], [], *[refresh] * 5, []]


def test_a_failed_signature_causes_the_same_calls_while_oned_is_unavailable(filled: FakeCloud) -> None:
    """And the same error."""
    filled.one.is_down = True
    filled.advance(2)
    calls_by_name: dict[str, list[list[str]]] = {}
    for name in ("alice", "stranger", "bob", "another stranger"):
        for _ in range(3):
            with pytest.raises(OpenNebulaUnavailable, match="connection refused"):
                filled.fail(name)
            calls_by_name.setdefault(name, []).append(methods(filled.advance(0.5)))
    assert calls_by_name["alice"] == calls_by_name["bob"] == [["one.grouppool.info"], [], ["one.grouppool.info"]]
    assert calls_by_name["stranger"] == calls_by_name["another stranger"] == [[], ["one.grouppool.info"], []]


def test_the_number_of_calls_for_many_failed_signatures_is_limited() -> None:
    """A thousand existing and a thousand unknown names in ten seconds, in a cloud of five thousand users."""
    cloud = crowded(5000)
    for number in range(1000):
        cloud.fail(f"stranger-{number}", f"user-{number}")
        cloud.clock.advance(0.01)
    assert methods(cloud.advance(0)) == (["one.grouppool.info"] + ["one.user.info"] * USERS_PER_REFRESH) * 5
