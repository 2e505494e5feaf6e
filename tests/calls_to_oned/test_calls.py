"""Which calls to oned each action makes, and that none of them waits for a reply that it does not need."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from econed.catalogue import all_actions
from tests.calls_to_oned.recording import MadeCall
from tests.calls_to_oned.requests import REQUESTS, Made, made, table_of

TABLE = Path(__file__).parents[1] / "data" / "calls-to-oned.txt"
EARLIEST_TIME = 1_000_000_000
UPDATE = f"python -m tests.calls_to_oned.requests >{TABLE.relative_to(TABLE.parents[2])}"

_NAMES = "announcements are read after the images: one of the two shows an AMI that is being created"
_ORDER = "the highest id is read before the ids, and the ended machines after them, so that none is missed"
_IN_TURN = "the objects of a kind are read when the client has read those of the kind before"
_IF_LISTED = "it is only read if there is something to list"

WAITS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "AllocateAddress": {"vn.info*": "nothing is allocated if the region, which the response names, is unknown"},
        "AssociateAddress": {"vn.info": "the id of the network is from the machine, and happens to be a known number"},
        "CopyImage": {"imagepool.info": "the names that are taken are read last", "user.info": _NAMES},
        "CreateImage": {"imagepool.info": "the machine may have to settle first", "user.info": _NAMES},
        "DescribeInstances": {
            "vmpool.info": _ORDER,
            "vmpool.accounting": _ORDER,
            "clusterpool.info*": _IF_LISTED,
            "vnpool.info*": _IF_LISTED,
        },
        "DescribeNetworkInterfaces": {
            "vmpool.info": _ORDER,
            "clusterpool.info*": _IF_LISTED,
            "vnpool.info*": _IF_LISTED,
        },
        "DescribeTags": {
            "vmgrouppool.info": _IN_TURN,
            "secgrouppool.info": _IN_TURN,
            "vnpool.info": _IN_TURN,
            "vnpool.info*": _IN_TURN,
            "vmpool.info": _IN_TURN,
            "user.info": _IN_TURN,
            "vmpool.accounting": _ORDER,
        },
        "DescribeVolumes": {"clusterpool.info*": _IF_LISTED, "vmpool.info": _IN_TURN},
        "DescribeVolumeStatus": {"clusterpool.info*": _IF_LISTED, "vmpool.info": _IN_TURN},
        "RegisterImage": {"imagepool.info": "the names that are taken are read last", "user.info": _NAMES},
    }
)
"""By action and call: why a read waits although its arguments are known."""


def test_every_action_has_a_request_and_no_other() -> None:
    assert sorted(REQUESTS) == sorted(action.name for action in all_actions())


@pytest.mark.parametrize("action", sorted(REQUESTS))
def test_the_calls_of_an_action_are_those_of_the_table(action: str) -> None:
    """If a change is intended, replace the lines of the table by those that the failure shows, or run `UPDATE`."""
    expected = "".join(re.findall(rf"^{action} .*\n", TABLE.read_text("utf-8"), re.MULTILINE))
    assert table_of(action) == expected, f"the table is made by: {UPDATE}"


@pytest.mark.parametrize("action", sorted(REQUESTS))
def test_no_read_waits_for_a_reply_that_it_does_not_need(action: str) -> None:
    """A read whose arguments are known without a reply is sent at once, unless `WAITS` has a reason.

    After its first change a request reads what that has led to, so these reads may wait.
    """
    waiting = {str(call) for request in made(action) for call in waiting_needlessly(request)}
    assert waiting == set(WAITS.get(action, ())), table_of(action)


def waiting_needlessly(request: Made) -> Iterator[MadeCall]:
    """Yield the reads that were not sent at once, before any change, although their arguments were known.

    A call that is repeated waits for something, such as the end of a transitional state.
    """
    earlier: list[MadeCall] = []
    for wave in request.waves:
        if not all(call.only_reads for call in earlier):
            return
        if earlier:
            yield from (
                call for call in wave if call.only_reads and call not in earlier and numbers_in(call) <= request.known
            )
        earlier += wave


def numbers_in(call: MadeCall) -> set[int]:
    """Return the ids in the arguments of a call: no flags, times, or the negative numbers that select objects."""
    numbers = map(int, re.findall(r"-?\d+", " ".join(str(argument) for argument in call.args)))
    return {number for number in numbers if 0 <= number < EARLIEST_TIME}
