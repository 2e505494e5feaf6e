"""EC2's accounts: the users of OpenNebula by number; the administrator is to them what Amazon is to its customers."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import TYPE_CHECKING, Final

from econed.actions.call import account_id
from econed.errors import EC2Error

if TYPE_CHECKING:
    from econed.actions.call import Call

PROVIDER: Final = "amazon"
"""The alias of the account whose images and snapshots are the cloud's own."""

_ADMINISTRATOR = 0
"""oneadmin, by OpenNebula's user id."""

_SELF = "self"
_ALIASES = frozenset({PROVIDER, "aws-backup-vault", "aws-marketplace", "microsoft"})
_ACCOUNT = re.compile(r"[0-9]{1,12}", re.ASCII)


def resolve_account(call: Call, owner: str) -> str:
    """Return what an element of Owners, OwnerIds, … means: an account number of twelve digits, or an alias.

    Leading zeros may be missing, since clients take account numbers for integers. Raises `EC2Error`
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
    """Return the alias under which the caller knows the owner of something; of the caller's own there is none."""
    return PROVIDER if user_id == _ADMINISTRATOR != call.caller.id else None


def is_owned_by(call: Call, user_id: int, owners: Container[str]) -> bool:
    """Whether what a user owns is asked for by one of `owners`, as `resolve_account` gives them."""
    return account_id(user_id) in owners or owner_alias(call, user_id) in owners
