"""Several econed processes serve the same cloud: concurrent calls to two of them act like calls to a single process."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.waiting import known, wait
from tests.support.clients import boto, refusal, send, v2_form
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import FurnishedCloud

REPEATED = 4
REQUESTS_EACH = 500


@pytest.fixture
def clients(cloud: FurnishedCloud, econed: Econed, second_econed: Econed, alice: Person) -> tuple[Any, Any]:
    """Alice's clients of both processes."""
    return boto(alice, econed.url), boto(alice, second_econed.url)


def _launch_parameters(cloud: FurnishedCloud, token: str, count: int = 3) -> dict[str, Any]:
    return {
        "ImageId": f"ami-{cloud.ami:08d}",
        "InstanceType": cloud.instance_type,
        "MinCount": count,
        "MaxCount": count,
        "ClientToken": token,
    }


def _ids(reservation: dict[str, Any]) -> list[str]:
    return sorted(instance["InstanceId"] for instance in reservation["Instances"])


def _alive(cloud: FurnishedCloud, person: Person) -> set[str]:
    return {f"i-{machine_id:08d}" for machine_id in cloud.vm_ids(person, -1)}


@pytest.mark.parametrize("repetition", range(REPEATED))
def test_the_same_client_token_sent_to_both_processes_at_the_same_time_launches_once(
    cloud: FurnishedCloud, alice: Person, clients: tuple[Any, Any], repetition: int
) -> None:
    """Both responses have the same instances; no other machine remains."""
    before = _alive(cloud, alice)
    parameters = _launch_parameters(cloud, f"at-once-{repetition}-{uuid.uuid4().hex[:8]}")
    with ThreadPoolExecutor(2) as pool:
        first_reservation, second_reservation = pool.map(lambda client: client.run_instances(**parameters), clients)
    instance_ids = _ids(first_reservation)
    try:
        assert len(set(instance_ids)) == 3
        assert _ids(second_reservation) == instance_ids
        assert first_reservation["ReservationId"] == second_reservation["ReservationId"]
        wait(clients[0], "instance_running", instance_ids)
        alive = _alive(cloud, alice) - before
        discarded = alive - set(instance_ids)
        for instance_id in discarded:  # they are still shutting down
            assert cloud.vm(int(instance_id[2:])).findtext("USER_TEMPLATE/EC2_DISCARDED") == "YES"
        listed = {
            instance["InstanceId"]
            for reservation in clients[1].describe_instances(
                Filters=[{"Name": "client-token", "Values": [parameters["ClientToken"]]}]
            )["Reservations"]
            for instance in reservation["Instances"]
        }
        assert listed == set(instance_ids)
    finally:
        clients[0].terminate_instances(InstanceIds=instance_ids)


def test_a_client_token_is_valid_in_all_processes_and_after_a_restart(
    cloud: FurnishedCloud, alice: Person, clients: tuple[Any, Any]
) -> None:
    """It is stored on the machines and not in a process."""
    parameters = _launch_parameters(cloud, f"restart-{uuid.uuid4().hex[:8]}", count=1)
    instance_ids = _ids(clients[0].run_instances(**parameters))
    try:
        assert _ids(clients[1].run_instances(**parameters)) == instance_ids
        for changes in ({"MaxCount": 2}, {"UserData": "another"}):
            with pytest.raises(ClientError) as raised:
                clients[1].run_instances(**{**parameters, **changes})
            assert refusal(raised.value) == ("IdempotentParameterMismatch", 400)
        crashing = cloud.econed(records_elements=False)
        new_client = boto(alice, crashing.url)
        assert _ids(new_client.run_instances(**parameters)) == instance_ids
        crashing.process.kill()
        after = cloud.econed(records_elements=False)
        assert _ids(boto(alice, after.url).run_instances(**parameters)) == instance_ids
        after.process.stop()
    finally:
        clients[0].terminate_instances(InstanceIds=instance_ids)


@pytest.mark.parametrize("repetition", range(REPEATED))
def test_two_concurrent_calls_create_at_most_one_key_pair_of_the_same_name(
    clients: tuple[Any, Any], repetition: int
) -> None:
    """The other call fails; the returned private key belongs to the stored public key."""
    name = f"at once {repetition} {uuid.uuid4().hex[:8]}"

    def create(client: Any) -> str:
        try:
            return str(client.create_key_pair(KeyName=name, KeyType="ed25519")["KeyFingerprint"])
        except ClientError as error:
            return refusal(error)[0]

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(create, clients))
    refused = [result for result in results if result in ("InvalidKeyPair.Duplicate", "RequestLimitExceeded")]
    created = [result for result in results if result not in refused]
    assert len(refused) >= 1
    stored = [
        key_pair["KeyFingerprint"]
        for key_pair in clients[0].describe_key_pairs()["KeyPairs"]
        if key_pair["KeyName"] == name
    ]
    assert stored == created
    clients[1].delete_key_pair(KeyName=name)


def test_tags_created_by_both_processes_at_the_same_time_are_all_stored(clients: tuple[Any, Any], launch: Any) -> None:
    """Each tag is an attribute of its own, so none is overwritten."""
    (instance,) = launch()
    names = [f"tag {index}" for index in range(16)]

    def put(index: int) -> None:
        tags = [{"Key": names[index], "Value": str(index)}]
        clients[index % 2].create_tags(Resources=[instance["InstanceId"]], Tags=tags)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(len(names))))
    tags = clients[0].describe_tags(Filters=[{"Name": "resource-id", "Values": [instance["InstanceId"]]}])["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {name: str(index) for index, name in enumerate(names)}


def test_a_thousand_requests_over_two_processes_take_one_or_two_authentications(
    cloud: FurnishedCloud, econed: Econed, second_econed: Econed
) -> None:
    """Both use the same session token, so oned's cached session of the user is valid for both."""
    cloud.skip_where_machines_are_slow()
    dora = cloud.person("dora")
    for process in (econed, second_econed):
        known(boto(dora, process.url))
    before = cloud.authentications(dora)
    assert 1 <= before <= 2
    for _ in range(REQUESTS_EACH):
        for process in (econed, second_econed):
            form = v2_form(dora, process.url, {"Action": "DescribeKeyPairs"})
            assert send(process.url, "GET", form).status == 200
    assert cloud.authentications(dora) <= 2
