"""Elastic IPs as they stand on their network: who has them, where they lead, and who is busy with them.

The network holds, as attributes of its own:

- `EC2_ADDRESS_<hex of ip>=[IP, UID, ALLOCATION, ASSOCIATION, VMID, PRIVATE_IP, NIC_ID, STATE]`: the address belongs to
  the user UID; what follows ALLOCATION is there while it leads to an instance. An empty text in its place says that it
  belongs to nobody, whatever the Ruby server wrote.
- `EC2_ADDRESSES=[IP, UID, VMID]`, of the Ruby server, as many as it gave out: read where there is no attribute of the
  first kind for the address, and then only while it is held; never written, since one update replaces all of them.
- `EC2_ADDRCLAIM_<hex of ip>_<nonce>=[IP, UID, PURPOSE, TIME, BEAT]`: a request is busy with it
  (`econed.actions.addresses.claims`).
- `EC2_ADDRTAG_<ip in hex>_<ALLOCATION>_<hex of key>`: a tag. Those of an earlier allocation are nobody's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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
_OF_THE_RUBY_SERVER = "EC2_ADDRESSES"
_NO_ALLOCATION = "0"
"""The allocation of an address that the Ruby server gave out."""
_LARGEST_ASSOCIATION = 10**ASSOCIATION_DIGITS - 1


class LinkState(Enum):
    """How far an association has come; what is written down before a script runs says what it was to do."""

    ON = "ON"
    COMING = "COMING"
    """The associate script may or may not have done its work: nobody was told that it has."""
    GOING = "GOING"
    """The disassociate script may or may not have done its work: the address is to lead there no more."""


@dataclass(frozen=True)
class Link:
    """Where an address leads: a machine, the private address and the interface of it that has that.

    The Ruby server noted the machine alone: `private_ip` and `nic_id` are None then, and `number` is 0. The number
    tells this association of the address from all others that it ever had.
    """

    vm_id: int
    private_ip: IPv4Address | None
    nic_id: int | None
    number: int
    state: LinkState

    @property
    def is_shown(self) -> bool:
        """Whether it is an association to EC2: one that was recorded, until it is gone."""
        return self.state is not LinkState.COMING

    def members(self) -> dict[str, str]:
        """Return what records it."""
        members = {"VMID": str(self.vm_id), "ASSOCIATION": str(self.number)}
        members |= {} if self.private_ip is None else {"PRIVATE_IP": str(self.private_ip)}
        members |= {} if self.nic_id is None else {"NIC_ID": str(self.nic_id)}
        return members | ({} if self.state is LinkState.ON else {"STATE": self.state.value})

    def leads_to(self, vm_id: int, private_ip: IPv4Address) -> bool:
        """Whether it is to this address of this machine."""
        return (self.vm_id, self.private_ip) == (vm_id, private_ip)


@dataclass(frozen=True)
class Address:
    """An elastic IP that a user has. `allocation` tells this time that it was given out from all others."""

    ip: IPv4Address
    uid: int
    allocation: str
    link: Link | None

    @property
    def association(self) -> Link | None:
        """Where it leads, as EC2 shows it."""
        return self.link if self.link is not None and self.link.is_shown else None

    def with_link(self, link: Link | None) -> Address:
        """Return the address leading elsewhere, or nowhere."""
        return replace(self, link=link)

    def text(self) -> str:
        """Return the template text that records it."""
        members = {"IP": str(self.ip), "UID": str(self.uid), "ALLOCATION": self.allocation}
        if self.link is not None:
            members |= self.link.members()
        return vector(_name_of(self.ip), members)

    @property
    def tag_prefix(self) -> str:
        """How the attributes of its tags begin."""
        return f"{_tags_of(self.ip)}{self.allocation}_"


@dataclass(frozen=True)
class ClaimNote:
    """A claim on an address as it stands on the network. `time` is when it was last made anew, by its maker's clock."""

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
        single = ((each.ip, each) for each in self.network.address_ranges if each.size == 1)
        return {ip: each for ip, each in single if ip is not None}

    @property
    def ips(self) -> tuple[IPv4Address, ...]:
        """All addresses, in oned's order."""
        return tuple(self._ranges)

    @property
    def odd_ranges(self) -> tuple[AddressRange, ...]:
        """The ranges that are not part of the pool, because they are not of size 1 or have no IPv4 address."""
        return tuple(each for each in self.network.address_ranges if each.ip not in self._ranges or each.size != 1)

    def is_taken(self, ip: IPv4Address) -> bool:
        """Whether an address is leased in any way."""
        return self._ranges[ip].used_leases > 0

    def is_held(self, ip: IPv4Address) -> bool:
        """Whether an address is held, by us or by an administrator, and not used by a machine."""
        return any(lease.is_held for lease in self._ranges[ip].leases)

    @cached_property
    def addresses(self) -> Mapping[IPv4Address, Address]:
        """The addresses that users have, by IP, in oned's order."""
        found = {each.ip: each for each in self._recorded()}
        return {ip: found[ip] for ip in self._ranges if ip in found}

    def _recorded(self) -> Iterator[Address]:
        for entry in self._attributes.vectors(_OF_THE_RUBY_SERVER):
            ip = ipv4(entry.get("IP", ""))
            if ip is not None and ip in self._ranges and _name_of(ip) not in self._attributes and self.is_held(ip):
                yield from _address(entry)
        for name in self._attributes.names():
            if name.startswith(_ADDRESS):
                yield from _address(self._attributes.vector(name))

    def of(self, uid: int) -> tuple[Address, ...]:
        """Return the addresses of a user, in oned's order."""
        return tuple(each for each in self.addresses.values() if each.uid == uid)

    def kept_for(self, uid: int) -> Attributes:
        """Return all that is kept for the addresses of a user: their records, and their tags."""
        addresses = self.of(uid)
        records = {_name_of(each.ip) for each in addresses}
        tags = tuple(each.tag_prefix for each in addresses)
        return Attributes(item for item in self._attributes if item[0] in records or item[0].startswith(tags))

    def vacancy_text(self, ip: IPv4Address) -> str:
        """Return the template text that makes an address nobody's, with its tags."""
        kept = self._attributes.names_starting_with(_tags_of(ip))
        name = _name_of(ip)
        gone = attribute(name, "") if self._has_old_entry(ip) else removal(name)
        return template(gone, *map(removal, kept))

    def has_old_claimant(self, ip: IPv4Address) -> bool:
        """Whether holding an address would make it his whom the Ruby server once gave it."""
        return self._has_old_entry(ip) and _name_of(ip) not in self._attributes

    def _has_old_entry(self, ip: IPv4Address) -> bool:
        return any(ipv4(entry.get("IP", "")) == ip for entry in self._attributes.vectors(_OF_THE_RUBY_SERVER))

    @cached_property
    def claims(self) -> tuple[ClaimNote, ...]:
        """All claims there are."""
        names = self._attributes.names_starting_with(_CLAIM)
        return tuple(note for name in names for note in _claim_note(name, self._attributes.vector(name)))

    def claims_on(self, ip: IPv4Address) -> tuple[ClaimNote, ...]:
        """Return the claims on an address."""
        return tuple(each for each in self.claims if each.ip == ip)

    def tags(self, address: Address) -> list[TagTypeDef]:
        """Return the tags of an address."""
        return tags_under(self._attributes, address.tag_prefix)


def claim_name(ip: IPv4Address, nonce: str) -> str:
    """Return the attribute of a claim on an address."""
    return f"{hex_name(_CLAIM, str(ip))}_{nonce}"


def claim_text(note: ClaimNote) -> str:
    """Return the template text that makes a claim, or makes it anew."""
    members = {"IP": str(note.ip), "TIME": str(note.time), "BEAT": note.beat}
    members |= {} if note.uid is None else {"UID": str(note.uid)}
    members |= {"PURPOSE": "ALLOCATE"} if note.allocates else {}
    return vector(note.name, members)


def recorded_text(address: Address, tags: Mapping[str, str]) -> str:
    """Return the template text that records a new address with its tags."""
    return template(address.text(), tag_text(tags, address.tag_prefix))


def _name_of(ip: IPv4Address) -> str:
    return hex_name(_ADDRESS, str(ip))


def _tags_of(ip: IPv4Address) -> str:
    return f"{_TAG}{int(ip):08X}_"


def _address(entry: Vector) -> Iterator[Address]:
    """Yield the address that a vector records; nothing where it records none."""
    ip, uid = ipv4(entry.get("IP", "")), whole_number(entry.get("UID", ""))
    if ip is not None and uid is not None:
        yield Address(ip, uid, entry.get("ALLOCATION", _NO_ALLOCATION), _link(entry))


def _link(entry: Vector) -> Link | None:
    vm_id = whole_number(entry.get("VMID", ""))
    if vm_id is None:
        return None
    try:
        state = LinkState(entry.get("STATE") or LinkState.ON.value)
    except ValueError:
        raise InvalidReply("EC2_ADDRESS", f"an association in state {entry['STATE']!r}") from None
    return Link(
        vm_id,
        ipv4(entry.get("PRIVATE_IP", "")),
        whole_number(entry.get("NIC_ID", "")),
        whole_number(entry.get("ASSOCIATION", ""), _LARGEST_ASSOCIATION) or 0,
        state,
    )


def _claim_note(name: str, entry: Vector) -> Iterator[ClaimNote]:
    """Yield the claim that a vector makes; nothing where it makes none."""
    ip = ipv4(entry.get("IP", ""))
    if ip is not None:
        yield ClaimNote(
            name,
            ip,
            whole_number(entry.get("UID", "")),
            entry.get("PURPOSE") == "ALLOCATE",
            epoch_seconds(entry.get("TIME", "")) or 0,
            entry.get("BEAT", ""),
        )
