"""oned down, restarting, slow or sending invalid replies: clients get an error, and econed recovers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.waiting import known
from tests.support.clients import EC2Response, boto, ec2_error, v2
from tests.support.econed_process import Econed, Person
from tests.support.faulty_relay import FaultyRelay, Mode
from tests.support.furnished_cloud import MAX_WAIT, FurnishedCloud
from tests.support.processes import until

DEADLINE = 2
UNAVAILABLE = (503, "ServiceUnavailable")
INTERNAL = (500, "InternalError")


@pytest.fixture(scope="module")
def relay(cloud: FurnishedCloud) -> Iterator[FaultyRelay]:
    """A relay between econed and oned."""
    started = FaultyRelay(cloud.url)
    yield started
    started.close()


@pytest.fixture(scope="module")
def econed_behind_relay(cloud: FurnishedCloud, relay: FaultyRelay) -> Econed:
    """An econed that reaches oned through the relay, with a short timeout."""
    return cloud.econed(one_url=relay.url, settings={"one_timeout": DEADLINE})


def _ask(person: Person, econed: Econed, action: str = "DescribeImages") -> EC2Response:
    return v2(person, econed.url, action)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (Mode.DOWN, UNAVAILABLE),
        (Mode.SILENT, UNAVAILABLE),
        (Mode.CUT, UNAVAILABLE),
        (Mode.NONSENSE, INTERNAL),
        (Mode.ERROR_PAGE, INTERNAL),
    ],
    ids=["down", "silent", "breaking off", "another server", "an error page"],
)
def test_while_oned_fails_clients_get_an_error_and_afterwards_econed_recovers(
    relay: FaultyRelay, econed_behind_relay: Econed, alice: Person, mode: Mode, expected: tuple[int, str]
) -> None:
    """Cached users get EC2's error with a request id; the log has the reason."""
    relay.set_mode(Mode.PASS)
    until(lambda: _ask(alice, econed_behind_relay).status == 200, "econed to be well", MAX_WAIT)
    relay.set_mode(mode)
    for action in ("DescribeImages", "DescribeInstances", "DescribeKeyPairs"):
        response = _ask(alice, econed_behind_relay, action)
        assert (response.status, ec2_error(response)) == expected
        request_id = response.xml.findtext("RequestID")
        assert request_id == response.headers["x-amzn-requestid"]
        assert f"request {request_id}: one." in econed_behind_relay.process.text, (
            "the log says which call failed, and how"
        )
    relay.set_mode(Mode.PASS)
    until(lambda: _ask(alice, econed_behind_relay).status == 200, "econed to be well again", MAX_WAIT)
    assert econed_behind_relay.process.is_running
    assert "Traceback" not in econed_behind_relay.process.text


def test_econed_starts_while_oned_is_down(cloud: FurnishedCloud, alice: Person) -> None:
    """It responds with ServiceUnavailable until oned is up; then calls succeed."""
    relay = FaultyRelay(cloud.url)
    relay.set_mode(Mode.DOWN)
    early = cloud.econed(one_url=relay.url, settings={"one_timeout": DEADLINE}, records_elements=False)
    try:
        response = _ask(alice, early)
        assert (response.status, ec2_error(response)) == UNAVAILABLE
        relay.set_mode(Mode.PASS)
        until(lambda: _ask(alice, early).status == 200, "econed to find oned", MAX_WAIT)
    finally:
        relay.close()
        early.process.stop()


def test_an_interrupted_launch_is_finished_by_the_clients_retry(
    cloud: FurnishedCloud, relay: FaultyRelay, econed_behind_relay: Econed
) -> None:
    """SDKs retry after a 503 with the same ClientToken: each machine exists once, and none is lost."""
    relay.set_mode(Mode.PASS)
    judy = cloud.person("judy")
    client = known(boto(judy, econed_behind_relay.url))
    parameters = {
        "ImageId": f"ami-{cloud.ami:08d}",
        "InstanceType": cloud.instance_type,
        "MinCount": "2",
        "MaxCount": "2",
        "ClientToken": "broken off",
    }
    relay.set_mode(Mode.SILENT)
    response = v2(judy, econed_behind_relay.url, "RunInstances", parameters, method="POST")
    assert (response.status, ec2_error(response)) == UNAVAILABLE
    relay.set_mode(Mode.PASS)
    response = v2(judy, econed_behind_relay.url, "RunInstances", parameters, method="POST")
    assert response.status == 200
    instance_ids = response.texts("instancesSet", "item", "instanceId")
    try:
        assert len(instance_ids) == 2
        assert {f"i-{number:08d}" for number in cloud.vm_ids(judy)} == set(instance_ids)
    finally:
        client.terminate_instances(InstanceIds=instance_ids)
