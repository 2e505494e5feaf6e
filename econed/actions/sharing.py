"""With whom an AMI or a snapshot is shared: everybody or nobody, which are OpenNebula's USE bits of group and others.

Single accounts cannot be named by permission bits; access control lists, which could, are the administrator's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypedDict

from econed.actions.call import user_id_of
from econed.errors import EC2Error, OpenNebulaCode, OpenNebulaRefusal

if TYPE_CHECKING:
    from econed.actions.call import Call

EVERYBODY: Final = "all"
"""The one group that EC2 knows."""


class Permission(TypedDict, total=False):
    """Whom something is shared with (EC2 LaunchPermission, CreateVolumePermission)."""

    Group: str
    UserId: str


class PermissionChanges(TypedDict, total=False):
    """Whom to share with, and whom not any more (EC2 LaunchPermissionModifications, CreateVolumePermission…)."""

    Add: Sequence[Permission]
    Remove: Sequence[Permission]


async def requested_sharing(
    call: Call, changes: PermissionChanges | None, operation: str, groups: Sequence[str], accounts: Sequence[str]
) -> bool | None:
    """Return whether everybody is to be let, or nobody any more; None if nothing is said of it.

    `changes` is the newer form of EC2's, the others are the older one. Raises `EC2Error` InvalidAMIAttributeItemValue
    for a group or an account that does not exist, for snapshots too, as Amazon does; UnsupportedOperation for an
    account that does.
    """
    if operation not in ("", "add", "remove"):
        raise EC2Error("InvalidParameterValue", f"Value ({operation}) for parameter operationType is invalid.")
    given: list[Permission] = [{"Group": group} for group in groups]
    given += [{"UserId": account} for account in accounts]
    if given and not operation:
        raise EC2Error("MissingParameter", "The request must contain the parameter OperationType")
    added = [*(given if operation == "add" else ()), *(changes or {}).get("Add", ())]
    removed = [*(given if operation == "remove" else ()), *(changes or {}).get("Remove", ())]
    named = [*added, *removed]
    for group in {each["Group"] for each in named if "Group" in each} - {EVERYBODY}:
        raise _no_such("UserGroup", group)
    for account in [each["UserId"] for each in named if "UserId" in each]:
        if not await _exists(call, account):
            raise _no_such("userId", account)
        raise EC2Error(
            "UnsupportedOperation",
            "It can be shared with everybody (the group 'all') or with nobody, not with single accounts.",
        )
    if added and removed:
        raise EC2Error("InvalidParameterCombination", "The group 'all' cannot be added and removed at once.")
    return True if added else False if removed else None


async def _exists(call: Call, account: str) -> bool:
    """Whether there is an account of this number. oned says so to everybody: it refuses to show a user who is there."""
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


def _no_such(kind: str, text: str) -> EC2Error:
    return EC2Error("InvalidAMIAttributeItemValue", f'Invalid attribute item value "{text}" for {kind} item type.')
