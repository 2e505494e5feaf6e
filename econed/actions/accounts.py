"""EC2's accounts: OpenNebula's users by id. The administrator, oneadmin, appears as the account of Amazon."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import TYPE_CHECKING, Final

from econed.errors import EC2Error
from econed.ids import account_id

if TYPE_CHECKING:
    from econed.actions.call import Call

PROVIDER: Final = "amazon"
"""The alias of the administrator's account, whose images and snapshots are offered to all users."""

_ADMINISTRATOR = 0
"""OpenNebula's user id of oneadmin."""

_SELF = "self"
_ALIASES = frozenset({PROVIDER, "aws-backup-vault", "aws-marketplace", "microsoft"})
_ACCOUNT = re.compile(r"[0-9]{1,12}", re.ASCII)


def resolve_account(call: Call, owner: str) -> str:
    """Return the account that an element of Owners, OwnerIds, … names: a number of twelve digits, or an alias.

    Leading zeros may be omitted, since clients treat account numbers as integers. Raises `EC2Error`
    InvalidUserID.Malformed.
    """
    if owner == _SELF:
        return call.owner_id
    if owner in _ALIASES:
        return owner
    if _ACCOUNT.fullmatch(owner):
        return owner.zfill(12)
    raise EC2Error("InvalidUserID.Malformed", f'Invalid user id: "{owner}"')


def owner_alias(call: Call, user_id: int) -> str | None:
    """Return the alias of an owner as the caller sees it; None for the caller's own account."""
    return PROVIDER if user_id == _ADMINISTRATOR != call.caller.id else None


def is_owned_by(call: Call, user_id: int, owners: Container[str]) -> bool:
    """Whether a user is one of `owners`, accounts as `resolve_account` returns them."""
    return account_id(user_id) in owners or owner_alias(call, user_id) in owners
