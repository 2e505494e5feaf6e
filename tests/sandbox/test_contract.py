"""The contract: the sandbox answers every recorded call of real oned as oned did, over real XML-RPC."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from econed.sandbox.oned import Oned
from tests.sandbox.replay import Replay, Replayed, World, read
from tests.sandbox.shifted import ShiftedWorld

VERSIONS = ("5.12", "7.4")

NOT_IN_THE_SANDBOX: frozenset[str] = frozenset({"one.nonsense.info"})
"""Methods of the recordings that the sandbox does not have: one that oned has not either."""

IGNORED: Mapping[str, str] = {
    r"TIME$|/DATE$": "moments",
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
    replay = Replay(version, World(), ignored=list(IGNORED))
    agrees(await replay.run(calls), at_least=13_000)


@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_the_scenes_pass_with_other_users_and_numbers(version: str) -> None:
    """What the sandbox answers follows from rules, not from names and numbers of the recording."""
    calls = read(version)
    replay = Replay(version, ShiftedWorld(), ignored=[*IGNORED, *IGNORED_WHEN_SHIFTED])
    agrees(await replay.run(calls), at_least=12_000)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_sandbox_has_every_method_of_the_recordings(version: str) -> None:
    """All methods of the recordings are there, but for a named few."""
    there = Oned(Clock(), version=version).methods
    assert {call.method for call in read(version)} - there == NOT_IN_THE_SANDBOX
