"""Attributes of VPCs and subnets that have one possible value here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from econed.errors import EC2Error
from econed.opennebula.documents import Right

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.actions.inputs import AttributeBooleanValue
    from econed.opennebula.documents import VirtualNetwork


def check_attribute(
    call: Call, network: VirtualNetwork | None, given: Mapping[str, tuple[AttributeBooleanValue | None, bool]]
) -> None:
    """Check a request to change one attribute of a network, or of the default VPC, which is None.

    `given` are what the request says of each attribute, and its value. Raises `EC2Error` UnauthorizedOperation for the
    network of another user, UnsupportedOperation for another value.
    """
    named = {name: (wanted, value) for name, (wanted, value) in given.items() if wanted is not None}
    if len(named) != 1:
        raise EC2Error("InvalidParameterCombination", "Exactly one attribute must be specified.")
    if network is not None:
        check_may_manage(call, network)
    for name, (wanted, value) in named.items():
        if wanted is not None and wanted.get("Value", False) is not value:
            raise EC2Error("UnsupportedOperation", f"{name} is always {str(value).lower()} in this cloud.")


def check_may_manage(call: Call, network: VirtualNetwork) -> None:
    """Raise `EC2Error` UnauthorizedOperation unless the permission bits let the caller MANAGE a network.

    It is for checks before changes that oned would not refuse, or would refuse with other errors.
    """
    if not network.allows(call.caller.id, call.caller.groups, Right.MANAGE):
        raise EC2Error("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
