"""The login tokens of oned behind temporary credentials: shared, limited, and what ends them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from zope.interface import implementer

from econed.actions.sts.temporary import get_session_token
from econed.credentials.temporary import LOGIN_TOKEN_LIFE, MAX_DURATION
from econed.errors import EC2Error
from econed.interfaces import IOpenNebula
from econed.user import Login
from tests.actions.sts.requests import (
    DAY,
    HOUR,
    cloud_with_groups,
    end_of,
    group_id,
    password_of,
    role_keys,
    session_keys,
)
from tests.support.cloud import Cloud
from tests.support.signing_in import Keys, Process, login_tokens


def test_credentials_of_one_user_and_group_share_a_login_token() -> None:
    cloud = cloud_with_groups("research")
    keys = password_of(cloud, "alice")
    for _ in range(3):
        session_keys(cloud, keys)
        role_keys(cloud, keys, "research")
        cloud.clock.advance(HOUR)
    assert sorted(group for _, group in login_tokens(cloud, "alice")) == [-1, group_id(cloud, "research")]
    assert [call.method for call in cloud.changes] == ["one.user.login", "one.user.login"]


def test_a_login_token_that_would_end_first_is_replaced() -> None:
    cloud = Cloud()
    keys = password_of(cloud, "alice")
    session_keys(cloud, keys)
    cloud.clock.advance(LOGIN_TOKEN_LIFE - HOUR)
    session_keys(cloud, keys, duration_seconds=900)
    assert len(login_tokens(cloud, "alice")) == 1
    session_keys(cloud, keys, duration_seconds=2 * HOUR)
    assert len(login_tokens(cloud, "alice")) == 2


def test_drivers_for_which_oned_makes_shorter_lives_get_shorter_credentials() -> None:
    """A day for LDAP (oned.conf, MAX_TOKEN_TIME)."""
    cloud = Cloud()
    alice = cloud.user("alice")
    cloud.oneadmin("one.user.chauth", alice.id, "ldap", "")
    cloud.as_user("alice", "one.user.login", "alice", "alices-own-token", DAY, -1)
    keys = session_keys(cloud, Keys("alice", "alices-own-token"), duration_seconds=MAX_DURATION)
    assert end_of(cloud, keys) == pytest.approx(DAY, abs=20)
    assert len(login_tokens(cloud, "alice")) == 2


def test_a_user_with_ten_login_tokens_gets_no_other() -> None:
    """None of the user's own is touched; what was made before is still shared."""
    cloud = cloud_with_groups("research")
    keys = password_of(cloud, "alice")
    session_keys(cloud, keys)
    for number in range(9):
        cloud.as_user("alice", "one.user.login", "alice", f"token-{number}", HOUR, -1)
    before = login_tokens(cloud, "alice")
    with pytest.raises(EC2Error, match="LimitExceeded") as refused:
        role_keys(cloud, keys, "research")
    assert refused.value.status == 409
    assert session_keys(cloud, keys).token is not None
    assert login_tokens(cloud, "alice") == before


def test_login_tokens_are_never_removed() -> None:
    """A time of 0 would remove a token, and with an empty text all, the user's own included."""
    cloud = cloud_with_groups("research")
    sent: list[tuple[object, ...]] = []
    execute = cloud.oned.execute

    def recording(method: str, *params: object) -> list[object]:
        if method == "one.user.login":
            sent.append(params)
        return execute(method, *params)

    cloud.oned.execute = recording  # type: ignore[method-assign]
    keys = password_of(cloud, "alice")
    role_keys(cloud, session_keys(cloud, keys), "research")
    cloud.clock.advance(LOGIN_TOKEN_LIFE)
    role_keys(cloud, session_keys(cloud, keys), "research")
    assert len(sent) == 4
    assert all(text and seconds == LOGIN_TOKEN_LIFE for _, _, text, seconds, _ in sent)


def test_the_session_refuses_to_remove_login_tokens() -> None:
    session = Cloud().call_as("alice").session
    for text, seconds in (("", 0), ("text", 0), ("", 60), ("text", -1)):
        with pytest.raises(ValueError, match="login tokens"):
            Cloud().result(session.user_login("alice", text, seconds, None))


def test_fifty_requests_at_once_through_several_processes_all_get_credentials_that_work() -> None:
    """They make one login token between them, with at most one call of each process."""
    cloud = Cloud()
    processes, keys = 4, password_of(cloud, "alice")
    senders = [Process(cloud).sender(keys) for _ in range(processes)]
    pending = []
    for sender in senders:
        cloud.renew_calls()
        memory = cloud.new_memory()
        for _ in range(50 // processes + 1):
            call = cloud.call_of(sender)
            pending.append(Deferred.fromCoroutine(get_session_token(replace(call, memory=memory))))
    results = cloud.result(_all(pending))
    assert len(results) == 52
    logins = [call for call in cloud.changes if call.method == "one.user.login"]
    assert 1 <= len(logins) <= processes
    assert len(login_tokens(cloud, "alice")) == 1
    process = Process(cloud)
    made = [Keys.of(result["Credentials"]) for result in results]
    assert len({each.access_key for each in made}) == 52
    cloud.clock.advance(12 * HOUR - 60)
    for each in made:
        assert process.sender(each).user.name == "alice"
    cloud.clock.advance(60)
    for each in made:
        with pytest.raises(EC2Error, match="ExpiredToken"):
            process.sender(each)


async def _all(pending: list[Deferred[Any]]) -> list[Any]:
    return [await each for each in pending]


def test_a_login_token_of_the_users_own_is_never_behind_credentials() -> None:
    """Though its text begins as those of econed."""
    cloud = Cloud()
    cloud.as_user("alice", "one.user.login", "alice", "econed-" + "0" * 64, 10 * DAY, -1)
    session_keys(cloud, password_of(cloud, "alice"))
    assert len(login_tokens(cloud, "alice")) == 2


def test_the_login_token_behind_credentials_is_no_secret_key() -> None:
    """Its text stands in the user's document, and would be full rights of the user."""
    cloud = Cloud()
    session_keys(cloud, password_of(cloud, "alice"))
    ((text, _),) = login_tokens(cloud, "alice")
    with pytest.raises(EC2Error, match="AuthFailure"):
        Process(cloud).sender(Keys("alice", text))


# What ends them


def test_a_new_password_ends_credentials_requested_with_the_old_one() -> None:
    cloud = Cloud()
    keys = session_keys(cloud, password_of(cloud, "alice"))
    process = Process(cloud)
    assert process.sender(keys).user.name == "alice"
    cloud.oneadmin("one.user.passwd", cloud.user("alice").id, "new")
    cloud.clock.advance(3)
    with pytest.raises(EC2Error, match="AuthFailure"):
        process.sender(keys)
    session_keys(cloud, password_of(cloud, "alice"))
    cloud.clock.advance(3)
    with pytest.raises(EC2Error, match="AuthFailure"):
        process.sender(keys)


def test_disabling_a_user_ends_credentials_for_good() -> None:
    cloud = Cloud()
    keys, process, alice = session_keys(cloud, password_of(cloud, "alice")), Process(cloud), cloud.user("alice").id
    assert process.sender(keys).user.name == "alice"
    for enabled in (False, True):
        cloud.oneadmin("one.user.enable", alice, enabled)
        cloud.clock.advance(3)
        with pytest.raises(EC2Error, match="AuthFailure"):
            process.sender(keys)


def test_a_user_ends_credentials_by_removing_the_login_token_in_opennebula() -> None:
    """New ones, with a login token of the same text, do not revive the old ones."""
    cloud = Cloud()
    password, process = password_of(cloud, "alice"), Process(cloud)
    keys = session_keys(cloud, password)
    ((text, _),) = login_tokens(cloud, "alice")
    cloud.as_user("alice", "one.user.login", "alice", text, 0, -1)
    cloud.clock.advance(3)
    with pytest.raises(EC2Error, match="AuthFailure"):
        process.sender(keys)
    again = session_keys(cloud, password)
    assert [text for text, _ in login_tokens(cloud, "alice")] == [text]
    assert process.sender(again).user.name == "alice"
    with pytest.raises(EC2Error, match="AuthFailure"):
        process.sender(keys)


@implementer(IOpenNebula)
class Slave:
    """The oned of a federation's slave: changes are made by the master, and arrive after some reads of the user."""

    def __init__(self, oned: IOpenNebula, late_reads: int) -> None:
        self._oned = oned
        self._late_reads = late_reads
        self._old: Any = None

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        return await self._oned.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        if method != "one.user.info":
            return await self._oned.document(user, method, *args, **options)
        if self._old is None:
            self._old = await self._oned.document(user, method, *args, **options)
        elif self._late_reads > 0:
            self._late_reads -= 1
        else:
            return await self._oned.document(user, method, *args, **options)
        return self._old


def requested_on_a_slave(late_reads: int) -> dict[str, Any]:
    """Request session credentials of a slave that shows a change after so many reads."""
    cloud = Cloud()
    sender = Process(cloud).sender(password_of(cloud, "alice"))
    cloud.backend = Slave(cloud.backend, late_reads)
    return dict(cloud.result(get_session_token(cloud.call_of(sender))))


def test_on_a_slave_of_a_federation_credentials_are_returned_once_their_login_token_is_there() -> None:
    assert requested_on_a_slave(3)["Credentials"]["SessionToken"]


def test_a_login_token_that_does_not_arrive_is_a_failure_that_clients_repeat() -> None:
    with pytest.raises(EC2Error) as failed:
        requested_on_a_slave(100)
    assert (failed.value.code, failed.value.status) == ("ServiceUnavailable", 503)
