"""The servers of an HA zone in the sandbox, as OpenNebula's source says and as a server that is alone was seen."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from econed.opennebula.raft import RaftState, was_not_started
from econed.opennebula.replies import parse_refusal
from econed.sandbox.ha_zone import HAZone, ZoneServer
from econed.sandbox.oned import Oned
from tests.support.oned_stubs import reply

ALONE = (
    "<RAFT><SERVER_ID>-1</SERVER_ID><STATE>0</STATE><TERM>0</TERM><VOTEDFOR>-1</VOTEDFOR><COMMIT>0</COMMIT>"
    "<LOG_INDEX>-1</LOG_INDEX><LOG_TERM>-1</LOG_TERM><FEDLOG_INDEX>-1</FEDLOG_INDEX></RAFT>"
)
"""What 5.12.0.5 and 7.4.0 answered."""

WRITE: tuple[str, *tuple[object, ...]] = ("one.user.allocate", "dave", "x", "", [])


@pytest.fixture(params=["5.12", "7.4"])
def oned(request: pytest.FixtureRequest) -> Oned:
    """The database of the zone."""
    return Oned(Clock(), version=request.param)


def call(server: Oned | ZoneServer, method: str, *args: object, session: str | None = None) -> list[object]:
    """Call a server, as oneadmin if nobody else is named."""
    return server.execute(method, session or "oneadmin:opennebula", *args)


def test_a_server_that_is_alone_says_so_to_those_who_may_administer_the_zone(oned: Oned) -> None:
    """As real ones do, with and without an argument too many."""
    assert call(oned, "one.zone.raftstatus") == [True, ALONE, 0]
    assert call(oned, "one.zone.raftstatus", 1) == [True, ALONE, 0]
    call(oned, "one.user.allocate", "carol", "x", "", [])
    number = oned.cloud.find_user("carol").id  # type: ignore[union-attr]
    assert call(oned, "one.zone.raftstatus", session="carol:x") == [
        False, f"[one.zone.raftstatus] User [{number}] : Not authorized to perform ADMIN ZONE [0].", 512, -1, -1,
    ]  # fmt: skip
    assert call(oned, "one.zone.raftstatus", session="carol:y") == [
        False, "[one.zone.raftstatus] User couldn't be authenticated, aborting call.", 256, -1, -1,
    ]  # fmt: skip


def test_each_server_says_how_it_stands_itself(oned: Oned) -> None:
    zone = HAZone(oned)
    said = [str(call(each, "one.zone.raftstatus")[1]) for each in zone.servers]
    assert [
        "<STATE>3</STATE><TERM>1</TERM>" in said[0],
        *("<STATE>2</STATE><TERM>1</TERM>" in each for each in said[1:]),
    ]
    assert [f"<SERVER_ID>{number}</SERVER_ID>" in text for number, text in enumerate(said)] == [True] * 3


def test_a_follower_passes_on_what_only_the_leader_does(oned: Oned) -> None:
    zone = HAZone(oned)
    assert call(zone.servers[1], *WRITE)[0] is True
    assert oned.cloud.find_user("dave") is not None
    assert call(zone.servers[1], *WRITE)[2] == 8192, "and the leader's refusals on to the client"


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("election", "Cannot process request, oned cluster in election mode"),
        ("reconciling", "Cannot process request, oned cluster is replicating log"),
        ("nobody", "Cannot process request, no leader found"),
        ("dead", "RPC call timed out and aborted"),
    ],
)
def test_without_a_leader_nothing_is_changed_and_documents_are_answered_all_the_same(
    oned: Oned, state: str, text: str
) -> None:
    """By each server from its own database; only whom it does not know it refuses."""
    zone = HAZone(oned)
    server = zone.servers[0]
    match state:
        case "election":
            zone.begin_election()
        case "reconciling":
            server.is_reconciling = True
        case "nobody":
            server.state = RaftState.FOLLOWER
        case "dead":
            server.is_up, server = False, zone.servers[1]
    assert call(server, *WRITE) == [False, f"[one.user.allocate] {text}", 8192, -1, -1]
    assert oned.cloud.find_user("dave") is None
    assert call(server, "one.system.version")[2] == 8192
    assert call(server, "one.userpool.info")[0] is True
    assert call(server, *WRITE, session="oneadmin:wrong")[2] == 256
    refusal = parse_refusal("one.user.allocate", reply(*call(server, *WRITE)))
    assert refusal is not None
    assert was_not_started(refusal) is (state != "dead"), "with a dead leader nobody knows"
