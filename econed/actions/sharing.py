"""Sharing of AMIs and snapshots: with everybody or nobody, by OpenNebula's USE bits of group and others.

Permission bits cannot name single accounts; access control lists could, but only the administrator may write them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypedDict

from econed.actions.call import user_id_of
from econed.errors import EC2Error, OpenNebulaCode, OpenNebulaRefusal

if TYPE_CHECKING:
    from econed.actions.call import Call

EVERYBODY: Final = "all"
"""EC2's only group."""


class Permission(TypedDict, total=False):
    """A group or an account to share with (EC2 LaunchPermission, CreateVolumePermission)."""

    Group: str
    UserId: str


class PermissionChanges(TypedDict, total=False):
    """Permissions to add and to remove (EC2 LaunchPermissionModifications, CreateVolumePermissionModifications)."""

    Add: Sequence[Permission]
    Remove: Sequence[Permission]


async def requested_sharing(
    call: Call, changes: PermissionChanges | None, operation: str, groups: Sequence[str], accounts: Sequence[str]
) -> bool | None:
    """Return whether to share with everybody (True) or nobody (False); None if the request changes neither.

    `changes` is EC2's newer form of the request, the other parameters are the older one. Raises `EC2Error`
    InvalidAMIAttributeItemValue for a group or an account that does not exist, for snapshots too, as Amazon does;
    UnsupportedOperation for an account that exists.
    """
    if operation not in ("", "add", "remove"):
        raise EC2Error("InvalidParameterValue", f"Value ({operation}) for parameter operationType is invalid.")
    older_form: list[Permission] = [{"Group": group} for group in groups]
    older_form += [{"UserId": account} for account in accounts]
    if older_form and not operation:
        raise EC2Error("MissingParameter", "The request must contain the parameter OperationType")
    added = [*(older_form if operation == "add" else ()), *(changes or {}).get("Add", ())]
    removed = [*(older_form if operation == "remove" else ()), *(changes or {}).get("Remove", ())]
    permissions = [*added, *removed]
    for group in {permission["Group"] for permission in permissions if "Group" in permission} - {EVERYBODY}:
        raise _invalid_item("UserGroup", group)
    for account in [permission["UserId"] for permission in permissions if "UserId" in permission]:
        if not await _exists(call, account):
            raise _invalid_item("userId", account)
        raise EC2Error(
            "UnsupportedOperation",
            "It can be shared with everybody (the group 'all') or with nobody, not with single accounts.",
        )
    if added and removed:
        raise EC2Error("InvalidParameterCombination", "The group 'all' cannot be added and removed at once.")
    return True if added else False if removed else None


async def _exists(call: Call, account: str) -> bool:
    """Whether there is an account of this number. oned reveals this to every user: its refusals differ."""
    user_id = user_id_of(account)
    if user_id is None:
        return False
    try:
        await call.session.user_by_id(user_id)
    except OpenNebulaRefusal as refusal:
        if refusal.code not in (OpenNebulaCode.NO_EXISTS, OpenNebulaCode.AUTHORIZATION):
            raise
        return refusal.code == OpenNebulaCode.AUTHORIZATION
    return True


def _invalid_item(kind: str, text: str) -> EC2Error:
    return EC2Error("InvalidAMIAttributeItemValue", f'Invalid attribute item value "{text}" for {kind} item type.')
