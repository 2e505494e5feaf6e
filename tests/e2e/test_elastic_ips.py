"""Elastic IPs by boto3: from allocation to association and back, with the scripts, also by two processes at once."""

from __future__ import annotations

import base64
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError
from lxml import etree

from tests.e2e.waiting import QUICK, described, known, wait
from tests.support.clients import boto, refusal
from tests.support.econed_process import Econed, Person, ScriptRun
from tests.support.furnished_cloud import PATIENCE, FurnishedCloud
from tests.support.processes import until

LIMIT = 5
"""Elastic IPs of one user at most, by default."""

POOL = 16
CALLS = 200
"""AllocateAddress and ReleaseAddress together."""

AT_ONCE = 5
"""Concurrent requests of each user to each process: more in all than the pool has addresses."""

_MAY_BE_REFUSED = frozenset({"InsufficientAddressCapacity", "AddressLimitExceeded", "RequestLimitExceeded"})


@pytest.fixture
def address(ec2: Any) -> Iterator[Callable[[], dict[str, Any]]]:
    """Allocates addresses for alice, which are released after the test."""
    created_ids: list[str] = []

    def allocate() -> dict[str, Any]:
        answer: dict[str, Any] = ec2.allocate_address(Domain="vpc")
        created_ids.append(answer["AllocationId"])
        return answer

    yield allocate
    for each in ec2.describe_addresses()["Addresses"]:
        if each["AllocationId"] in created_ids:
            if "AssociationId" in each:
                ec2.disassociate_address(AssociationId=each["AssociationId"])
            ec2.release_address(AllocationId=each["AllocationId"])


def _shown(ec2: Any, allocation_id: str) -> dict[str, Any]:
    (found,) = ec2.describe_addresses(AllocationIds=[allocation_id])["Addresses"]
    return dict(found)


def _running(ec2: Any, launch: Any) -> dict[str, Any]:
    (instance,) = launch()
    wait(ec2, "instance_running", [instance["InstanceId"]])
    return described(ec2, instance["InstanceId"])[0]


def _given(run: ScriptRun) -> tuple[str, str, str]:
    return run.script, run.elastic_ip, run.private_ip


def test_an_elastic_ip_is_associated_and_disassociated(
    cloud: FurnishedCloud, ec2: Any, launch: Any, address: Callable[[], dict[str, Any]]
) -> None:
    """Allocate, associate, see it in both lists, disassociate, release: each script runs once."""
    allocated = address()
    ip, allocation = allocated["PublicIp"], allocated["AllocationId"]
    assert allocated["Domain"] == "vpc"
    assert ip in cloud.held_addresses(cloud.elastic_ips)
    instance = _running(ec2, launch)
    assert "PublicIpAddress" not in instance
    private = instance["PrivateIpAddress"]
    before = len(cloud.script_runs())
    association = ec2.associate_address(AllocationId=allocation, InstanceId=instance["InstanceId"])["AssociationId"]
    (run,) = cloud.script_runs()[before:]
    assert _given(run) == ("associate", ip, private)
    network = etree.fromstring(base64.b64decode(run.network))
    assert (network.tag, network.findtext("ID")) == ("VNET", str(cloud.elastic_ips))

    shown = _shown(ec2, allocation)
    found = [shown[name] for name in ("PublicIp", "InstanceId", "PrivateIpAddress", "AssociationId")]
    assert found == [ip, instance["InstanceId"], private, association]
    (seen,) = described(ec2, instance["InstanceId"])
    assert seen["PublicIpAddress"] == ip
    assert seen["NetworkInterfaces"][0]["Association"]["PublicIp"] == ip
    with pytest.raises(ClientError) as raised:
        ec2.release_address(AllocationId=allocation)
    assert refusal(raised.value) == ("InvalidIPAddress.InUse", 400)

    ec2.disassociate_address(AssociationId=association)
    assert [_given(each) for each in cloud.script_runs()[before + 1 :]] == [("disassociate", ip, private)]
    assert "InstanceId" not in _shown(ec2, allocation)
    assert "PublicIpAddress" not in described(ec2, instance["InstanceId"])[0]
    ec2.release_address(AllocationId=allocation)
    assert ip not in cloud.held_addresses(cloud.elastic_ips)
    with pytest.raises(ClientError) as raised:
        ec2.describe_addresses(AllocationIds=[allocation])
    assert refusal(raised.value) == ("InvalidAllocationID.NotFound", 400)


def test_the_address_of_a_terminated_instance_is_disassociated_by_any_process(
    cloud: FurnishedCloud, ec2: Any, launch: Any, address: Callable[[], dict[str, Any]]
) -> None:
    """It stays allocated."""
    allocated, instance = address(), _running(ec2, launch)
    ec2.associate_address(PublicIp=allocated["PublicIp"], InstanceId=instance["InstanceId"])
    before = len(cloud.script_runs())
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    wait(ec2, "instance_terminated", [instance["InstanceId"]])
    caretaker = cloud.econed(interval=QUICK)
    try:
        until(lambda: len(cloud.script_runs()) > before, "the disassociate script to be run", PATIENCE)
    finally:
        caretaker.process.stop()
    runs = [_given(each) for each in cloud.script_runs()[before:]]
    assert runs == [("disassociate", allocated["PublicIp"], instance["PrivateIpAddress"])]
    assert "AssociationId" not in _shown(ec2, allocated["AllocationId"])


def test_an_address_cannot_be_associated_with_an_instance_of_another_user(
    cloud: FurnishedCloud, econed: Econed, ec2: Any, bob: Person, launch: Any
) -> None:
    """Neither with an invisible one, nor with one that the user may only use; no script runs."""
    others, instance = boto(bob, econed.url), _running(ec2, launch)
    own = others.allocate_address()
    before = len(cloud.script_runs())
    try:
        for expected in (("InvalidInstanceID.NotFound", 400), ("UnauthorizedOperation", 403)):
            with pytest.raises(ClientError) as raised:
                others.associate_address(AllocationId=own["AllocationId"], InstanceId=instance["InstanceId"])
            assert refusal(raised.value) == expected
            cloud.share("vm", int(instance["InstanceId"][2:]), cloud.alice)
    finally:
        others.release_address(AllocationId=own["AllocationId"])
    assert cloud.script_runs()[before:] == []


@pytest.mark.parametrize("typed", ['IP="10.0.0.99 } ; flush ruleset ; {"', 'NETWORK_MODE="auto",IP="--help $(id)"'])
def test_an_address_that_a_user_wrote_into_a_template_reaches_no_script(
    cloud: FurnishedCloud, alice: Person, ec2: Any, address: Callable[[], dict[str, Any]], typed: str
) -> None:
    """An interface without a network keeps any text as its address: such an instance has no address to associate."""
    text = f'DISK=[IMAGE_ID="{cloud.ami}"]\nNIC=[{typed}]'
    machine_id = alice.oned.make("one.template.instantiate", cloud.type_template, "typed", True, text, False)
    instance, allocation = f"i-{machine_id:08d}", address()["AllocationId"]
    before = len(cloud.script_runs())
    try:
        assert "PrivateIpAddress" not in described(ec2, instance)[0]
        for target in ({"InstanceId": instance}, {"NetworkInterfaceId": f"eni-{machine_id:08d}000"}):
            with pytest.raises(ClientError) as raised:
                ec2.associate_address(AllocationId=allocation, **target)
            assert refusal(raised.value) == ("InvalidParameterValue", 400)
    finally:
        ec2.terminate_instances(InstanceIds=[instance])
    assert cloud.script_runs()[before:] == []
    assert "AssociationId" not in _shown(ec2, allocation)


def test_a_user_gets_no_more_addresses_than_the_limit(
    cloud: FurnishedCloud, econed: Econed, second_econed: Econed
) -> None:
    """However many requests are made at once, to either process."""
    henry = cloud.person("henry")
    clients = [known(boto(henry, each.url)) for each in (econed, second_econed)]

    def allocate(number: int) -> str:
        try:
            return str(clients[number % 2].allocate_address()["AllocationId"])
        except ClientError as error:
            return refusal(error)[0]

    with ThreadPoolExecutor(LIMIT + 2) as pool:
        results = list(pool.map(allocate, range(LIMIT + 2)))
    made = [each for each in results if each not in _MAY_BE_REFUSED]
    mine = [each["AllocationId"] for each in clients[0].describe_addresses()["Addresses"]]
    assert sorted(mine) == sorted(made)
    assert len(set(made)) == LIMIT
    assert results.count("AddressLimitExceeded") == 2
    for each in mine:
        clients[1].release_address(AllocationId=each)


def test_two_processes_never_allocate_one_address_twice_and_lose_none(cloud: FurnishedCloud) -> None:
    """Two users call two processes with a small pool: each address belongs to its user until it is released."""
    network = cloud.elastic_network(POOL)
    settings = {"elasticips_vnet_id": network, "elastic_ips_per_user": POOL}
    processes = [cloud.econed(records_elements=False, settings=settings) for _ in range(2)]
    people = [cloud.person(name) for name in ("iris", "jack")]
    callers = [(person, known(boto(person, process.url))) for person, process in itertools.product(people, processes)]
    owners: dict[str, int] = {}
    lock = threading.Lock()
    problems: list[str] = []

    def allocate_and_release(number: int) -> int:
        """Allocate an address and release it repeatedly; return how often none was free."""
        person, client = callers[number % len(callers)]
        refused = 0
        for _ in range(CALLS // 2 // (AT_ONCE * len(callers))):
            try:
                ip = str(client.allocate_address()["PublicIp"])
            except ClientError as error:
                assert refusal(error)[0] in _MAY_BE_REFUSED, error
                refused += 1
                continue
            with lock:
                if ip in owners:
                    problems.append(f"{ip} was given to {person.id} and is {owners[ip]}'s")
                owners[ip] = person.id
            mine = {each["PublicIp"] for each in client.describe_addresses()["Addresses"]}
            if ip not in mine:
                problems.append(f"{ip} is not shown to {person.id}, who has it")
            with lock:
                del owners[ip]
            client.release_address(PublicIp=ip)
        return refused

    turns = AT_ONCE * len(callers)
    with ThreadPoolExecutor(turns) as pool:
        refused = sum(pool.map(allocate_and_release, range(turns)))
    assert problems == []
    assert refused < CALLS // 2, "nobody ever got an address"
    for _, client in callers:
        assert client.describe_addresses()["Addresses"] == []
    assert cloud.held_addresses(network) == []
    taken = [callers[0][1].allocate_address()["PublicIp"] for _ in range(POOL)]
    assert len(set(taken)) == POOL
    for ip in taken:
        callers[-3][1].release_address(PublicIp=ip)
    for process in processes:
        process.process.stop()
