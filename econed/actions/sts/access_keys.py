"""GetAccessKeyInfo: whose an access key is (STS API Reference)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from econed.actions.action import action
from econed.credentials.key_ids import user_id_of_key
from econed.errors import EC2Error
from econed.ids import account_id
from econed.services import STS

if TYPE_CHECKING:
    from econed.actions.call import Call


class GetAccessKeyInfoResult(TypedDict):
    """STS GetAccessKeyInfoResponse."""

    Account: str


@action(service=STS)
async def get_access_key_info(call: Call, *, access_key_id: str) -> GetAccessKeyInfoResult:
    """Return the account whose number is in an access key id, whether or not the key still exists.

    Raises `EC2Error` ValidationError for an id that econed has not made: user names are not told to others.
    """
    user_id = user_id_of_key(call.sealer, access_key_id)
    if user_id is None:
        raise EC2Error("ValidationError", "The access key ID is not one of this cloud.")
    return {"Account": account_id(user_id)}
