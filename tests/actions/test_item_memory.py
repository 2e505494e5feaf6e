"""What a process remembers of listed items is bounded, and one session does not displace the items of all others."""

from __future__ import annotations

from dataclasses import dataclass

from econed.actions.item_memory import UNUSED_SECONDS, ItemMemory, SessionItems
from econed.opennebula.unchanged_machines import MachineReply
from econed.sandbox.server import reply_body


@dataclass
class Item:
    """An item that is usable for filters of certain names."""

    id: int
    used_at: int = 0
    filters: frozenset[str] = frozenset()
    fingerprint: bytes = b""

    def is_usable(self, filters: frozenset[str]) -> bool:
        """Whether it is usable (`RememberedItem`)."""
        return filters <= self.filters


def remembered(items: SessionItems[Item]) -> list[int]:
    return [machine_id for machine_id in range(10) if items.get(machine_id) is not None]


def test_a_session_remembers_no_more_than_its_maximum() -> None:
    items: SessionItems[Item] = SessionItems(3)
    for machine_id in range(5):
        items.remember(Item(machine_id, 100))
    assert remembered(items) == [0, 1, 2]


def test_a_changed_item_replaces_what_was_remembered_of_its_machine() -> None:
    items: SessionItems[Item] = SessionItems(1)
    items.remember(Item(1))
    changed = Item(1)
    items.remember(changed)
    assert items.get(1) is changed


def test_items_that_were_not_listed_for_long_make_room() -> None:
    items: SessionItems[Item] = SessionItems(3)
    for machine_id, used_at in enumerate((1000, 1000 + UNUSED_SECONDS, 1000)):
        items.remember(Item(machine_id, used_at))
    items.remember(Item(3, 1000 + UNUSED_SECONDS))
    assert remembered(items) == [1, 3]


def test_the_session_that_was_used_least_recently_is_forgotten_first() -> None:
    memory: ItemMemory[Item] = ItemMemory(4)
    for session in ("a", "b"):
        for machine_id in range(2):
            memory.remember(session, Item(machine_id))
    memory.of("a")
    memory.remember("c", Item(1))
    assert memory.count == 5
    memory.of("c")
    assert [remembered(memory.of(session)) for session in ("a", "c", "b")] == [[0, 1], [1], []]


def test_a_single_session_is_not_forgotten() -> None:
    memory: ItemMemory[Item] = ItemMemory(1)
    for machine_id in range(3):
        memory.remember("a", Item(machine_id))
    assert remembered(memory.of("a")) == [0, 1, 2]


def test_sessions_without_items_do_not_accumulate() -> None:
    memory: ItemMemory[Item] = ItemMemory(max_sessions=2)
    memory.remember("a", Item(1))
    for session in "bcd":
        memory.of(session)
    assert memory.count == 0
    assert remembered(memory.of("a")) == []


def test_the_count_is_that_of_the_items_that_are_remembered() -> None:
    memory: ItemMemory[Item] = ItemMemory()
    for machine_id in (1, 1, 2, 3):
        memory.remember("a", Item(machine_id))
    memory.forget("a", [3, 4])
    memory.remember("b", Item(1))
    assert memory.count == len(memory.of("a")) + len(memory.of("b")) == 3


def test_equal_lists_have_equal_parsers_and_other_lists_others() -> None:
    items: SessionItems[Item] = SessionItems()
    assert items.parser(frozenset({"a"})) == items.parser(frozenset({"a"}))
    assert items.parser(frozenset({"a"})) != items.parser(frozenset())
    assert items.parser(frozenset()) != SessionItems[Item]().parser(frozenset())


def test_only_usable_items_are_found() -> None:
    body = reply_body([True, "<VM_POOL><VM><ID>1</ID></VM></VM_POOL>", 0])
    items: SessionItems[Item] = SessionItems()

    def parsed(*filters: str) -> MachineReply[Item]:
        return items.parser(frozenset(filters))("one.vmpool.infoextended", body)

    ((_, fingerprint),) = parsed().others
    items.remember(Item(1, filters=frozenset({"a", "b"}), fingerprint=fingerprint))
    assert [item.id for item in parsed("a").unchanged] == [1]
    assert list(parsed("a", "c").unchanged) == []
