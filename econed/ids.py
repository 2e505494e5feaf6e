"""EC2 resource ids: a prefix and the decimal OpenNebula id, as the Ruby econe-server wrote them (`i-00000042`).

Ids are handed out with at least eight digits and read with any number up to ten, as many as OpenNebula's may have, so
that every id the old server gave goes on naming the same thing. Parts of a machine that are no objects of their own in
OpenNebula, its own disks and its interfaces, carry the machine's number and theirs, in eleven digits or more.

Ids of Amazon's own form, eight or seventeen hexadecimal digits, are well-formed too and name nothing here, nor do
numbers beyond OpenNebula's: they do not exist. Tools that clean up go on after that, and give up where an id is
malformed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address

from econed.errors import EC2Error

_DIGITS = re.compile(r"[0-9]{1,10}", re.ASCII)
_PART_DIGITS = re.compile(r"[0-9]{11,13}", re.ASCII)
_AMAZONS = re.compile(r"[0-9a-f]{8}|[0-9a-f]{17}", re.ASCII | re.IGNORECASE)
_ASSOCIATION_DIGITS = re.compile(r"([0-9]{10})([0-9]{10})", re.ASCII)
_OR_OF_PARTS = (_DIGITS, _PART_DIGITS)
_MAX_OPENNEBULA_ID = 2**31 - 1
_NAMED = 50


@dataclass(frozen=True)
class Kind:
    """A kind of EC2 resource: how its ids begin and how EC2's errors name them.

    `missing` and `malformed_code` are EC2's error codes for it, `called` is what EC2's messages call it. `largest` is
    the largest number that it has here. `forms` are those of the digits of our own ids, beside Amazon's.
    """

    prefix: str
    missing: str
    malformed_code: str
    called: str
    largest: int = _MAX_OPENNEBULA_ID
    forms: tuple[re.Pattern[str], ...] = (_DIGITS,)

    def format(self, number: int) -> str:
        """Return the EC2 id of the OpenNebula object `number`."""
        return f"{self.prefix}-{number:08d}"

    def number(self, text: str) -> int | None:
        """Return the OpenNebula id in `text`, None for an id that no object has here.

        The id of a part of a machine is no object's. Raises `EC2Error` Invalid….Malformed.
        """
        if not self.is_well_formed(text):
            raise self.malformed(text)
        digits = text.removeprefix(f"{self.prefix}-")
        is_number = _DIGITS in self.forms and _DIGITS.fullmatch(digits) is not None
        return int(digits) if is_number and int(digits) <= self.largest else None

    def parse(self, text: str) -> int:
        """Return the OpenNebula id in `text`; raises `EC2Error` Invalid….Malformed or .NotFound."""
        number = self.number(text)
        if number is None:
            raise self.not_found(text)
        return number

    def is_id(self, text: str) -> bool:
        """Whether a text is an id that an object of this kind may have here."""
        return self.is_well_formed(text) and self.number(text) is not None

    def is_well_formed(self, text: str) -> bool:
        """Whether a text has the form of an id of this kind, ours or Amazon's."""
        head, dash, digits = text.partition("-")
        has_form = any(form.fullmatch(digits) for form in (*self.forms, _AMAZONS))
        return head == self.prefix and dash != "" and has_form

    def malformed(self, text: str) -> EC2Error:
        """Return the error for a text that is no id of this kind."""
        return EC2Error(self.malformed_code, f'Invalid id: "{text}"')

    def not_found(self, *texts: str) -> EC2Error:
        """Return the one error for ids that do not exist, are of another kind, or belong to someone else.

        Of many the message names the first `_NAMED`: clients take them out of it and try again without them.
        """
        if len(texts) == 1:
            return EC2Error(self.missing, f"The {self.called} '{texts[0]}' does not exist")
        return EC2Error(self.missing, f"The {self.called}s '{', '.join(texts[:_NAMED])}' do not exist")


INSTANCE = Kind("i", "InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed", "instance ID")
IMAGE = Kind("ami", "InvalidAMIID.NotFound", "InvalidAMIID.Malformed", "image id")
VOLUME = Kind("vol", "InvalidVolume.NotFound", "InvalidVolumeID.Malformed", "volume", forms=_OR_OF_PARTS)
SNAPSHOT = Kind("snap", "InvalidSnapshot.NotFound", "InvalidSnapshotID.Malformed", "snapshot")
SECURITY_GROUP = Kind("sg", "InvalidGroup.NotFound", "InvalidGroupId.Malformed", "security group")
SUBNET = Kind("subnet", "InvalidSubnetID.NotFound", "InvalidSubnetID.Malformed", "subnet ID")
NETWORK_INTERFACE = Kind(
    "eni",
    "InvalidNetworkInterfaceID.NotFound",
    "InvalidNetworkInterfaceID.Malformed",
    "network interface ID",
    forms=_OR_OF_PARTS,
)
ALLOCATION = Kind(
    "eipalloc",
    "InvalidAllocationID.NotFound",
    "InvalidAllocationID.Malformed",
    "allocation ID",
    largest=2**32 - 1,
)
"""Its number is the IPv4 address."""

ASSOCIATION = Kind(
    "eipassoc",
    "InvalidAssociationID.NotFound",
    "InvalidAssociationID.Malformed",
    "association ID",
    forms=(_ASSOCIATION_DIGITS,),
)

RESERVATION = Kind("r", "InvalidReservationID.NotFound", "InvalidReservationID.Malformed", "reservation ID")
KEY_PAIR = Kind("key", "InvalidKeyPair.NotFound", "InvalidKeyPair.NotFound", "key pair", forms=())
"""Its ids are seventeen hexadecimal digits here too, and follow from user and name."""

ASSOCIATION_DIGITS = 10
"""Digits of the number that tells one association of an elastic IP from all others."""


def part_of_machine(prefix: str, machine: int, part: int) -> str:
    """Return the id of a disk or interface of a machine: the machine's number, then three digits for its own."""
    return f"{prefix}-{machine:08d}{part:03d}"


def machine_and_part(prefix: str, text: str) -> tuple[int, int] | None:
    """Return the machine and the part of it in an id that `part_of_machine` made; None if it is none of those."""
    head, dash, digits = text.partition("-")
    if head != prefix or not dash or _PART_DIGITS.fullmatch(digits) is None:
        return None
    machine = int(digits[:-3])
    return (machine, int(digits[-3:])) if machine <= _MAX_OPENNEBULA_ID else None


def allocation_id(ip: IPv4Address) -> str:
    """Return the id of the allocation of an elastic IP."""
    return ALLOCATION.format(int(ip))


def association_id(ip: IPv4Address, number: int) -> str:
    """Return the id of an association of an elastic IP: the address, then the association's own number."""
    return f"eipassoc-{int(ip):010d}{number:0{ASSOCIATION_DIGITS}d}"


def allocated_ip(text: str) -> IPv4Address:
    """Return the elastic IP that an allocation id speaks of.

    Raises `EC2Error` InvalidAllocationID.Malformed or .NotFound.
    """
    return IPv4Address(ALLOCATION.parse(text))


def association(text: str) -> tuple[IPv4Address, int]:
    """Return the elastic IP and the number in an association id.

    Raises `EC2Error` InvalidAssociationID.Malformed or .NotFound.
    """
    if not ASSOCIATION.is_well_formed(text):
        raise ASSOCIATION.malformed(text)
    match = _ASSOCIATION_DIGITS.fullmatch(text.removeprefix(f"{ASSOCIATION.prefix}-"))
    if match is None or int(match[1]) > ALLOCATION.largest:
        raise ASSOCIATION.not_found(text)
    return IPv4Address(int(match[1])), int(match[2])


def reservation_id(machine: int) -> str:
    """Return the id of the reservation whose first instance is this machine."""
    return RESERVATION.format(machine)
