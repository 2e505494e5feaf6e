"""The instances of DescribeInstances: viewed, or as they were listed before if their machines have not changed.

A machine whose document has the same bytes as before (`econed.opennebula.unchanged_machines`) is neither parsed nor
viewed nor encoded again. What else an instance depends on is remembered with it and compared: the names of the
clusters, the associations of elastic IPs and the VPCs of its networks. So a result is always that of the documents that
were read for the request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from sys import getsizeof
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, cast

from econed.actions.addresses.store import address_store
from econed.actions.addresses.view import PublicAddresses
from econed.actions.filters import Selection, Texts
from econed.actions.instances.filters import filtered_instance
from econed.actions.instances.view import depends_on_time, reservation_view
from econed.actions.machines.lookup import read_instances
from econed.actions.networks.lookup import NO_VPC_IDS, read_vpc_ids
from econed.actions.tasks import TaskGroup
from econed.errors import OpenNebulaRefusal
from econed.opennebula.documents import VirtualMachine
from econed.opennebula.states import VmState
from econed.reusable import KeptXml, Reusable

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import InstanceTypeDef, ReservationTypeDef

    from econed.actions.addresses.records import LinkedAddress
    from econed.actions.call import Call
    from econed.actions.item_memory import SessionItems
    from econed.actions.sets import Read, Sets
    from econed.opennebula.unchanged_machines import MachineParser

_D = TypeVar("_D")

MAX_FILTERS: Final = 8
"""Filters for which the values of an instance are remembered."""

MAX_TEXT: Final = 2048
"""Bytes of memory of these values; a text takes some even if it is empty."""


@dataclass(slots=True, eq=False)
class RememberedInstance:
    """An instance, as long as its machine's document has this fingerprint.

    `xml` is None if the filters of all requests have excluded it. `vpcs` are the ids of the reservations it is on
    and of their VPCs, None for the default VPC. `used_at` is in seconds since the epoch.
    """

    id: int
    fingerprint: bytes
    owner_id: str
    reservation_id: str
    xml: KeptXml | None
    texts: Texts
    clusters: Mapping[int, str]
    associated: Sequence[LinkedAddress]
    vpcs: Sequence[tuple[int, str | None]]
    used_at: int

    def is_usable(self, filters: frozenset[str]) -> bool:
        """Whether it can be listed by a request with filters of these names (`RememberedItem`)."""
        return filters <= self.texts.keys() and (self.xml is None or bool(self.xml))

    def agrees_with(self, surroundings: Surroundings) -> bool:
        """Whether it is as it would be with these names of clusters, elastic IPs and VPCs."""
        if self.clusters is not surroundings.clusters:
            if self.clusters != surroundings.clusters:
                return False
            self.clusters = surroundings.clusters
        if any(surroundings.vpc_ids.get(network_id) != vpc_id for network_id, vpc_id in self.vpcs):
            return False
        return surroundings.addresses.by_machine.get(self.id, ()) == self.associated

    def reservation(self) -> ReservationTypeDef:
        """Return its reservation, as `reservation_view` does."""
        instances = cast("list[InstanceTypeDef]", [self.xml])
        return {
            "ReservationId": self.reservation_id,
            "OwnerId": self.owner_id,
            "Groups": [],
            "Instances": instances,
        }


Listed: TypeAlias = "VirtualMachine | RememberedInstance"
"""A machine as it was read, or what is remembered of it."""


@dataclass
class Surroundings:
    """What the views of instances need besides their machines; read at the same time as the first machines."""

    clusters: Mapping[int, str] = field(default_factory=dict)
    addresses: PublicAddresses = field(default_factory=lambda: PublicAddresses({}))
    vpc_ids: Mapping[int, str] = field(default_factory=lambda: NO_VPC_IDS)
    are_vpcs_read: bool = False
    """False as long as the VPCs need not be known: no instance is on a reservation."""

    async def read(self, call: Call) -> None:
        """Read the names of the clusters, and the elastic IPs."""
        async with TaskGroup() as reads:
            clusters, addresses = reads.start(call.cluster_names()), reads.start(_addresses(call))
        self.clusters, self.addresses = clusters.result, addresses.result

    async def with_vpcs(self, call: Call, sets: Sets[_D], may_be_in_vpc: Callable[[_D], bool]) -> Sets[_D]:
        """Yield readers that also read the VPCs of the caller's networks, once, if something read may be in one."""

        async def read_vpcs_too(read: Read[_D]) -> Iterable[_D]:
            listed = [*await read()]
            if not self.are_vpcs_read and any(map(may_be_in_vpc, listed)):
                self.vpc_ids, self.are_vpcs_read = await read_vpc_ids(call), True
            return listed

        async with aclosing(sets):
            async for read in sets:
                yield partial(read_vpcs_too, read)

    async def read_clusters(self, call: Call) -> None:
        """Read the names of the clusters only, for views without interfaces."""
        self.clusters = await call.cluster_names()


async def _addresses(call: Call) -> PublicAddresses:
    """Return the associations of elastic IPs with instances; none in a cloud without elastic IPs.

    A network that does not exist or cannot be read is an error in the configuration: instances are listed nevertheless.
    """
    if call.settings.elasticips_vnet_id is None:
        return PublicAddresses({})
    store = address_store(call)
    try:
        return PublicAddresses.of(await store.read_allocated())
    except OpenNebulaRefusal as refusal:
        store.log.warn("listing instances without public addresses: {refusal}", refusal=str(refusal))
        return PublicAddresses({})


@dataclass(frozen=True)
class InstanceList:
    """The instances of one request, of which `selection` selects those that are listed."""

    call: Call
    selection: Selection
    surroundings: Surroundings

    @property
    def parser(self) -> MachineParser[RememberedInstance]:
        """The parser of replies with its machines."""
        return self._remembered.parser(self.selection.names)

    async def current(self, sets: Sets[Listed]) -> Sets[Listed]:
        """Yield the readers of `sets`, which read machines again if what is remembered of them is not current."""
        async with aclosing(sets):
            async for read in sets:
                yield partial(self._read_current, read)

    async def view_if_selected(self, listed: Listed) -> ReservationTypeDef | None:
        """Return the reservation with an instance, None if it is not selected."""
        if isinstance(listed, RememberedInstance):
            listed.used_at = self.call.now
            return listed.reservation() if await self.selection.matches_texts(listed.texts) else None
        surroundings = self.surroundings
        reservation = reservation_view(
            listed, surroundings.clusters, self.call.now, surroundings.addresses, surroundings.vpc_ids
        )
        item = filtered_instance(reservation, listed, surroundings.addresses) if self.selection.names else {}
        texts = await self.selection.texts(item)
        is_selected = await self.selection.matches_texts(texts)
        self._remember(listed, reservation, texts, is_selected=is_selected)
        return reservation if is_selected else None

    @property
    def _remembered(self) -> SessionItems[RememberedInstance]:
        return self.call.memory.instances.of(self.call.session_key)

    async def _read_current(self, read: Read[Listed]) -> Iterable[Listed]:
        listed = list(await read())
        outdated = {
            item.id for item in listed if isinstance(item, RememberedInstance) and not await self._is_current(item)
        }
        if not outdated:
            return listed
        self.call.memory.instances.forget(self.call.session_key, outdated)
        read_again = await read_instances(self.call, sorted(outdated))
        if not self.call.settings.describe_with_terminated_instances:
            read_again = [machine for machine in read_again if machine.state is not VmState.DONE]
        current = [item for item in listed if item.id not in outdated]
        return sorted([*current, *read_again], key=lambda item: item.id)

    async def _is_current(self, item: RememberedInstance) -> bool:
        if not item.agrees_with(self.surroundings):
            return False
        return item.xml is not None or not await self.selection.matches_texts(item.texts)

    def _remember(
        self, machine: VirtualMachine, reservation: ReservationTypeDef, texts: Texts, *, is_selected: bool
    ) -> None:
        """Remember an instance, with what was remembered of the same document; its XML is kept once it is encoded."""
        if not machine.fingerprint or depends_on_time(machine):
            return
        before = self._remembered_of(machine)
        xml = None if before is None else before.xml
        if is_selected:
            reusable = Reusable(reservation["Instances"][0])
            reservation["Instances"] = cast("list[InstanceTypeDef]", [reusable])
            xml = reusable.kept
        if before is not None and _is_short(all_texts := {**before.texts, **texts}):
            texts = all_texts
        if not _is_short(texts):
            return
        self.call.memory.instances.remember(
            self.call.session_key,
            RememberedInstance(
                id=machine.id,
                fingerprint=machine.fingerprint,
                owner_id=reservation["OwnerId"],
                reservation_id=reservation["ReservationId"],
                xml=xml,
                texts=texts,
                clusters=self.surroundings.clusters,
                associated=self.surroundings.addresses.by_machine.get(machine.id, ()),
                vpcs=_vpcs(machine, self.surroundings.vpc_ids),
                used_at=self.call.now,
            ),
        )

    def _remembered_of(self, machine: VirtualMachine) -> RememberedInstance | None:
        """Return what is remembered of a machine, if it is still so."""
        item = self._remembered.get(machine.id)
        if item is None or item.fingerprint != machine.fingerprint:
            return None
        return item if item.agrees_with(self.surroundings) else None


def _vpcs(machine: VirtualMachine, vpc_ids: Mapping[int, str]) -> Sequence[tuple[int, str | None]]:
    """Return the reservations that a machine is on, and their VPCs: all other networks are in the default VPC."""
    return tuple(
        (nic.network_id, vpc_ids.get(nic.network_id))
        for nic in machine.nics
        if nic.network_id is not None and nic.parent_network_id is not None
    )


def may_be_in_vpc(listed: Listed) -> bool:
    """Whether an instance is on a reservation: all other networks are in the default VPC."""
    if isinstance(listed, RememberedInstance):
        return bool(listed.vpcs)
    return any(nic.parent_network_id is not None for nic in listed.nics)


def _is_short(texts: Texts) -> bool:
    size = sum(getsizeof(text) for values in texts.values() for text in values)
    return len(texts) <= MAX_FILTERS and size <= MAX_TEXT
