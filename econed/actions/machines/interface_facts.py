"""What clients may change of a network interface: kept on its machine, because oned changes no attribute of a NIC.

Each fact is an attribute of its own, `EC2_NIC_<digits of the interface's id>_…`. Detaching the interface removes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from econed.actions.machines.interfaces import Interface, interface_id, interfaces_of
from econed.actions.tagging import tag_text, tags_under
from econed.ids import NETWORK_INTERFACE
from econed.opennebula.template import attribute, decode_member, encode_member, member_names, removal, template, vector

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import TagTypeDef

    from econed.opennebula.documents import Nic, VirtualMachine

_PREFIX = "EC2_NIC_"
DESCRIPTION = "DESCRIPTION"
_NIC_DESCRIPTION = "EC2_DESCRIPTION"
"""On the NIC: the description that it was made with."""

MAX_DESCRIPTION = 255
"""Characters of a description."""

_SOURCE_DEST_CHECK = "SOURCE_DEST_CHECK"


def description_of(machine: VirtualMachine, nic: Nic) -> str:
    """Return the description of a network interface: the one that a client gave it, else the name of its network."""
    changed = decode_member(machine.user_template.vector(_name(machine, nic, DESCRIPTION)), DESCRIPTION)
    if changed is not None:
        return changed
    members = {name: text for name in member_names(_NIC_DESCRIPTION) if (text := nic.text(name))}
    return decode_member(members, _NIC_DESCRIPTION) or nic.network


def nic_description(description: str) -> dict[str, str]:
    """Return the members of a new NIC with this description; none for an empty one."""
    return encode_member(_NIC_DESCRIPTION, description) if description else {}


def has_source_dest_check(machine: VirtualMachine, nic: Nic) -> bool:
    """Whether a network interface has the attribute sourceDestCheck, as all have at first (EC2)."""
    return machine.user_template.text(_name(machine, nic, _SOURCE_DEST_CHECK)) != "NO"


def interface_tags(machine: VirtualMachine, nic: Nic) -> list[TagTypeDef]:
    """Return the tags of a network interface."""
    return tags_under(machine.user_template, tag_prefix(machine, nic))


def tagged_interfaces(machine: VirtualMachine) -> Iterator[tuple[Interface, list[TagTypeDef]]]:
    """Yield the network interfaces of a machine that have tags, with these."""
    if machine.user_template.names_starting_with(_PREFIX):
        for interface in interfaces_of(machine):
            if tags := interface_tags(machine, interface.nic):
                yield interface, tags


def tag_prefix(machine: VirtualMachine, nic: Nic) -> str:
    """Return the prefix of the attributes with the tags of a network interface."""
    return _name(machine, nic, "TAG_")


def interface_tags_text(machine: VirtualMachine, tags: Mapping[str, str]) -> str:
    """Return the template text that adds these tags to each network interface of a machine."""
    return template(*(tag_text(tags, tag_prefix(machine, nic)) for nic in machine.nics))


def new_tag_prefix(index: int) -> str:
    """Return a prefix as long as those of `tag_prefix`, to check the size of tags before their interfaces exist."""
    return f"{_PREFIX}{index:017}_TAG_"


def description_text(machine: VirtualMachine, nic: Nic, description: str) -> str:
    """Return the template text that sets the description of a network interface."""
    return vector(_name(machine, nic, DESCRIPTION), encode_member(DESCRIPTION, description))


def source_dest_check_text(machine: VirtualMachine, nic: Nic, value: bool) -> str:
    """Return the template text that sets the attribute sourceDestCheck of a network interface."""
    name = _name(machine, nic, _SOURCE_DEST_CHECK)
    return removal(name) if value else attribute(name, "NO")


def removal_text(machine: VirtualMachine, nic: Nic) -> str:
    """Return the template text that removes all that is kept about a network interface; empty if there is nothing."""
    prefix = _name(machine, nic, "")
    return template(*(removal(name) for name in machine.user_template.names() if name.startswith(prefix)))


def _name(machine: VirtualMachine, nic: Nic, fact: str) -> str:
    digits = interface_id(machine.id, nic).removeprefix(f"{NETWORK_INTERFACE.prefix}-")
    return f"{_PREFIX}{digits.upper()}_{fact}"
