"""CreateAccessKey, ListAccessKeys, UpdateAccessKey, DeleteAccessKey and GetAccessKeyLastUsed."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from econed.actions.iam.store import PENDING_LIFETIME
from econed.credentials.access_keys import MAX_ACCESS_KEYS, AccessKey, opened
from econed.credentials.key_ids import new_key_id, new_secret
from econed.sealing import Sealer
from econed.user import KeyState
from tests.actions.iam.support import attributes, create, document, listed, stored
from tests.support.cloud import NOW, Cloud

CHANGES: dict[str, dict[str, Any]] = {"DeleteAccessKey": {}, "UpdateAccessKey": {"Status": "Active"}}
"""The changes of a key, with their parameters beside its id."""


def test_a_new_key_is_returned_with_its_secret_and_listed_without() -> None:
    cloud = Cloud()
    key = create(cloud)
    assert re.fullmatch(r"AKIA[A-Z2-7]{16}", key["AccessKeyId"])
    assert re.fullmatch(r"[A-Za-z0-9]{40}", key["SecretAccessKey"])
    assert (key["UserName"], key["Status"]) == ("alice", "Active")
    assert key["CreateDate"] == datetime.fromtimestamp(cloud.call_as("alice").now, UTC)
    response = cloud.run("alice", "ListAccessKeys")
    (metadata,) = response["AccessKeyMetadata"]
    assert response["IsTruncated"] is False
    assert metadata == {name: value for name, value in key.items() if name != "SecretAccessKey"}


def test_the_secret_is_kept_sealed() -> None:
    cloud = Cloud()
    key = create(cloud)
    assert key["SecretAccessKey"] not in str(document(cloud).template)
    (own,) = stored(cloud)
    access_key = opened(cloud.sealer, document(cloud).id, own)
    assert access_key is not None
    assert (access_key.id, access_key.secret) == (key["AccessKeyId"], key["SecretAccessKey"])
    assert own.state is KeyState.ACTIVE
    assert attributes(cloud) == [f"EC2_ACCESS_KEY_{key['AccessKeyId']}"]


def test_a_user_has_five_keys_at_the_most_active_or_not() -> None:
    cloud = Cloud()
    keys = [create(cloud)["AccessKeyId"] for _ in range(MAX_ACCESS_KEYS)]
    cloud.run("alice", "UpdateAccessKey", AccessKeyId=keys[0], Status="Inactive")
    error = cloud.refusal("alice", "CreateAccessKey")
    assert (error.code, error.status) == ("LimitExceeded", 409)
    assert error.message == "Cannot exceed quota for AccessKeysPerUser: 5"
    assert sorted(listed(cloud)) == sorted(keys)
    cloud.run("alice", "DeleteAccessKey", AccessKeyId=keys[1])
    create(cloud)
    create(cloud, "bob")
    assert len(listed(cloud)) == 5
    assert len(listed(cloud, "bob")) == 1


def test_a_key_is_made_inactive_and_active_again() -> None:
    cloud = Cloud()
    key_id = create(cloud)["AccessKeyId"]
    cloud.run("alice", "UpdateAccessKey", AccessKeyId=key_id, Status="Inactive")
    assert listed(cloud) == {key_id: "Inactive"}
    cloud.run("alice", "UpdateAccessKey", AccessKeyId=key_id, Status="Inactive")
    cloud.run("alice", "UpdateAccessKey", AccessKeyId=key_id, Status="Active")
    assert listed(cloud) == {key_id: "Active"}
    assert attributes(cloud) == [f"EC2_ACCESS_KEY_{key_id}"]


def test_no_other_status_can_be_set() -> None:
    cloud = Cloud()
    key_id = create(cloud)["AccessKeyId"]
    assert cloud.refusal("alice", "UpdateAccessKey", AccessKeyId=key_id, Status="Expired").code == "InvalidInput"
    assert cloud.refusal("alice", "UpdateAccessKey", AccessKeyId=key_id, Status="Pending").status == 400
    assert listed(cloud) == {key_id: "Active"}


@pytest.mark.parametrize("state", ["Active", "Inactive"])
def test_a_deleted_key_leaves_nothing(state: str) -> None:
    cloud = Cloud()
    key_id, other = (create(cloud)["AccessKeyId"] for _ in range(2))
    cloud.run("alice", "UpdateAccessKey", AccessKeyId=key_id, Status=state)
    cloud.run("alice", "DeleteAccessKey", AccessKeyId=key_id)
    assert listed(cloud) == {other: "Active"}
    assert attributes(cloud) == [f"EC2_ACCESS_KEY_{other}"]
    error = cloud.refusal("alice", "DeleteAccessKey", AccessKeyId=key_id)
    assert (error.code, error.status) == ("NoSuchEntity", 404)
    assert error.message == f"The Access Key with id {key_id} cannot be found."


def test_a_deleted_key_does_not_come_back_by_a_change_of_its_state() -> None:
    cloud = Cloud()
    key_id = create(cloud)["AccessKeyId"]
    cloud.run("alice", "DeleteAccessKey", AccessKeyId=key_id)
    for status in ("Active", "Inactive"):
        error = cloud.refusal("alice", "UpdateAccessKey", AccessKeyId=key_id, Status=status)
        assert error.code == "NoSuchEntity"
    assert listed(cloud) == {}


def test_when_a_key_was_last_used_is_not_known() -> None:
    cloud = Cloud()
    key_id = create(cloud)["AccessKeyId"]
    assert cloud.run("alice", "GetAccessKeyLastUsed", AccessKeyId=key_id) == {
        "UserName": "alice",
        "AccessKeyLastUsed": {"ServiceName": "N/A", "Region": "N/A"},
    }
    unknown = new_key_id(cloud.sealer, document(cloud).id)
    for text in (unknown, "AKIAAAAAAAAAAAAAAAAA", "somethingelsealtogether"):
        error = cloud.refusal("alice", "GetAccessKeyLastUsed", AccessKeyId=text)
        assert (error.code, error.status) == ("NoSuchEntity", 404)


def test_keys_are_listed_in_pages() -> None:
    cloud = Cloud()
    keys = sorted(create(cloud)["AccessKeyId"] for _ in range(5))
    found: list[str] = []
    marker: dict[str, Any] = {}
    for expected in (2, 2, 1):
        response = cloud.run("alice", "ListAccessKeys", MaxItems=2, **marker)
        page = [key["AccessKeyId"] for key in response["AccessKeyMetadata"]]
        found += page
        assert (len(page), response["IsTruncated"]) == (expected, expected == 2)
        marker = {"Marker": response["Marker"]} if response["IsTruncated"] else {}
    assert found == keys
    cloud.run("alice", "DeleteAccessKey", AccessKeyId=keys[1])
    following = cloud.run("alice", "ListAccessKeys", Marker=keys[1])["AccessKeyMetadata"]
    assert [key["AccessKeyId"] for key in following] == keys[2:]


def add(cloud: Cloud, text: str, user: str = "alice") -> None:
    """Let a user write their own document."""
    cloud.result(cloud.call_as(user).session.user_update(document(cloud, user).id, text))


def test_a_key_that_cannot_be_opened_is_inactive_and_can_only_be_deleted() -> None:
    """It was sealed with a key that is lost, copied from another user, or written by this one."""
    cloud = Cloud()
    lost = create(cloud)["AccessKeyId"]
    cloud.sealer = Sealer((b"another key of thirty-two bytes.",))
    copied = create(cloud, "bob")["AccessKeyId"]
    (theirs,) = stored(cloud, "bob")
    add(cloud, f'EC2_ACCESS_KEY_{copied}=[ID="{copied}",SEALED="{theirs.sealed}"]')
    add(cloud, 'EC2_ACCESS_KEY_AKIAAAAAAAAAAAAAAAAA=[ID="x",SEALED="y"]')
    assert listed(cloud) == {lost: "Inactive", copied: "Inactive", "AKIAAAAAAAAAAAAAAAAA": "Inactive"}
    for key in cloud.run("alice", "ListAccessKeys")["AccessKeyMetadata"]:
        assert "CreateDate" not in key
        error = cloud.refusal("alice", "UpdateAccessKey", AccessKeyId=key["AccessKeyId"], Status="Active")
        assert error.code == "NoSuchEntity"
        cloud.run("alice", "DeleteAccessKey", AccessKeyId=key["AccessKeyId"])
    assert attributes(cloud) == []
    assert listed(cloud, "bob") == {copied: "Active"}


@pytest.mark.parametrize("count", [5, 16, 1000])
def test_a_user_who_writes_many_keys_keeps_only_themselves_from_new_ones(count: int) -> None:
    cloud = Cloud()
    text = "\n".join(
        f'EC2_ACCESS_KEY_{new_key_id(cloud.sealer, number)}=[ID="x",SEALED="{"x" * 1500}"]' for number in range(count)
    )
    add(cloud, text)
    assert cloud.refusal("alice", "CreateAccessKey").code == "LimitExceeded"
    assert len(listed(cloud)) == min(count, 16)
    create(cloud, "bob")


def test_names_that_are_no_ids_count_for_nothing() -> None:
    cloud = Cloud()
    add(cloud, "\n".join(f'EC2_ACCESS_KEY_{number}=[ID="{number}",SEALED="x"]' for number in range(10)))
    key_id = create(cloud)["AccessKeyId"]
    assert listed(cloud) == {key_id: "Active"}


def test_a_key_that_a_dead_process_was_creating_counts_until_the_next_creation_removes_it() -> None:
    """Until then it can be neither used, seen nor changed."""
    cloud = Cloud()
    user_id = document(cloud).id
    now = cloud.call_as("alice").now
    dead = AccessKey(new_key_id(cloud.sealer, user_id), user_id, new_secret(), now)
    add(cloud, dead.text(cloud.sealer))
    for _ in range(4):
        create(cloud)
    assert dead.id not in listed(cloud)
    for action, parameters in CHANGES.items():
        assert cloud.refusal("alice", action, AccessKeyId=dead.id, **parameters).code == "NoSuchEntity"
    cloud.clock.advance(PENDING_LIFETIME - 1 - (cloud.call_as("alice").now - now))
    assert cloud.refusal("alice", "CreateAccessKey").code == "LimitExceeded"
    cloud.clock.advance(1)
    create(cloud)
    assert dead.id not in [key.id for key in stored(cloud)]
    assert len(attributes(cloud)) == 5
    assert cloud.clock.seconds() >= NOW


def test_the_response_to_a_creation_has_the_secret_once_and_no_log_of_calls_has_it() -> None:
    """Oned sees it sealed only."""
    cloud = Cloud()
    secret = create(cloud)["SecretAccessKey"]
    assert not any(secret in str(call) for call in cloud.oned.calls)
