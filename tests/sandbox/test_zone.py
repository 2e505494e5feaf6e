"""The servers of an HA zone in the sandbox, by OpenNebula's source and measurements of a server without a zone."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from econed.opennebula.raft import RaftState, was_not_started
from econed.opennebula.replies import parse_refusal
from econed.sandbox.ha_zone import HAZone, ZoneServer
from econed.sandbox.oned import Oned
from tests.support.oned_stubs import reply

SOLO_STATUS = (
    "<RAFT><SERVER_ID>-1</SERVER_ID><STATE>0</STATE><TERM>0</TERM><VOTEDFOR>-1</VOTEDFOR><COMMIT>0</COMMIT>"
    "<LOG_INDEX>-1</LOG_INDEX><LOG_TERM>-1</LOG_TERM><FEDLOG_INDEX>-1</FEDLOG_INDEX></RAFT>"
)
"""The reply of 5.12.0.5 and 7.4.0."""

WRITE: tuple[str, *tuple[object, ...]] = ("one.user.allocate", "dave", "x", "", [])


@pytest.fixture(params=["5.12", "7.4"])
def oned(request: pytest.FixtureRequest) -> Oned:
    """The database of the zone."""
    return Oned(Clock(), version=request.param)


def call(server: Oned | ZoneServer, method: str, *args: object, session: str | None = None) -> list[object]:
    """Call a server, as oneadmin by default."""
    return server.execute(method, session or "oneadmin:opennebula", *args)


def test_a_server_without_a_zone_reports_its_status_to_those_who_may_administer_the_zone(oned: Oned) -> None:
    """As real servers do, with and without an extra argument."""
    assert call(oned, "one.zone.raftstatus") == [True, SOLO_STATUS, 0]
    assert call(oned, "one.zone.raftstatus", 1) == [True, SOLO_STATUS, 0]
    call(oned, "one.user.allocate", "carol", "x", "", [])
    user_id = oned.cloud.find_user("carol").id  # type: ignore[union-attr]
    assert call(oned, "one.zone.raftstatus", session="carol:x") == [
        False, f"[one.zone.raftstatus] User [{user_id}] : Not authorized to perform ADMIN ZONE [0].", 512, -1, -1,
    ]  # fmt: skip
    assert call(oned, "one.zone.raftstatus", session="carol:y") == [
        False, "[one.zone.raftstatus] User couldn't be authenticated, aborting call.", 256, -1, -1,
    ]  # fmt: skip


def test_each_server_reports_its_own_status(oned: Oned) -> None:
    zone = HAZone(oned)
    statuses = [str(call(server, "one.zone.raftstatus")[1]) for server in zone.servers]
    for server_id, (status, state) in enumerate(zip(statuses, (3, 2, 2), strict=True)):
        assert f"<SERVER_ID>{server_id}</SERVER_ID><STATE>{state}</STATE><TERM>1</TERM>" in status


def test_a_follower_forwards_writes_to_the_leader(oned: Oned) -> None:
    zone = HAZone(oned)
    assert call(zone.servers[1], *WRITE)[0] is True
    assert oned.cloud.find_user("dave") is not None
    assert call(zone.servers[1], *WRITE)[2] == 8192, "the leader's refusals are forwarded to the client"


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("election", "Cannot process request, oned cluster in election mode"),
        ("reconciling", "Cannot process request, oned cluster is replicating log"),
        ("nobody", "Cannot process request, no leader found"),
        ("dead", "RPC call timed out and aborted"),
    ],
)
def test_without_a_leader_writes_are_refused_and_reads_still_work(oned: Oned, state: str, text: str) -> None:
    """Each server reads from its own database, and refuses users whom it cannot authenticate."""
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
    assert was_not_started(refusal) is (state != "dead"), "with a dead leader it is not known"
