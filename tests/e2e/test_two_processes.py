"""Several econed processes serve one cloud: concurrent calls to two of them act as if there were one."""

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


def _asked(cloud: FurnishedCloud, token: str, count: int = 3) -> dict[str, Any]:
    return {
        "ImageId": f"ami-{cloud.ami:08d}",
        "InstanceType": cloud.instance_type,
        "MinCount": count,
        "MaxCount": count,
        "ClientToken": token,
    }


def _ids(made: dict[str, Any]) -> list[str]:
    return sorted(each["InstanceId"] for each in made["Instances"])


def _alive(cloud: FurnishedCloud, person: Person) -> set[str]:
    return {f"i-{number:08d}" for number in cloud.vm_ids(person, -1)}


@pytest.mark.parametrize("repetition", range(REPEATED))
def test_one_client_token_sent_to_both_at_once_launches_once(
    cloud: FurnishedCloud, alice: Person, clients: tuple[Any, Any], repetition: int
) -> None:
    """Both responses have the same instances, and no other machine remains."""
    before = _alive(cloud, alice)
    parameters = _asked(cloud, f"at-once-{repetition}-{uuid.uuid4().hex[:8]}")
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda client: client.run_instances(**parameters), clients)
    instance_ids = _ids(first)
    try:
        assert len(set(instance_ids)) == 3
        assert _ids(second) == instance_ids
        assert first["ReservationId"] == second["ReservationId"]
        wait(clients[0], "instance_running", instance_ids)
        alive = _alive(cloud, alice) - before
        doomed = alive - set(instance_ids)
        for each in doomed:  # removed, and shutting down
            assert cloud.vm(int(each[2:])).findtext("USER_TEMPLATE/EC2_DISCARDED") == "YES"
        listed = {
            each["InstanceId"]
            for reservation in clients[1].describe_instances(
                Filters=[{"Name": "client-token", "Values": [parameters["ClientToken"]]}]
            )["Reservations"]
            for each in reservation["Instances"]
        }
        assert listed == set(instance_ids)
    finally:
        clients[0].terminate_instances(InstanceIds=instance_ids)


def test_a_client_token_is_known_to_all_processes_and_after_a_restart(
    cloud: FurnishedCloud, alice: Person, clients: tuple[Any, Any]
) -> None:
    """It is stored on the machines, not in a process."""
    parameters = _asked(cloud, f"restart-{uuid.uuid4().hex[:8]}", count=1)
    instance_ids = _ids(clients[0].run_instances(**parameters))
    try:
        assert _ids(clients[1].run_instances(**parameters)) == instance_ids
        for other in ({"MaxCount": 2}, {"UserData": "another"}):
            with pytest.raises(ClientError) as raised:
                clients[1].run_instances(**{**parameters, **other})
            assert refusal(raised.value) == ("IdempotentParameterMismatch", 400)
        crashing = cloud.econed(records_elements=False)
        again = boto(alice, crashing.url)
        assert _ids(again.run_instances(**parameters)) == instance_ids
        crashing.process.kill()
        after = cloud.econed(records_elements=False)
        assert _ids(boto(alice, after.url).run_instances(**parameters)) == instance_ids
        after.process.stop()
    finally:
        clients[0].terminate_instances(InstanceIds=instance_ids)


@pytest.mark.parametrize("repetition", range(REPEATED))
def test_of_two_key_pairs_of_one_name_created_at_once_at_most_one_is_created(
    clients: tuple[Any, Any], repetition: int
) -> None:
    """The other call fails; the private key returned belongs to the stored public key."""
    name = f"at once {repetition} {uuid.uuid4().hex[:8]}"

    def create(client: Any) -> str:
        try:
            return str(client.create_key_pair(KeyName=name, KeyType="ed25519")["KeyFingerprint"])
        except ClientError as error:
            return refusal(error)[0]

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(create, clients))
    refused = [each for each in results if each in ("InvalidKeyPair.Duplicate", "RequestLimitExceeded")]
    made = [each for each in results if each not in refused]
    assert len(refused) >= 1
    kept = [each["KeyFingerprint"] for each in clients[0].describe_key_pairs()["KeyPairs"] if each["KeyName"] == name]
    assert kept == made
    clients[1].delete_key_pair(KeyName=name)


def test_tags_created_at_once_by_both_are_all_kept(clients: tuple[Any, Any], launch: Any) -> None:
    """Each is an attribute of its own, so none is overwritten."""
    (instance,) = launch()
    names = [f"tag {number}" for number in range(16)]

    def put(number: int) -> None:
        tags = [{"Key": names[number], "Value": str(number)}]
        clients[number % 2].create_tags(Resources=[instance["InstanceId"]], Tags=tags)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(len(names))))
    tags = clients[0].describe_tags(Filters=[{"Name": "resource-id", "Values": [instance["InstanceId"]]}])["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {name: str(number) for number, name in enumerate(names)}


def test_a_thousand_requests_over_two_processes_take_one_or_two_authentications(
    cloud: FurnishedCloud, econed: Econed, second_econed: Econed
) -> None:
    """Both use the same token at any time, so the session that oned caches for a user serves both."""
    cloud.skip_where_machines_are_slow()
    dora = cloud.person("dora")
    for each in (econed, second_econed):
        known(boto(dora, each.url))
    before = cloud.authentications(dora)
    assert 1 <= before <= 2
    for _ in range(REQUESTS_EACH):
        for each in (econed, second_econed):
            form = v2_form(dora, each.url, {"Action": "DescribeKeyPairs"})
            assert send(each.url, "GET", form).status == 200
    assert cloud.authentications(dora) <= 2
