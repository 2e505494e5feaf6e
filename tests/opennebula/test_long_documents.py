"""Lists in which users have made documents too long are read in halves, without what is too long by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger

from econed.errors import OpenNebulaUnavailable, ReplyTooLarge
from econed.opennebula.long_documents import MAX_CALLS, MAX_SKIPPED, SKIP_SECONDS, LongDocuments
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.session import Session
from econed.opennebula.states import VmState
from tests.opennebula.test_session import Scripted, ids_of

BOUND = 32
"""How long a response of this oned may be, where the document of an object is as long as `Lengths.of` says."""

_TAGS = {
    "one.imagepool.info": "IMAGE",
    "one.templatepool.info": "VMTEMPLATE",
    "one.vmpool.info": "VM",
    "one.vmpool.infoextended": "VM",
    "one.vmpool.infoset": "VM",
}


class Lengths:
    """The answers of an oned that has objects of these lengths, newest first."""

    def __init__(self, of: Mapping[int, int]) -> None:
        self.of = dict(of)

    def __call__(self, method: str, args: tuple[Any, ...]) -> str:
        ids = sorted(self.of, reverse=True)
        if method == "one.vmpool.infoset":
            wanted = [int(each) for each in args[0].split(",")]
            ids = [each for each in ids if each in wanted]
        elif method in ("one.vmpool.infoextended", "one.vmpool.info"):
            ids = ids[args[1] : args[1] - args[2]]
        else:
            first, last = args[1], args[2]
            ids = [each for each in ids if each >= first and (last < 0 or each <= last)]
        if method != "one.vmpool.info" and sum(self.of[each] for each in ids) > BOUND:
            raise ReplyTooLarge(method, f"a response of more than {BOUND} bytes")
        tag = _TAGS[method]
        return f"<POOL>{''.join(f'<{tag}><ID>{each}</ID></{tag}>' for each in ids)}</POOL>"


class SessionHarness:
    """A session on such an oned, a clock, and what is logged."""

    def __init__(self, of: Mapping[int, int]) -> None:
        self.lengths = Lengths(of)
        self.one = Scripted(self.lengths)
        self.clock = Clock()
        self.events: list[LogEvent] = []
        log = Logger(observer=self.events.append)  # type: ignore[arg-type]
        self.session = Session(self.one, "alice", None, LongDocuments(self.clock.seconds, log))

    async def images(self, first: int = -1, last: int = -1) -> list[int]:
        """Return the ids of the images that are read."""
        return [image.id for image in await self.session.images(OwnerFilter.VISIBLE, first, last)]

    def calls(self) -> int:
        """Return how many calls were made since this was asked before."""
        made = len(self.one.calls)
        self.one.calls.clear()
        return made


@pytest_twisted.ensureDeferred
async def test_machines_too_long_to_be_read_at_once_are_read_in_halves_in_the_order_asked_for() -> None:
    harness = SessionHarness(dict.fromkeys(range(8), 10))
    wanted = (5, 1, 7, 0, 2, 6, 3, 4)
    assert ids_of(await harness.session.vms(wanted)) == list(wanted)
    assert [call[2] for call in harness.one.calls] == [
        "5,1,7,0,2,6,3,4",
        *("5,1,7,0", "5,1", "7,0"),
        *("2,6,3,4", "2,6", "3,4"),
    ]
    assert not harness.events


@pytest_twisted.ensureDeferred
async def test_a_machine_too_long_by_itself_is_left_out_and_not_asked_for_again_for_a_minute() -> None:
    harness = SessionHarness({**dict.fromkeys(range(16), 1), 9: BOUND + 1})
    others = [each for each in range(16) if each != 9]
    assert ids_of(await harness.session.vms(range(16))) == others
    assert harness.calls() == 1 + 2 * 4
    assert [(event["id"], str(BOUND) in event["error"]) for event in harness.events] == [(9, True)]
    harness.clock.advance(SKIP_SECONDS - 1)
    assert ids_of(await harness.session.vms(range(16))) == others
    assert harness.calls() == 1
    assert await harness.session.vms((9,)) == ()
    assert harness.calls() == 0
    harness.lengths.of[9] = 1
    harness.clock.advance(1)
    assert ids_of(await harness.session.vms(range(16))) == list(range(16))
    assert harness.calls() == 1


@pytest_twisted.ensureDeferred
async def test_the_newest_machines_are_read_without_those_that_are_too_long() -> None:
    harness = SessionHarness({**dict.fromkeys(range(300), 0), 299: BOUND + 1, 150: BOUND + 1})
    found = await harness.session.newest_vms(200, OwnerFilter.VISIBLE, VmState.DONE)
    assert ids_of(found) == [each for each in range(298, 99, -1) if each != 150]
    assert harness.one.calls[:2] == [
        ("alice", "one.vmpool.infoextended", -2, 0, -200, 6, ""),
        ("alice", "one.vmpool.info", -2, 0, -200, 6, ""),
    ]
    harness.calls()
    await harness.session.newest_vms(200, OwnerFilter.VISIBLE, VmState.DONE)
    assert harness.calls() == 3


@pytest_twisted.ensureDeferred
async def test_a_page_of_machines_that_is_too_long_is_read_in_halves_and_nothing_is_left_out() -> None:
    """A launch goes by what it finds there: it fails where one is too long, and does not take it for missing."""
    harness = SessionHarness(dict.fromkeys(range(20), 8))
    assert ids_of(await harness.session.vm_page(10, 5)) == list(range(14, 4, -1))
    assert {call[3:5] for call in harness.one.calls} == {
        *((5, -10), (5, -5), (10, -5)),
        *((5, -2), (7, -3), (10, -2), (12, -3)),
    }
    harness.lengths.of[9] = BOUND + 1
    with pytest.raises(ReplyTooLarge):
        await harness.session.vm_page(10, 5)
    assert all(int(call[4]) < -1 for call in harness.one.calls)  # type: ignore[call-overload]


@pytest.mark.parametrize("long", [(), (0,), (999,), (512,), (0, 511, 512, 999), (700, 701)])
@pytest.mark.parametrize("highest", [999, 70_000, 2**31 - 1])
@pytest_twisted.ensureDeferred
async def test_a_pool_that_is_too_long_is_read_by_ranges_of_ids_without_what_is_too_long(
    long: tuple[int, ...], highest: int
) -> None:
    """It takes a number of calls that grows with the long documents, and one for each gap when they are known."""
    lowest = highest - 999
    long = tuple(lowest + each for each in long)
    harness = SessionHarness({**dict.fromkeys(range(lowest, highest + 1), 0), **dict.fromkeys(long, BOUND + 1)})
    others = [each for each in range(highest, lowest - 1, -1) if each not in long]
    assert await harness.images() == others
    assert harness.calls() <= min(MAX_CALLS, 1 + (6 + 2 * 31 if highest > 999 else 6 + 2 * 10) * len(long)) + 5
    assert await harness.images() == others
    assert harness.calls() <= 1 + len(long)


@pytest_twisted.ensureDeferred
async def test_a_pool_of_short_documents_too_many_for_one_response_is_read_whole() -> None:
    harness = SessionHarness(dict.fromkeys(range(100), 1))
    assert await harness.images() == list(range(99, -1, -1))
    assert harness.calls() == 1 + 5 + 6
    assert await harness.images(10, 60) == list(range(60, 9, -1))
    assert harness.calls() == 3
    assert not harness.events


@pytest_twisted.ensureDeferred
async def test_a_range_is_read_as_it_is_asked_for_with_nothing_beside_it() -> None:
    harness = SessionHarness({**dict.fromkeys(range(100), 0), 50: BOUND + 1})
    assert await harness.images(48, 52) == [52, 51, 49, 48]
    assert all(48 <= int(call[3]) <= int(call[4]) <= 52 for call in harness.one.calls)  # type: ignore[call-overload]
    harness.calls()
    assert await harness.images(50, 50) == []
    assert harness.calls() == 0
    assert await harness.images(60, 70) == list(range(70, 59, -1))
    assert harness.one.calls == [("alice", "one.imagepool.info", -2, 60, 70)]


@pytest_twisted.ensureDeferred
async def test_long_images_of_others_do_not_change_how_ones_own_are_read() -> None:
    harness = SessionHarness({**dict.fromkeys(range(100), 0), **dict.fromkeys(range(0, 100, 10), BOUND + 1)})
    await harness.images()
    harness.lengths.of = dict.fromkeys(range(1, 100, 10), 1)
    harness.calls()
    assert [image.id for image in await harness.session.images(OwnerFilter.MINE)] == list(range(91, 0, -10))
    assert harness.one.calls == [("alice", "one.imagepool.info", OwnerFilter.MINE, -1, -1)]


@pytest_twisted.ensureDeferred
async def test_templates_are_read_as_images_and_what_is_too_long_of_one_kind_says_nothing_of_the_other() -> None:
    harness = SessionHarness({1: 1, 2: BOUND + 1, 3: 1})
    assert [each.id for each in await harness.session.templates()] == [3, 1]
    harness.lengths.of[2] = 1
    assert await harness.images() == [3, 2, 1]
    assert [each.id for each in await harness.session.templates()] == [3, 1]


@pytest_twisted.ensureDeferred
async def test_long_documents_without_number_cost_a_bounded_number_of_calls() -> None:
    """What has not been read then is left out, and the log says so."""
    harness = SessionHarness({**dict.fromkeys(range(500), BOUND + 1), **dict.fromkeys(range(500, 520), 0)})
    assert await harness.images() == list(range(519, 499, -1))
    assert harness.calls() <= MAX_CALLS + 5
    assert "list truncated" in harness.events[-1]["log_format"]
    harness.calls()
    assert await harness.session.vms(range(250)) == ()
    assert harness.calls() <= MAX_CALLS


@pytest_twisted.ensureDeferred
async def test_a_bounded_number_of_long_documents_is_remembered() -> None:
    harness = SessionHarness({**dict.fromkeys(range(MAX_SKIPPED + 1), BOUND + 1)})
    for number in range(MAX_SKIPPED + 1):
        assert await harness.session.vms((number,)) == ()
    assert harness.calls() == MAX_SKIPPED + 1
    await harness.session.vms((MAX_SKIPPED,))
    assert harness.calls() == 0
    await harness.session.vms((0,))
    assert harness.calls() == 1


@pytest_twisted.ensureDeferred
async def test_whatever_else_fails_while_a_list_is_read_in_halves_ends_the_reading() -> None:
    lengths = Lengths(dict.fromkeys(range(8), 10))

    def answer(method: str, args: tuple[Any, ...]) -> str:
        if args[0] == "4,5":
            raise OpenNebulaUnavailable(method, "connection refused")
        return lengths(method, args)

    with pytest.raises(OpenNebulaUnavailable):
        await Session(Scripted(answer), "alice").vms(range(8))


@pytest_twisted.ensureDeferred
async def test_where_the_accounts_of_all_machines_are_too_long_ones_own_are_read() -> None:
    def answer(method: str, args: tuple[Any, ...]) -> str:
        if args[0] == OwnerFilter.VISIBLE:
            raise ReplyTooLarge(method, "a response of too many bytes")
        return "<HISTORY_RECORDS><HISTORY><OID>4</OID></HISTORY></HISTORY_RECORDS>"

    one = Scripted(answer)
    assert await Session(one, "alice").vm_ids_since(5) == (4,)
    assert [call[2] for call in one.calls] == [OwnerFilter.VISIBLE, OwnerFilter.MINE]
