"""The user directory: what it reads of oned's documents, how old its data may be, and how often it calls oned."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from lxml import etree
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from econed.auth.users import UNREADABLE_RETRY_INTERVAL, USERS_PER_REFRESH, UserDirectory
from econed.errors import OpenNebulaRefusal, OpenNebulaUnavailable, ReplyTooLarge
from econed.interfaces import IOpenNebula, IUserDirectory
from econed.user import User
from tests.auth.support import ALICE, done

RECORDINGS = Path(__file__).parent.parent / "data" / "recordings"
BOB = User(id=3, name="bob", gid=100, groups=(1, 100), secret="bobpublic", driver="public", enabled=True)

POOL = ("one.userpool.info",)
GROUPS = ("one.grouppool.info",)


def reading(user: User) -> tuple[Any, ...]:
    """Return the call that reads a user."""
    return ("one.user.info", user.id, False)


@implementer(IOpenNebula)
@dataclass
class FakeOned:
    """An oned with users. It responds immediately or, while `is_held`, when `release` is called.

    The responses to `long_methods`, and the documents of `long_users`, exceed the limit.
    """

    users: list[User] = field(default_factory=lambda: [ALICE, BOB])
    long_methods: set[str] = field(default_factory=set)
    long_users: set[int] = field(default_factory=set)
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    is_down: bool = False
    is_held: bool = False
    waiting: list[Callable[[], None]] = field(default_factory=list)

    async def call(self, user: str | None, method: str, *args: object) -> str | int | bool:
        raise AssertionError(f"{method} returns no document")

    async def document(self, user: str | None, method: str, *args: object) -> etree._Element:
        assert user is None, "users must be read as serveradmin"
        self.calls.append((method, *args))
        users = list(self.users)
        if self.is_held:
            released: Deferred[None] = Deferred()
            self.waiting.append(lambda: released.callback(None))
            await released
        if self.is_down:
            raise OpenNebulaUnavailable(method, "connection refused")
        if method in self.long_methods or (method == "one.user.info" and args[0] in self.long_users):
            raise ReplyTooLarge(method, "a response of too many bytes")
        if method == "one.grouppool.info":
            groups = sorted({gid for listed in users for gid in listed.groups})
            ids = {gid: "".join(f"<ID>{listed.id}</ID>" for listed in users if gid in listed.groups) for gid in groups}
            items = "".join(f"<GROUP><ID>{gid}</ID><USERS>{ids[gid]}</USERS></GROUP>" for gid in groups)
            return etree.fromstring(f"<GROUP_POOL>{items}</GROUP_POOL>")
        if method == "one.userpool.info":
            quotas = "<QUOTAS><ID>{}</ID><DATASTORE_QUOTA/></QUOTAS>"
            items = "".join(document(listed) + quotas.format(listed.id) for listed in users)
            return etree.fromstring(f"<USER_POOL>{items}</USER_POOL>")
        requested = next((listed for listed in users if listed.id == args[0]), None)
        if requested is None:
            raise OpenNebulaRefusal(method, 1024, "Error getting user")
        return etree.fromstring(document(requested))

    def release(self) -> None:
        """Respond to the calls that are waiting."""
        waiting, self.waiting = self.waiting, []
        for respond in waiting:
            respond()

    def change(self, user: User) -> None:
        """Replace the user with the same id."""
        self.users = [user if old.id == user.id else old for old in self.users]


def document(user: User) -> str:
    """Return a user's document in oned's format."""
    groups = "".join(f"<ID>{gid}</ID>" for gid in user.groups)
    return (
        f"<USER><ID>{user.id}</ID><GID>{user.gid}</GID><GROUPS>{groups}</GROUPS><GNAME>ec2</GNAME>"
        f"<NAME>{escape(user.name)}</NAME><PASSWORD><![CDATA[{user.secret}]]></PASSWORD>"
        f"<AUTH_DRIVER><![CDATA[{user.driver}]]></AUTH_DRIVER><ENABLED>{int(user.enabled)}</ENABLED><TEMPLATE/></USER>"
    )


@dataclass
class Cloud:
    """A directory over a fake oned, with a clock that the tests advance."""

    one: FakeOned = field(default_factory=FakeOned)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.directory = UserDirectory(self.one, self.clock)

    def start_find(self, name: str) -> Deferred[User | None]:
        """Look a user up as an authenticator does for a correct signature."""
        return Deferred.fromCoroutine(self._find(name))

    async def _find(self, name: str) -> User | None:
        cached = self.directory.cached(name)
        current = None if cached is None else await self.directory.confirm(cached)
        if current is None:
            await self.directory.refresh(name)
            current = self.directory.cached(name)
        return current

    def find(self, name: str) -> Any:
        """Look a user up, and return the result, which must be available immediately."""
        return done(self.start_find(name))

    def fail(self, *names: str) -> None:
        """Let a signature fail for each of these names."""
        for name in names:
            done(Deferred.fromCoroutine(self.directory.refresh(name)))

    def advance(self, seconds: float) -> list[tuple[Any, ...]]:
        """Advance the clock, and return the calls made before."""
        self.clock.advance(seconds)
        calls, self.one.calls = self.one.calls, []
        return calls


@pytest.fixture
def cloud() -> Cloud:
    """Return a cloud with alice and bob, and an empty directory."""
    return Cloud()


@pytest.fixture
def filled(cloud: Cloud) -> Cloud:
    """Return a cloud whose users have just been read."""
    assert cloud.find("alice") == ALICE
    assert cloud.advance(0) == [POOL]
    return cloud


def test_the_directory_and_its_oned_provide_their_interfaces(cloud: Cloud) -> None:
    """`IUserDirectory` over `IOpenNebula`."""
    assert verifyObject(IUserDirectory, cloud.directory)
    assert verifyObject(IOpenNebula, cloud.one)


def test_a_user_has_the_data_of_their_document(cloud: Cloud) -> None:
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
        async def document(self, user: str | None, method: str, *args: object) -> etree._Element:
            return root

    cloud = Cloud(Recorded())
    alice, carol, dave = (cloud.find(name) for name in ("alice", "carol", "dave"))
    assert (alice.id, alice.gid, alice.groups, alice.driver, alice.enabled) == (2, 100, (100,), "core", True)
    assert alice.secret == "6624974ea2baffac164422e4490376c1c31313cd97724ae8ce62fb3f0a0370f2"
    assert (carol.driver, carol.secret, carol.may_sign) == ("public", "carolpw", True)
    assert (dave.driver, dave.secret, dave.may_sign) == ("x509", "/C=ES/O=ONE/CN=dave|/C=US/CN=dave2", False)


def pool_reply(line: str) -> str | None:
    """Return the user pool in a line of a recording, None if the line has none."""
    call = json.loads(line)
    return str(call["reply"][1]) if call["method"] == "one.userpool.info" else None


# How old the data may be


def test_a_cached_user_is_used_for_3_seconds_without_a_call(filled: Cloud) -> None:
    """Then only that user is read again."""
    filled.advance(2.9)
    assert filled.find("alice") == ALICE
    assert filled.advance(0.1) == []
    assert filled.find("alice") == ALICE
    assert filled.one.calls == [reading(ALICE)]


@pytest.mark.parametrize(
    "changed", [replace(ALICE, secret="new"), replace(ALICE, enabled=False), replace(ALICE, driver="x509")]
)
def test_a_change_takes_effect_after_3_seconds(filled: Cloud, changed: User) -> None:
    """Another password, a disabled user, another driver."""
    filled.one.change(changed)
    assert filled.find("alice") == ALICE
    filled.advance(3)
    assert filled.find("alice") == changed


def test_a_removed_user_is_unknown_after_3_seconds(filled: Cloud) -> None:
    """Oned's error 1024 causes a refresh too, since the user may have been created again."""
    filled.one.users = [BOB]
    filled.advance(3)
    assert filled.find("alice") is None
    assert filled.one.calls == [reading(ALICE), GROUPS, reading(BOB)]


def test_a_user_created_again_with_the_same_name_is_another_user(filled: Cloud) -> None:
    """They have a new id, secret and groups."""
    recreated = replace(ALICE, id=9, secret="new")
    filled.one.users = [BOB, recreated]
    filled.advance(3)
    assert filled.find("alice") == recreated
    filled.advance(3)
    assert filled.find("alice") == recreated
    assert filled.one.calls == [reading(recreated)]


def test_a_new_user_is_found_after_2_seconds(filled: Cloud) -> None:
    """For an unknown name the members of all groups are read again."""
    new = replace(BOB, id=7, name="new")
    filled.one.users.append(new)
    assert filled.find("new") is None
    filled.advance(2)
    assert filled.find("new") == new
    assert filled.one.calls[:2] == [GROUPS, reading(new)]


def test_a_refresh_for_another_name_renews_the_users_that_it_reads(filled: Cloud) -> None:
    """They need not be read again."""
    filled.advance(2)
    filled.find("stranger")
    assert filled.advance(2) == [GROUPS, reading(ALICE), reading(BOB)]
    assert filled.find("alice") == ALICE
    assert filled.one.calls == []


def test_a_late_response_does_not_replace_newer_data(cloud: Cloud) -> None:
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


def test_after_the_clock_is_set_back_users_are_read_again(filled: Cloud) -> None:
    """The age of data from the future is unknown."""
    filled.clock.rightNow -= 3600
    assert filled.find("alice") == ALICE
    assert filled.one.calls == [reading(ALICE)]


# Signatures that do not match


def test_a_changed_password_is_found_after_its_first_signature(filled: Cloud) -> None:
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


def crowded(users: int) -> Cloud:
    """Return a cloud with many users that were read 2 seconds ago."""
    cloud = Cloud()
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
        cloud = Cloud()
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


def test_a_failed_signature_causes_the_same_calls_while_oned_is_unavailable(filled: Cloud) -> None:
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


# Documents that exceed the limit


def test_a_user_pool_that_is_too_long_does_not_affect_users_with_a_short_document() -> None:
    """With an empty cache, the users are read one by one; later as usual."""
    cloud = Cloud()
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
    cloud = Cloud()
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


def test_if_the_group_pool_is_too_long_all_users_are_read_at_once(filled: Cloud) -> None:
    """Group administrators can lengthen its documents; new users are still found."""
    new = replace(ALICE, id=9, name="new")
    filled.one.users.append(new)
    filled.one.long_methods.add("one.grouppool.info")
    filled.advance(2)
    assert filled.find("new") == new
    assert filled.one.calls == [GROUPS, POOL]


def test_users_read_one_by_one_are_cached_before_the_last_is_read(cloud: Cloud) -> None:
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


def test_concurrent_requests_share_a_call_for_the_pool(cloud: Cloud) -> None:
    """For any users."""
    cloud.one.is_held = True
    lookups = [cloud.start_find(name) for name in ("alice", "bob", "stranger", "alice")]
    cloud.one.release()
    assert [done(lookup) for lookup in lookups] == [ALICE, BOB, None, ALICE]
    assert cloud.one.calls == [POOL]


def test_concurrent_requests_share_a_call_for_a_user(filled: Cloud) -> None:
    """As the ten requests of a page in a browser."""
    filled.advance(3)
    filled.one.is_held = True
    lookups = [filled.start_find("alice") for _ in range(10)]
    filled.one.release()
    assert [done(lookup) for lookup in lookups] == [ALICE] * 10
    assert filled.one.calls == [reading(ALICE)]


def test_a_cancelled_request_does_not_affect_the_others(cloud: Cloud) -> None:
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


def test_cached_users_are_used_for_3_seconds_without_oned(filled: Cloud) -> None:
    """Then the error is raised."""
    filled.one.is_down = True
    filled.advance(2.9)
    assert filled.find("alice") == ALICE
    filled.advance(0.1)
    with pytest.raises(OpenNebulaUnavailable):
        filled.find("alice")


def test_a_failure_is_repeated_for_a_second(filled: Cloud) -> None:
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


def test_users_are_found_again_once_oned_is_available(filled: Cloud) -> None:
    """At most a second after the last failure."""
    filled.one.is_down = True
    filled.advance(3)
    with pytest.raises(OpenNebulaUnavailable):
        filled.find("alice")
    filled.one.is_down = False
    filled.advance(1)
    assert filled.find("alice") == ALICE


def test_all_waiting_requests_get_the_failure(cloud: Cloud) -> None:
    """None is left waiting."""
    cloud.one.is_held = cloud.one.is_down = True
    lookups = [cloud.start_find(name) for name in ("alice", "bob")]
    cloud.one.release()
    for lookup in lookups:
        with pytest.raises(OpenNebulaUnavailable):
            done(lookup)


def test_any_refusal_but_no_such_user_is_an_error(filled: Cloud) -> None:
    """If serveradmin is refused, users do not count as removed."""

    async def refuse(user: str | None, method: str, *args: object) -> etree._Element:
        raise OpenNebulaRefusal(method, 256, "User couldn't be authenticated, aborting call.")

    filled.advance(3)
    filled.one.document = refuse  # type: ignore[method-assign]
    with pytest.raises(OpenNebulaRefusal):
        filled.find("alice")


# By the subject of a certificate

ANNA = User(id=4, name="anna", gid=100, groups=(100,), secret="/O=ONE/CN=anna|/CN=anna", driver="x509", enabled=True)
SUBJECT = ("/O=ONE/CN=anna",)


@pytest.fixture
def certified(cloud: Cloud) -> Cloud:
    """Return a cloud with anna, of the driver x509, just read."""
    cloud.one.users.append(ANNA)
    assert find_by_subject(cloud, *SUBJECT) == (ANNA,)
    assert cloud.advance(0) == [POOL]
    return cloud


def find_by_subject(cloud: Cloud, *spellings: str) -> Any:
    """Return the users with a subject, which must be available immediately."""
    return done(Deferred.fromCoroutine(cloud.directory.find_by_subject(spellings)))


def test_users_are_found_by_each_subject_and_only_of_the_driver_x509(certified: Cloud) -> None:
    """The PASSWORD of other users is not a subject."""
    assert find_by_subject(certified, "/CN=anna") == (ANNA,)
    certified.one.users.append(replace(BOB, id=9, name="odd", secret="/CN=odd"))
    certified.advance(60)
    assert find_by_subject(certified, "/CN=odd") == ()


def test_the_first_spelling_that_a_user_has_decides(certified: Cloud) -> None:
    """The following spellings count only if no user has an earlier one."""
    other = replace(ANNA, id=9, name="other", secret="/CN=other")
    certified.one.users.append(other)
    certified.advance(60)
    assert find_by_subject(certified, "/CN=nobody", "/CN=other", "/CN=anna") == (other,)


def test_a_cached_subject_is_used_for_3_seconds_without_a_call(certified: Cloud) -> None:
    """Then only its user is read again."""
    certified.advance(2.9)
    assert find_by_subject(certified, *SUBJECT) == (ANNA,)
    assert certified.advance(0.1) == []
    assert find_by_subject(certified, *SUBJECT) == (ANNA,)
    assert certified.one.calls == [reading(ANNA)]


@pytest.mark.parametrize("changed", [replace(ANNA, secret="/CN=new"), replace(ANNA, driver="core")])
def test_a_subject_removed_from_a_user_is_not_found_after_3_seconds(certified: Cloud, changed: User) -> None:
    """After 10 seconds all users are read: it may belong to another user."""
    certified.one.change(changed)
    certified.advance(3)
    assert find_by_subject(certified, *SUBJECT) == ()
    assert certified.advance(7) == [reading(ANNA)]
    assert find_by_subject(certified, *SUBJECT) == ()
    assert certified.one.calls == [reading(ANNA), POOL]


def test_a_disabled_user_is_returned_as_disabled_after_3_seconds(certified: Cloud) -> None:
    """A new user with the same subject is found 10 seconds after all users were last read."""
    disabled = replace(ANNA, enabled=False)
    certified.one.change(disabled)
    certified.advance(3)
    assert find_by_subject(certified, *SUBJECT) == (disabled,)
    successor = replace(ANNA, id=9, name="successor")
    certified.one.users.append(successor)
    certified.advance(7)
    assert find_by_subject(certified, *SUBJECT) == (disabled, successor)


def test_a_new_subject_is_found_after_10_seconds(certified: Cloud) -> None:
    """An additional subject of a cached user."""
    assert find_by_subject(certified, "/CN=two") == ()
    changed = replace(ANNA, secret=ANNA.secret + "|/CN=two")
    certified.one.change(changed)
    certified.advance(10)
    assert find_by_subject(certified, "/CN=two") == (changed,)


def test_a_second_user_with_a_subject_is_found_after_a_minute(certified: Cloud) -> None:
    """However many requests of the first user there are."""
    twin = replace(ANNA, id=9, name="twin")
    certified.one.users.append(twin)
    for _ in range(29):
        certified.advance(2)
        find_by_subject(certified, *SUBJECT)
    certified.advance(2)
    assert find_by_subject(certified, *SUBJECT) == (ANNA, twin)


def test_unknown_subjects_cause_a_read_of_all_users_every_10_seconds(certified: Cloud) -> None:
    """However many certificates without a user there are."""
    for number in range(1000):
        assert find_by_subject(certified, f"/CN={number}") == ()
        certified.clock.advance(0.05)
    assert certified.one.calls == [POOL] * 4


def test_a_certificate_without_a_spelling_causes_no_call(cloud: Cloud) -> None:
    """No user can have its subject."""
    assert find_by_subject(cloud) == ()
    assert cloud.one.calls == []


def test_cached_subjects_are_used_for_3_seconds_without_oned(certified: Cloud) -> None:
    """Then the error is raised."""
    certified.one.is_down = True
    certified.advance(2.9)
    assert find_by_subject(certified, *SUBJECT) == (ANNA,)
    certified.advance(0.1)
    with pytest.raises(OpenNebulaUnavailable):
        find_by_subject(certified, *SUBJECT)
