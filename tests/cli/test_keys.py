"""`econe-server keys`: what administrators see of access keys, and what they end."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from econed.auth.failures import AuthenticationFailed
from econed.auth.users import REFRESH_INTERVAL, USER_MAX_AGE
from econed.cli.installation import CommandFailed, Exit
from econed.cli.keys import Keys, reporting_errors
from econed.credentials.access_keys import AccessKey
from econed.credentials.key_ids import new_key_id, new_secret
from econed.credentials.revocations import key_revocation_text, revocations, user_revocation_text
from econed.errors import OpenNebulaCode, OpenNebulaError, OpenNebulaRefusal, OpenNebulaUnavailable, ReplyTooLarge
from econed.opennebula.session import Session
from econed.opennebula.template import template, vector
from econed.sandbox.backend import SandboxBackend
from econed.user import Login
from tests.actions.iam.support import create, document, listed, stored
from tests.auth.test_access_keys import Process
from tests.support.cloud import NOW, Cloud, perform

DAY = 86_400


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """A new cloud of each form of oned."""
    return Cloud(request.param)


def command(cloud: Cloud, run: Callable[[Keys], Awaitable[Exit]], *, now: int | None = None) -> list[str]:
    """Run a command that succeeds, and return its output."""
    out = io.StringIO()
    now = int(cloud.clock.seconds()) if now is None else now
    keys = Keys(Session(cloud.backend, None), cloud.sealer, now, out)
    assert cloud.result(reporting_errors(run(keys))) is Exit.OK
    return out.getvalue().splitlines()


def failure(cloud: Cloud, run: Callable[[Keys], Awaitable[Exit]]) -> tuple[Exit, str]:
    """Run a command that fails, and return its exit code and its message."""
    with pytest.raises(CommandFailed) as caught:
        command(cloud, run)
    return caught.value.code, caught.value.text


def table(cloud: Cloud, owner: str | None = None) -> list[tuple[str, ...]]:
    """Return the rows of the list, without its head."""
    head, *rows = command(cloud, lambda keys: keys.list(owner))
    assert head.split() == ["USER", "ACCESS", "KEY", "AGE", "STATE"]
    return [tuple(filter(None, map(str.strip, row.split("  ")))) for row in rows]


def set_state(cloud: Cloud, key: dict[str, Any], status: str) -> None:
    """Change the state of a key, as its user."""
    cloud.run(key["UserName"], "UpdateAccessKey", AccessKeyId=key["AccessKeyId"], Status=status)


def copy_of(cloud: Cloud, key: dict[str, Any]) -> str:
    """Return the attribute of a key as its user can read it, and write it back later."""
    (sealed,) = (each.sealed for each in stored(cloud, key["UserName"]) if each.id == key["AccessKeyId"])
    return vector(f"EC2_ACCESS_KEY_{key['AccessKeyId']}", {"ID": key["AccessKeyId"], "SEALED": sealed})


def write(cloud: Cloud, text: str, user: str = "alice") -> None:
    """Let a user write their own document."""
    cloud.result(cloud.call_as(user).session.user_update(document(cloud, user).id, text))


def is_accepted(process: Process, key: dict[str, Any], token: str | None = None) -> bool:
    """Whether a process that knows nothing newer than `USER_MAX_AGE` accepts requests signed with a key."""
    process.cloud.clock.advance(max(USER_MAX_AGE, REFRESH_INTERVAL))
    try:
        process.sender(key["AccessKeyId"], key["SecretAccessKey"], token)
    except AuthenticationFailed:
        return False
    return True


def revoked(cloud: Cloud) -> tuple[set[str], dict[int, float]]:
    """Return what stands on serveradmin."""
    found = revocations(cloud.result(Session(cloud.backend, None).current_user()))
    return set(found.keys), dict(found.before)


# List


def test_without_access_keys_the_list_is_empty(cloud: Cloud) -> None:
    assert table(cloud) == []
    assert cloud.changes == []


def test_the_list_has_the_keys_of_all_users_with_age_and_state(cloud: Cloud) -> None:
    old = create(cloud)
    cloud.clock.advance(3 * DAY + 5)
    new, theirs = create(cloud), create(cloud, "bob")
    set_state(cloud, new, "Inactive")
    assert sorted(table(cloud)) == sorted(
        [
            ("alice", old["AccessKeyId"], "3 d", "Active"),
            ("alice", new["AccessKeyId"], "0 d", "Inactive"),
            ("bob", theirs["AccessKeyId"], "0 d", "Active"),
        ]
    )
    assert table(cloud, "bob") == [("bob", theirs["AccessKeyId"], "0 d", "Active")]
    assert failure(cloud, lambda keys: keys.list("carol"))[0] is Exit.FAILED


def test_the_list_shows_what_is_disabled_and_what_cannot_be_opened(cloud: Cloud) -> None:
    one, theirs = create(cloud), create(cloud, "bob")
    command(cloud, lambda keys: keys.disable(one["AccessKeyId"], None))
    assert table(cloud, "alice") == [("alice", one["AccessKeyId"], "0 d", "disabled")]
    command(cloud, lambda keys: keys.disable(None, "bob"))
    assert table(cloud, "bob") == [
        ("bob", theirs["AccessKeyId"], "0 d", "disabled"),
        ("bob", "everything until then", "0 d", "disabled"),
    ]
    foreign = copy_of(cloud, theirs)
    write(cloud, foreign)
    assert ("alice", theirs["AccessKeyId"], "-", "unreadable") in table(cloud, "alice")


def test_names_in_the_list_are_escaped(cloud: Cloud) -> None:
    cloud.oneadmin("one.user.allocate", "eve\x9b2J", "evepw", "core", [])
    eve = next(user for user in cloud.oned.cloud.users if user.name.startswith("eve"))
    key = AccessKey(new_key_id(cloud.sealer, eve.id), eve.id, new_secret(), NOW)
    cloud.oneadmin("one.user.update", eve.id, key.text(cloud.sealer), 1)
    assert [row[0] for row in table(cloud)] == ["eve\\x9b2J"]


def test_all_users_are_read_with_two_calls(cloud: Cloud) -> None:
    """However many there are: serveradmin for the revocations, and the pool."""
    for _ in range(3):
        create(cloud)
    before = len(cloud.oned.calls)
    table(cloud)
    assert [call.method for call in list(cloud.oned.calls)[before:]] == ["one.user.info", "one.userpool.info"]


def test_users_who_are_too_long_for_one_reply_are_each_read_once(cloud: Cloud) -> None:
    create(cloud)
    bob = cloud.user("bob").id
    reads: list[int] = []

    class LongUsers(SandboxBackend):
        """An oned whose replies with the user pool and with bob's document are too long."""

        async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
            """Make a call, or raise `ReplyTooLarge` for these documents."""
            if method == "one.user.info" and args[0] != -1:
                reads.append(int(str(args[0])))
            if method == "one.userpool.info" or (method == "one.user.info" and args[0] == bob):
                raise ReplyTooLarge(method, "the reply is too long")
            return await super().document(user, method, *args, **options)

    cloud.backend = LongUsers(cloud.oned)
    assert f"user {bob}: their document is too long or malformed, and so their keys do not count" in command(
        cloud, lambda keys: keys.list(None)
    )
    assert len(reads) == len(set(reads)) == len(cloud.oned.cloud.users)


# Disable and enable


def test_a_disabled_key_is_refused_within_seconds_until_it_is_enabled(cloud: Cloud) -> None:
    one, other = create(cloud), create(cloud)
    process = Process(cloud)
    assert is_accepted(process, one)
    output = command(cloud, lambda keys: keys.disable(one["AccessKeyId"], None))
    assert output == [f"{one['AccessKeyId']} of alice is disabled"]
    assert (is_accepted(process, one), is_accepted(process, other)) == (False, True)
    command(cloud, lambda keys: keys.enable(one["AccessKeyId"], None))
    assert is_accepted(process, one)
    assert [call.user for call in cloud.changes if call.method == "one.user.update"][-2:] == ["serveradmin"] * 2


@pytest.mark.parametrize("how", ["disable", "delete"])
def test_a_key_ends_whose_user_has_made_their_document_malformed(cloud: Cloud, how: str) -> None:
    """By a login token that oned does not escape; the key counts no more when the token is removed."""
    key, process, alice = create(cloud), Process(cloud), cloud.user("alice").id
    cloud.as_user("alice", "one.user.login", "alice", "a&amp;b", 3600, -1)
    output = command(cloud, lambda keys: getattr(keys, how)(key["AccessKeyId"], None))
    assert output == [f"{key['AccessKeyId']} of user {alice} is {how.removesuffix('e')}ed"]
    cloud.as_user("alice", "one.user.login", "alice", "", 0, -1)
    cloud.clock.advance(60)
    assert not is_accepted(process, key)


def test_nothing_that_a_user_does_enables_a_disabled_key(cloud: Cloud) -> None:
    key = create(cloud)
    process, copy = Process(cloud), copy_of(cloud, key)
    command(cloud, lambda keys: keys.disable(key["AccessKeyId"], None))
    set_state(cloud, key, "Inactive")
    set_state(cloud, key, "Active")
    assert not is_accepted(process, key)
    cloud.run("alice", "DeleteAccessKey", AccessKeyId=key["AccessKeyId"])
    write(cloud, copy)
    assert listed(cloud) == {key["AccessKeyId"]: "Active"}
    assert not is_accepted(process, key)


def test_a_key_that_its_user_has_made_inactive_stays_so_when_it_is_enabled(cloud: Cloud) -> None:
    key = create(cloud)
    set_state(cloud, key, "Inactive")
    command(cloud, lambda keys: keys.disable(key["AccessKeyId"], None))
    command(cloud, lambda keys: keys.enable(key["AccessKeyId"], None))
    assert table(cloud) == [("alice", key["AccessKeyId"], "0 d", "Inactive")]


def test_all_of_a_user_is_disabled_at_once_and_what_they_make_later_is_not(cloud: Cloud) -> None:
    one, other, theirs = create(cloud), create(cloud), create(cloud, "bob")
    process = Process(cloud)
    command(cloud, lambda keys: keys.disable(None, "alice"))
    assert [is_accepted(process, key) for key in (one, other, theirs)] == [False, False, True]
    assert is_accepted(process, create(cloud))
    command(cloud, lambda keys: keys.disable(one["AccessKeyId"], None))
    command(cloud, lambda keys: keys.enable(None, "alice"))
    assert [is_accepted(process, key) for key in (one, other)] == [False, True]


def test_keys_made_by_a_clock_that_is_ahead_are_disabled_too(cloud: Cloud) -> None:
    key = create(cloud)
    process = Process(cloud)
    command(cloud, lambda keys: keys.disable(None, "alice"), now=NOW - 60)
    assert not is_accepted(process, key)


def test_a_key_is_not_enabled_while_all_of_its_user_is_disabled(cloud: Cloud) -> None:
    key = create(cloud)
    command(cloud, lambda keys: keys.disable(None, "alice"))
    code, text = failure(cloud, lambda keys: keys.enable(key["AccessKeyId"], None))
    assert code is Exit.FAILED
    assert text.endswith("still disabled with the others of alice: econe-server keys enable --of alice")
    cloud.clock.advance(1)
    new = create(cloud)
    assert command(cloud, lambda keys: keys.enable(new["AccessKeyId"], None))


def test_temporary_credentials_end_by_their_id_their_key_or_their_user(cloud: Cloud) -> None:
    process = Process(cloud)

    def new() -> dict[str, Any]:
        cloud.clock.advance(1)
        credentials: dict[str, Any] = cloud.run("alice", "GetSessionToken")["Credentials"]
        return credentials

    one, other = new(), new()
    assert is_accepted(process, one, one["SessionToken"])
    command(cloud, lambda keys: keys.disable(one["AccessKeyId"], None))
    assert [is_accepted(process, each, each["SessionToken"]) for each in (one, other)] == [False, True]
    command(cloud, lambda keys: keys.disable(None, "alice"))
    later = new()
    assert [is_accepted(process, each, each["SessionToken"]) for each in (one, other, later)] == [False, False, True]
    assert "is stored nowhere" in failure(cloud, lambda keys: keys.delete(later["AccessKeyId"], None))[1]


@pytest.mark.parametrize("disabled", [0, 1, 2])
def test_temporary_credentials_end_with_those_that_requested_them(cloud: Cloud, disabled: int) -> None:
    """Directly or indirectly: a thief who has renewed stolen ones has nothing. Those before them count."""
    process = Process(cloud)
    arn = f"arn:aws:iam::{cloud.user('alice').id:012d}:role/ec2"
    chain = [cloud.run("alice", "GetSessionToken")["Credentials"]]
    for _ in range(2):
        *_, last = chain
        sender = process.sender(last["AccessKeyId"], last["SecretAccessKey"], last["SessionToken"])
        parameters = {"RoleArn": arn, "RoleSessionName": "thief"}
        chain.append(cloud.result(perform(cloud.call_of(sender), "AssumeRole", parameters))["Credentials"])
    command(cloud, lambda keys: keys.disable(chain[disabled]["AccessKeyId"], None))
    assert [is_accepted(process, each, each["SessionToken"]) for each in chain] == [
        index < disabled for index in range(len(chain))
    ]


# Delete


def test_a_deleted_key_does_not_count_even_if_a_copy_is_written_back(cloud: Cloud) -> None:
    one, other = create(cloud), create(cloud)
    process, copy = Process(cloud), copy_of(cloud, one)
    command(cloud, lambda keys: keys.delete(one["AccessKeyId"], None))
    assert listed(cloud) == {other["AccessKeyId"]: "Active"}
    assert [is_accepted(process, key) for key in (one, other)] == [False, True]
    write(cloud, copy)
    assert not is_accepted(process, one)


def test_all_keys_of_a_user_are_deleted_at_once(cloud: Cloud) -> None:
    one, other, theirs = create(cloud), create(cloud), create(cloud, "bob")
    command(cloud, lambda keys: keys.disable(one["AccessKeyId"], None))
    process, copies = Process(cloud), [copy_of(cloud, key) for key in (one, other)]
    output = command(cloud, lambda keys: keys.delete(None, "alice"))
    assert output == ["2 access keys of alice are deleted, and all temporary credentials are disabled"]
    assert (listed(cloud), listed(cloud, "bob")) == ({}, {theirs["AccessKeyId"]: "Active"})
    for copy in copies:
        write(cloud, copy)
    assert [is_accepted(process, key) for key in (one, other, theirs)] == [False, False, True]
    assert revoked(cloud)[0] == set(), "the one revocation is instead of those of single keys"


def test_a_key_that_hides_behind_many_others_is_disabled_with_all_of_its_user(cloud: Cloud) -> None:
    """Only a few of a user's keys are read: the revocation does not need them."""
    key = create(cloud)
    process, copy = Process(cloud), copy_of(cloud, key)
    cloud.run("alice", "DeleteAccessKey", AccessKeyId=key["AccessKeyId"])
    others = [new_key_id(cloud.sealer, 99) for _ in range(20)]
    write(cloud, template(*(vector(f"EC2_ACCESS_KEY_{other}", {"ID": other, "SEALED": "x"}) for other in others)))
    write(cloud, copy)
    command(cloud, lambda keys: keys.delete(None, "alice"))
    assert not is_accepted(process, key)


def test_a_user_without_keys_has_nothing_to_delete(cloud: Cloud) -> None:
    assert command(cloud, lambda keys: keys.delete(None, "bob"))[0].startswith("0 access keys of bob are deleted")


# What stands on serveradmin


def test_revocations_of_removed_users_end_with_the_next_of_a_user(cloud: Cloud) -> None:
    bob, key = cloud.user("bob").id, create(cloud, "bob")
    admin = Session(cloud.backend, None)
    own = create(cloud)["AccessKeyId"]
    texts = (key_revocation_text(key["AccessKeyId"]), user_revocation_text(bob, NOW), key_revocation_text(own))
    cloud.result(admin.user_update(cloud.result(admin.current_user()).id, template(*texts)))
    cloud.oneadmin("one.user.delete", bob)
    assert "does not exist" in failure(cloud, lambda keys: keys.disable(key["AccessKeyId"], None))[1]
    command(cloud, lambda keys: keys.disable(None, "alice"))
    assert revoked(cloud) == ({own}, {cloud.user("alice").id: NOW})


def test_the_number_of_keys_that_are_disabled_one_by_one_is_limited(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("econed.cli.keys.MAX_REVOKED_KEYS", 1)
    one, other = create(cloud), create(cloud)
    for _ in range(2):
        command(cloud, lambda keys: keys.disable(one["AccessKeyId"], None))
    assert "all of a user (--of NAME)" in failure(cloud, lambda keys: keys.delete(other["AccessKeyId"], None))[1]
    assert other["AccessKeyId"] in listed(cloud), "nothing is deleted that could come back"
    command(cloud, lambda keys: keys.disable(None, "alice"))


every_change = pytest.mark.parametrize("name", ["disable", "enable", "delete"])


@every_change
@pytest.mark.parametrize("key_id", ["alice", "AKIAAAAAAAAAAAAAAAAA", "", "AKIA\x1b"])
def test_what_is_not_a_key_of_econed_is_refused_without_a_call(name: str, key_id: str) -> None:
    cloud = Cloud()
    before = len(cloud.oned.calls)
    code, text = failure(cloud, lambda keys: getattr(keys, name)(key_id, None))
    assert code is Exit.FAILED
    assert text.replace("\\x1b", "\x1b") == f"{key_id} is not an access key that econed has made"
    assert text.isprintable()
    assert len(cloud.oned.calls) == before


@every_change
def test_commands_for_a_user_that_does_not_exist_change_nothing(name: str) -> None:
    cloud = Cloud()
    code, text = failure(cloud, lambda keys: getattr(keys, name)(None, "carol"))
    assert (code, text) == (Exit.FAILED, "there is no user carol whose document can be read")
    assert cloud.changes == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OpenNebulaUnavailable("one.user.info", "no reply"), Exit.NO_REPLY),
        (OpenNebulaRefusal("one.user.info", OpenNebulaCode.AUTHENTICATION, "wrong"), Exit.REFUSED),
        (OpenNebulaRefusal("one.user.info", OpenNebulaCode.AUTHORIZATION, "no"), Exit.FAILED),
    ],
)
def test_errors_of_oned_have_the_exit_codes_of_the_other_commands(error: OpenNebulaError, code: Exit) -> None:
    async def fail() -> Exit:
        raise error

    with pytest.raises(CommandFailed, match=r"oned: one\.user\.info") as caught:
        Cloud().result(reporting_errors(fail()))
    assert caught.value.code is code
