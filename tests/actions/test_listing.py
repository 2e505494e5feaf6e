"""Long lists, set by set: when sets are read, how items are merged, where a page ends."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from econed.actions.action import Parts
from econed.actions.instances.view import ReservationMerger
from econed.actions.listing import Page, in_parts, set_of, with_first_set
from econed.actions.paging import Listing, Paging
from econed.actions.reading_ahead import MAX_AHEAD, ReadAhead
from econed.actions.sets import Sets
from econed.opennebula.read_session import SET_SIZE
from tests.support.cloud import Cloud

NUMBERS = Listing("numbers", (int,))


class Document:
    """A document that is read from oned."""

    def __init__(self, number: int) -> None:
        self.number = number


class Reader:
    """Reads sets of documents, and keeps track of those that are in memory."""

    def __init__(self, *sets: list[int]) -> None:
        self.sets = sets
        self.read = 0
        self.closed = False
        self.alive: weakref.WeakSet[Document] = weakref.WeakSet()

    async def yield_sets(self) -> Sets[Document]:
        """Yield the sets."""
        try:
            for numbers in self.sets:

                async def read(numbers: list[int] = numbers) -> list[Document]:
                    self.read += 1
                    documents = [Document(number) for number in numbers]
                    self.alive.update(documents)
                    return documents

                yield read
        finally:
            self.closed = True


def position(document: Document) -> tuple[int]:
    return (document.number,)


async def view(document: Document) -> dict[str, int] | None:
    """Return the view of an even number; odd ones are not shown."""
    return None if document.number % 2 else {"Number": document.number}


def result_of(coroutine: Any) -> Any:
    """Return the result of a coroutine that waits for nothing."""
    ended: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(ended.append)
    return ended[0]


def parts_of(reader: Reader, limit: int | None = None, after: tuple[int] | None = None) -> Any:
    paging = Paging(NUMBERS, after, limit)
    return in_parts("Numbers", reader.yield_sets(), view, Page(position, paging))


async def all_of(parts: Any) -> list[dict[str, Any]]:
    return [part async for part in parts]


def test_each_part_is_a_set_that_is_read_on_demand() -> None:
    reader = Reader([1, 2, 4], [5, 6])
    parts = parts_of(reader)
    assert reader.read == 0
    assert result_of(parts.__anext__()) == {"Numbers": [{"Number": 2}, {"Number": 4}]}
    assert reader.read == 1
    assert result_of(all_of(parts)) == [{"Numbers": [{"Number": 6}]}, {"Numbers": []}]


def test_no_document_and_no_yielded_item_is_in_memory_while_the_client_reads() -> None:
    """Neither in the frames of the iterators nor anywhere else."""
    reader = Reader([2, 4], [6])
    parts = parts_of(reader)
    part = result_of(parts.__anext__())
    gc.collect()
    assert len(reader.alive) == 0
    assert not [referrer for referrer in gc.get_referrers(part["Numbers"]) if referrer is not part]
    assert not [referrer for referrer in gc.get_referrers(part["Numbers"][0]) if referrer is not part["Numbers"]]


def test_a_document_is_released_when_it_has_been_viewed() -> None:
    """A view keeps what it has read, and garbage collection takes longer the more there is."""
    reader = Reader(list(range(10)))
    alive = []

    async def counting_view(document: Document) -> dict[str, int] | None:
        alive.append(len(reader.alive))
        return await view(document)

    result_of(all_of(in_parts("Numbers", reader.yield_sets(), counting_view, Page(position))))
    assert alive == list(range(10, 0, -1))


def test_closing_the_parts_closes_the_sets() -> None:
    reader = Reader([2], [4])
    parts = parts_of(reader)
    result_of(parts.__anext__())
    result_of(parts.aclose())
    assert reader.closed
    assert reader.read == 1


def test_an_empty_list_is_one_empty_part() -> None:
    assert result_of(all_of(parts_of(Reader()))) == [{"Numbers": []}]


def test_a_page_ends_with_a_token_for_the_next_and_reads_no_further() -> None:
    reader = Reader([2, 3, 4], [6, 8], [10])
    *parts, last_part = result_of(all_of(parts_of(reader, limit=3)))
    assert [item["Number"] for part in parts for item in part["Numbers"]] == [2, 4, 6]
    assert reader.read == 2
    next_page = Paging.of(NUMBERS, 5, last_part["NextToken"])
    remaining = result_of(all_of(parts_of(Reader([2, 3, 4], [6, 8], [10]), after=next_page.after)))  # type: ignore[arg-type]
    assert [item["Number"] for part in remaining for item in part["Numbers"]] == [8, 10]


def test_a_set_is_ordered_by_position() -> None:
    assert result_of(all_of(parts_of(Reader([6, 2, 4]))))[0] == {
        "Numbers": [{"Number": number} for number in (2, 4, 6)]
    }


def test_documents_that_were_read_before_are_released_when_they_are_read() -> None:
    documents = [Document(2)]
    sets = set_of(documents)
    read = result_of(sets.__anext__())
    assert [document.number for document in result_of(read())] == [2]
    assert documents == []


# Reservations


def _reservations(*pairs: tuple[str, str]) -> list[Any]:
    return [{"ReservationId": reservation, "Instances": [{"InstanceId": instance}]} for reservation, instance in pairs]


def _flat(reservations: list[Any]) -> list[tuple[str, list[str]]]:
    return [
        (reservation["ReservationId"], [instance["InstanceId"] for instance in reservation["Instances"]])
        for reservation in reservations
    ]


def test_the_last_reservation_of_a_set_is_merged_with_the_next_set() -> None:
    reservations = ReservationMerger()
    first_set = _reservations(("r-1", "a"), ("r-2", "b"), ("r-1", "c"), ("r-2", "d"))
    assert _flat(reservations.add(first_set)) == [("r-1", ["a", "c"])]
    assert _flat(reservations.add(_reservations(("r-2", "e"), ("r-3", "f")))) == [("r-2", ["b", "d", "e"])]
    assert reservations.add([]) == []
    assert _flat(reservations.remaining()) == [("r-3", ["f"])]
    assert reservations.remaining() == []


def test_a_large_reservation_is_not_held_back_for_the_next_set() -> None:
    """Otherwise it would grow in memory without limit."""
    reservations = ReservationMerger()
    ready = reservations.add(_reservations(*(("r-1", str(number)) for number in range(150))))
    assert len(ready[0]["Instances"]) == 150
    assert reservations.remaining() == []


def test_a_large_reservation_is_complete_where_another_user_has_written_its_id() -> None:
    """The machine of the other user, with a higher id, is the last of the set."""
    reservations = ReservationMerger()
    of_victim = _reservations(*[("r-1", "a")] * 150)
    of_attacker = _reservations(("r-1", "b"))
    for owner, owned in (("1", of_victim), ("2", of_attacker)):
        for reservation in owned:
            reservation["OwnerId"] = owner
    ready = reservations.add([*of_victim, *of_attacker])
    assert [len(reservation["Instances"]) for reservation in ready] == [150]
    assert _flat(reservations.remaining()) == [("r-1", ["b"])]


# In a cloud


@pytest.fixture(scope="module")
def large() -> Cloud:
    """A cloud with more machines than a set."""
    return Cloud(vms=SET_SIZE + 20)


def test_a_list_of_more_than_a_set_has_every_instance_once(large: Cloud) -> None:
    reservations = large.run("alice", "DescribeInstances")["Reservations"]
    ids = [instance["InstanceId"] for reservation in reservations for instance in reservation["Instances"]]
    assert len(ids) == len(set(ids)) == SET_SIZE + 20
    assert ids == sorted(ids)


def test_images_of_more_than_a_set_are_read_by_ranges_of_ids() -> None:
    """The list is complete, with or without pages, and so is the list of their tags."""
    cloud = Cloud()
    for number in range(SET_SIZE + 5):
        template = (
            f'NAME="i{number}"\nTYPE="OS"\nPATH="/x"\nSIZE=1\nEC2_AMI="YES"\nEC2_TAG_6B=[KEY="k",VALUE="{number}"]'
        )
        cloud.as_user("alice", "one.image.allocate", template, 1)
    listed = [image["ImageId"] for image in cloud.run("alice", "DescribeImages", Owners=["self"])["Images"]]
    assert len(listed) == len(set(listed)) == SET_SIZE + 5
    first = cloud.run("alice", "DescribeImages", Owners=["self"], MaxResults=SET_SIZE)
    second = cloud.run("alice", "DescribeImages", Owners=["self"], MaxResults=SET_SIZE, NextToken=first["NextToken"])
    assert [image["ImageId"] for image in (*first["Images"], *second["Images"])] == listed
    tags = cloud.run("alice", "DescribeTags", Filters=[{"Name": "resource-type", "Values": ["image"]}])["Tags"]
    assert [tag["ResourceId"] for tag in tags if tag["Key"] == "k"] == listed
    arguments = [call.args for call in cloud.oned.calls if call.method == "one.imagepool.info"]
    assert any(args[1] != -1 for args in arguments)


def test_the_next_set_is_read_while_the_current_one_is_viewed_and_no_further() -> None:
    reader = Reader([1], [2], [3])
    ahead = ReadAhead()

    async def read_counts() -> list[tuple[int, int]]:
        counts = []
        async for read in ahead.sets("alice", reader.yield_sets()):
            await read()
            counts.append((reader.read, ahead.count))
        return counts

    assert result_of(read_counts()) == [(2, 1), (3, 1), (3, 0)]
    assert reader.closed


def test_sets_are_read_ahead_for_one_list_of_a_session_and_for_few_of_a_process() -> None:
    ahead = ReadAhead()
    readers = [Reader([1], [2]) for _ in range(MAX_AHEAD + 2)]
    lists = [
        ahead.sets(session, reader.yield_sets())
        for session, reader in zip(("a", "a", "b", "c", "d"), readers, strict=True)
    ]

    async def read_first(sets: Sets[Document]) -> None:
        await (await anext(sets))()

    for sets in lists:
        result_of(read_first(sets))
    assert [reader.read for reader in readers] == [2, 1, 2, 2, 1]
    for sets in lists:
        result_of(sets.aclose())
    assert ahead.count == 0
    assert not any(reader.alive for reader in readers)


def test_a_failure_of_a_set_that_was_read_ahead_is_raised_when_it_is_requested() -> None:
    async def failing() -> list[Document]:
        raise ValueError

    async def sets() -> Sets[Document]:
        yield _empty
        yield failing

    async def read_all(ahead: ReadAhead) -> int:
        count = 0
        async for read in ahead.sets("alice", sets()):
            try:
                await read()
            except ValueError:
                return count
            count += 1
        return -1

    ahead = ReadAhead()
    assert result_of(read_all(ahead)) == 1
    assert ahead.count == 0


async def _parts(produced: list[int], *, fails: bool = False) -> Parts[dict[str, int]]:
    for number in (1, 2):
        produced.append(number)
        yield {"Number": number}
        if fails:
            raise ValueError


def test_short_results_are_produced_before_they_are_read_up_to_a_number_for_each_session() -> None:
    limits = ReadAhead(3, 2)
    produced: list[list[int]] = [[] for _ in range(5)]
    sessions = ("a", "a", "a", "b", "c")
    results = [
        result_of(limits.result(session, _parts(numbers))) for session, numbers in zip(sessions, produced, strict=True)
    ]
    assert produced == [[1, 2], [1, 2], [], [1, 2], []]

    async def numbers_of(result: Parts[dict[str, int]]) -> list[int]:
        return [part["Number"] async for part in result]

    assert [result_of(numbers_of(result)) for result in results] == [[1, 2]] * 5
    assert limits.count == 0


def test_a_short_result_that_fails_or_is_never_read_no_longer_counts() -> None:
    limits = ReadAhead(1, 1)
    failure = result_of(limits.result("a", _parts([], fails=True)))
    assert failure.check(ValueError)
    assert limits.count == 0
    result = result_of(limits.result("a", _parts([])))
    assert limits.count == 1
    result_of(result.aclose())
    assert limits.count == 0


async def _empty() -> list[Document]:
    return []


def test_more_is_read_at_the_same_time_as_the_first_set() -> None:
    reader = Reader([1], [2])
    answer: Deferred[None] = Deferred()

    async def read_more() -> None:
        await answer

    async def read_all() -> list[int]:
        documents: list[int] = []
        async for read in with_first_set(reader.yield_sets(), read_more):
            documents += [document.number for document in await read()]
        return documents

    reading = Deferred.fromCoroutine(read_all())
    assert reader.read == 1
    assert not reading.called
    answer.callback(None)
    assert reader.read == 2
    assert reading.result == [1, 2]
