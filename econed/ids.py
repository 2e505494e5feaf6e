"""EC2 resource ids: a prefix and the decimal OpenNebula id, as in the Ruby econe-server (`i-00000042`).

Ids are formatted with at least eight digits and parsed with up to ten, the maximum of OpenNebula, so all ids of that
server remain valid. Disks of a virtual machine that are not objects in OpenNebula have ids that consist of the
machine's id and their own number, in eleven digits or more. Network interfaces have ids of Amazon's form, in which the
first eight hexadecimal digits are the machine's id.

Ids of Amazon's form, eight or seventeen hexadecimal digits, are well-formed too, but do not exist here, and neither do
numbers beyond OpenNebula's. Clean-up tools continue after "does not exist", but stop at a malformed id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address
from types import MappingProxyType

from econed.errors import EC2Error

_DIGITS = re.compile(r"[0-9]{1,10}", re.ASCII)
_PART_DIGITS = re.compile(r"[0-9]{11,13}", re.ASCII)
_AMAZON_DIGITS = re.compile(r"[0-9a-f]{8}|[0-9a-f]{17}", re.ASCII | re.IGNORECASE)
_INTERFACE_DIGITS = re.compile(r"([0-9a-f]{8})[0-9a-f]{9}", re.ASCII)
_ASSOCIATION_DIGITS = re.compile(r"([0-9]{10})([0-9]{10})", re.ASCII)
_OBJECTS_AND_PARTS = (_DIGITS, _PART_DIGITS)
_MAX_OPENNEBULA_ID = 2**31 - 1
_MAX_IDS_IN_MESSAGE = 50


@dataclass(frozen=True)
class Kind:
    """A type of EC2 resource: the prefix of its ids, and EC2's errors for them.

    `not_found_code` and `malformed_code` are EC2's error codes, `noun` is the word in EC2's messages. `largest` is the
    largest number of an id here. `forms` are those of the digits of econed's ids, in addition to Amazon's.
    """

    prefix: str
    not_found_code: str
    malformed_code: str
    noun: str
    largest: int = _MAX_OPENNEBULA_ID
    forms: tuple[re.Pattern[str], ...] = (_DIGITS,)

    def format(self, opennebula_id: int) -> str:
        """Return the EC2 id of an OpenNebula object."""
        return f"{self.prefix}-{opennebula_id:08d}"

    def opennebula_id(self, text: str) -> int | None:
        """Return the OpenNebula id in an EC2 id; None if no object can have it.

        None also for the id of a part of a virtual machine. Raises `EC2Error` Invalid….Malformed.
        """
        if not self.is_well_formed(text):
            raise self.malformed(text)
        return self._number(text)

    def parse(self, text: str) -> int:
        """Return the OpenNebula id in an EC2 id; raises `EC2Error` Invalid….Malformed or .NotFound."""
        opennebula_id = self.opennebula_id(text)
        if opennebula_id is None:
            raise self.not_found(text)
        return opennebula_id

    def is_id(self, text: str) -> bool:
        """Whether a text is an id that an object can have here."""
        return self._number(text) is not None

    def is_well_formed(self, text: str) -> bool:
        """Whether a text has the form of an id of this type, econed's or Amazon's."""
        head, dash, digits = text.partition("-")
        has_form = any(form.fullmatch(digits) for form in (*self.forms, _AMAZON_DIGITS))
        return head == self.prefix and dash != "" and has_form

    def _number(self, text: str) -> int | None:
        head, _, digits = text.partition("-")
        if head != self.prefix or _DIGITS not in self.forms or _DIGITS.fullmatch(digits) is None:
            return None
        return number if (number := int(digits)) <= self.largest else None

    def malformed(self, text: str) -> EC2Error:
        """Return the error for a text that is not an id of this type."""
        return EC2Error(self.malformed_code, f'Invalid id: "{text}"')

    def not_found(self, *texts: str) -> EC2Error:
        """Return the error for ids that do not exist, are of another type, or belong to another user.

        The message has at most the first `_MAX_IDS_IN_MESSAGE`: clients parse it and retry without these ids.
        """
        if len(texts) == 1:
            return EC2Error(self.not_found_code, f"The {self.noun} '{texts[0]}' does not exist")
        ids = ", ".join(texts[:_MAX_IDS_IN_MESSAGE])
        return EC2Error(self.not_found_code, f"The {self.noun}s '{ids}' do not exist")


INSTANCE = Kind("i", "InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed", "instance ID")
IMAGE = Kind("ami", "InvalidAMIID.NotFound", "InvalidAMIID.Malformed", "image id")
VOLUME = Kind("vol", "InvalidVolume.NotFound", "InvalidVolumeID.Malformed", "volume", forms=_OBJECTS_AND_PARTS)
SNAPSHOT = Kind("snap", "InvalidSnapshot.NotFound", "InvalidSnapshotID.Malformed", "snapshot")
SECURITY_GROUP = Kind("sg", "InvalidGroup.NotFound", "InvalidGroupId.Malformed", "security group")
SECURITY_GROUP_RULE = Kind(
    "sgr",
    "InvalidSecurityGroupRuleId.NotFound",
    "InvalidSecurityGroupRuleId.Malformed",
    "security group rule",
    forms=(),
)
"""Ids of rules have seventeen hexadecimal digits, derived from the group and the rule."""

SUBNET = Kind("subnet", "InvalidSubnetID.NotFound", "InvalidSubnetID.Malformed", "subnet ID")

DEFAULT_VPC_NUMBER = 9_999_999_999
"""The number of the default VPC, which is no object of OpenNebula: ten digits, larger than any OpenNebula id."""

VPC = Kind("vpc", "InvalidVpcID.NotFound", "InvalidVpcID.Malformed", "vpc ID", largest=DEFAULT_VPC_NUMBER)
"""The number in the id, and in those of the parts of a VPC, is that of its network, or `DEFAULT_VPC_NUMBER`."""

ROUTE_TABLE = Kind(
    *("rtb", "InvalidRouteTableID.NotFound", "InvalidRouteTableId.Malformed", "routeTable ID"),
    largest=DEFAULT_VPC_NUMBER,
)
ROUTE_TABLE_ASSOCIATION = Kind(
    *("rtbassoc", "InvalidAssociationID.NotFound", "InvalidAssociationID.Malformed", "association ID"),
    largest=DEFAULT_VPC_NUMBER,
)
NETWORK_ACL = Kind(
    *("acl", "InvalidNetworkAclID.NotFound", "InvalidNetworkAclId.Malformed", "networkAcl ID"),
    largest=DEFAULT_VPC_NUMBER,
)
NETWORK_ACL_ASSOCIATION = Kind(
    *("aclassoc", "InvalidAssociationID.NotFound", "InvalidAssociationID.Malformed", "association ID"),
    largest=DEFAULT_VPC_NUMBER,
)
DHCP_OPTIONS = Kind(
    *("dopt", "InvalidDhcpOptionID.NotFound", "InvalidDhcpOptionsId.Malformed", "dhcpOption ID"),
    largest=DEFAULT_VPC_NUMBER,
)
INTERNET_GATEWAY = Kind(
    *("igw", "InvalidInternetGatewayID.NotFound", "InvalidInternetGatewayId.Malformed", "internetGateway ID"),
    largest=DEFAULT_VPC_NUMBER,
)
NETWORK_INTERFACE = Kind(
    "eni",
    "InvalidNetworkInterfaceID.NotFound",
    "InvalidNetworkInterfaceID.Malformed",
    "network interface ID",
    forms=_OBJECTS_AND_PARTS,
)
ALLOCATION = Kind(
    "eipalloc",
    "InvalidAllocationID.NotFound",
    "InvalidAllocationID.Malformed",
    "allocation ID",
    largest=2**32 - 1,
)
"""The number in the id is the IPv4 address."""

ASSOCIATION = Kind(
    "eipassoc",
    "InvalidAssociationID.NotFound",
    "InvalidAssociationID.Malformed",
    "association ID",
    forms=(_ASSOCIATION_DIGITS,),
)

PLACEMENT_GROUP = Kind("pg", "InvalidPlacementGroup.Unknown", "InvalidPlacementGroupId.Malformed", "placement group")
RESERVATION = Kind("r", "InvalidReservationID.NotFound", "InvalidReservationID.Malformed", "reservation ID")
KEY_PAIR = Kind("key", "InvalidKeyPair.NotFound", "InvalidKeyPair.NotFound", "key pair", forms=())
"""Ids of key pairs have seventeen hexadecimal digits, derived from user and name."""

_KINDS = MappingProxyType(
    {
        kind.prefix: kind
        for kind in (
            *(ALLOCATION, ASSOCIATION, RESERVATION, KEY_PAIR, PLACEMENT_GROUP),
            *(INSTANCE, IMAGE, VOLUME, SNAPSHOT, SECURITY_GROUP, SECURITY_GROUP_RULE, NETWORK_INTERFACE),
            *(VPC, SUBNET, ROUTE_TABLE, ROUTE_TABLE_ASSOCIATION, NETWORK_ACL, NETWORK_ACL_ASSOCIATION),
            *(DHCP_OPTIONS, INTERNET_GATEWAY),
        )
    }
)

ASSOCIATION_DIGITS = 10
"""Digits of the number that is unique among the associations of an elastic IP."""


def is_resource_id(text: str) -> bool:
    """Whether a text has the form of the id of any EC2 resource."""
    kind = _KINDS.get(text.partition("-")[0])
    return kind is not None and kind.is_well_formed(text)


def part_of_machine(prefix: str, machine_id: int, part: int) -> str:
    """Return the id of a disk of a virtual machine: the machine's id and three digits for the disk."""
    return f"{prefix}-{machine_id:08d}{part:03d}"


def machine_and_part(prefix: str, text: str) -> tuple[int, int] | None:
    """Return the machine's id and the part in an id of `part_of_machine`; None for another id."""
    head, dash, digits = text.partition("-")
    if head != prefix or not dash or _PART_DIGITS.fullmatch(digits) is None:
        return None
    machine_id = int(digits[:-3])
    return (machine_id, int(digits[-3:])) if machine_id <= _MAX_OPENNEBULA_ID else None


def interface_digits(machine_id: int, own: str) -> str:
    """Return the 17 hexadecimal digits in the ids of a network interface: eight of its machine, nine of its own."""
    return f"{machine_id:08x}{own}"


def machine_of_interface(text: str) -> int | None:
    """Return the id of the machine in the id of a network interface; None if no interface can have that id.

    Raises `EC2Error` InvalidNetworkInterfaceID.Malformed.
    """
    if not NETWORK_INTERFACE.is_well_formed(text):
        raise NETWORK_INTERFACE.malformed(text)
    match = _INTERFACE_DIGITS.fullmatch(text.removeprefix(f"{NETWORK_INTERFACE.prefix}-"))
    machine_id = None if match is None else int(match[1], 16)
    return machine_id if machine_id is not None and machine_id <= _MAX_OPENNEBULA_ID else None


def allocation_id(ip: IPv4Address) -> str:
    """Return the id of the allocation of an elastic IP."""
    return ALLOCATION.format(int(ip))


def association_id(ip: IPv4Address, number: int) -> str:
    """Return the id of an association of an elastic IP: the address and the number of the association."""
    return f"eipassoc-{int(ip):010d}{number:0{ASSOCIATION_DIGITS}d}"


def allocated_ip(text: str) -> IPv4Address:
    """Return the elastic IP of an allocation id.

    Raises `EC2Error` InvalidAllocationID.Malformed or .NotFound.
    """
    return IPv4Address(ALLOCATION.parse(text))


def association(text: str) -> tuple[IPv4Address, int]:
    """Return the elastic IP of an association id, and the number of the association.

    Raises `EC2Error` InvalidAssociationID.Malformed or .NotFound.
    """
    if not ASSOCIATION.is_well_formed(text):
        raise ASSOCIATION.malformed(text)
    match = _ASSOCIATION_DIGITS.fullmatch(text.removeprefix(f"{ASSOCIATION.prefix}-"))
    if match is None or int(match[1]) > ALLOCATION.largest:
        raise ASSOCIATION.not_found(text)
    return IPv4Address(int(match[1])), int(match[2])


def account_id(user_id: int) -> str:
    """Return the EC2 account number of an OpenNebula user: the id in twelve digits, as Amazon's."""
    return f"{user_id:012d}"


def reservation_id(machine_id: int) -> str:
    """Return the id of the reservation whose first instance is this virtual machine."""
    return RESERVATION.format(machine_id)
