"""Access keys (IAM API Reference, CreateAccessKey, ListAccessKeys, UpdateAccessKey, DeleteAccessKey, …LastUsed)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict

from econed.actions.action import action
from econed.actions.iam.access import check_may_have_keys, managed_user, managed_user_by_id
from econed.actions.iam.markers import DEFAULT_ITEMS, Truncation, page_of
from econed.actions.iam.store import add_access_key
from econed.actions.timestamps import timestamp
from econed.credentials.access_keys import opened, removal_text, state_text, stored_keys
from econed.credentials.key_ids import user_id_of_key
from econed.errors import EC2Error
from econed.services import IAM
from econed.user import KeyState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from econed.actions.call import Call
    from econed.opennebula.documents import UserDocument
    from econed.user import StoredKey

_UNKNOWN = "N/A"


class AccessKeyMetadata(TypedDict):
    """IAM AccessKeyMetadata."""

    UserName: str
    AccessKeyId: str
    Status: str
    CreateDate: NotRequired[datetime]


class NewAccessKey(AccessKeyMetadata):
    """IAM AccessKey."""

    SecretAccessKey: str


class CreateAccessKeyResult(TypedDict):
    """IAM CreateAccessKeyResponse."""

    AccessKey: NewAccessKey


class ListAccessKeysResult(Truncation):
    """IAM ListAccessKeysResponse."""

    AccessKeyMetadata: list[AccessKeyMetadata]


class AccessKeyLastUsed(TypedDict):
    """IAM AccessKeyLastUsed, without the LastUsedDate, which nobody knows."""

    ServiceName: str
    Region: str


class GetAccessKeyLastUsedResult(TypedDict):
    """IAM GetAccessKeyLastUsedResponse."""

    UserName: str
    AccessKeyLastUsed: AccessKeyLastUsed


@action(service=IAM)
async def create_access_key(call: Call, *, user_name: str | None = None) -> CreateAccessKeyResult:
    """Create an access key; its secret is in the response only. Raises `EC2Error` LimitExceeded."""
    user = await managed_user(call, "CreateAccessKey", user_name)
    check_may_have_keys(call, "CreateAccessKey", user)
    key = await add_access_key(call, user)
    return {
        "AccessKey": {
            "UserName": user.name,
            "AccessKeyId": key.id,
            "Status": KeyState.ACTIVE.value,
            "SecretAccessKey": key.secret,
            "CreateDate": timestamp(key.created),
        }
    }


@action(service=IAM)
async def list_access_keys(
    call: Call, *, user_name: str | None = None, marker: str | None = None, max_items: int = DEFAULT_ITEMS
) -> ListAccessKeysResult:
    """List the access keys of a user.

    One that cannot be opened, because the sealing key was lost or the user has written it, is shown as Inactive
    without a CreateDate: so the user can delete it.
    """
    user = await managed_user(call, "ListAccessKeys", user_name)
    keys, page = page_of(_keys(user), lambda key: key.id, marker, max_items)
    return {"AccessKeyMetadata": [_metadata(call, user, key) for key in keys], **page}


@action(service=IAM)
async def update_access_key(call: Call, *, access_key_id: str, status: str, user_name: str | None = None) -> None:
    """Make an access key Active or Inactive; raises `EC2Error` NoSuchEntity."""
    if status not in (KeyState.ACTIVE.value, KeyState.INACTIVE.value):
        raise EC2Error("InvalidInput", "The status of an access key can be set to Active or Inactive.")
    user = await managed_user(call, "UpdateAccessKey", user_name)
    key = _key(user, access_key_id)
    if opened(call.sealer, user.id, key) is None:
        raise _no_such_key(access_key_id)
    await call.session.user_update(user.id, state_text(key.id, KeyState(status), call.now))


@action(service=IAM)
async def delete_access_key(call: Call, *, access_key_id: str, user_name: str | None = None) -> None:
    """Delete an access key; raises `EC2Error` NoSuchEntity."""
    user = await managed_user(call, "DeleteAccessKey", user_name)
    await call.session.user_update(user.id, removal_text(_key(user, access_key_id).id))


@action(service=IAM)
async def get_access_key_last_used(call: Call, *, access_key_id: str) -> GetAccessKeyLastUsedResult:
    """Return the user of an access key. When it was last used is not recorded, so the rest is "N/A", as Amazon's is."""
    user_id = user_id_of_key(call.sealer, access_key_id)
    user_id = call.caller.id if user_id is None else user_id
    user = await managed_user_by_id(call, "GetAccessKeyLastUsed", user_id)
    if user is None:
        raise _no_such_key(access_key_id)
    _key(user, access_key_id)
    return {"UserName": user.name, "AccessKeyLastUsed": {"ServiceName": _UNKNOWN, "Region": _UNKNOWN}}


def _keys(user: UserDocument) -> Sequence[StoredKey]:
    """Return the access keys of a user but those that are being created."""
    return [key for key in stored_keys(user) if key.state is not KeyState.PENDING]


def _key(user: UserDocument, key_id: str) -> StoredKey:
    for key in _keys(user):
        if key.id == key_id:
            return key
    raise _no_such_key(key_id)


def _metadata(call: Call, user: UserDocument, key: StoredKey) -> AccessKeyMetadata:
    known = opened(call.sealer, user.id, key)
    if known is None:
        return {"UserName": user.name, "AccessKeyId": key.id, "Status": KeyState.INACTIVE.value}
    created = timestamp(known.created)
    return {"UserName": user.name, "AccessKeyId": key.id, "Status": key.state.value, "CreateDate": created}


def _no_such_key(key_id: str) -> EC2Error:
    return EC2Error("NoSuchEntity", f"The Access Key with id {key_id} cannot be found.", 404)
