"""The user directory: what it reads of oned's documents, how fresh it is, and how seldom it asks."""

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
    """Return the call that reads one user."""
    return ("one.user.info", user.id, False)


@implementer(IOpenNebula)
@dataclass
class FakeOned:
    """An oned with users. It answers at once, or, while `held`, when `release` is called.

    Of `long` methods, and of users whose document is long, the response is more than may come.
    """

    users: list[User] = field(default_factory=lambda: [ALICE, BOB])
    long: set[str] = field(default_factory=set)
    long_users: set[int] = field(default_factory=set)
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    down: bool = False
    held: bool = False
    waiting: list[Callable[[], None]] = field(default_factory=list)

    async def call(self, user: str | None, method: str, *args: object) -> str | int | bool:
        raise AssertionError(f"{method} is not asked for documents")

    async def document(self, user: str | None, method: str, *args: object) -> etree._Element:
        assert user is None, "users are read by serveradmin"
        self.calls.append((method, *args))
        now = list(self.users)
        if self.held:
            released: Deferred[None] = Deferred()
            self.waiting.append(lambda: released.callback(None))
            await released
        if self.down:
            raise OpenNebulaUnavailable(method, "connection refused")
        if method in self.long or (method == "one.user.info" and args[0] in self.long_users):
            raise ReplyTooLarge(method, "a response of too many bytes")
        if method == "one.grouppool.info":
            groups = sorted({gid for each in now for gid in each.groups})
            members = {gid: "".join(f"<ID>{each.id}</ID>" for each in now if gid in each.groups) for gid in groups}
            each = "".join(f"<GROUP><ID>{gid}</ID><USERS>{ids}</USERS></GROUP>" for gid, ids in members.items())
            return etree.fromstring(f"<GROUP_POOL>{each}</GROUP_POOL>")
        if method == "one.userpool.info":
            quotas = "<QUOTAS><ID>{}</ID><DATASTORE_QUOTA/></QUOTAS>"
            users = "".join(document(each) + quotas.format(each.id) for each in now)
            return etree.fromstring(f"<USER_POOL>{users}</USER_POOL>")
        found = next((each for each in now if each.id == args[0]), None)
        if found is None:
            raise OpenNebulaRefusal(method, 1024, "Error getting user")
        return etree.fromstring(document(found))

    def release(self) -> None:
        """Answer what has been asked."""
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each()

    def change(self, user: User) -> None:
        """Put `user` in the place of the one with his id."""
        self.users = [user if each.id == user.id else each for each in self.users]


def document(user: User) -> str:
    """Return a user's document in oned's form."""
    groups = "".join(f"<ID>{gid}</ID>" for gid in user.groups)
    return (
        f"<USER><ID>{user.id}</ID><GID>{user.gid}</GID><GROUPS>{groups}</GROUPS><GNAME>ec2</GNAME>"
        f"<NAME>{escape(user.name)}</NAME><PASSWORD><![CDATA[{user.secret}]]></PASSWORD>"
        f"<AUTH_DRIVER><![CDATA[{user.driver}]]></AUTH_DRIVER><ENABLED>{int(user.enabled)}</ENABLED><TEMPLATE/></USER>"
    )


@dataclass
class Cloud:
    """A directory over a fake oned, at a time that tests move."""

    one: FakeOned = field(default_factory=FakeOned)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.directory = UserDirectory(self.one, self.clock)

    def asking(self, name: str) -> Deferred[User | None]:
        """Begin to look for a user as an authenticator does for one whose signature is right by what is known."""
        return Deferred.fromCoroutine(self._find(name))

    async def _find(self, name: str) -> User | None:
        known = self.directory.cached(name)
        confirmed = None if known is None else await self.directory.confirm(known)
        if confirmed is None:
            await self.directory.refresh(name)
            confirmed = self.directory.cached(name)
        return confirmed

    def find(self, name: str) -> Any:
        """Look for a user, and return the answer that is there at once."""
        return done(self.asking(name))

    def fails(self, *names: str) -> None:
        """Have a signature fail for each of these names."""
        for name in names:
            done(Deferred.fromCoroutine(self.directory.refresh(name)))

    def later(self, seconds: float) -> list[tuple[Any, ...]]:
        """Let time pass, and return the calls there were until then."""
        self.clock.advance(seconds)
        calls, self.one.calls = self.one.calls, []
        return calls


@pytest.fixture
def cloud() -> Cloud:
    """A cloud with alice and bob, of whom the directory knows nothing yet."""
    return Cloud()


@pytest.fixture
def known(cloud: Cloud) -> Cloud:
    """A cloud whose users were read a moment ago, at the full second."""
    assert cloud.find("alice") == ALICE
    assert cloud.later(0) == [POOL]
    return cloud


def test_the_directory_and_its_oned_keep_their_interfaces(cloud: Cloud) -> None:
    """`IUserDirectory` over `IOpenNebula`."""
    assert verifyObject(IUserDirectory, cloud.directory)
    assert verifyObject(IOpenNebula, cloud.one)


def test_a_user_is_what_oned_says_of_him(cloud: Cloud) -> None:
    """Id, name, groups, secret, driver, enabled; the first question reads the whole pool."""
    assert (cloud.find("alice"), cloud.find("bob")) == (ALICE, BOB)
    assert cloud.one.calls == [POOL]


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_recorded_pools_are_read(version: str) -> None:
    """The documents of real oned: each driver keeps its PASSWORD, and 5.12 has users as 7.4 has."""
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
    """Return the user pool in a line of a recording, if it has one."""
    call = json.loads(line)
    return str(call["reply"][1]) if call["method"] == "one.userpool.info" else None


# How fresh


def test_a_known_user_is_used_for_3_seconds_without_a_question(known: Cloud) -> None:
    """Then he alone is read anew."""
    known.later(2.9)
    assert known.find("alice") == ALICE
    assert known.later(0.1) == []
    assert known.find("alice") == ALICE
    assert known.one.calls == [reading(ALICE)]


@pytest.mark.parametrize(
    "changed", [replace(ALICE, secret="new"), replace(ALICE, enabled=False), replace(ALICE, driver="x509")]
)
def test_a_change_counts_after_3_seconds(known: Cloud, changed: User) -> None:
    """Another password, a disabled user, another driver."""
    known.one.change(changed)
    assert known.find("alice") == ALICE
    known.later(3)
    assert known.find("alice") == changed


def test_a_removed_user_is_gone_after_3_seconds(known: Cloud) -> None:
    """When oned answers 1024 for them, there is a look for changes too: they might have been made again."""
    known.one.users = [BOB]
    known.later(3)
    assert known.find("alice") is None
    assert known.one.calls == [reading(ALICE), GROUPS, reading(BOB)]


def test_a_user_made_again_under_his_name_is_another(known: Cloud) -> None:
    """His id is new, and so are his secret and his groups."""
    again = replace(ALICE, id=9, secret="new")
    known.one.users = [BOB, again]
    known.later(3)
    assert known.find("alice") == again
    known.later(3)
    assert known.find("alice") == again
    assert known.one.calls == [reading(again)]


def test_a_new_user_counts_after_2_seconds(known: Cloud) -> None:
    """A name that was not there is looked for among the members of all groups again."""
    new = replace(BOB, id=7, name="new")
    known.one.users.append(new)
    assert known.find("new") is None
    known.later(2)
    assert known.find("new") == new
    assert known.one.calls[:2] == [GROUPS, reading(new)]


def test_a_look_for_another_refreshes_who_is_read_with_it(known: Cloud) -> None:
    """Who was read with it need not be asked for."""
    known.later(2)
    known.find("stranger")
    assert known.later(2) == [GROUPS, reading(ALICE), reading(BOB)]
    assert known.find("alice") == ALICE
    assert known.one.calls == []


def test_an_answer_that_is_older_than_what_is_known_changes_nothing(cloud: Cloud) -> None:
    """A pool that was asked for before a user was read, and comes after, does not bring an old secret back."""
    cloud.one.users.append(ANNA)
    with_subject(cloud, *SUBJECT)
    cloud.later(60)
    cloud.one.held = True
    late = Deferred.fromCoroutine(cloud.directory.find_by_subject(SUBJECT))
    cloud.later(0.5)
    changed = replace(ALICE, secret="new")
    cloud.one.change(changed)
    cloud.one.held = False
    assert cloud.find("alice") == changed
    cloud.one.release()
    assert done(late) == (ANNA,)
    assert cloud.find("alice") == changed


def test_when_the_clock_is_set_back_everything_is_read_anew(known: Cloud) -> None:
    """What is from the future may be of any age."""
    known.clock.rightNow -= 3600
    assert known.find("alice") == ALICE
    assert known.one.calls == [reading(ALICE)]


# Signatures that do not match


def test_a_changed_password_is_known_after_its_first_signature(known: Cloud) -> None:
    """The users for whom signatures failed are read first."""
    changed = replace(ALICE, secret="new")
    known.one.change(changed)
    known.later(2)
    known.fails("alice")
    assert known.directory.cached("alice") == changed
    assert known.one.calls == [GROUPS, reading(ALICE), reading(BOB)]


def test_a_changed_password_is_known_2_seconds_later_where_a_look_was_just_made() -> None:
    """And in a cloud of any size: who failed first is read first, before those who were read the longest ago."""
    cloud = crowded(100)
    changed = replace(cloud.one.users[-1], secret="new")
    cloud.one.change(changed)
    cloud.fails("stranger", changed.name)
    assert cloud.directory.cached(changed.name) != changed
    cloud.later(2)
    cloud.fails("stranger")
    assert cloud.directory.cached(changed.name) == changed


def test_who_tries_many_names_does_not_keep_a_changed_password_unknown() -> None:
    """Names that are nobody's take no turn, and each user for whom a signature failed gets theirs in order."""
    cloud = crowded(100)
    names = [user.name for user in cloud.one.users]
    cloud.fails(*names[:40], *(f"stranger-{number}" for number in range(1000)))
    changed = replace(cloud.one.users[50], secret="new")
    cloud.one.change(changed)
    looks = 0
    while cloud.directory.cached(changed.name) != changed:
        cloud.fails(changed.name, *names[:40], *(f"stranger-{looks}-{number}" for number in range(100)))
        cloud.later(2)
        looks += 1
    assert looks == 1 + 40 // USERS_PER_REFRESH


def crowded(users: int) -> Cloud:
    """Return a cloud with many users, who were read 2 seconds ago."""
    cloud = Cloud()
    cloud.one.users = [replace(ALICE, id=number, name=f"user-{number}") for number in range(users)]
    cloud.fails("stranger")
    assert cloud.later(2) == [POOL]
    return cloud


# What failed signatures cost, whomever they name


DISABLED = replace(ALICE, id=5, name="disabled", enabled=False)
BY_CERTIFICATE = replace(ALICE, id=6, name="certified", secret="/CN=certified", driver="x509")
NAMES = ["user-7", "disabled", "certified", "stranger", "another stranger"]


def shapes(calls: list[tuple[Any, ...]]) -> list[str]:
    """Return calls by what can be seen of them from outside: their methods, in order."""
    return [str(call[0]) for call in calls]


@pytest.mark.parametrize("users", [3, 20, 200])
def test_a_failed_signature_makes_the_same_calls_whether_there_is_such_a_user_or_not(users: int) -> None:
    """At the first try in a fresh process, again at once, after a short and a long while, and among many names."""
    seen: dict[str, list[list[str]]] = {}
    for name in NAMES:
        cloud = Cloud()
        cloud.one.users = [replace(ALICE, id=7, name="user-7"), DISABLED, BY_CERTIFICATE]
        cloud.one.users += [replace(ALICE, id=number, name=f"user-{number}") for number in range(8, users + 5)]
        calls = seen.setdefault(name, [])
        for pause in (0, 0, 1, 1, 2, 3, 60, 3600, 0):
            cloud.later(pause)
            cloud.fails(name)
            calls.append(shapes(cloud.later(0)))
        for number in range(20):
            cloud.fails(f"other-{number}", name)
            calls.append(shapes(cloud.later(0.5)))
    assert len(seen) == len(NAMES)
    assert all(calls == seen["stranger"] for calls in seen.values())
    look = ["one.grouppool.info"] + ["one.user.info"] * min(USERS_PER_REFRESH, users)
    assert seen["stranger"][:9] == [["one.userpool.info"], [], [], look, look, look, look, look, []]


def test_a_failed_signature_makes_the_same_calls_while_oned_does_not_answer(known: Cloud) -> None:
    """And gets the same error."""
    known.one.down = True
    known.later(2)
    seen: dict[str, list[list[str]]] = {}
    for name in ("alice", "stranger", "bob", "another stranger"):
        for _ in range(3):
            with pytest.raises(OpenNebulaUnavailable, match="connection refused"):
                known.fails(name)
            seen.setdefault(name, []).append(shapes(known.later(0.5)))
    assert seen["alice"] == seen["bob"] == [["one.grouppool.info"], [], ["one.grouppool.info"]]
    assert seen["stranger"] == seen["another stranger"] == [[], ["one.grouppool.info"], []]


def test_a_flood_of_failed_signatures_costs_a_bounded_number_of_calls() -> None:
    """A thousand names in ten seconds, known and unknown ones, in a cloud of five thousand users."""
    cloud = crowded(5000)
    for number in range(1000):
        cloud.fails(f"stranger-{number}", f"user-{number}")
        cloud.clock.advance(0.01)
    assert shapes(cloud.later(0)) == (["one.grouppool.info"] + ["one.user.info"] * USERS_PER_REFRESH) * 5


# Documents that are too long to be taken in


def test_a_pool_too_long_to_be_read_keeps_nobody_out_but_whose_document_is_too_long() -> None:
    """A fresh process reads the users one by one then; later the others are read as ever."""
    cloud = Cloud()
    mallory = replace(ALICE, id=4, name="mallory")
    cloud.one.users.append(mallory)
    cloud.one.long.add("one.userpool.info")
    cloud.one.long_users.add(mallory.id)
    assert [cloud.find(name) for name in ("alice", "bob", "mallory")] == [ALICE, BOB, None]
    assert cloud.later(3) == [POOL, GROUPS, reading(ALICE), reading(BOB), reading(mallory)]
    assert cloud.find("alice") == ALICE
    new = replace(ALICE, id=9, name="new")
    cloud.one.users.append(new)
    assert cloud.find("new") == new


def test_a_document_too_long_to_be_read_is_tried_once_a_minute() -> None:
    """Whatever its user, or anybody, tries; when it is short again the user is let in."""
    cloud = Cloud()
    mallory = replace(ALICE, id=4, name="mallory")
    cloud.one.users.append(mallory)
    assert cloud.find("mallory") == mallory
    cloud.later(3)
    cloud.one.long_users.add(mallory.id)
    assert cloud.find("mallory") is None
    tried = 0
    for _ in range(30):
        cloud.fails("mallory", "stranger")
        tried += cloud.later(2).count(reading(mallory))
    assert tried == 1
    cloud.one.long_users.clear()
    cloud.later(UNREADABLE_RETRY_INTERVAL)
    assert cloud.find("mallory") == mallory


def test_where_the_documents_of_groups_are_too_long_all_users_are_read_at_once(known: Cloud) -> None:
    """Administrators of groups can make them long; a new user is let in all the same."""
    new = replace(ALICE, id=9, name="new")
    known.one.users.append(new)
    known.one.long.add("one.grouppool.info")
    known.later(2)
    assert known.find("new") == new
    assert known.one.calls == [GROUPS, POOL]


def test_of_users_read_one_by_one_those_who_were_read_are_known_before_the_last(cloud: Cloud) -> None:
    """Nobody waits for all the others."""
    cloud.one.long.add("one.userpool.info")
    cloud.one.held = True
    cloud.asking("stranger")
    for _ in range(3):
        cloud.one.release()
    assert cloud.one.calls == [POOL, GROUPS, reading(ALICE), reading(BOB)]
    assert cloud.find("alice") == ALICE
    cloud.one.release()


# How seldom


def test_requests_at_once_share_a_reading_of_the_pool(cloud: Cloud) -> None:
    """Whomever they are for."""
    cloud.one.held = True
    answers = [cloud.asking(name) for name in ("alice", "bob", "stranger", "alice")]
    cloud.one.release()
    assert [done(each) for each in answers] == [ALICE, BOB, None, ALICE]
    assert cloud.one.calls == [POOL]


def test_requests_at_once_share_a_reading_of_a_user(known: Cloud) -> None:
    """The ten requests of a page that a browser opens are one."""
    known.later(3)
    known.one.held = True
    answers = [known.asking("alice") for _ in range(10)]
    known.one.release()
    assert [done(each) for each in answers] == [ALICE] * 10
    assert known.one.calls == [reading(ALICE)]


def test_one_who_goes_away_takes_nothing_from_the_others(cloud: Cloud) -> None:
    """The first request asked oned; when it is cancelled, the second gets its answer."""
    cloud.one.held = True
    first, second = cloud.asking("alice"), cloud.asking("alice")
    first.cancel()
    cloud.one.release()
    with pytest.raises(CancelledError):
        done(first)
    assert done(second) == ALICE
    assert cloud.one.calls == [POOL]


# When oned does not answer


def test_known_users_are_used_for_3_seconds_without_oned(known: Cloud) -> None:
    """Then the error shows."""
    known.one.down = True
    known.later(2.9)
    assert known.find("alice") == ALICE
    known.later(0.1)
    with pytest.raises(OpenNebulaUnavailable):
        known.find("alice")


def test_a_failure_answers_everybody_for_a_second(known: Cloud) -> None:
    """A flood of requests while oned is down is one call a second, for a known name and for unknown ones."""
    known.one.down = True
    known.later(3)
    for _ in range(10):
        for name in ("alice", "stranger", "another"):
            with pytest.raises(OpenNebulaUnavailable, match="connection refused"):
                known.find(name)
    assert known.later(1) == [reading(ALICE), GROUPS]
    with pytest.raises(OpenNebulaUnavailable):
        known.find("alice")
    assert known.later(0) == [reading(ALICE)]


def test_when_oned_is_back_so_are_the_users(known: Cloud) -> None:
    """A second after the last failure at the latest."""
    known.one.down = True
    known.later(3)
    with pytest.raises(OpenNebulaUnavailable):
        known.find("alice")
    known.one.down = False
    known.later(1)
    assert known.find("alice") == ALICE


def test_all_who_wait_see_the_failure(cloud: Cloud) -> None:
    """Each of them gets the error, none is left waiting."""
    cloud.one.held = cloud.one.down = True
    answers = [cloud.asking(name) for name in ("alice", "bob")]
    cloud.one.release()
    for each in answers:
        with pytest.raises(OpenNebulaUnavailable):
            done(each)


def test_another_refusal_than_no_such_user_is_an_error(known: Cloud) -> None:
    """If serveradmin himself is refused, nobody is told that he does not exist."""

    async def refuse(user: str | None, method: str, *args: object) -> etree._Element:
        raise OpenNebulaRefusal(method, 256, "User couldn't be authenticated, aborting call.")

    known.later(3)
    known.one.document = refuse  # type: ignore[method-assign]
    with pytest.raises(OpenNebulaRefusal):
        known.find("alice")


# By the subject of a certificate

ANNA = User(id=4, name="anna", gid=100, groups=(100,), secret="/O=ONE/CN=anna|/CN=anna", driver="x509", enabled=True)
SUBJECT = ("/O=ONE/CN=anna",)


@pytest.fixture
def certified(cloud: Cloud) -> Cloud:
    """A cloud with anna, who comes by certificate, read a moment ago."""
    cloud.one.users.append(ANNA)
    assert with_subject(cloud, *SUBJECT) == (ANNA,)
    assert cloud.later(0) == [POOL]
    return cloud


def with_subject(cloud: Cloud, *spellings: str) -> Any:
    """Look for the users with a subject, and return the answer that is there at once."""
    return done(Deferred.fromCoroutine(cloud.directory.find_by_subject(spellings)))


def test_each_subject_of_a_user_finds_him_and_no_other_driver_has_any(certified: Cloud) -> None:
    """What is a password for others does not count as a subject."""
    assert with_subject(certified, "/CN=anna") == (ANNA,)
    certified.one.users.append(replace(BOB, id=9, name="odd", secret="/CN=odd"))
    certified.later(60)
    assert with_subject(certified, "/CN=odd") == ()


def test_the_first_spelling_that_anybody_has_decides(certified: Cloud) -> None:
    """Those behind it are only for users who have none of those before."""
    other = replace(ANNA, id=9, name="other", secret="/CN=other")
    certified.one.users.append(other)
    certified.later(60)
    assert with_subject(certified, "/CN=nobody", "/CN=other", "/CN=anna") == (other,)


def test_a_subject_is_known_for_3_seconds_without_a_question(certified: Cloud) -> None:
    """Then its user alone is read anew."""
    certified.later(2.9)
    assert with_subject(certified, *SUBJECT) == (ANNA,)
    assert certified.later(0.1) == []
    assert with_subject(certified, *SUBJECT) == (ANNA,)
    assert certified.one.calls == [reading(ANNA)]


@pytest.mark.parametrize("changed", [replace(ANNA, secret="/CN=new"), replace(ANNA, driver="core")])
def test_a_subject_taken_from_a_user_is_refused_after_3_seconds(certified: Cloud, changed: User) -> None:
    """After 10 seconds all are read: it may be another's now."""
    certified.one.change(changed)
    certified.later(3)
    assert with_subject(certified, *SUBJECT) == ()
    assert certified.later(7) == [reading(ANNA)]
    assert with_subject(certified, *SUBJECT) == ()
    assert certified.one.calls == [reading(ANNA), POOL]


def test_a_disabled_user_shows_as_such_after_3_seconds(certified: Cloud) -> None:
    """And whoever has their subject now is found 10 seconds after all were last read."""
    disabled = replace(ANNA, enabled=False)
    certified.one.change(disabled)
    certified.later(3)
    assert with_subject(certified, *SUBJECT) == (disabled,)
    successor = replace(ANNA, id=9, name="successor")
    certified.one.users.append(successor)
    certified.later(7)
    assert with_subject(certified, *SUBJECT) == (disabled, successor)


def test_a_new_subject_counts_after_10_seconds(certified: Cloud) -> None:
    """Of a new user, or one more of a known one."""
    assert with_subject(certified, "/CN=two") == ()
    changed = replace(ANNA, secret=ANNA.secret + "|/CN=two")
    certified.one.change(changed)
    certified.later(10)
    assert with_subject(certified, "/CN=two") == (changed,)


def test_a_second_user_with_a_subject_is_seen_after_a_minute(certified: Cloud) -> None:
    """However often the first one comes meanwhile."""
    twin = replace(ANNA, id=9, name="twin")
    certified.one.users.append(twin)
    for _ in range(29):
        certified.later(2)
        with_subject(certified, *SUBJECT)
    certified.later(2)
    assert with_subject(certified, *SUBJECT) == (ANNA, twin)


def test_a_flood_of_unknown_subjects_reads_all_users_every_10_seconds(certified: Cloud) -> None:
    """However many certificates there are that are nobody's."""
    for number in range(1000):
        assert with_subject(certified, f"/CN={number}") == ()
        certified.clock.advance(0.05)
    assert certified.one.calls == [POOL] * 4


def test_a_certificate_without_a_spelling_costs_no_question(cloud: Cloud) -> None:
    """Nobody can have it."""
    assert with_subject(cloud) == ()
    assert cloud.one.calls == []


def test_known_subjects_are_used_for_3_seconds_without_oned(certified: Cloud) -> None:
    """Then the error shows."""
    certified.one.down = True
    certified.later(2.9)
    assert with_subject(certified, *SUBJECT) == (ANNA,)
    certified.later(0.1)
    with pytest.raises(OpenNebulaUnavailable):
        with_subject(certified, *SUBJECT)
