"""The contract: the sandbox replies to every recorded call as real oned did, over real XML-RPC."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from econed.sandbox.oned import Oned
from econed.sandbox.versions import FORMS, Version
from tests.sandbox.replay import RECORDINGS, Call, Differences, IdMapping, Replay, document, leaves, outcome, read
from tests.sandbox.shifted_ids import LearnedIds, ShiftedIds

pytestmark = pytest.mark.slow

VERSIONS = ("5.12", "7.4")
UNKNOWN_METHOD = ("fault", -506)

NAMES = sorted(path.stem for path in RECORDINGS.glob("*.jsonl"))
"""The recordings: VERSION, or VERSION-SUBJECT for a further one, which begins with an empty oned too."""

LEAST_COMPARED: Mapping[str, int] = {
    "5.12": 12_000,
    "7.4": 12_000,
    "5.12-users": 1200,
    "7.4-users": 1200,
    "5.12-groups": 10_500,
    "7.4-groups": 12_000,
    "5.12-networks": 4900,
    "7.4-networks": 6200,
    "5.12-nics": 8_000,
    "7.4-nics": 9_300,
}
"""The number of elements of each recording that are compared at least, also with other names and ids."""

EXTRACTS: Mapping[str, str] = {
    "users": "users and login tokens; the calls on documents are left out",
    "networks": "networks, their address ranges, templates and reservations; before them the calls by which networks, "
    "groups of theirs and machines with their addresses come to be",
    "nics": "NICs and their aliases, monitoring, quotas and the size of machines; of other calls only those that "
    "create groups, a network and a reservation on which they depend",
    "groups": "security groups, VM groups, documents, the configuration and locks of machines, images; of other calls "
    "only that one.user.addgroup on which they depend",
}
"""Subjects of recordings that lack calls which their oned served, with what they are about.

All begin with the calls that furnish the cloud. The objects have other ids in the sandbox, and some are missing.
"""

IGNORED: Mapping[str, str] = {
    r"(?<!HISTORY_RECORDS/HISTORY)(?<!/LOGIN_TOKEN)/[A-Z_0-9]*TIME$|/DATE$": "times",
    r"TOKEN_PASSWORD$|UUID$|REQ(UEST)?_ID$": "chosen at random",
    r"/(SCHED_MESSAGE|ERROR)$": "begin with the time, and differ between versions",
    r"_MB$|^HOST(_POOL/HOST)?/(HOST_SHARE|MONITORING|TEMPLATE|VMS|VM_MAD|IM_MAD|NUMA|LAST)": "measured by hosts",
    r"^OPENNEBULA_CONFIGURATION": "the configuration of the recorded oned",
    r"ENDPOINT": "the address of the recorded oned",
    r"^HISTORY_RECORDS/HISTORY/VM/": "machines at the time of the record; ids and records are compared",
    r"^USER_POOL/USER/PASSWORD$": "has those of oneadmin and serveradmin, whose passwords are not in the recording",
}
"""Paths of elements that may differ, with the reason."""

IGNORED_WHEN_SHIFTED: Mapping[str, str] = {
    r"/ALLOCATED$": "contains ids of machines in an encoding of oned's own",
    r"^ACL_POOL": "consists of ids of groups",
}

IGNORED_IN_EXTRACTS: Mapping[str, str] = {
    r"^VM(_POOL/VM)?/(LAST_POLL$|MONITORING)": "measured by the driver, at times of its own",
}

_ADDRESSES: Mapping[str, str] = {
    r"/NIC/(IP|MAC)$|/CONTEXT/ETH[0-9]_(IP|MAC)$": "addresses before them were leased by calls that were left out",
}
_QUOTAS: Mapping[str, str] = {r"_QUOTA(/|$)": "counts what calls that were left out have created"}
IGNORED_IN_EXTRACT: Mapping[str, Mapping[str, str]] = {
    "users": {**_ADDRESSES, **_QUOTAS},
    "groups": {**_ADDRESSES, **_QUOTAS},
    "networks": _QUOTAS,
    "nics": {
        **_ADDRESSES,
        r"^GROUP/[A-Z]+_QUOTA(/|$)": "counts what calls of the group's users that were left out have created",
        r"^MONITORING_DATA": "made up by the driver, at times of its own; a test of its own compares the names",
        r"/HISTORY/(HID|HOSTNAME)$|^VM(_POOL/VM)?/DEPLOY_ID$": "a machine of a call that was left out was on a host",
        r"/NIC_ALIAS/(IP|MAC)$|/LEASE/(IP|MAC)$": "other addresses were leased, as above",
        r"/AR/((IP|MAC)(_END)?|NEXT_INDEX)$": "other addresses were leased or reserved, as above",
    },
}
"""Paths of elements that may differ in the extracts about one subject, with the reason."""

READ = (Path(__file__).parent.parent / "data" / "elements-read.txt").read_text(encoding="utf-8").split()
"""The elements of oned's documents that econed reads; `*` stands for any name."""

READ_BUT_IGNORED: Mapping[str, str] = {
    "IMAGE/REGTIME": "a time",
    "USER/LOGIN_TOKEN/EXPIRATION_TIME": "a time",
    "USER/LOGIN_TOKEN/TOKEN": "chosen at random, if not by the user",
    "USER/PASSWORD": "ignored in pools only, which contain oneadmin and serveradmin; compared in one.user.info",
    "VM/ETIME": "a time",
    "VM/LOCK/TIME": "a time",
    "VM/STIME": "a time",
    "VM/TEMPLATE/DISK/EC2_ATTACH_TIME": "a time, and econed's own attribute: not in the recordings",
    "VM/USER_TEMPLATE/SCHED_MESSAGE": "begins with the time; the replay waits until it is present or not, as recorded",
    "ZONE/TEMPLATE/ENDPOINT": "the address of the recorded oned",
}
"""Elements that econed reads but that are not compared everywhere, with the reason."""


def _pattern(element: str) -> re.Pattern[str]:
    """Return a pattern for the paths at or below an element that econed reads, in an object or a pool."""
    return re.compile(rf"(?:[A-Z]+_POOL/)?{re.escape(element).replace(re.escape('*'), '[^/]+')}(?:/.*)?")


def _read_by_econed(paths: Iterable[str]) -> set[str]:
    """Return the elements that econed reads among `paths`."""
    distinct = set(paths)
    return {element for element in READ if any(map(_pattern(element).fullmatch, distinct))}


def _recorded_paths(calls: Sequence[Call]) -> set[str]:
    documents = (document(call.reply) for call in calls)
    return {path for root in documents if root is not None for path, _ in leaves(root)}


def _version(name: str) -> str:
    return name.partition("-")[0]


def _is_extract(name: str) -> bool:
    return name.partition("-")[2] in EXTRACTS


def _names(version: str) -> list[str]:
    """Return the names of a version's recordings."""
    return [name for name in NAMES if _version(name) == version]


def _ignored(name: str) -> list[str]:
    """Return the patterns of the elements of a recording that may differ."""
    if not _is_extract(name):
        return [*IGNORED]
    return [*IGNORED, *IGNORED_IN_EXTRACTS, *IGNORED_IN_EXTRACT[name.partition("-")[2]]]


def check(result: Differences, *, at_least: int, recording: str = "the recording") -> None:
    """Check that nothing differs, and that at least so many elements were compared."""
    assert not result.outcomes, f"{recording}: different outcomes:\n" + "\n".join(result.outcomes)
    elements = "\n".join(result.elements[:80])
    assert not result.elements, f"{recording}: {len(result.elements)} different elements:\n{elements}"
    assert result.compared.total() >= at_least, recording


@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_the_sandbox_replies_to_every_recorded_call_as_oned_did(version: str) -> None:
    """Success or failure, the error code and every element of every document are as recorded."""
    recorded, compared = set[str](), set[str]()
    for name in _names(version):
        calls = read(name)
        mapping = LearnedIds(is_extract=True) if _is_extract(name) else IdMapping()
        result = await Replay(version, mapping, ignored=_ignored(name)).run(calls)
        check(result, at_least=13_000 if name in VERSIONS else LEAST_COMPARED.get(name, 1), recording=name)
        recorded |= _recorded_paths(calls)
        compared |= set(result.compared)
    not_compared = _read_by_econed(recorded) - _read_by_econed(compared)
    assert recorded
    assert not_compared <= READ_BUT_IGNORED.keys(), "read by econed, recorded, and never compared"


def test_elements_that_econed_reads_are_ignored_only_with_a_reason() -> None:
    ignored = [re.compile(pattern) for pattern in IGNORED]
    paths = {element: [element, f"{element.partition('/')[0]}_POOL/{element}"] for element in READ}
    not_compared = {
        e for e, forms in paths.items() if any(pattern.search(form) for pattern in ignored for form in forms)
    }
    assert not_compared <= READ_BUT_IGNORED.keys()


@pytest.mark.parametrize("name", NAMES)
@pytest_twisted.ensureDeferred
async def test_the_sandbox_replies_the_same_with_other_user_names_and_ids(name: str) -> None:
    """Its replies do not depend on the names and ids in the recording."""
    calls = read(name)
    mapping = ShiftedIds(is_extract=_is_extract(name))
    replay = Replay(_version(name), mapping, ignored=[*_ignored(name), *IGNORED_WHEN_SHIFTED])
    check(await replay.run(calls), at_least=LEAST_COMPARED.get(name, 1), recording=name)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_sandbox_has_every_method_of_the_recordings(version: str) -> None:
    calls = [call for name in _names(version) for call in read(name)]
    unknown_to_oned = {call.method for call in calls if outcome(call.reply) == UNKNOWN_METHOD}
    assert "one.nonsense.info" in unknown_to_oned
    assert {call.method for call in calls} - Oned(Clock(), version=version).methods == unknown_to_oned


@pytest_twisted.ensureDeferred
async def test_an_oned_of_an_older_version_replies_to_later_calls_that_they_are_unknown_and_else_the_same() -> None:
    """Of the later calls one is recorded among the calls on security groups, which do not depend on it."""
    version, name = "6.4", "7.4-groups"
    unknown = Version.of(version).unknown_methods
    reply = {"fault": [UNKNOWN_METHOD[1], "not defined"]}
    recorded = [call for call in read(name) if call.scenario.startswith(("setting", "secgroups"))]
    calls = [replace(call, reply=reply) if call.method in unknown else call for call in recorded]
    assert {call.method for call in calls} >= {"one.vm.updatenic", "one.vm.attachsg", "one.vm.detachsg"}
    result = await Replay(version, LearnedIds(is_extract=True), ignored=_ignored(name)).run(calls)
    check(result, at_least=5900)


def test_later_versions_of_oned_have_more_methods() -> None:
    old, between, new = (Oned(Clock(), version=version).methods for version in FORMS)
    assert old < between < new
    assert new - between >= {"one.vm.updatenic", "one.vm.vmgroupadd"}
    assert between - old >= {"one.vm.attachsg", "one.vm.detachsg"}
