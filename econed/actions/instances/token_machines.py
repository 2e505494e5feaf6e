"""The machines that were created with the client token of a RunInstances call.

They are found among the caller's own machines in all states. The first call of a session in a process reads those of
the lifetime of tokens, newest first. Later ones read on from the newest machine that was read before
(`econed.actions.token_index`): with one call of oned, and another if machines of the token are known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from econed.actions.client_tokens import CLIENT_TOKEN, ClientToken, creator_digest
from econed.actions.machines.facts import DISCARDED, LAUNCH_COUNT
from econed.actions.tasks import TaskGroup
from econed.actions.token_index import TokenMachine
from econed.opennebula.pools import OwnerFilter, StateFilter
from econed.opennebula.values import whole_number

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import VirtualMachine

TOKEN_LIFETIME = 24 * 3600
"""Seconds for which a client token is valid; it is stored on the machines only, so tokens do not accumulate."""

_FIRST_PAGE, _LARGEST_PAGE = 100, 500
"""Machines on the pages of the first read: most users have few, and each page is twice as large as the one before."""

_READ_COST = 50
"""Units of work (`econed.actions.pacing`) that it takes to read the token of a machine."""


@dataclass(frozen=True)
class TokenMachines:
    """The machines of the call to which a client token belongs, lowest id first.

    A token belongs to the call that created the machine with the lowest id among those with the token. Machines of
    another call with the token are not included, and the request that created them discards them. `ids` are those of
    all machines with the token, and `newest_id` is the id up to which all machines have been read.
    """

    machines: tuple[VirtualMachine, ...]
    ids: frozenset[int]
    newest_id: int

    @property
    def first(self) -> VirtualMachine | None:
        """The machine of the call that was created first."""
        return self.machines[0] if self.machines else None

    def instance_count(self, max_count: int) -> int:
        """Return the number of instances of the call: as stored on its first machine, where its owner can change it."""
        stored_count = self.machines[0].user_template.text(LAUNCH_COUNT) if self.machines else ""
        return whole_number(stored_count, largest=max_count) or max_count


async def find_token_machines(call: Call, token: ClientToken) -> TokenMachines:
    """Return the machines of a token."""
    newest_id = call.memory.launch_tokens.newest_id(call.session_key)
    if newest_id is None:
        return await _look_back(call, token)
    return await _read_on(call, token, newest_id, call.memory.launch_tokens.ids(call.session_key, token.text))


async def find_again(
    call: Call, token: ClientToken, known: TokenMachines, created_ids: Iterable[int] = ()
) -> TokenMachines:
    """Return the machines of a token again, with those created since, among them `created_ids`."""
    if any(machine_id <= known.newest_id for machine_id in created_ids):
        call.memory.launch_tokens.forget(call.session_key)  # oned's database was restored: its ids repeat themselves
        return await _look_back(call, token)
    return await _read_on(call, token, known.newest_id, known.ids)


async def _look_back(call: Call, token: ClientToken) -> TokenMachines:
    """Read the caller's own machines in all states, newest first, until one is older than the lifetime of tokens.

    Machines are never removed from this list, and new ones are added at its beginning: pages by offset can contain a
    machine twice, but miss none, as long as each is read after the one before.
    """
    oldest = call.now - TOKEN_LIFETIME
    with_tokens: dict[int, TokenMachine] = {}
    found: dict[int, VirtualMachine] = {}
    newest_id, offset, size = -1, 0, _FIRST_PAGE
    while True:
        page = await call.session.vm_page(size, offset, owner=OwnerFilter.MINE, state=StateFilter.ANY)
        newest_id = max([newest_id, *(machine.id for machine in page)])
        with_tokens |= {entry.id: entry for entry in await _entries(call, page)}
        found |= {machine.id: machine for machine in page if machine.attribute(CLIENT_TOKEN) == token.text}
        if len(page) < size or any(machine.stime < oldest for machine in page):
            break
        offset, size = offset + size, min(2 * size, _LARGEST_PAGE)
    call.memory.launch_tokens.add(call.session_key, None, newest_id, with_tokens.values(), oldest)
    return _token_machines(call, found.values(), newest_id)


async def _read_on(call: Call, token: ClientToken, after: int, ids: frozenset[int]) -> TokenMachines:
    """Read the machines with ids above `after`, and those with `ids` again."""
    async with TaskGroup() as reads:
        newer = reads.start(call.session.vms_after(after))
        again = reads.start(call.session.vms(sorted(ids)))
    newest_id = max([after, *(machine.id for machine in newer.result)])
    entries = await _entries(call, newer.result)
    call.memory.launch_tokens.add(call.session_key, after, newest_id, entries, call.now - TOKEN_LIFETIME)
    machines = [machine for machine in (*again.result, *newer.result) if machine.attribute(CLIENT_TOKEN) == token.text]
    return _token_machines(call, machines, newest_id)


async def _entries(call: Call, machines: Iterable[VirtualMachine]) -> list[TokenMachine]:
    entries = []
    for machine in machines:
        await call.budget.spend(_READ_COST)
        text = machine.attribute(CLIENT_TOKEN)
        if text:
            entries.append(TokenMachine(machine.id, text, machine.stime))
    return entries


def _token_machines(call: Call, machines: Iterable[VirtualMachine], newest_id: int) -> TokenMachines:
    """Select from the machines with a token those of the call to which the token belongs."""
    oldest = call.now - TOKEN_LIFETIME
    valid = sorted(
        (machine for machine in machines if not machine.is_marked(DISCARDED) and machine.stime >= oldest),
        key=lambda machine: machine.id,
    )
    digests = [creator_digest(machine.user_template) for machine in valid]
    of_call = tuple(machine for machine, digest in zip(valid, digests, strict=True) if digest == digests[0])
    return TokenMachines(of_call, frozenset(machine.id for machine in valid), newest_id)
