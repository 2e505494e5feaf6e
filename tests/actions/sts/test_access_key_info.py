"""GetAccessKeyInfo: the account in an access key id."""

from __future__ import annotations

import pytest

from econed.credentials.key_ids import new_key_id, new_temporary_id
from tests.support.cloud import Cloud, perform


def test_the_account_of_an_access_key_is_told_to_everybody() -> None:
    """Whether or not the key exists: the account is a part of the id."""
    cloud = Cloud()
    alice = cloud.user("alice").id
    for key_id in (new_key_id(cloud.sealer, alice), new_temporary_id(cloud.sealer, alice)):
        for user in ("alice", "bob"):
            assert cloud.run(user, "GetAccessKeyInfo", AccessKeyId=key_id) == {"Account": f"{alice:012d}"}


def test_no_call_to_oned_is_made() -> None:
    cloud = Cloud()
    call = cloud.call_as("bob")
    key_id = new_key_id(cloud.sealer, call.caller.id)
    before = len(cloud.oned.calls)
    assert cloud.result(perform(call, "GetAccessKeyInfo", {"AccessKeyId": key_id}))["Account"] == call.owner_id
    assert len(cloud.oned.calls) == before


@pytest.mark.parametrize(
    "key_id", ["AKIAAAAAAAAAAAAAAAAA", "ASIAAAAAAAAAAAAAAAAA", "AKIAIOSFODNN7EXAMPLE", "a_user_name_of_20__"]
)
def test_an_id_that_econed_has_not_made_is_invalid(key_id: str) -> None:
    refused = Cloud().refusal("alice", "GetAccessKeyInfo", AccessKeyId=key_id)
    assert (refused.code, refused.status) == ("ValidationError", 400)


@pytest.mark.parametrize("key_id", ["alice", "AKIA-IOSFODNN7EXAMPLE", "A" * 129])
def test_an_id_that_is_none_of_amazons_is_invalid(key_id: str) -> None:
    """As the model says."""
    refused = Cloud().refusal("alice", "GetAccessKeyInfo", AccessKeyId=key_id)
    assert refused.code == "ValidationError"
    assert "accessKeyId" in refused.message
