"""The contract: the sandbox answers every recorded call of real oned as oned did, over real XML-RPC."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from econed.sandbox.oned import Oned
from tests.sandbox.replay import Call, IdMapping, Replay, Replayed, document, leaves, read
from tests.sandbox.shifted_ids import ShiftedIds

VERSIONS = ("5.12", "7.4")

NOT_IN_THE_SANDBOX: frozenset[str] = frozenset({"one.nonsense.info"})
"""Methods of the recordings that the sandbox does not have: one that oned has not either."""

IGNORED: Mapping[str, str] = {
    r"(?<!HISTORY_RECORDS/HISTORY)/[A-Z_0-9]*TIME$|/DATE$": "moments",
    r"/LOGIN_TOKEN/TOKEN$|TOKEN_PASSWORD$|UUID$|REQ(UEST)?_ID$": "chosen at random",
    r"/(SCHED_MESSAGE|ERROR)$": "begin with the time, and go on in words that differ between versions",
    r"_MB$|^HOST(_POOL/HOST)?/(HOST_SHARE|MONITORING|TEMPLATE|VMS|VM_MAD|IM_MAD|NUMA|LAST)": "what hosts measure",
    r"^OPENNEBULA_CONFIGURATION": "the configuration of the recorded oned",
    r"ENDPOINT": "where the recorded oned listened",
    r"^HISTORY_RECORDS/HISTORY/VM/": "machines as they were when a record was written; the ids and records do count",
    r"^USER_POOL/USER/PASSWORD$": "has those of oneadmin and serveradmin, whose passwords the recording does not tell",
}
"""Elements that may differ, with the reason."""

IGNORED_WHEN_SHIFTED: Mapping[str, str] = {
    r"/ALLOCATED$": "holds the numbers of machines in oned's own packing",
    r"^ACL_POOL": "is made of numbers of groups",
}


READ = (Path(__file__).parent.parent / "data" / "elements-read.txt").read_text(encoding="utf-8").split()
"""The elements of oned's documents that econed reads; `*` is any name."""

READ_BUT_IGNORED: Mapping[str, str] = {
    "IMAGE/REGTIME": "a moment",
    "USER/PASSWORD": "ignored in pools only, which show oneadmin and serveradmin; compared in one.user.info",
    "VM/ETIME": "a moment",
    "VM/LOCK/TIME": "a moment",
    "VM/STIME": "a moment",
    "VM/TEMPLATE/DISK/EC2_ATTACH_TIME": "a moment, and an attribute of ours: no recording has it",
    "VM/USER_TEMPLATE/SCHED_MESSAGE": "begins with the time; the replay waits until it is there or not, as recorded",
    "ZONE/TEMPLATE/ENDPOINT": "where the recorded oned listened",
}
"""Elements that econed reads and that are not compared, or not everywhere, with the reason."""


def _of(element: str) -> re.Pattern[str]:
    """Return the pattern of the paths at or below an element that econed reads, of an object or in a pool."""
    return re.compile(rf"(?:[A-Z]+_POOL/)?{re.escape(element).replace(re.escape('*'), '[^/]+')}(?:/.*)?")


def _among(paths: Iterable[str]) -> set[str]:
    """Return those elements that econed reads which are among `paths`."""
    known = set(paths)
    return {element for element in READ if any(map(_of(element).fullmatch, known))}


def _recorded(calls: Sequence[Call]) -> set[str]:
    documents = (document(call.reply) for call in calls)
    return {path for root in documents if root is not None for path, _ in leaves(root)}


def agrees(result: Replayed, *, at_least: int) -> None:
    """Check that nothing differs, and that there was much to compare."""
    assert not result.outcomes, "other outcomes:\n" + "\n".join(result.outcomes)
    assert not result.elements, f"{len(result.elements)} other elements:\n" + "\n".join(result.elements[:80])
    assert result.compared >= at_least


@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_every_recorded_call_is_answered_as_oned_answered_it(version: str) -> None:
    """Success or failure, the error code and every element of every document are as recorded."""
    calls = read(version)
    result = await Replay(version, IdMapping(), ignored=list(IGNORED)).run(calls)
    agrees(result, at_least=13_000)
    left_out = _among(_recorded(calls)) - _among(result.seen)
    assert left_out <= READ_BUT_IGNORED.keys(), "read by econed, recorded, and never compared"


def test_what_econed_reads_is_compared_but_for_a_named_few() -> None:
    """None of the ignored paths is of an element that econed reads, beyond those that have a reason."""
    ignored = [re.compile(pattern) for pattern in IGNORED]
    paths = {element: [element, f"{element.partition('/')[0]}_POOL/{element}"] for element in READ}
    found = {e for e, forms in paths.items() if any(pattern.search(form) for pattern in ignored for form in forms)}
    assert found <= READ_BUT_IGNORED.keys()


@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_the_scenes_pass_with_other_users_and_numbers(version: str) -> None:
    """What the sandbox answers follows from rules, not from names and numbers of the recording."""
    calls = read(version)
    replay = Replay(version, ShiftedIds(), ignored=[*IGNORED, *IGNORED_WHEN_SHIFTED])
    agrees(await replay.run(calls), at_least=12_000)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_sandbox_has_every_method_of_the_recordings(version: str) -> None:
    """All methods of the recordings are there, but for a named few."""
    there = Oned(Clock(), version=version).methods
    assert {call.method for call in read(version)} - there == NOT_IN_THE_SANDBOX
