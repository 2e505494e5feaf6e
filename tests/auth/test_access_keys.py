"""Requests signed with access keys: what a key gives, what ends it, and what a thief gains."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger

from econed.auth.access_keys import AccessKeys
from econed.auth.authenticator import SignatureAuthenticator
from econed.auth.endpoints import Endpoints
from econed.auth.failures import AuthenticationFailed
from econed.auth.kinds import all_signers
from econed.auth.users import REFRESH_INTERVAL, USER_MAX_AGE, UserDirectory
from econed.credentials.access_keys import AccessKey, state_text
from econed.credentials.key_ids import new_key_id, new_secret
from econed.credentials.revocations import (
    RevocationList,
    key_reinstatement_text,
    key_revocation_text,
    user_revocation_text,
)
from econed.opennebula.session import Session
from econed.opennebula.template import vector
from econed.sealing import Sealer
from econed.user import CredentialKind, KeyState, SecretKeys, Sender, origin_of
from tests.actions.iam.support import create, document, stored
from tests.auth.signed_requests import DESCRIBE
from tests.auth.support import ALICE, Signed, sign_v2, sign_v4
from tests.auth.test_signing_users import counting_digests
from tests.support.cloud import SEALING_KEYS, Cloud

WRONG = "wrong secret key, the request was changed after it was signed, or the access key is revoked"
UNKNOWN = "the user has no such access key"


class Process:
    """A process that authenticates requests, in a cloud in which others may change keys."""

    def __init__(self, cloud: Cloud, allowed: Collection[SecretKeys] = frozenset(SecretKeys)) -> None:
        self.cloud = cloud
        self.users = UserDirectory(cloud.backend, cloud.clock, log=Logger(namespace="econed"))
        self.revocations = RevocationList(Session(cloud.backend, None), cloud.clock)
        self._clock = Clock()
        signers = all_signers(self.users, cloud.sealer, self.revocations, allowed)
        self._authenticator = SignatureAuthenticator(signers, self._clock)

    def sender(self, key_id: str, secret: str, token: str | None = None) -> Sender:
        """Return who has sent a request that is signed with a key."""
        return self.sender_of(
            sign_v4("POST", form=DESCRIBE, user=replace(ALICE, name=key_id, secret=secret), token=token)
        )

    def sender_of(self, signed: Signed) -> Sender:
        """Return who has sent a request."""
        self._clock.rightNow = signed.at
        return self.cloud.result(self._authenticator.authenticate(signed.request))

    def reason(self, key_id: str, secret: str, token: str | None = None) -> str:
        """Return the reason in the log for the refusal of a request, whose error is the same as for any other."""
        with pytest.raises(AuthenticationFailed) as caught:
            self.sender(key_id, secret, token)
        assert (caught.value.code, caught.value.status) == ("AuthFailure", 401)
        assert caught.value.message == "AWS was not able to validate the provided access credentials"
        return caught.value.reason

    def calls_for(self, key_id: str, secret: str) -> list[tuple[Any, ...]]:
        """Return the calls to oned that a request leads to, whether it is refused or not."""
        before = len(self.cloud.oned.calls)
        with suppress(AuthenticationFailed):
            self.sender(key_id, secret)
        calls = list(self.cloud.oned.calls)[before:]
        assert all(call.user == "serveradmin" for call in calls)
        return [(call.method, *call.args[:1]) for call in calls]


class Keys:
    """A cloud with a key of alice, and a process that has accepted a request with it."""

    def __init__(self) -> None:
        self.cloud = Cloud()
        self.key = create(self.cloud)
        self.id, self.secret = self.key["AccessKeyId"], self.key["SecretAccessKey"]
        self.process = Process(self.cloud)
        assert self.process.sender(self.id, self.secret).user.name == "alice"

    def write(self, text: str, user: str = "alice") -> None:
        """Let a user write their own document."""
        self.cloud.result(self.cloud.call_as(user).session.user_update(document(self.cloud, user).id, text))

    def write_as_serveradmin(self, text: str) -> None:
        """Revoke, as the commands for administrators do."""
        serveradmin = Session(self.cloud.backend, None)
        user = self.cloud.result(serveradmin.current_user())
        self.cloud.result(serveradmin.user_update(user.id, text))

    def text_of(self, key_id: str, user: str = "alice") -> str:
        """Return the attribute of a key as its user can read it."""
        (sealed,) = (key.sealed for key in stored(self.cloud, user) if key.id == key_id)
        return vector(f"EC2_ACCESS_KEY_{key_id}", {"ID": key_id, "SEALED": sealed})

    def reason_later(self) -> str:
        """Return why the key is refused, when what the process knows is too old."""
        self.cloud.clock.advance(USER_MAX_AGE)
        return self.process.reason(self.id, self.secret)


@pytest.fixture
def keys() -> Keys:
    return Keys()


def test_a_request_with_an_access_key_has_the_rights_of_its_user(keys: Keys) -> None:
    sender = keys.process.sender(keys.id, keys.secret)
    assert (sender.user, sender.user.login) == (keys.process.users.cached("alice"), "alice")
    credential = sender.credential
    assert (credential.kind, credential.key, credential.origin) == (
        CredentialKind.ACCESS_KEY,
        keys.id,
        f"key:{keys.id}",
    )
    assert credential.expires is None
    assert keys.secret not in repr(sender)


def test_a_request_signed_with_version_2_is_accepted(keys: Keys) -> None:
    signed = sign_v2("GET", DESCRIBE, user=replace(ALICE, name=keys.id, secret=keys.secret))
    assert keys.process.sender_of(signed).user.name == "alice"


def test_the_first_request_costs_a_call_for_the_user_and_one_for_revocations_and_the_next_nothing(keys: Keys) -> None:
    process, user_id = Process(keys.cloud), document(keys.cloud).id
    assert process.calls_for(keys.id, keys.secret) == [("one.user.info", user_id), ("one.user.info", -1)]
    assert process.calls_for(keys.id, keys.secret) == []
    keys.cloud.clock.advance(USER_MAX_AGE)
    assert process.calls_for(keys.id, keys.secret) == [("one.user.info", user_id), ("one.user.info", -1)]


def test_a_new_key_is_accepted_at_once_where_its_user_has_just_been_read(keys: Keys) -> None:
    """By another process than the one that has created it, and however many were created a moment before."""
    for _ in range(4):
        key = create(keys.cloud)
        assert keys.process.sender(key["AccessKeyId"], key["SecretAccessKey"]).user.name == "alice"


def test_a_user_of_any_driver_signs_with_a_key(keys: Keys) -> None:
    user_id = document(keys.cloud).id
    for driver in ("ldap", "ssh", "x509", "saml"):
        keys.cloud.oneadmin("one.user.chauth", user_id, driver, "")
        keys.cloud.clock.advance(USER_MAX_AGE)
        assert keys.process.sender(keys.id, keys.secret).user.driver == driver


# What ends a key


def test_a_key_that_is_made_inactive_between_two_requests_is_refused_after_3_seconds(keys: Keys) -> None:
    keys.cloud.run("alice", "UpdateAccessKey", AccessKeyId=keys.id, Status="Inactive")
    assert keys.reason_later() == "the access key is Inactive"
    keys.cloud.run("alice", "UpdateAccessKey", AccessKeyId=keys.id, Status="Active")
    keys.cloud.clock.advance(USER_MAX_AGE)
    assert keys.process.sender(keys.id, keys.secret).user.name == "alice"


def test_a_deleted_key_is_refused(keys: Keys) -> None:
    keys.cloud.run("alice", "DeleteAccessKey", AccessKeyId=keys.id)
    assert keys.reason_later() == UNKNOWN


def test_a_key_that_is_being_created_is_refused(keys: Keys) -> None:
    keys.write(state_text(keys.id, KeyState.PENDING, 0))
    assert keys.reason_later() == "the access key is Pending"


def test_the_key_of_a_disabled_user_is_refused(keys: Keys) -> None:
    keys.cloud.oneadmin("one.user.enable", document(keys.cloud).id, False)
    assert keys.reason_later() == "the user is disabled"


def test_the_key_of_a_removed_user_is_refused(keys: Keys) -> None:
    keys.cloud.oneadmin("one.user.delete", document(keys.cloud).id)
    assert keys.reason_later() == "the user of the access key is not known"


def test_a_key_outlives_a_new_password(keys: Keys) -> None:
    keys.cloud.oneadmin("one.user.passwd", document(keys.cloud).id, "another")
    keys.cloud.clock.advance(USER_MAX_AGE)
    assert keys.process.sender(keys.id, keys.secret).user.name == "alice"


def test_a_revoked_key_is_refused_until_it_is_reinstated(keys: Keys) -> None:
    other = create(keys.cloud)
    keys.write_as_serveradmin(key_revocation_text(keys.id))
    assert keys.reason_later() == WRONG
    assert keys.process.sender(other["AccessKeyId"], other["SecretAccessKey"]).user.name == "alice"
    keys.write_as_serveradmin(key_reinstatement_text(keys.id))
    keys.cloud.clock.advance(USER_MAX_AGE)
    assert keys.process.sender(keys.id, keys.secret).user.name == "alice"


def test_all_keys_that_a_user_had_at_a_moment_are_revoked_together(keys: Keys) -> None:
    theirs = create(keys.cloud, "bob")
    keys.write_as_serveradmin(user_revocation_text(document(keys.cloud).id, keys.cloud.call_as("alice").now))
    assert keys.reason_later() == WRONG
    assert keys.process.sender(theirs["AccessKeyId"], theirs["SecretAccessKey"]).user.name == "bob"
    new = create(keys.cloud)
    assert keys.process.sender(new["AccessKeyId"], new["SecretAccessKey"]).user.name == "alice"


def test_a_key_sealed_with_an_older_key_counts_until_that_is_removed(keys: Keys) -> None:
    old, new = SEALING_KEYS.keys, (b"another key of thirty-two bytes.",)
    keys.cloud.sealer = Sealer(new + old)
    assert Process(keys.cloud).sender(keys.id, keys.secret).user.name == "alice"
    keys.cloud.sealer = Sealer(new)
    assert Process(keys.cloud).reason(keys.id, keys.secret) == "no user with this name is known"


def test_where_access_keys_do_not_count_they_are_unknown_names(keys: Keys) -> None:
    process = Process(keys.cloud, {SecretKeys.PASSWORD, SecretKeys.TOKENS})
    assert process.reason(keys.id, keys.secret) == "no user with this name is known"


# What a thief gains


def test_the_secret_of_another_key_is_refused(keys: Keys) -> None:
    own, theirs = create(keys.cloud), create(keys.cloud, "bob")
    assert keys.process.reason(keys.id, own["SecretAccessKey"]) == WRONG
    assert keys.process.reason(keys.id, theirs["SecretAccessKey"]) == WRONG
    assert keys.process.reason(theirs["AccessKeyId"], keys.secret) == WRONG
    assert keys.process.reason("alice", keys.secret).startswith("wrong secret key")
    assert keys.process.reason(keys.id, "alicepw") == WRONG


def test_a_session_token_beside_an_access_key_is_refused(keys: Keys) -> None:
    reason = keys.process.reason(keys.id, keys.secret, token="anything")
    assert reason == "the request has a session token, which belongs to temporary credentials alone"


def test_a_user_who_copies_the_key_of_another_to_themselves_gains_nothing(keys: Keys) -> None:
    """Neither under its id nor under that of a key of their own."""
    theirs = create(keys.cloud, "bob")
    keys.write(keys.text_of(keys.id), "bob")
    assert keys.process.sender(keys.id, keys.secret).user.name == "alice"
    keys.write(keys.text_of(keys.id).replace(keys.id, theirs["AccessKeyId"]), "bob")
    keys.cloud.clock.advance(USER_MAX_AGE)
    forged = "what OpenNebula has for the access key is not what econed has written for this user"
    assert keys.process.reason(theirs["AccessKeyId"], keys.secret) == forged
    assert keys.process.reason(theirs["AccessKeyId"], theirs["SecretAccessKey"]) == forged
    assert keys.process.sender(keys.id, keys.secret).user.name == "alice"
    keys.cloud.run("alice", "DeleteAccessKey", AccessKeyId=keys.id)
    assert keys.reason_later() == UNKNOWN


def test_a_user_who_edits_a_key_breaks_this_one_alone(keys: Keys) -> None:
    other = create(keys.cloud)
    text = keys.text_of(keys.id)
    sealed = text.partition('SEALED="')[2]
    for place in range(0, len(sealed) - 2, 40):
        letter = "A" if sealed[place] != "A" else "B"
        keys.write(text.replace(sealed, f"{sealed[:place]}{letter}{sealed[place + 1 :]}"))
        assert keys.reason_later().startswith("what OpenNebula has")
        assert keys.process.sender(other["AccessKeyId"], other["SecretAccessKey"]).user.name == "alice"
    keys.write(text)
    keys.cloud.clock.advance(USER_MAX_AGE)
    assert keys.process.sender(keys.id, keys.secret).user.name == "alice"


def test_a_deleted_key_that_is_written_back_counts_again_unless_it_is_revoked(keys: Keys) -> None:
    """Who can write the document of a user may also create keys; an administrator's revocation holds against them."""
    copy = keys.text_of(keys.id)
    keys.cloud.run("alice", "DeleteAccessKey", AccessKeyId=keys.id)
    keys.write(copy)
    keys.cloud.clock.advance(USER_MAX_AGE)
    assert keys.process.sender(keys.id, keys.secret).user.name == "alice"
    keys.write_as_serveradmin(key_revocation_text(keys.id))
    assert keys.reason_later() == WRONG
    keys.cloud.run("alice", "DeleteAccessKey", AccessKeyId=keys.id)
    keys.write(copy)
    assert keys.reason_later() == WRONG


def test_a_key_of_an_account_of_opennebulas_servers_never_counts(keys: Keys) -> None:
    """Even where somebody has made econed write one."""
    serveradmin = keys.cloud.result(Session(keys.cloud.backend, None).current_user())
    key = AccessKey(new_key_id(keys.cloud.sealer, serveradmin.id), serveradmin.id, new_secret(), 0)
    keys.write_as_serveradmin(key.text(keys.cloud.sealer))
    keys.write_as_serveradmin(state_text(key.id, KeyState.ACTIVE, 0))
    assert keys.process.reason(key.id, key.secret).startswith("what OpenNebula has")


# What a failed signature costs, and tells


def test_an_unknown_id_costs_one_call_for_its_user_in_2_seconds(keys: Keys) -> None:
    """Whether or not there is such a user."""
    for user_id in (document(keys.cloud).id, 4711):
        process, unknown = Process(keys.cloud), new_key_id(keys.cloud.sealer, user_id)
        assert process.calls_for(unknown, "x") == [("one.user.info", user_id)]
        assert process.calls_for(unknown, "x") == []
        keys.cloud.clock.advance(REFRESH_INTERVAL)
        assert process.calls_for(unknown, "x") == [("one.user.info", user_id)]


def test_a_wrong_secret_costs_the_same_call(keys: Keys) -> None:
    process = Process(keys.cloud)
    assert process.calls_for(keys.id, "wrong") == [("one.user.info", document(keys.cloud).id)]
    assert process.calls_for(keys.id, "wrong") == []


@pytest.mark.parametrize("nonsense", ["AKIAAAAAAAAAAAAAAAAA", "AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE"])
def test_an_id_that_econed_has_not_made_costs_no_call(nonsense: str) -> None:
    process = Process(Cloud())
    assert process.calls_for(nonsense, "x") == []
    assert process.calls_for("nobody", "x") != []


def test_a_failed_signature_costs_the_same_digests_whatever_the_key_is(keys: Keys) -> None:
    """One key is derived twice, before and after the user is read."""
    inactive = create(keys.cloud)
    keys.cloud.run("alice", "UpdateAccessKey", AccessKeyId=inactive["AccessKeyId"], Status="Inactive")
    signed = sign_v4("POST", form=DESCRIBE)
    endpoints = len(Endpoints(None).candidates(signed.request))
    unknown = [new_key_id(keys.cloud.sealer, user_id) for user_id in (document(keys.cloud).id, 4711)]
    for key_id in (keys.id, inactive["AccessKeyId"], *unknown):
        with counting_digests() as digests:
            keys.process.reason(key_id, "wrong")
        assert sum(digests) == 2 * (endpoints + 4)


def test_the_secret_is_in_no_error_and_no_repr(keys: Keys) -> None:
    own, theirs = create(keys.cloud), create(keys.cloud, "bob")
    with pytest.raises(AuthenticationFailed) as caught:
        keys.process.sender(own["AccessKeyId"], theirs["SecretAccessKey"])
    shown = f"{caught.value!r} {caught.value} {keys.process.users.cached('alice')!r}"
    for secret in (own["SecretAccessKey"], theirs["SecretAccessKey"], keys.secret):
        assert secret not in shown


# Temporary credentials that were made with an access key


def test_what_was_made_with_a_key_counts_as_long_as_the_key(keys: Keys) -> None:
    signers = AccessKeys(keys.process.users, keys.cloud.sealer, keys.process.revocations)

    def holds(origin: str, name: str = "alice") -> bool:
        keys.cloud.clock.advance(USER_MAX_AGE)
        return keys.cloud.result(signers.holds(origin, keys.cloud.user(name), 0))

    origin = f"key:{keys.id}"
    assert holds(origin)
    assert not holds(origin, "bob")
    assert not holds(origin_of(CredentialKind.PASSWORD, keys.cloud.user("alice").secret))
    assert not holds(f"key:{new_key_id(keys.cloud.sealer, document(keys.cloud).id)}")
    keys.cloud.run("alice", "UpdateAccessKey", AccessKeyId=keys.id, Status="Inactive")
    assert not holds(origin)
    keys.cloud.run("alice", "UpdateAccessKey", AccessKeyId=keys.id, Status="Active")
    assert holds(origin)
    keys.write_as_serveradmin(user_revocation_text(document(keys.cloud).id, keys.cloud.call_as("alice").now))
    assert not holds(origin)
