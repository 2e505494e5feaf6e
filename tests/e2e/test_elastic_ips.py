"""Elastic IPs by boto3: allocation, association and release, the scripts, and two processes at the same time."""

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
from tests.support.furnished_cloud import MAX_WAIT, FurnishedCloud
from tests.support.processes import until

LIMIT = 5
"""The default maximum of elastic IPs of a user."""

POOL = 16
CALLS = 200
"""AllocateAddress and ReleaseAddress together."""

AT_ONCE = 5
"""Concurrent requests of each user to each process: more in all than the pool has addresses."""

_MAY_BE_REFUSED = frozenset({"InsufficientAddressCapacity", "AddressLimitExceeded", "RequestLimitExceeded"})


@pytest.fixture
def address(ec2: Any) -> Iterator[Callable[[], dict[str, Any]]]:
    """Allocate addresses for alice; release them after the test."""
    created_ids: list[str] = []

    def allocate() -> dict[str, Any]:
        response: dict[str, Any] = ec2.allocate_address(Domain="vpc")
        created_ids.append(response["AllocationId"])
        return response

    yield allocate
    for address in ec2.describe_addresses()["Addresses"]:
        if address["AllocationId"] in created_ids:
            if "AssociationId" in address:
                ec2.disassociate_address(AssociationId=address["AssociationId"])
            ec2.release_address(AllocationId=address["AllocationId"])


def _described_address(ec2: Any, allocation_id: str) -> dict[str, Any]:
    (address,) = ec2.describe_addresses(AllocationIds=[allocation_id])["Addresses"]
    return dict(address)


def _running(ec2: Any, launch: Any) -> dict[str, Any]:
    (instance,) = launch()
    wait(ec2, "instance_running", [instance["InstanceId"]])
    return described(ec2, instance["InstanceId"])[0]


def _arguments_of(run: ScriptRun) -> tuple[str, str, str]:
    return run.script, run.elastic_ip, run.private_ip


def test_an_elastic_ip_is_associated_and_disassociated(
    cloud: FurnishedCloud, ec2: Any, launch: Any, address: Callable[[], dict[str, Any]]
) -> None:
    """It is allocated, associated, listed with the instance, disassociated and released; each script runs once."""
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
    assert _arguments_of(run) == ("associate", ip, private)
    network = etree.fromstring(base64.b64decode(run.network))
    assert (network.tag, network.findtext("ID")) == ("VNET", str(cloud.elastic_ips))

    address_details = _described_address(ec2, allocation)
    values = [address_details[name] for name in ("PublicIp", "InstanceId", "PrivateIpAddress", "AssociationId")]
    assert values == [ip, instance["InstanceId"], private, association]
    (described_instance,) = described(ec2, instance["InstanceId"])
    assert described_instance["PublicIpAddress"] == ip
    assert described_instance["NetworkInterfaces"][0]["Association"]["PublicIp"] == ip
    with pytest.raises(ClientError) as raised:
        ec2.release_address(AllocationId=allocation)
    assert refusal(raised.value) == ("InvalidIPAddress.InUse", 400)

    ec2.disassociate_address(AssociationId=association)
    assert [_arguments_of(run) for run in cloud.script_runs()[before + 1 :]] == [("disassociate", ip, private)]
    assert "InstanceId" not in _described_address(ec2, allocation)
    assert "PublicIpAddress" not in described(ec2, instance["InstanceId"])[0]
    ec2.release_address(AllocationId=allocation)
    assert ip not in cloud.held_addresses(cloud.elastic_ips)
    with pytest.raises(ClientError) as raised:
        ec2.describe_addresses(AllocationIds=[allocation])
    assert refusal(raised.value) == ("InvalidAllocationID.NotFound", 400)


def test_the_address_of_a_terminated_instance_is_disassociated_by_any_process(
    cloud: FurnishedCloud, ec2: Any, launch: Any, address: Callable[[], dict[str, Any]]
) -> None:
    """An elastic IP remains allocated; a public IP that the instance was run with is released."""
    allocated, instance = address(), _running(ec2, launch)
    ec2.associate_address(PublicIp=allocated["PublicIp"], InstanceId=instance["InstanceId"])
    interfaces = [{"DeviceIndex": 0, "AssociatePublicIpAddress": True}]
    public = _running(ec2, lambda: launch(NetworkInterfaces=interfaces))
    public_ip, instances = public["PublicIpAddress"], [instance["InstanceId"], public["InstanceId"]]
    assert public_ip in cloud.held_addresses(cloud.elastic_ips)
    assert public_ip not in [each["PublicIp"] for each in ec2.describe_addresses()["Addresses"]]
    before = len(cloud.script_runs())
    ec2.terminate_instances(InstanceIds=instances)
    wait(ec2, "instance_terminated", instances)
    caretaker = cloud.econed(interval=QUICK)
    try:
        until(lambda: len(cloud.script_runs()) > before + 1, "the disassociate scripts to be run", MAX_WAIT)
        until(lambda: public_ip not in cloud.held_addresses(cloud.elastic_ips), "the address to be released", MAX_WAIT)
    finally:
        caretaker.process.stop()
    runs = {_arguments_of(run) for run in cloud.script_runs()[before:]}
    assert runs == {
        ("disassociate", allocated["PublicIp"], instance["PrivateIpAddress"]),
        ("disassociate", public_ip, public["PrivateIpAddress"]),
    }
    assert "AssociationId" not in _described_address(ec2, allocated["AllocationId"])


def test_an_address_cannot_be_associated_with_an_instance_of_another_user(
    cloud: FurnishedCloud, econed: Econed, ec2: Any, bob: Person, launch: Any
) -> None:
    """Neither if the instance is invisible to the user nor if they may only use it; no script runs."""
    bobs_client, instance = boto(bob, econed.url), _running(ec2, launch)
    own = bobs_client.allocate_address()
    before = len(cloud.script_runs())
    try:
        for expected in (("InvalidInstanceID.NotFound", 400), ("UnauthorizedOperation", 403)):
            with pytest.raises(ClientError) as raised:
                bobs_client.associate_address(AllocationId=own["AllocationId"], InstanceId=instance["InstanceId"])
            assert refusal(raised.value) == expected
            cloud.share("vm", int(instance["InstanceId"][2:]), cloud.alice)
    finally:
        bobs_client.release_address(AllocationId=own["AllocationId"])
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
        (view,) = described(ec2, instance)
        assert "PrivateIpAddress" not in view
        interface = view["NetworkInterfaces"][0]["NetworkInterfaceId"]
        for target in ({"InstanceId": instance}, {"NetworkInterfaceId": interface}):
            with pytest.raises(ClientError) as raised:
                ec2.associate_address(AllocationId=allocation, **target)
            assert refusal(raised.value) == ("InvalidParameterValue", 400)
    finally:
        ec2.terminate_instances(InstanceIds=[instance])
    assert cloud.script_runs()[before:] == []
    assert "AssociationId" not in _described_address(ec2, allocation)


def test_a_user_gets_no_more_addresses_than_the_limit(
    cloud: FurnishedCloud, econed: Econed, second_econed: Econed
) -> None:
    """The limit holds for concurrent requests to two processes, too."""
    henry = cloud.person("henry")
    clients = [known(boto(henry, process.url)) for process in (econed, second_econed)]

    def allocate(index: int) -> str:
        try:
            return str(clients[index % 2].allocate_address()["AllocationId"])
        except ClientError as error:
            return refusal(error)[0]

    with ThreadPoolExecutor(LIMIT + 2) as pool:
        results = list(pool.map(allocate, range(LIMIT + 2)))
    allocated = [result for result in results if result not in _MAY_BE_REFUSED]
    listed = [address["AllocationId"] for address in clients[0].describe_addresses()["Addresses"]]
    assert sorted(listed) == sorted(allocated)
    assert len(set(allocated)) == LIMIT
    assert results.count("AddressLimitExceeded") == 2
    for allocation_id in listed:
        clients[1].release_address(AllocationId=allocation_id)


def test_two_processes_never_allocate_one_address_twice_and_lose_none(cloud: FurnishedCloud) -> None:
    """Two users call two processes with a small pool; an address belongs to its user until it is released."""
    network = cloud.elastic_network(POOL)
    settings = {"elasticips_vnet_id": network, "elastic_ips_per_user": POOL}
    processes = [cloud.econed(records_elements=False, settings=settings) for _ in range(2)]
    people = [cloud.person(name) for name in ("iris", "jack")]
    callers = [(person, known(boto(person, process.url))) for person, process in itertools.product(people, processes)]
    owners: dict[str, int] = {}
    lock = threading.Lock()
    problems: list[str] = []

    def allocate_and_release(index: int) -> int:
        """Allocate an address and release it repeatedly; return how often none was free."""
        person, client = callers[index % len(callers)]
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
            listed = {address["PublicIp"] for address in client.describe_addresses()["Addresses"]}
            if ip not in listed:
                problems.append(f"{ip} is not shown to {person.id}, who has it")
            with lock:
                del owners[ip]
            client.release_address(PublicIp=ip)
        return refused

    turns = AT_ONCE * len(callers)
    with ThreadPoolExecutor(turns) as pool:
        refused = sum(pool.map(allocate_and_release, range(turns)))
    assert problems == []
    assert refused < CALLS // 2, "no address was allocated"
    for _, client in callers:
        assert client.describe_addresses()["Addresses"] == []
    assert cloud.held_addresses(network) == []
    addresses = [callers[0][1].allocate_address()["PublicIp"] for _ in range(POOL)]
    assert len(set(addresses)) == POOL
    for ip in addresses:
        callers[-3][1].release_address(PublicIp=ip)
    for process in processes:
        process.process.stop()
