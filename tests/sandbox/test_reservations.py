"""Who may use reservations, as recorded of real oneds: the rule `NET/* USE` does not count for them."""

from __future__ import annotations

import pytest

from econed.errors import OpenNebulaCode, OpenNebulaRefusal
from tests.support.cloud import Cloud

RESERVATION = 'NAME="own"\nSIZE="16"\nAR_ID="0"\nIP="10.0.1.0"'


def visible(cloud: Cloud, user: str) -> list[int]:
    """Return the ids of the networks in a user's pool."""
    call = cloud.call_as(user)
    return sorted(network.id for network in cloud.result(call.session.networks()))


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_a_reservation_is_its_owners_until_they_share_it(version: str) -> None:
    cloud = Cloud(version)
    network = int(cloud.as_user("alice", "one.vn.reserve", 0, RESERVATION))
    assert network in visible(cloud, "alice")
    assert network not in visible(cloud, "bob")
    with pytest.raises(OpenNebulaRefusal) as refused:
        cloud.as_user("bob", "one.vn.info", network, False)
    assert refused.value.code == OpenNebulaCode.AUTHORIZATION
    cloud.as_user("alice", "one.vn.chmod", network, -1, -1, -1, -1, -1, -1, 1, -1, -1)
    assert network in visible(cloud, "bob")
