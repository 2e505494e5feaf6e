"""The user directory: what it reads of oned's documents, how old its data may be, and how often it calls oned."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from econed.auth.users import UNREADABLE_RETRY_INTERVAL
from econed.errors import OpenNebulaRefusal, OpenNebulaUnavailable
from econed.interfaces import IOpenNebula, IUserDirectory
from econed.user import Login, User
from tests.auth.directory import ANNA, BOB, GROUPS, POOL, SUBJECT, FakeCloud, FakeOned, find_by_subject, reading
from tests.auth.support import ALICE, done

RECORDINGS = Path(__file__).parent.parent / "data" / "recordings"


def test_the_directory_and_its_oned_provide_their_interfaces(cloud: FakeCloud) -> None:
    """`IUserDirectory` over `IOpenNebula`."""
    assert verifyObject(IUserDirectory, cloud.directory)
    assert verifyObject(IOpenNebula, cloud.one)


def test_a_user_has_the_data_of_their_document(cloud: FakeCloud) -> None:
    """Id, name, groups, secret, driver, enabled; the first lookup reads the whole pool."""
    assert (cloud.find("alice"), cloud.find("bob")) == (ALICE, BOB)
    assert cloud.one.calls == [POOL]


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_recorded_pools_are_read(version: str) -> None:
    """Recordings of oned: the PASSWORD depends on the driver; 5.12 and 7.4 have the same format."""
    lines = (RECORDINGS / f"{version}.jsonl").read_text().splitlines()
    root = next(
        etree.fromstring(reply)
        for reply in (pool_reply(line) for line in lines)
        if reply is not None and "<NAME>dave</NAME>" in reply
    )

    class Recorded(FakeOned):
        async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
            return root

    cloud = FakeCloud(Recorded())
    alice, carol, dave = (cloud.find(name) for name in ("alice", "carol", "dave"))
    assert (alice.id, alice.gid, alice.groups, alice.driver, alice.enabled) == (2, 100, (100,), "core", True)
    assert alice.secret == "6624974ea2baffac164422e4490376c1c31313cd97724ae8ce62fb3f0a0370f2"
    assert (carol.driver, carol.secret, carol.has_secret_password) == ("public", "carolpw", True)
    assert (dave.driver, dave.secret) == ("x509", "/C=ES/O=ONE/CN=dave|/C=US/CN=dave2")
    assert not dave.has_secret_password


def pool_reply(line: str) -> str | None:
    """Return the user pool in a line of a recording, None if the line has none."""
    call = json.loads(line)
    return str(call["reply"][1]) if call["method"] == "one.userpool.info" else None


# How old the data may be


def test_a_cached_user_is_used_for_3_seconds_without_a_call(filled: FakeCloud) -> None:
    """Then only that user is read again."""
    filled.advance(2.9)
    assert filled.find("alice") == ALICE
    assert filled.advance(0.1) == []
    assert filled.find("alice") == ALICE
    assert filled.one.calls == [reading(ALICE)]


@pytest.mark.parametrize(
    "changed", [replace(ALICE, secret="new"), replace(ALICE, enabled=False), replace(ALICE, driver="x509")]
)
def test_a_change_takes_effect_after_3_seconds(filled: FakeCloud, changed: User) -> None:
    """Another password, a disabled user, another driver."""
    filled.one.change(changed)
    assert filled.find("alice") == ALICE
    filled.advance(3)
    assert filled.find("alice") == changed


def test_a_removed_user_is_unknown_after_3_seconds(filled: FakeCloud) -> None:
    """Oned's error 1024 causes a refresh too, since the user may have been created again."""
    filled.one.users = [BOB]
    filled.advance(3)
    assert filled.find("alice") is None
    assert filled.one.calls == [reading(ALICE), GROUPS, reading(BOB)]


def test_a_user_created_again_with_the_same_name_is_another_user(filled: FakeCloud) -> None:
    """They have a new id, secret and groups."""
    recreated = replace(ALICE, id=9, secret="new")
    filled.one.users = [BOB, recreated]
    filled.advance(3)
    assert filled.find("alice") == recreated
    filled.advance(3)
    assert filled.find("alice") == recreated
    assert filled.one.calls == [reading(recreated)]


def test_a_new_user_is_found_after_2_seconds(filled: FakeCloud) -> None:
    """For an unknown name the members of all groups are read again."""
    new = replace(BOB, id=7, name="new")
    filled.one.users.append(new)
    assert filled.find("new") is None
    filled.advance(2)
    assert filled.find("new") == new
    assert filled.one.calls[:2] == [GROUPS, reading(new)]


def test_a_refresh_for_another_name_renews_the_users_that_it_reads(filled: FakeCloud) -> None:
    """They need not be read again."""
    filled.advance(2)
    filled.find("stranger")
    assert filled.advance(2) == [GROUPS, reading(ALICE), reading(BOB)]
    assert filled.find("alice") == ALICE
    assert filled.one.calls == []


def test_a_late_response_does_not_replace_newer_data(cloud: FakeCloud) -> None:
    """The pool was requested before a user was read, and received after: it contains the old secret."""
    cloud.one.users.append(ANNA)
    find_by_subject(cloud, *SUBJECT)
    cloud.advance(60)
    cloud.one.is_held = True
    late = Deferred.fromCoroutine(cloud.directory.find_by_subject(SUBJECT))
    cloud.advance(0.5)
    changed = replace(ALICE, secret="new")
    cloud.one.change(changed)
    cloud.one.is_held = False
    assert cloud.find("alice") == changed
    cloud.one.release()
    assert done(late) == (ANNA,)
    assert cloud.find("alice") == changed


def test_after_the_clock_is_set_back_users_are_read_again(filled: FakeCloud) -> None:
    """The age of data from the future is unknown."""
    filled.clock.rightNow -= 3600
    assert filled.find("alice") == ALICE
    assert filled.one.calls == [reading(ALICE)]


# Documents that exceed the limit


def test_a_user_pool_that_is_too_long_does_not_affect_users_with_a_short_document() -> None:
    """With an empty cache, the users are read one by one; later as usual."""
    cloud = FakeCloud()
    mallory = replace(ALICE, id=4, name="mallory")
    cloud.one.users.append(mallory)
    cloud.one.long_methods.add("one.userpool.info")
    cloud.one.long_users.add(mallory.id)
    assert [cloud.find(name) for name in ("alice", "bob", "mallory")] == [ALICE, BOB, None]
    assert cloud.advance(3) == [POOL, GROUPS, reading(ALICE), reading(BOB), reading(mallory)]
    assert cloud.find("alice") == ALICE
    new = replace(ALICE, id=9, name="new")
    cloud.one.users.append(new)
    assert cloud.find("new") == new


def test_a_document_that_is_too_long_is_requested_once_a_minute() -> None:
    """However many requests there are; the user is found again once it is short."""
    cloud = FakeCloud()
    mallory = replace(ALICE, id=4, name="mallory")
    cloud.one.users.append(mallory)
    assert cloud.find("mallory") == mallory
    cloud.advance(3)
    cloud.one.long_users.add(mallory.id)
    assert cloud.find("mallory") is None
    attempts = 0
    for _ in range(30):
        cloud.fail("mallory", "stranger")
        attempts += cloud.advance(2).count(reading(mallory))
    assert attempts == 1
    cloud.one.long_users.clear()
    cloud.advance(UNREADABLE_RETRY_INTERVAL)
    assert cloud.find("mallory") == mallory


def test_if_the_group_pool_is_too_long_all_users_are_read_at_once(filled: FakeCloud) -> None:
    """Group administrators can lengthen its documents; new users are still found."""
    new = replace(ALICE, id=9, name="new")
    filled.one.users.append(new)
    filled.one.long_methods.add("one.grouppool.info")
    filled.advance(2)
    assert filled.find("new") == new
    assert filled.one.calls == [GROUPS, POOL]


def test_users_read_one_by_one_are_cached_before_the_last_is_read(cloud: FakeCloud) -> None:
    """No user waits for all the others."""
    cloud.one.long_methods.add("one.userpool.info")
    cloud.one.is_held = True
    cloud.start_find("stranger")
    for _ in range(3):
        cloud.one.release()
    assert cloud.one.calls == [POOL, GROUPS, reading(ALICE), reading(BOB)]
    assert cloud.find("alice") == ALICE
    cloud.one.release()


# How often oned is called


def test_concurrent_requests_share_a_call_for_the_pool(cloud: FakeCloud) -> None:
    """For any users."""
    cloud.one.is_held = True
    lookups = [cloud.start_find(name) for name in ("alice", "bob", "stranger", "alice")]
    cloud.one.release()
    assert [done(lookup) for lookup in lookups] == [ALICE, BOB, None, ALICE]
    assert cloud.one.calls == [POOL]


def test_concurrent_requests_share_a_call_for_a_user(filled: FakeCloud) -> None:
    """As the ten requests of a page in a browser."""
    filled.advance(3)
    filled.one.is_held = True
    lookups = [filled.start_find("alice") for _ in range(10)]
    filled.one.release()
    assert [done(lookup) for lookup in lookups] == [ALICE] * 10
    assert filled.one.calls == [reading(ALICE)]


def test_a_cancelled_request_does_not_affect_the_others(cloud: FakeCloud) -> None:
    """The first request caused the call; the second gets its result."""
    cloud.one.is_held = True
    first, second = cloud.start_find("alice"), cloud.start_find("alice")
    first.cancel()
    cloud.one.release()
    with pytest.raises(CancelledError):
        done(first)
    assert done(second) == ALICE
    assert cloud.one.calls == [POOL]


# While oned is unavailable


def test_cached_users_are_used_for_3_seconds_without_oned(filled: FakeCloud) -> None:
    """Then the error is raised."""
    filled.one.is_down = True
    filled.advance(2.9)
    assert filled.find("alice") == ALICE
    filled.advance(0.1)
    with pytest.raises(OpenNebulaUnavailable):
        filled.find("alice")


def test_a_failure_is_repeated_for_a_second(filled: FakeCloud) -> None:
    """Many requests cause one call a second for each cached user, and one for all unknown names."""
    filled.one.is_down = True
    filled.advance(3)
    for _ in range(10):
        for name in ("alice", "stranger", "another"):
            with pytest.raises(OpenNebulaUnavailable, match="connection refused"):
                filled.find(name)
    assert filled.advance(1) == [reading(ALICE), GROUPS]
    with pytest.raises(OpenNebulaUnavailable):
        filled.find("alice")
    assert filled.advance(0) == [reading(ALICE)]


def test_users_are_found_again_once_oned_is_available(filled: FakeCloud) -> None:
    """At most a second after the last failure."""
    filled.one.is_down = True
    filled.advance(3)
    with pytest.raises(OpenNebulaUnavailable):
        filled.find("alice")
    filled.one.is_down = False
    filled.advance(1)
    assert filled.find("alice") == ALICE


def test_all_waiting_requests_get_the_failure(cloud: FakeCloud) -> None:
    """None is left waiting."""
    cloud.one.is_held = cloud.one.is_down = True
    lookups = [cloud.start_find(name) for name in ("alice", "bob")]
    cloud.one.release()
    for lookup in lookups:
        with pytest.raises(OpenNebulaUnavailable):
            done(lookup)


def test_any_refusal_but_no_such_user_is_an_error(filled: FakeCloud) -> None:
    """If serveradmin is refused, users do not count as removed."""

    async def refuse(user: Login, method: str, *args: object, **options: Any) -> Any:
        raise OpenNebulaRefusal(method, 256, "User couldn't be authenticated, aborting call.")

    filled.advance(3)
    filled.one.document = refuse  # type: ignore[method-assign]
    with pytest.raises(OpenNebulaRefusal):
        filled.find("alice")
