"""Users (IAM API Reference, GetUser and ListUsers). OpenNebula has no time of creation, so CreateDate is omitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from econed.actions.action import action
from econed.actions.iam.access import check_credential, is_administrator, managed_user
from econed.actions.iam.markers import DEFAULT_ITEMS, Truncation, page_of
from econed.credentials.identities import user_arn, user_unique_id
from econed.services import IAM

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import UserDocument

_PATH = "/"


class IAMUser(TypedDict):
    """IAM User, without a CreateDate."""

    Path: str
    UserName: str
    UserId: str
    Arn: str


class GetUserResult(TypedDict):
    """IAM GetUserResponse."""

    User: IAMUser


class ListUsersResult(Truncation):
    """IAM ListUsersResponse."""

    Users: list[IAMUser]


@action(service=IAM)
async def get_user(call: Call, *, user_name: str | None = None) -> GetUserResult:
    """Return a user: the caller, or for administrators any."""
    user = await managed_user(call, "GetUser", user_name)
    return {"User": _user(user.id, user.name)}


@action(service=IAM)
async def list_users(
    call: Call, *, path_prefix: str = _PATH, marker: str | None = None, max_items: int = DEFAULT_ITEMS
) -> ListUsersResult:
    """List the caller, for administrators all users, by OpenNebula's ids. The path of all users is `/`."""
    check_credential(call, "ListUsers")
    users = await _users(call) if path_prefix == _PATH else []
    shown, page = page_of(users, lambda user: f"{user[0]:010d}", marker, max_items)
    return {"Users": [_user(*user) for user in shown], **page}


async def _users(call: Call) -> list[tuple[int, str]]:
    """Return the ids and names of the users that the caller may list."""
    if not is_administrator(call):
        return [(call.caller.id, call.caller.name)]
    found: list[tuple[int, str]] = []

    async def visit(user: UserDocument) -> None:
        found.append((user.id, user.name))

    await call.session.visit_users(visit, lambda user_id: None)
    return found


def _user(user_id: int, name: str) -> IAMUser:
    return {"Path": _PATH, "UserName": name, "UserId": user_unique_id(user_id), "Arn": user_arn(user_id, name)}
