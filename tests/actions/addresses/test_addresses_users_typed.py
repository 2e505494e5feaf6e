"""What users type where oned puts addresses reaches no script, and no address that oned did not give to the machine."""

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


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> AddressCloud:
    """A fresh cloud with elastic IPs, of each form of oned."""
    return AddressCloud(request.param)


def instantiated(cloud: Cloud, *nics: str, user: str = "alice") -> str:
    """Make a machine with these NICs alone from the template, and return the id of the instance."""
    extra = "\n".join((DISK, *(f"NIC=[{nic}]" for nic in nics)))
    number = cloud.as_user(user, "one.template.instantiate", 0, "", True, extra, False)
    return f"i-{number:08d}"


def allocated(cloud: Cloud, *nics: str, user: str = "alice") -> str:
    """Make a machine with these NICs without a template."""
    text = "\n".join(('CPU="1"', 'MEMORY="128"', DISK, *(f"NIC=[{nic}]" for nic in nics)))
    return f"i-{cloud.as_user(user, 'one.vm.allocate', text, True):08d}"


def interface(cloud: Cloud, instance: str, nic: int = 0) -> str:
    """Return the id of a network interface of an instance."""
    return f"eni-{int(instance.removeprefix('i-')):08d}{nic:03d}"


def instance_shown(cloud: Cloud, instance: str) -> dict[str, Any]:
    """Return an instance as alice sees it."""
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[instance])["Reservations"]
    (shown,) = reservation["Instances"]
    return dict(shown)


def nothing_happened(cloud: AddressCloud, ip: str) -> None:
    """Check that no script was run and that the address has no association."""
    assert cloud.fake_scripts.runs == []
    assert cloud.associations() == {}
    assert cloud.pool().claims == ()
    assert [type(address) for address in cloud.pool().addresses.values() if str(address.ip) == ip] == [Address]


@pytest.mark.parametrize("made", [instantiated, allocated])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("text", TEXTS)
def test_an_interface_without_a_network_has_no_address_despite_what_its_user_typed(
    cloud: AddressCloud, made: Any, mode: str, text: str
) -> None:
    ip = cloud.allocate()
    instance = made(cloud, f'{mode}IP="{text}",IP6="{text}",IP6_GLOBAL="::1%{text}"')
    shown = instance_shown(cloud, instance)
    (shown_interface,) = shown["NetworkInterfaces"]
    assert "PrivateIpAddress" not in shown
    assert "PrivateIpAddress" not in shown_interface
    assert shown_interface["PrivateIpAddresses"] == shown_interface["Ipv6Addresses"] == []
    targets: list[dict[str, Any]] = [
        {"InstanceId": instance},
        {"InstanceId": instance, "PrivateIpAddress": text},
        {"NetworkInterfaceId": interface(cloud, instance)},
        {"NetworkInterfaceId": interface(cloud, instance), "PrivateIpAddress": text},
    ]
    for target in targets:
        assert cloud.refusal("alice", "AssociateAddress", PublicIp=ip, **target).code == "InvalidParameterValue"
    nothing_happened(cloud, ip)


@pytest.mark.parametrize("beside", ["", 'NETWORK_MODE="auto",', 'NETWORK_MODE="auto",NETWORK_ID="0",'])
def test_the_address_of_another_tenants_machine_cannot_be_associated(cloud: AddressCloud, beside: str) -> None:
    """Oned keeps a NETWORK_ID, too, as it was typed, while the scheduler has yet to choose the network."""
    theirs = cloud.run_instance("bob")
    (reservation,) = cloud.run("bob", "DescribeInstances", InstanceIds=[theirs])["Reservations"]
    private = reservation["Instances"][0]["PrivateIpAddress"]
    ip, instance = cloud.allocate(), instantiated(cloud, f'{beside}IP="{private}"')
    targets: tuple[dict[str, Any], ...] = ({}, {"PrivateIpAddress": private})
    for target in targets:
        refused = cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance, **target)
        assert refused.code == "InvalidParameterValue"
    nothing_happened(cloud, ip)


def test_an_interface_without_a_network_does_not_hide_one_with_a_network(cloud: AddressCloud) -> None:
    ip, instance = cloud.allocate(), instantiated(cloud, 'IP="10.9.9.9"', 'NETWORK_ID="0"')
    second = instance_shown(cloud, instance)["NetworkInterfaces"][1]["PrivateIpAddress"]
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    assert cloud.fake_scripts.runs == [("associate", ip, second)]


def forged(cloud: AddressCloud, instance: str, address: str) -> None:
    """Let the document of an instance say that its network gave it another address than it did."""
    own = cloud.private_ip(instance)
    changes = {f"<IP><![CDATA[{own}]]></IP>": f"<IP><![CDATA[{address}]]></IP>"}
    cloud.backend = SandboxBackend(RewrittenDocuments(cloud.oned, "one.vmpool.infoset", changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ["10.0.0.200", "203.0.113.12"])
def test_an_address_is_associable_only_if_the_network_leases_it_to_this_machine(
    cloud: AddressCloud, address: str
) -> None:
    """Lists go by what the machine says of its network; for an association the network itself is asked."""
    instance, ip = cloud.run_instance(), cloud.allocate()
    forged(cloud, instance, address)
    assert cloud.private_ip(instance) == address
    targets: tuple[dict[str, Any], ...] = ({}, {"PrivateIpAddress": address})
    for target in targets:
        refused = cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance, **target)
        assert refused.code == "InvalidParameterValue"
    nothing_happened(cloud, ip)


def test_a_lease_of_another_machine_on_the_same_network_does_not_count(cloud: AddressCloud) -> None:
    theirs, instance, ip = cloud.run_instance("bob"), cloud.run_instance(), cloud.allocate()
    (reservation,) = cloud.run("bob", "DescribeInstances", InstanceIds=[theirs])["Reservations"]
    forged(cloud, instance, reservation["Instances"][0]["PrivateIpAddress"])
    assert cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance).code == "InvalidParameterValue"
    nothing_happened(cloud, ip)


def test_the_network_is_read_once_for_an_association_and_not_for_lists(cloud: AddressCloud) -> None:
    instance, ip = cloud.run_instance(), cloud.allocate()

    def readings() -> list[tuple[object, ...]]:
        calls = [call for call in list(cloud.oned.calls)[before:] if call.method == "one.vn.info"]
        return [call.args for call in calls if call.user == "alice"]

    before = len(cloud.oned.calls)
    cloud.run("alice", "DescribeInstances")
    cloud.run("alice", "DescribeAddresses")
    assert readings() == []
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    assert readings() == [(0, False)]


def test_an_address_of_a_network_that_the_caller_may_not_read_is_not_associated(cloud: AddressCloud) -> None:
    ip, instance = cloud.allocate(), cloud.run_instance()
    private = cloud.as_user("alice", "one.vm.attachnic", int(instance.removeprefix("i-")), 'NIC=[NETWORK_ID="0"]')
    cloud.wait(5)
    for rule in cloud.oned.cloud.rights.rules():
        cloud.oned.cloud.rights.remove(rule.id)
    cloud.oneadmin("one.vn.chmod", 0, 1, 1, 0, 0, 0, 0, 0, 0, 0)
    assert cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance).code == "UnauthorizedOperation"
    assert private is not None
    nothing_happened(cloud, ip)


def reserved(cloud: AddressCloud, ip: str, size: int, user: str = "alice") -> int:
    """Let a user reserve addresses of the private network, from this one on, and return the reservation."""
    text = f'NAME="mine"\nSIZE="{size}"\nAR_ID="0"\nIP="{ip}"'
    return int(cloud.as_user(user, "one.vn.reserve", 0, text))


def test_an_address_of_a_reservation_must_be_in_its_parent(cloud: AddressCloud) -> None:
    """Oned lets a reservation run over the end of the range: what lies behind it may be another network's."""
    last = cloud.oned.cloud.networks.get(0).ranges[0]
    end = IPv4Address(last.ip + last.size - 1)
    network = reserved(cloud, str(end), 4)
    inside, beyond = (instantiated(cloud, f'NETWORK_ID="{network}",IP="{address}"') for address in (end, end + 1))
    assert instance_shown(cloud, beyond)["PrivateIpAddress"] == str(end + 1)
    ip = cloud.allocate()
    assert cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=beyond).code == "InvalidParameterValue"
    nothing_happened(cloud, ip)
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=inside)
    assert cloud.fake_scripts.runs == [("associate", ip, str(end))]


def test_an_address_of_another_users_reservation_must_be_in_its_parent(
    cloud: AddressCloud,
) -> None:
    """What alice may not read of the parent, econed reads: bob may have reserved beyond its end for her."""
    span = cloud.oned.cloud.networks.get(0).ranges[0]
    end = IPv4Address(span.ip + span.size - 1)
    network = reserved(cloud, str(end), 4, user="bob")
    cloud.as_user("bob", "one.vn.chmod", network, 1, 1, 0, 1, 0, 0, 1, 0, 0)
    inside, beyond = (instantiated(cloud, f'NETWORK_ID="{network}",IP="{address}"') for address in (end, end + 1))
    for rule in cloud.oned.cloud.rights.rules():
        cloud.oned.cloud.rights.remove(rule.id)
    cloud.oneadmin("one.vn.chmod", 0, 1, 1, 0, 0, 0, 0, 0, 0, 0)
    ip = cloud.allocate()
    assert cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=beyond).code == "InvalidParameterValue"
    nothing_happened(cloud, ip)
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=inside)
    assert cloud.fake_scripts.runs == [("associate", ip, str(end))]


def test_an_address_of_a_reservation_must_be_leased_to_it_by_its_parent(cloud: AddressCloud) -> None:
    network = reserved(cloud, "10.0.16.0", 4)
    instance, ip = instantiated(cloud, f'NETWORK_ID="{network}",IP="10.0.16.1"'), cloud.allocate()
    span = cloud.oned.cloud.networks.get(0).ranges[0]
    index = span.index("10.0.16.1")
    assert index is not None
    given = span.leases.pop(index)
    assert cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance).code == "InvalidParameterValue"
    nothing_happened(cloud, ip)
    span.leases[index] = given
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    assert cloud.fake_scripts.runs == [("associate", ip, "10.0.16.1")]


# What is recorded already


@pytest.mark.parametrize("recorded", TEXTS)
def test_a_recorded_private_address_that_is_not_one_is_unknown(cloud: AddressCloud, recorded: str) -> None:
    """The chore undoes an association that a request left by half; no text comes with it."""
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


# Addresses that a machine has no more


def test_an_association_ends_when_the_machine_loses_the_private_address(cloud: AddressCloud) -> None:
    """It may be another tenant's by now."""
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
    private, number = cloud.private_ip(instance), int(instance.removeprefix("i-"))
    cloud.as_user("alice", "one.vm.detachnic", number, 0)
    cloud.wait(5)
    cloud.as_user("alice", "one.vm.attachnic", number, f'NIC=[IP="{private}"]')
    cloud.wait(5)
    cloud.reconcile()
    cloud.wait(LEASE)
    assert cloud.fake_scripts.network == {}
    assert cloud.associations() == {}
    assert cloud.addresses().keys() == {ip}
