"""Addresses that users typed: no script gets them, and only addresses that oned leased are associated."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from econed.actions.addresses.claims import LEASE
from econed.actions.addresses.records import Address
from econed.opennebula.template import hex_name
from econed.sandbox.backend import SandboxBackend
from tests.support.addresses import FIRST, AddressCloud
from tests.support.altered_documents import RewrittenDocuments
from tests.support.cloud import Cloud

DISK = 'DISK=[IMAGE_ID="0"]'
TEXTS = (
    "10.0.0.99 } ; flush ruleset ; {",
    "--help $(id)",
    "10.0.0.99\n10.0.0.98",
    " 10.0.0.99",
    "010.0.0.99",
    "10.0.0.99/8",
    "0x0a000063",
    "١٠.0.0.99",
    "10.0.0.99",
)
MODES = ("", 'NETWORK_MODE="auto",')


def instantiate(cloud: Cloud, *nics: str, user: str = "alice") -> str:
    """Instantiate the template with only these NICs, and return the id of the instance."""
    extra = "\n".join((DISK, *(f"NIC=[{nic}]" for nic in nics)))
    machine_id = cloud.as_user(user, "one.template.instantiate", 0, "", True, extra, False)
    return f"i-{machine_id:08d}"


def create(cloud: Cloud, *nics: str, user: str = "alice") -> str:
    """Create a machine with these NICs without a template, and return the id of the instance."""
    text = "\n".join(('CPU="1"', 'MEMORY="128"', DISK, *(f"NIC=[{nic}]" for nic in nics)))
    return f"i-{cloud.as_user(user, 'one.vm.allocate', text, True):08d}"


def interface(cloud: Cloud, instance: str, nic: int = 0) -> str:
    """Return the id of a network interface of an instance, by its position."""
    return str(instance_view(cloud, instance)["NetworkInterfaces"][nic]["NetworkInterfaceId"])


def instance_view(cloud: Cloud, instance: str) -> dict[str, Any]:
    """Return an instance as DescribeInstances shows it to alice."""
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[instance])["Reservations"]
    (described,) = reservation["Instances"]
    return dict(described)


def check_not_associated(cloud: AddressCloud, ip: str) -> None:
    """Check that no script was run and that the address has no association."""
    assert cloud.fake_scripts.runs == []
    assert cloud.associations() == {}
    assert cloud.pool().claims == ()
    assert [type(address) for address in cloud.pool().addresses.values() if str(address.ip) == ip] == [Address]


@pytest.mark.parametrize("create_machine", [instantiate, create])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("text", TEXTS)
def test_an_interface_without_a_network_has_no_address_despite_what_its_user_typed(
    cloud: AddressCloud, create_machine: Any, mode: str, text: str
) -> None:
    ip = cloud.allocate()
    instance = create_machine(cloud, f'{mode}IP="{text}",IP6="{text}",IP6_GLOBAL="::1%{text}"')
    described = instance_view(cloud, instance)
    (interface_view,) = described["NetworkInterfaces"]
    assert "PrivateIpAddress" not in described
    assert "PrivateIpAddress" not in interface_view
    assert interface_view["PrivateIpAddresses"] == interface_view["Ipv6Addresses"] == []
    targets: list[dict[str, Any]] = [
        {"InstanceId": instance},
        {"InstanceId": instance, "PrivateIpAddress": text},
        {"NetworkInterfaceId": interface(cloud, instance)},
        {"NetworkInterfaceId": interface(cloud, instance), "PrivateIpAddress": text},
    ]
    for target in targets:
        assert cloud.refusal("alice", "AssociateAddress", PublicIp=ip, **target).code == "InvalidParameterValue"
    check_not_associated(cloud, ip)


@pytest.mark.parametrize("extra", ["", 'NETWORK_MODE="auto",', 'NETWORK_MODE="auto",NETWORK_ID="0",'])
def test_the_address_of_another_tenants_machine_cannot_be_associated(cloud: AddressCloud, extra: str) -> None:
    """Oned also keeps a NETWORK_ID as it was typed until the scheduler has chosen the network."""
    theirs = cloud.run_instance("bob")
    (reservation,) = cloud.run("bob", "DescribeInstances", InstanceIds=[theirs])["Reservations"]
    private = reservation["Instances"][0]["PrivateIpAddress"]
    ip, instance = cloud.allocate(), instantiate(cloud, f'{extra}IP="{private}"')
    targets: tuple[dict[str, Any], ...] = ({}, {"PrivateIpAddress": private})
    for target in targets:
        refused = cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance, **target)
        assert refused.code == "InvalidParameterValue"
    check_not_associated(cloud, ip)


def test_an_interface_without_a_network_does_not_hide_one_with_a_network(cloud: AddressCloud) -> None:
    ip, instance = cloud.allocate(), instantiate(cloud, 'IP="10.9.9.9"', 'NETWORK_ID="0"')
    second = instance_view(cloud, instance)["NetworkInterfaces"][1]["PrivateIpAddress"]
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    assert cloud.fake_scripts.runs == [("associate", ip, second)]


def forge_address(cloud: AddressCloud, instance: str, address: str) -> None:
    """Change the address in the document of an instance to one that its network did not lease."""
    own = cloud.private_ip(instance)
    changes = {f"<IP><![CDATA[{own}]]></IP>": f"<IP><![CDATA[{address}]]></IP>"}
    cloud.backend = SandboxBackend(RewrittenDocuments(cloud.oned, "one.vmpool.infoset", changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ["10.0.0.200", "203.0.113.12"])
def test_an_address_is_associable_only_if_the_network_leases_it_to_this_machine(
    cloud: AddressCloud, address: str
) -> None:
    """Lists show what the machine's document has; for an association the network is read."""
    instance, ip = cloud.run_instance(), cloud.allocate()
    forge_address(cloud, instance, address)
    assert cloud.private_ip(instance) == address
    targets: tuple[dict[str, Any], ...] = ({}, {"PrivateIpAddress": address})
    for target in targets:
        refused = cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance, **target)
        assert refused.code == "InvalidParameterValue"
    check_not_associated(cloud, ip)


def test_a_lease_of_another_machine_on_the_same_network_does_not_count(cloud: AddressCloud) -> None:
    theirs, instance, ip = cloud.run_instance("bob"), cloud.run_instance(), cloud.allocate()
    (reservation,) = cloud.run("bob", "DescribeInstances", InstanceIds=[theirs])["Reservations"]
    forge_address(cloud, instance, reservation["Instances"][0]["PrivateIpAddress"])
    assert cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance).code == "InvalidParameterValue"
    check_not_associated(cloud, ip)


def test_the_network_is_read_once_for_an_association_and_not_for_lists(cloud: AddressCloud) -> None:
    instance, ip = cloud.run_instance(), cloud.allocate()

    def networks_read() -> list[tuple[object, ...]]:
        calls = [call for call in list(cloud.oned.calls)[before:] if call.method == "one.vn.info"]
        return [call.args for call in calls if call.user == "alice"]

    before = len(cloud.oned.calls)
    cloud.run("alice", "DescribeInstances")
    cloud.run("alice", "DescribeAddresses")
    assert networks_read() == []
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    assert networks_read() == [(0, False)]


def test_an_address_of_a_network_that_the_caller_may_not_read_is_not_associated(cloud: AddressCloud) -> None:
    ip, instance = cloud.allocate(), cloud.run_instance()
    private = cloud.as_user("alice", "one.vm.attachnic", int(instance.removeprefix("i-")), 'NIC=[NETWORK_ID="0"]')
    cloud.wait(5)
    for rule in cloud.oned.cloud.rights.rules():
        cloud.oned.cloud.rights.remove(rule.id)
    cloud.oneadmin("one.vn.chmod", 0, 1, 1, 0, 0, 0, 0, 0, 0, 0)
    assert cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance).code == "UnauthorizedOperation"
    assert private is not None
    check_not_associated(cloud, ip)


def reserve(cloud: AddressCloud, ip: str, size: int, user: str = "alice") -> int:
    """Reserve addresses of the private network for a user, beginning with this one, and return the reservation."""
    text = f'NAME="mine"\nSIZE="{size}"\nAR_ID="0"\nIP="{ip}"'
    return int(cloud.as_user(user, "one.vn.reserve", 0, text))


def test_an_address_of_a_reservation_must_be_in_its_parent(cloud: AddressCloud) -> None:
    """Oned lets a reservation extend beyond the end of the range, where addresses may be another network's."""
    range_ = cloud.oned.cloud.networks.get(0).ranges[0]
    end = IPv4Address(range_.addresses(range_.size - 1)["IP"])
    network = reserve(cloud, str(end), 4)
    inside, beyond = (instantiate(cloud, f'NETWORK_ID="{network}",IP="{address}"') for address in (end, end + 1))
    assert instance_view(cloud, beyond)["PrivateIpAddress"] == str(end + 1)
    ip = cloud.allocate()
    assert cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=beyond).code == "InvalidParameterValue"
    check_not_associated(cloud, ip)
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=inside)
    assert cloud.fake_scripts.runs == [("associate", ip, str(end))]


def test_an_address_of_another_users_reservation_must_be_in_its_parent(
    cloud: AddressCloud,
) -> None:
    """Econed reads the parent, which alice may not: bob may have shared a reservation beyond its end."""
    range_ = cloud.oned.cloud.networks.get(0).ranges[0]
    end = IPv4Address(range_.addresses(range_.size - 1)["IP"])
    network = reserve(cloud, str(end), 4, user="bob")
    cloud.as_user("bob", "one.vn.chmod", network, 1, 1, 0, 1, 0, 0, 1, 0, 0)
    inside, beyond = (instantiate(cloud, f'NETWORK_ID="{network}",IP="{address}"') for address in (end, end + 1))
    for rule in cloud.oned.cloud.rights.rules():
        cloud.oned.cloud.rights.remove(rule.id)
    cloud.oneadmin("one.vn.chmod", 0, 1, 1, 0, 0, 0, 0, 0, 0, 0)
    ip = cloud.allocate()
    assert cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=beyond).code == "InvalidParameterValue"
    check_not_associated(cloud, ip)
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=inside)
    assert cloud.fake_scripts.runs == [("associate", ip, str(end))]


def test_an_address_of_a_reservation_must_be_leased_to_it_by_its_parent(cloud: AddressCloud) -> None:
    network = reserve(cloud, "10.0.16.0", 4)
    instance, ip = instantiate(cloud, f'NETWORK_ID="{network}",IP="10.0.16.1"'), cloud.allocate()
    range_ = cloud.oned.cloud.networks.get(0).ranges[0]
    index = range_.index("10.0.16.1")
    assert index is not None
    lease = range_.leases.pop(index)
    assert cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance).code == "InvalidParameterValue"
    check_not_associated(cloud, ip)
    range_.leases[index] = lease
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    assert cloud.fake_scripts.runs == [("associate", ip, "10.0.16.1")]


@pytest.mark.parametrize("is_reserved", [False, True])
def test_an_address_of_a_network_that_a_user_made_is_not_associated(cloud: AddressCloud, is_reserved: bool) -> None:
    """Alice may have chosen the address of bob's machine on another network, for her VPC for example."""
    network, instance, ip = 0, cloud.run_instance(), cloud.allocate()
    if is_reserved:
        network = reserve(cloud, "10.0.16.0", 4)
        instance = instantiate(cloud, f'NETWORK_ID="{network}"')
    cloud.oneadmin("one.vn.chown", 0, 2, 1)
    assert cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance).code == "InvalidParameterValue"
    check_not_associated(cloud, ip)
    cloud.oneadmin("one.vn.chown", 0, 0, 1)
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    assert cloud.fake_scripts.runs == [("associate", ip, cloud.private_ip(instance))]


# Associations on record


@pytest.mark.parametrize("recorded", TEXTS)
def test_a_recorded_private_address_that_is_not_one_is_unknown(cloud: AddressCloud, recorded: str) -> None:
    """The chore ends an association that a request left unfinished; no recorded text reaches the script."""
    instance, ip = cloud.run_instance(), cloud.allocate()
    private = cloud.private_ip(instance)
    name = hex_name("EC2_ADDRESS_", ip)
    members = f'IP="{ip}",UID="2",ALLOCATION="AB",VMID="0",PRIVATE_IP="{recorded}",ASSOCIATION="7",STATE="GOING"'
    cloud.oneadmin("one.vn.update", cloud.network, f"{name}=[{members}]", 1)
    cloud.reconcile()
    as_read = recorded.strip() if cloud.oned.version.startswith("7") else recorded
    assert cloud.fake_scripts.runs == [("disassociate", ip, as_read if as_read == "10.0.0.99" else private)]
    assert cloud.associations() == {}


@pytest.mark.parametrize("address", ["10.0.0.200", "$(id)"])
def test_an_association_of_the_ruby_server_is_ended_without_an_address_that_is_not_leased(
    cloud: AddressCloud, address: str
) -> None:
    instance = cloud.run_instance()
    cloud.oneadmin("one.vn.update", cloud.network, f'EC2_ADDRESSES=[IP="{FIRST}",UID="2",VMID="0"]', 1)
    cloud.oneadmin("one.vn.hold", cloud.network, f'LEASES=[IP="{FIRST}"]')
    own = cloud.private_ip(instance)
    changes = {f"<IP><![CDATA[{own}]]></IP>": f"<IP><![CDATA[{address}]]></IP>"}
    cloud.backend = SandboxBackend(RewrittenDocuments(cloud.oned, "one.vmpool.infoset", changes))  # type: ignore[arg-type]
    cloud.run("alice", "DisassociateAddress", PublicIp=FIRST)
    assert cloud.fake_scripts.runs == [("disassociate", FIRST, "")]


# Private addresses that a machine has lost


def test_an_association_ends_when_the_machine_loses_the_private_address(cloud: AddressCloud) -> None:
    """It may be leased to another tenant by then."""
    ip, instance, _ = cloud.associate()
    private = cloud.private_ip(instance)
    cloud.as_user("alice", "one.vm.detachnic", int(instance.removeprefix("i-")), 0)
    cloud.wait(5)
    assert cloud.associations() == {}
    cloud.reconcile()
    assert cloud.fake_scripts.runs[1:] == [("disassociate", ip, private)]
    assert cloud.fake_scripts.network == {}
    assert cloud.addresses().keys() == {ip}


def test_an_address_can_be_released_when_the_machine_has_lost_the_private_address(cloud: AddressCloud) -> None:
    ip, instance, _ = cloud.associate()
    assert cloud.refusal("alice", "ReleaseAddress", PublicIp=ip).code == "InvalidIPAddress.InUse"
    cloud.as_user("alice", "one.vm.detachnic", int(instance.removeprefix("i-")), 0)
    cloud.wait(5)
    cloud.run("alice", "ReleaseAddress", PublicIp=ip)
    assert (cloud.fake_scripts.network, cloud.addresses(), cloud.held_addresses()) == ({}, {}, set())


def test_an_interface_attached_with_the_same_address_typed_does_not_keep_the_association(
    cloud: AddressCloud,
) -> None:
    ip, instance, _ = cloud.associate()
    private, machine_id = cloud.private_ip(instance), int(instance.removeprefix("i-"))
    cloud.as_user("alice", "one.vm.detachnic", machine_id, 0)
    cloud.wait(5)
    cloud.as_user("alice", "one.vm.attachnic", machine_id, f'NIC=[IP="{private}"]')
    cloud.wait(5)
    cloud.reconcile()
    cloud.wait(LEASE)
    assert cloud.fake_scripts.network == {}
    assert cloud.associations() == {}
    assert cloud.addresses().keys() == {ip}
