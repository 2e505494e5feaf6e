"""Public IPs that instances are run with (AssociatePublicIpAddress): given, shown, and released with their instance."""

from __future__ import annotations

from typing import Any

import pytest

from econed.actions.instances.chores import HOLD_AGE
from econed.actions.instances.launch import STANDSTILL
from econed.errors import EC2Error
from tests.actions.addresses.test_races import check_consistent, code, delays, reconcile_later
from tests.actions.instances.test_launch_joining import begin, reconcile
from tests.actions.interfaces.test_interfaces import interfaces
from tests.support.addresses import FIRST, SECOND, AddressCloud
from tests.support.cloud import Cloud
from tests.support.delayed_oned import DelayedOned, DyingOned

pytestmark = pytest.mark.slow

INTERFACE = {"DeviceIndex": 0, "AssociatePublicIpAddress": True}


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> AddressCloud:
    return AddressCloud(request.param)


def request(count: int = 1, **parameters: Any) -> dict[str, Any]:
    """Return a RunInstances request for instances with public IPs."""
    counts = {"MinCount": count, "MaxCount": count}
    return {"ImageId": "ami-00000000", **counts, "NetworkInterfaces": [INTERFACE], **parameters}


def instances(cloud: Cloud) -> dict[str, dict[str, Any]]:
    """Return alice's instances that are not terminated, by id."""
    reservations = cloud.run("alice", "DescribeInstances")["Reservations"]
    listed = [instance for reservation in reservations for instance in reservation["Instances"]]
    return {each["InstanceId"]: each for each in listed if each["State"]["Name"] != "terminated"}


def public_ips(cloud: Cloud) -> list[str]:
    """Return the public IP of each of alice's instances, empty for one without."""
    return [instance.get("PublicIpAddress", "") for instance in instances(cloud).values()]


def refused(cloud: Cloud, **parameters: Any) -> EC2Error:
    """Return the error of RunInstances, which changes nothing."""
    before = len(cloud.changes)
    for dry_run in (True, False):
        refusal = cloud.refusal("alice", "RunInstances", dry_run=dry_run, **parameters)
    assert cloud.changes[before:] == []
    return refusal


def test_an_instance_is_run_with_a_public_ip(cloud: AddressCloud) -> None:
    """It is associated before the machine is released, and is Amazon's, not an elastic IP of the user's."""
    cloud.run("alice", "RunInstances", **request())
    (instance,) = instances(cloud).values()
    assert cloud.fake_scripts.runs == [("associate", FIRST, instance["PrivateIpAddress"])]
    methods = [call.method for call in cloud.changes]
    assert methods.index("one.template.instantiate") < methods.index("one.vn.hold")
    assert methods[-1] == "one.vm.action"
    (interface,) = interfaces(cloud)
    association = {"PublicIp": FIRST, "PublicDnsName": "", "IpOwnerId": "amazon"}
    assert interface["Association"] == association == instance["NetworkInterfaces"][0]["Association"]
    assert public_ips(cloud) == [FIRST]
    attribute = {"NetworkInterfaceId": interface["NetworkInterfaceId"], "Attribute": "associatePublicIpAddress"}
    assert cloud.run("alice", "DescribeNetworkInterfaceAttribute", **attribute)["AssociatePublicIpAddress"] is True
    assert cloud.addresses() == {}
    check_consistent(cloud)


def test_no_request_names_the_address_of_an_instance(cloud: AddressCloud) -> None:
    cloud.run("alice", "RunInstances", **request())
    (instance,) = instances(cloud)
    before = len(cloud.changes)
    for action in ("AssociateAddress", "ReleaseAddress", "DisassociateAddress", "DescribeAddresses"):
        named: dict[str, Any] = {"PublicIps": [FIRST]} if action == "DescribeAddresses" else {"PublicIp": FIRST}
        target: dict[str, Any] = {"InstanceId": instance} if action == "AssociateAddress" else {}
        assert cloud.refusal("alice", action, **named, **target).code == "InvalidAddress.NotFound"
    taken = cloud.refusal("bob", "AllocateAddress", Address=FIRST)
    assert (taken.code, cloud.changes[before:]) == ("InvalidAddress.NotFound", [])


@pytest.mark.parametrize("by", ["TerminateInstances", "Sunstone"])
def test_the_address_is_released_when_its_instance_has_ended(cloud: AddressCloud, by: str) -> None:
    cloud.run("alice", "RunInstances", **request())
    (instance,) = instances(cloud)
    cloud.wait(10)
    cloud.reconcile()
    assert public_ips(cloud) == [FIRST]
    if by == "Sunstone":
        cloud.oneadmin("one.vm.action", "terminate-hard", int(instance[2:]))
    else:
        cloud.run("alice", "TerminateInstances", InstanceIds=[instance])
    cloud.wait(10)
    cloud.reconcile()
    assert cloud.fake_scripts.network == {}
    assert cloud.held_addresses() == set()
    check_consistent(cloud)


def test_an_instance_keeps_its_address_while_it_is_stopped(cloud: AddressCloud) -> None:
    """Amazon would give it another when it is started."""
    cloud.run("alice", "RunInstances", **request())
    (instance,) = instances(cloud)
    cloud.wait(10)
    cloud.run("alice", "StopInstances", InstanceIds=[instance])
    cloud.wait(20)
    cloud.reconcile()
    assert public_ips(cloud) == [FIRST]


def test_an_elastic_ip_takes_the_place_of_the_address(cloud: AddressCloud) -> None:
    """Also with AllowReassociation false, as at Amazon."""
    cloud.run("alice", "RunInstances", **request())
    (instance,) = instances(cloud)
    ip = cloud.allocate()
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance, AllowReassociation=False)
    assert public_ips(cloud) == [ip] == [SECOND]
    assert cloud.held_addresses() == {ip}
    check_consistent(cloud)


def test_there_must_be_a_pool() -> None:
    assert refused(Cloud(), **request()).code == "UnsupportedOperation"


def test_without_enough_addresses_no_machine_is_made() -> None:
    """The user's limit counts elastic IPs and those of instances together."""
    cloud = AddressCloud(limit=3)
    cloud.allocate()
    assert refused(cloud, **request(3)).code == "AddressLimitExceeded"
    cloud.run("alice", "RunInstances", **request(2))
    assert len({*public_ips(cloud)} - {""}) == 2
    assert cloud.refusal("alice", "AllocateAddress").code == "AddressLimitExceeded"
    cloud = AddressCloud(limit=7)
    for _ in range(7):
        cloud.allocate("bob")
    assert refused(cloud, **request(2)).code == "InsufficientAddressCapacity"
    check_consistent(cloud)


@pytest.mark.parametrize(
    "parameters",
    [
        {"NetworkInterfaces": [INTERFACE, {"DeviceIndex": 1, "SubnetId": "subnet-00000000"}]},
        {"InstanceType": "none"},
        {"InstanceType": "auto"},
    ],
)
def test_what_can_have_no_public_ip_is_not_run(parameters: dict[str, Any]) -> None:
    cloud = AddressCloud()
    for name, nic in (("none", ""), ("auto", 'NIC=[NETWORK_MODE="auto"]')):
        text = f'NAME="{name}"\nEC2_INSTANCE_TYPE="{name}"\nCPU="1"\nMEMORY="64"\n{nic}'
        cloud.as_user("alice", "one.template.allocate", text)
    assert refused(cloud, **request(**parameters)).code == "InvalidParameterCombination"


@pytest.mark.parametrize("token", ["", "t"])
@pytest.mark.parametrize("how", ["failing", "broken"])
def test_if_a_script_fails_no_instance_is_run_and_no_address_is_kept(how: str, token: str) -> None:
    cloud = AddressCloud()
    getattr(cloud.fake_scripts, how).add("associate")
    parameters = request(2, **({"ClientToken": token} if token else {}))
    assert cloud.refusal("alice", "RunInstances", **parameters).code == "IncorrectState"
    cloud.wait(10)
    assert instances(cloud) == {}
    reconcile_later(cloud)
    assert cloud.held_addresses() == set()
    check_consistent(cloud)
    getattr(cloud.fake_scripts, how).clear()
    cloud.run("alice", "RunInstances", **parameters)
    assert sorted(public_ips(cloud)) == [FIRST, SECOND]


def test_a_launch_whose_process_died_is_completed_with_one_address_for_each_instance() -> None:
    """Whichever call of oned was the last."""
    step, ended = 0, False
    while not ended:
        cloud = AddressCloud()
        parameters = request(2, ClientToken="t")
        dying = DyingOned(cloud.backend, step)
        first = begin(cloud.call_in_new_process("alice", dying), **parameters)
        cloud.wait(1)
        cloud.clock.advance(STANDSTILL)
        cloud.run("alice", "RunInstances", **parameters)
        reconcile_later(cloud)
        assert len({*public_ips(cloud)} - {""}) == len(public_ips(cloud)) == 2
        assert len(cloud.held_addresses()) == 2
        check_consistent(cloud)
        step, ended = step + 1, bool(first)
    assert step > 25


def test_what_a_launch_that_is_not_repeated_leaves_is_undone() -> None:
    """Whichever call of oned was the last of its process."""
    step, ended = 0, False
    while not ended:
        cloud = AddressCloud()
        first = cloud.begin(DyingOned(cloud.backend, step), "alice", "RunInstances", **request())
        cloud.wait(HOLD_AGE + 60)
        reconcile(cloud)
        reconcile_later(cloud)
        assert [*filter(None, public_ips(cloud))] == [*cloud.held_addresses()]
        check_consistent(cloud)
        step, ended = step + 1, bool(first)
    assert step > 12


@pytest.mark.parametrize("seed", range(4))
def test_of_two_launches_at_once_only_one_gets_the_last_address(seed: int) -> None:
    cloud = AddressCloud(limit=8)
    for _ in range(7):
        cloud.allocate("bob")
    launches = [
        cloud.begin(DelayedOned(cloud.backend, cloud.clock, delays(seed + n)), "alice", "RunInstances", **request())
        for n in range(2)
    ]
    cloud.wait(60)
    assert sorted(map(code, launches)) == ["", "InsufficientAddressCapacity"]
    assert len(public_ips(cloud)) == 1
    check_consistent(cloud)


def test_two_addresses_that_two_processes_gave_one_instance_become_one() -> None:
    """One process stood still between its two reads, so that another completed the launch meanwhile."""
    cloud = AddressCloud()
    cloud.run("alice", "RunInstances", **request())
    (instance,) = instances(cloud).values()
    members = f'VMID="{int(instance["InstanceId"][2:])}",PRIVATE_IP="{instance["PrivateIpAddress"]}",ASSOCIATION="7"'
    name, uid = "EC2_ADDRESS_" + SECOND.encode().hex().upper(), cloud.user("alice").id
    record = f'{name}=[IP="{SECOND}",UID="{uid}",ALLOCATION="A",AUTO_ASSIGNED="YES",{members}]'
    cloud.oneadmin("one.vn.update", cloud.network, record, 1)
    cloud.oneadmin("one.vn.hold", cloud.network, f'LEASES=[IP="{SECOND}"]')
    cloud.reconcile()
    assert cloud.held_addresses() == {FIRST}
    assert public_ips(cloud) == [FIRST]
    check_consistent(cloud)
