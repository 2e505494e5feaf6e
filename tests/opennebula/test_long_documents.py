"""Lists that are too long are read in halves; objects whose own documents are too long are left out."""

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
from tests.opennebula.test_session import ScriptedOned, ids_of

MAX_LENGTH = 32
"""The maximum length of a reply, which is the sum of the lengths of the documents in it (`DocumentLengths`)."""

_TAGS = {
    "one.imagepool.info": "IMAGE",
    "one.templatepool.info": "VMTEMPLATE",
    "one.vmpool.info": "VM",
    "one.vmpool.infoextended": "VM",
    "one.vmpool.infoset": "VM",
}


class DocumentLengths:
    """The replies of an oned that has objects with documents of these lengths, newest first."""

    def __init__(self, by_id: Mapping[int, int]) -> None:
        self.by_id = dict(by_id)

    def __call__(self, method: str, args: tuple[Any, ...]) -> str:
        ids = sorted(self.by_id, reverse=True)
        if method == "one.vmpool.infoset":
            requested = [int(text) for text in args[0].split(",")]
            ids = [object_id for object_id in ids if object_id in requested]
        elif method in ("one.vmpool.infoextended", "one.vmpool.info"):
            ids = ids[args[1] : args[1] - args[2]]
        else:
            first, last = args[1], args[2]
            ids = [object_id for object_id in ids if object_id >= first and (last < 0 or object_id <= last)]
        if method != "one.vmpool.info" and sum(self.by_id[object_id] for object_id in ids) > MAX_LENGTH:
            raise ReplyTooLarge(method, f"the response is longer than {MAX_LENGTH} bytes")
        tag = _TAGS[method]
        return f"<POOL>{''.join(f'<{tag}><ID>{object_id}</ID></{tag}>' for object_id in ids)}</POOL>"


class SessionHarness:
    """A session on an oned with documents of given lengths, a clock, and the logged events."""

    def __init__(self, lengths: Mapping[int, int]) -> None:
        self.lengths = DocumentLengths(lengths)
        self.oned = ScriptedOned(self.lengths)
        self.clock = Clock()
        self.events: list[LogEvent] = []
        log = Logger(observer=self.events.append)  # type: ignore[arg-type]
        self.session = Session(self.oned, "alice", None, LongDocuments(self.clock.seconds, log))

    async def images(self, first: int = -1, last: int = -1) -> list[int]:
        """Return the ids of the images that are read."""
        return [image.id for image in await self.session.images(OwnerFilter.VISIBLE, first, last)]

    def calls(self) -> int:
        """Return the number of calls since the last call of this method."""
        count = len(self.oned.calls)
        self.oned.calls.clear()
        return count


@pytest_twisted.ensureDeferred
async def test_machines_too_long_for_one_reply_are_read_in_halves_in_the_requested_order() -> None:
    harness = SessionHarness(dict.fromkeys(range(8), 10))
    requested = (5, 1, 7, 0, 2, 6, 3, 4)
    assert ids_of(await harness.session.vms(requested)) == list(requested)
    assert [call[2] for call in harness.oned.calls] == [
        "5,1,7,0,2,6,3,4",
        *("5,1,7,0", "5,1", "7,0"),
        *("2,6,3,4", "2,6", "3,4"),
    ]
    assert not harness.events


@pytest_twisted.ensureDeferred
async def test_a_machine_with_a_long_document_is_left_out_and_not_requested_for_a_minute() -> None:
    harness = SessionHarness({**dict.fromkeys(range(16), 1), 9: MAX_LENGTH + 1})
    others = [vm_id for vm_id in range(16) if vm_id != 9]
    assert ids_of(await harness.session.vms(range(16))) == others
    assert harness.calls() == 1 + 2 * 4
    assert [(event["id"], str(MAX_LENGTH) in event["error"]) for event in harness.events] == [(9, True)]
    harness.clock.advance(SKIP_SECONDS - 1)
    assert ids_of(await harness.session.vms(range(16))) == others
    assert harness.calls() == 1
    assert await harness.session.vms((9,)) == ()
    assert harness.calls() == 0
    harness.lengths.by_id[9] = 1
    harness.clock.advance(1)
    assert ids_of(await harness.session.vms(range(16))) == list(range(16))
    assert harness.calls() == 1


@pytest_twisted.ensureDeferred
async def test_the_newest_machines_are_read_without_machines_with_long_documents() -> None:
    harness = SessionHarness({**dict.fromkeys(range(300), 0), 299: MAX_LENGTH + 1, 150: MAX_LENGTH + 1})
    machines = await harness.session.newest_vms(200, OwnerFilter.VISIBLE, VmState.DONE)
    assert ids_of(machines) == [vm_id for vm_id in range(298, 99, -1) if vm_id != 150]
    assert harness.oned.calls[:2] == [
        ("alice", "one.vmpool.infoextended", -2, 0, -200, 6, ""),
        ("alice", "one.vmpool.info", -2, 0, -200, 6, ""),
    ]
    harness.calls()
    await harness.session.newest_vms(200, OwnerFilter.VISIBLE, VmState.DONE)
    assert harness.calls() == 3


@pytest_twisted.ensureDeferred
async def test_a_page_of_machines_that_is_too_long_is_read_in_halves_without_leaving_any_out() -> None:
    """A launch relies on it: it fails with a machine whose document is too long instead of taking it for missing."""
    harness = SessionHarness(dict.fromkeys(range(20), 8))
    assert ids_of(await harness.session.vm_page(10, 5)) == list(range(14, 4, -1))
    assert {call[3:5] for call in harness.oned.calls} == {
        *((5, -10), (5, -5), (10, -5)),
        *((5, -2), (7, -3), (10, -2), (12, -3)),
    }
    harness.lengths.by_id[9] = MAX_LENGTH + 1
    with pytest.raises(ReplyTooLarge):
        await harness.session.vm_page(10, 5)
    assert all(int(call[4]) < -1 for call in harness.oned.calls)  # type: ignore[call-overload]


@pytest.mark.parametrize("long", [(), (0,), (999,), (512,), (0, 511, 512, 999), (700, 701)])
@pytest.mark.parametrize("highest", [999, 70_000, 2**31 - 1])
@pytest_twisted.ensureDeferred
async def test_a_pool_that_is_too_long_is_read_by_ranges_of_ids_without_long_documents(
    long: tuple[int, ...], highest: int
) -> None:
    """The number of calls grows with the number of long documents; once they are known, with that of the gaps."""
    lowest = highest - 999
    long = tuple(lowest + offset for offset in long)
    harness = SessionHarness({**dict.fromkeys(range(lowest, highest + 1), 0), **dict.fromkeys(long, MAX_LENGTH + 1)})
    others = [image_id for image_id in range(highest, lowest - 1, -1) if image_id not in long]
    assert await harness.images() == others
    assert harness.calls() <= min(MAX_CALLS, 1 + (6 + 2 * 31 if highest > 999 else 6 + 2 * 10) * len(long)) + 5
    assert await harness.images() == others
    assert harness.calls() <= 1 + len(long)


@pytest_twisted.ensureDeferred
async def test_a_pool_of_many_short_documents_is_read_completely() -> None:
    harness = SessionHarness(dict.fromkeys(range(100), 1))
    assert await harness.images() == list(range(99, -1, -1))
    assert harness.calls() == 1 + 5 + 6
    assert await harness.images(10, 60) == list(range(60, 9, -1))
    assert harness.calls() == 3
    assert not harness.events


@pytest_twisted.ensureDeferred
async def test_only_ids_within_the_requested_range_are_read() -> None:
    harness = SessionHarness({**dict.fromkeys(range(100), 0), 50: MAX_LENGTH + 1})
    assert await harness.images(48, 52) == [52, 51, 49, 48]
    assert all(48 <= int(call[3]) <= int(call[4]) <= 52 for call in harness.oned.calls)  # type: ignore[call-overload]
    harness.calls()
    assert await harness.images(50, 50) == []
    assert harness.calls() == 0
    assert await harness.images(60, 70) == list(range(70, 59, -1))
    assert harness.oned.calls == [("alice", "one.imagepool.info", -2, 60, 70)]


@pytest_twisted.ensureDeferred
async def test_long_images_of_other_users_do_not_affect_reads_of_the_users_own_images() -> None:
    harness = SessionHarness({**dict.fromkeys(range(100), 0), **dict.fromkeys(range(0, 100, 10), MAX_LENGTH + 1)})
    await harness.images()
    harness.lengths.by_id = dict.fromkeys(range(1, 100, 10), 1)
    harness.calls()
    assert [image.id for image in await harness.session.images(OwnerFilter.MINE)] == list(range(91, 0, -10))
    assert harness.oned.calls == [("alice", "one.imagepool.info", OwnerFilter.MINE, -1, -1)]


@pytest_twisted.ensureDeferred
async def test_templates_are_read_like_images_and_long_documents_are_remembered_by_kind() -> None:
    harness = SessionHarness({1: 1, 2: MAX_LENGTH + 1, 3: 1})
    assert [template.id for template in await harness.session.templates()] == [3, 1]
    harness.lengths.by_id[2] = 1
    assert await harness.images() == [3, 2, 1]
    assert [template.id for template in await harness.session.templates()] == [3, 1]


@pytest_twisted.ensureDeferred
async def test_any_number_of_long_documents_takes_a_bounded_number_of_calls() -> None:
    """Objects not read by then are left out, and the log says so."""
    harness = SessionHarness({**dict.fromkeys(range(500), MAX_LENGTH + 1), **dict.fromkeys(range(500, 520), 0)})
    assert await harness.images() == list(range(519, 499, -1))
    assert harness.calls() <= MAX_CALLS + 5
    assert "list truncated" in harness.events[-1]["log_format"]
    harness.calls()
    assert await harness.session.vms(range(250)) == ()
    assert harness.calls() <= MAX_CALLS


@pytest_twisted.ensureDeferred
async def test_only_a_bounded_number_of_long_documents_is_remembered() -> None:
    harness = SessionHarness({**dict.fromkeys(range(MAX_SKIPPED + 1), MAX_LENGTH + 1)})
    for vm_id in range(MAX_SKIPPED + 1):
        assert await harness.session.vms((vm_id,)) == ()
    assert harness.calls() == MAX_SKIPPED + 1
    await harness.session.vms((MAX_SKIPPED,))
    assert harness.calls() == 0
    await harness.session.vms((0,))
    assert harness.calls() == 1


@pytest_twisted.ensureDeferred
async def test_any_other_error_while_a_list_is_read_in_halves_is_raised() -> None:
    lengths = DocumentLengths(dict.fromkeys(range(8), 10))

    def reply(method: str, args: tuple[Any, ...]) -> str:
        if args[0] == "4,5":
            raise OpenNebulaUnavailable(method, "connection refused")
        return lengths(method, args)

    with pytest.raises(OpenNebulaUnavailable):
        await Session(ScriptedOned(reply), "alice").vms(range(8))


@pytest_twisted.ensureDeferred
async def test_where_the_accounting_of_all_machines_is_too_long_the_users_own_is_read() -> None:
    def reply(method: str, args: tuple[Any, ...]) -> str:
        if args[0] == OwnerFilter.VISIBLE:
            raise ReplyTooLarge(method, "the response is too long")
        return "<HISTORY_RECORDS><HISTORY><OID>4</OID></HISTORY></HISTORY_RECORDS>"

    oned = ScriptedOned(reply)
    assert await Session(oned, "alice").vm_ids_since(5) == (4,)
    assert [call[2] for call in oned.calls] == [OwnerFilter.VISIBLE, OwnerFilter.MINE]
