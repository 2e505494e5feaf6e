"""The records of elastic IPs on their network: owners, associations, tags, and claims of requests.

The network holds, as attributes of its own:

- `EC2_ADDRESS_<hex of ip>=[IP, UID, ALLOCATION, AUTO_ASSIGNED, ASSOCIATION, VMID, PRIVATE_IP, NIC_ID, STATE]`: the
  address is allocated to the user UID, or with AUTO_ASSIGNED="YES" assigned to an instance of theirs
  (`econed.actions.addresses.auto_assigned`). ASSOCIATION and the members after it are there only while it is associated
  with an instance. An empty text in its place says that the address is not allocated, even if the Ruby server recorded
  it.
- `EC2_ADDRESSES=[IP, UID, VMID]`, one for each address that the Ruby server allocated: read only if the address has no
  attribute of the first kind, and only while it is held. Never written, since one update replaces all of them.
- `EC2_ADDRCLAIM_<hex of ip>_<nonce>=[IP, UID, PURPOSE, TIME, BEAT]`: the claim of a request that changes the address
  (`econed.actions.addresses.claims`).
- `EC2_ADDRTAG_<ip in hex>_<ALLOCATION>_<hex of key>`: a tag. Tags of earlier allocations are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

from econed.actions.tagging import tag_text, tags_under
from econed.errors import InvalidReply
from econed.ids import ASSOCIATION_DIGITS
from econed.opennebula.attributes import Attributes
from econed.opennebula.template import attribute, hex_name, removal, template, vector
from econed.opennebula.values import epoch_seconds, ipv4, whole_number

if TYPE_CHECKING:
    from ipaddress import IPv4Address

    from types_boto3_ec2.type_defs import TagTypeDef

    from econed.opennebula.documents import AddressRange, Vector, VirtualNetwork

_ADDRESS = "EC2_ADDRESS_"
_CLAIM = "EC2_ADDRCLAIM_"
_TAG = "EC2_ADDRTAG_"
_RUBY_SERVER_ADDRESSES = "EC2_ADDRESSES"
_LEGACY_ALLOCATION = "0"
"""The allocation of an address that the Ruby server allocated."""
_MAX_ASSOCIATION_NUMBER = 10**ASSOCIATION_DIGITS - 1


class AssociationState(Enum):
    """The state of an association; the intent of a script is recorded before the script runs."""

    ASSOCIATED = "ON"
    ASSOCIATING = "COMING"
    """The associate script may or may not have succeeded; success was not reported to a client."""
    DISASSOCIATING = "GOING"
    """The disassociate script may or may not have succeeded; the association is to end."""


@dataclass(frozen=True)
class Association:
    """The association of an address with a machine, one of its private addresses, and that address's interface.

    The Ruby server recorded only the machine: `private_ip` and `nic_id` are None then, and `number` is 0. The number
    distinguishes this association of the address from all its earlier ones.
    """

    machine_id: int
    private_ip: IPv4Address | None
    nic_id: int | None
    number: int
    state: AssociationState

    @property
    def is_reported(self) -> bool:
        """Whether EC2 clients see it: from its completion until its end."""
        return self.state is not AssociationState.ASSOCIATING

    def members(self) -> dict[str, str]:
        """Return the members that record it."""
        members = {"VMID": str(self.machine_id), "ASSOCIATION": str(self.number)}
        members |= {} if self.private_ip is None else {"PRIVATE_IP": str(self.private_ip)}
        members |= {} if self.nic_id is None else {"NIC_ID": str(self.nic_id)}
        return members | ({} if self.state is AssociationState.ASSOCIATED else {"STATE": self.state.value})

    def is_with(self, machine_id: int, private_ip: IPv4Address) -> bool:
        """Whether it is with this private address of this machine."""
        return (self.machine_id, self.private_ip) == (machine_id, private_ip)


@dataclass(frozen=True)
class Address:
    """An elastic IP that is allocated to a user. `allocation` distinguishes this allocation from all earlier ones.

    One that `is_auto_assigned` is no elastic IP of the user: it was assigned to an instance when this was run, and is
    released when its association ends.
    """

    ip: IPv4Address
    uid: int
    allocation: str
    is_auto_assigned: bool = field(default=False, kw_only=True)

    @property
    def reported_association(self) -> Association | None:
        """The association that EC2 clients see, if any."""
        return None

    def with_association(self, association: Association) -> LinkedAddress:
        """Return the address with another association."""
        return LinkedAddress(self.ip, self.uid, self.allocation, association, is_auto_assigned=self.is_auto_assigned)

    def without_association(self) -> Address:
        """Return the address without its association."""
        return Address(self.ip, self.uid, self.allocation, is_auto_assigned=self.is_auto_assigned)

    def text(self) -> str:
        """Return the template text that records it."""
        return vector(_record_name(self.ip), self._members())

    def _members(self) -> dict[str, str]:
        members = {"IP": str(self.ip), "UID": str(self.uid), "ALLOCATION": self.allocation}
        return members | ({"AUTO_ASSIGNED": "YES"} if self.is_auto_assigned else {})

    @property
    def tag_prefix(self) -> str:
        """The prefix of the attributes that keep its tags."""
        return f"{_tags_prefix(self.ip)}{self.allocation}_"


@dataclass(frozen=True)
class LinkedAddress(Address):
    """An elastic IP with an association on record, in any state."""

    association: Association

    @property
    def reported_association(self) -> Association | None:
        """The association that EC2 clients see, if any."""
        return self.association if self.association.is_reported else None

    def _members(self) -> dict[str, str]:
        return super()._members() | self.association.members()


@dataclass(frozen=True)
class ClaimRecord:
    """A claim on an address as the network has it. `time` is when it was last renewed, by the clock of its process."""

    name: str
    ip: IPv4Address
    uid: int | None
    allocates: bool
    time: int
    beat: str


class Pool:
    """The network of elastic IPs at one moment. Only ranges of size 1 are part of it, as for the Ruby server."""

    def __init__(self, network: VirtualNetwork) -> None:
        self.network = network

    @cached_property
    def _attributes(self) -> Attributes:
        return self.network.template

    @cached_property
    def _ranges(self) -> Mapping[IPv4Address, AddressRange]:
        by_ip = ((range_.ip, range_) for range_ in self.network.address_ranges if range_.size == 1)
        return {ip: range_ for ip, range_ in by_ip if ip is not None}

    @property
    def ips(self) -> tuple[IPv4Address, ...]:
        """All addresses, in oned's order."""
        return tuple(self._ranges)

    @property
    def unusable_ranges(self) -> tuple[AddressRange, ...]:
        """The ranges that are not part of the pool, because they are not of size 1 or have no IPv4 address."""
        return tuple(
            range_ for range_ in self.network.address_ranges if range_.ip not in self._ranges or range_.size != 1
        )

    def is_leased(self, ip: IPv4Address) -> bool:
        """Whether an address is leased in any way."""
        return self._ranges[ip].used_leases > 0

    def is_held(self, ip: IPv4Address) -> bool:
        """Whether an address is held, by econed or by an administrator, and not used by a machine."""
        return any(lease.is_held for lease in self._ranges[ip].leases)

    @cached_property
    def addresses(self) -> Mapping[IPv4Address, Address]:
        """The allocated addresses by IP, in oned's order."""
        by_ip = {address.ip: address for address in self._recorded()}
        return {ip: by_ip[ip] for ip in self._ranges if ip in by_ip}

    @property
    def has_legacy_entries(self) -> bool:
        """Whether there are addresses that only the Ruby server recorded."""
        return next(self._legacy_entries(), None) is not None

    def _legacy_entries(self) -> Iterator[tuple[IPv4Address, Vector]]:
        for entry in self._attributes.vectors(_RUBY_SERVER_ADDRESSES):
            ip = ipv4(entry.get("IP", ""))
            if ip is not None and ip in self._ranges and _record_name(ip) not in self._attributes:
                yield ip, entry

    def _recorded(self) -> Iterator[Address]:
        for ip, entry in self._legacy_entries():
            if self.is_held(ip):
                yield from _address(entry)
        for name in self._attributes.names():
            if name.startswith(_ADDRESS):
                yield from _address(self._attributes.vector(name))

    def of(self, uid: int) -> tuple[Address, ...]:
        """Return the addresses of a user, in oned's order, with those that are assigned to their instances."""
        return tuple(address for address in self.addresses.values() if address.uid == uid)

    def elastic_of(self, uid: int) -> tuple[Address, ...]:
        """Return the elastic IPs of a user, in oned's order."""
        return tuple(address for address in self.of(uid) if not address.is_auto_assigned)

    def attributes_of(self, uid: int) -> Attributes:
        """Return the attributes of all addresses of a user: their records and their tags."""
        addresses = self.of(uid)
        records = {_record_name(address.ip) for address in addresses}
        tags = tuple(address.tag_prefix for address in addresses)
        return Attributes(item for item in self._attributes if item[0] in records or item[0].startswith(tags))

    def release_text(self, ip: IPv4Address) -> str:
        """Return the template text that removes the record of an address and its tags."""
        tags = self._attributes.names_starting_with(_tags_prefix(ip))
        name = _record_name(ip)
        release = attribute(name, "") if self._has_legacy_entry(ip) else removal(name)
        return template(release, *map(removal, tags))

    def has_legacy_owner(self, ip: IPv4Address) -> bool:
        """Whether holding an address would return it to the user to whom the Ruby server allocated it."""
        return self._has_legacy_entry(ip) and _record_name(ip) not in self._attributes

    def _has_legacy_entry(self, ip: IPv4Address) -> bool:
        return any(ipv4(entry.get("IP", "")) == ip for entry in self._attributes.vectors(_RUBY_SERVER_ADDRESSES))

    @cached_property
    def claims(self) -> tuple[ClaimRecord, ...]:
        """All claims."""
        names = self._attributes.names_starting_with(_CLAIM)
        return tuple(record for name in names for record in _claim_record(name, self._attributes.vector(name)))

    def claims_on(self, ip: IPv4Address) -> tuple[ClaimRecord, ...]:
        """Return the claims on an address."""
        return tuple(claim for claim in self.claims if claim.ip == ip)

    def tags(self, address: Address) -> list[TagTypeDef]:
        """Return the tags of an address."""
        return tags_under(self._attributes, address.tag_prefix)


def claim_name(ip: IPv4Address, nonce: str) -> str:
    """Return the attribute of a claim on an address."""
    return f"{hex_name(_CLAIM, str(ip))}_{nonce}"


def claim_text(record: ClaimRecord) -> str:
    """Return the template text that makes a claim, or renews it."""
    members = {"IP": str(record.ip), "TIME": str(record.time), "BEAT": record.beat}
    members |= {} if record.uid is None else {"UID": str(record.uid)}
    members |= {"PURPOSE": "ALLOCATE"} if record.allocates else {}
    return vector(record.name, members)


def allocation_text(address: Address, tags: Mapping[str, str]) -> str:
    """Return the template text that records a new address with its tags."""
    return template(address.text(), tag_text(tags, address.tag_prefix))


def _record_name(ip: IPv4Address) -> str:
    return hex_name(_ADDRESS, str(ip))


def _tags_prefix(ip: IPv4Address) -> str:
    return f"{_TAG}{int(ip):08X}_"


def _address(entry: Vector) -> Iterator[Address]:
    """Yield the address that a vector records, if it records one."""
    ip, uid = ipv4(entry.get("IP", "")), whole_number(entry.get("UID", ""))
    if ip is not None and uid is not None:
        is_auto_assigned = entry.get("AUTO_ASSIGNED") == "YES"
        allocation = entry.get("ALLOCATION", _LEGACY_ALLOCATION)
        address = Address(ip, uid, allocation, is_auto_assigned=is_auto_assigned)
        association = _association(entry)
        yield address if association is None else address.with_association(association)


def _association(entry: Vector) -> Association | None:
    machine_id = whole_number(entry.get("VMID", ""))
    if machine_id is None:
        return None
    try:
        state = AssociationState(entry.get("STATE") or AssociationState.ASSOCIATED.value)
    except ValueError:
        raise InvalidReply("EC2_ADDRESS", f"an association in state {entry['STATE']!r}") from None
    return Association(
        machine_id,
        ipv4(entry.get("PRIVATE_IP", "")),
        whole_number(entry.get("NIC_ID", "")),
        whole_number(entry.get("ASSOCIATION", ""), _MAX_ASSOCIATION_NUMBER) or 0,
        state,
    )


def _claim_record(name: str, entry: Vector) -> Iterator[ClaimRecord]:
    """Yield the claim that a vector records, if it records one."""
    ip = ipv4(entry.get("IP", ""))
    if ip is not None:
        yield ClaimRecord(
            name,
            ip,
            whole_number(entry.get("UID", "")),
            entry.get("PURPOSE") == "ALLOCATE",
            epoch_seconds(entry.get("TIME", "")) or 0,
            entry.get("BEAT", ""),
        )
