"""Reservations, as recorded of real oneds."""

from __future__ import annotations

import pytest

from econed.errors import OpenNebulaCode, OpenNebulaRefusal
from econed.opennebula.documents import VirtualNetwork
from econed.opennebula.states import NetworkState
from tests.support.cloud import Cloud

RESERVATION = 'NAME="own"\nSIZE="16"\nAR_ID="0"\nIP="10.0.1.0"'


def visible(cloud: Cloud, user: str) -> list[int]:
    """Return the ids of the networks in a user's pool."""
    call = cloud.call_as(user)
    return sorted(network.id for network in cloud.result(call.session.networks()))


def refusal(cloud: Cloud, user: str, method: str, *arguments: object) -> OpenNebulaCode:
    """Return the code with which a user's call is refused."""
    with pytest.raises(OpenNebulaRefusal) as refused:
        cloud.as_user(user, method, *arguments)
    return OpenNebulaCode(refused.value.code)


def network(cloud: Cloud, user: str, network_id: int) -> VirtualNetwork:
    """Return a network as the user sees it."""
    return cloud.result(cloud.call_as(user).session.network(network_id))


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_a_reservation_is_its_owners_until_they_share_it(version: str) -> None:
    cloud = Cloud(version)
    own = int(cloud.as_user("alice", "one.vn.reserve", 0, RESERVATION))
    assert own in visible(cloud, "alice")
    assert own not in visible(cloud, "bob")
    with pytest.raises(OpenNebulaRefusal) as refused:
        cloud.as_user("bob", "one.vn.info", own, False)
    assert refused.value.code == OpenNebulaCode.AUTHORIZATION
    cloud.as_user("alice", "one.vn.chmod", own, -1, -1, -1, -1, -1, -1, 1, -1, -1)
    assert own in visible(cloud, "bob")


@pytest.mark.parametrize("version", ["5.12", "7.4"])
@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('SIZE="70000" NAME="x"', OpenNebulaCode.ACTION),
        ('SIZE="0" NAME="x"', OpenNebulaCode.ACTION),
        ('SIZE="-1" NAME="x"', OpenNebulaCode.ACTION),
        ('SIZE="abc" NAME="x"', OpenNebulaCode.ACTION),
        ('NAME="x"', OpenNebulaCode.ACTION),
        ('SIZE="2"', OpenNebulaCode.ACTION),
        ('SIZE="2" NAME="own"', OpenNebulaCode.INTERNAL),
        ('SIZE="2" NAME="x" AR_ID="9"', OpenNebulaCode.ACTION),
        ('SIZE="16" NAME="x" IP="10.0.1.8" AR_ID="0"', OpenNebulaCode.ACTION),
        ('SIZE="16" NAME="x" IP="192.0.2.0" AR_ID="0"', OpenNebulaCode.ACTION),
        ('SIZE="16" NAME="x" IP="10.0.2.0"', OpenNebulaCode.ACTION),
        ('SIZE="2" NETWORK_ID="9999"', OpenNebulaCode.NO_EXISTS),
    ],
)
def test_what_cannot_be_reserved_is_refused(version: str, text: str, code: OpenNebulaCode) -> None:
    cloud = Cloud(version)
    cloud.as_user("alice", "one.vn.reserve", 0, RESERVATION)
    assert refusal(cloud, "alice", "one.vn.reserve", 0, text) == code


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_nothing_is_reserved_from_a_reservation(version: str) -> None:
    cloud = Cloud(version)
    own = int(cloud.as_user("alice", "one.vn.reserve", 0, RESERVATION))
    for user in ("alice", "bob"):
        assert refusal(cloud, user, "one.vn.reserve", own, 'SIZE="1" NAME="x"') == OpenNebulaCode.ACTION


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_a_range_is_added_to_a_reservation_and_given_back(version: str) -> None:
    cloud = Cloud(version)
    own = int(cloud.as_user("alice", "one.vn.reserve", 0, RESERVATION))
    cloud.wait(2)
    used = network(cloud, "oneadmin", 0).used_leases
    assert int(cloud.as_user("alice", "one.vn.reserve", 0, f'SIZE="2" NETWORK_ID="{own}"')) == own
    assert [part.size for part in network(cloud, "alice", own).address_ranges] == [16, 2]
    assert network(cloud, "oneadmin", 0).used_leases == used + 2
    assert refusal(cloud, "alice", "one.vn.free_ar", own, 9) == OpenNebulaCode.INTERNAL
    assert refusal(cloud, "bob", "one.vn.free_ar", own, 1) == OpenNebulaCode.AUTHORIZATION
    cloud.as_user("alice", "one.vn.free_ar", own, 1)
    assert [part.size for part in network(cloud, "alice", own).address_ranges] == [16]
    assert network(cloud, "oneadmin", 0).used_leases == used


def test_a_range_is_not_added_to_the_reservation_of_another_user() -> None:
    cloud = Cloud("7.4")
    own = int(cloud.as_user("alice", "one.vn.reserve", 0, RESERVATION))
    text = f'SIZE="2" NETWORK_ID="{own}"'
    assert refusal(cloud, "bob", "one.vn.reserve", 0, text) == OpenNebulaCode.AUTHORIZATION


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_a_reservation_with_an_address_on_hold_is_not_deleted(version: str) -> None:
    cloud = Cloud(version)
    own = int(cloud.as_user("alice", "one.vn.reserve", 0, RESERVATION))
    cloud.wait(2)
    held = 'LEASES=[IP="10.0.1.15"]'
    cloud.as_user("alice", "one.vn.hold", own, held)
    assert refusal(cloud, "alice", "one.vn.delete", own) == OpenNebulaCode.ACTION
    assert refusal(cloud, "oneadmin", "one.vn.delete", 0) == OpenNebulaCode.ACTION
    cloud.as_user("alice", "one.vn.release", own, held)
    cloud.as_user("alice", "one.vn.delete", own)
    cloud.wait(2)
    assert refusal(cloud, "alice", "one.vn.info", own, False) == OpenNebulaCode.NO_EXISTS


def test_a_new_reservation_of_7_x_is_not_ready_at_once() -> None:
    """It can be changed, but addresses are not held, and it is not deleted, before its driver has made it."""
    cloud = Cloud("7.4")
    own = int(cloud.as_user("alice", "one.vn.reserve", 0, RESERVATION))
    assert network(cloud, "alice", own).state is NetworkState.LOCK_CREATE
    cloud.as_user("alice", "one.vn.update", own, 'A="1"', 1)
    held = 'LEASES=[IP="10.0.1.15"]'
    assert refusal(cloud, "alice", "one.vn.hold", own, held) == OpenNebulaCode.ACTION
    assert refusal(cloud, "alice", "one.vn.delete", own) == OpenNebulaCode.ACTION
    cloud.wait(2)
    assert network(cloud, "alice", own).state is NetworkState.READY
    cloud.as_user("alice", "one.vn.hold", own, held)
