"""apache-libcloud's EC2 driver, with Signature Version 2 or 4, its lists counted from 0 and its old API version."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from libcloud.compute.base import NodeImage, NodeSize
from libcloud.compute.drivers.ec2 import EC2NodeDriver
from libcloud.compute.types import NodeState

from tests.e2e.waiting import attached, wait, wait_for
from tests.support.clients import boto
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import FurnishedCloud


@pytest.fixture(params=["2", "4"], ids=["signature v2", "signature v4"])
def driver(request: pytest.FixtureRequest, econed: Econed, alice: Person) -> Any:
    """The driver for alice, for its default region."""
    url = urlsplit(econed.url)
    return EC2NodeDriver(  # type: ignore[no-untyped-call]
        alice.name,
        alice.secret,
        secure=False,
        host=url.hostname,
        port=url.port,
        signature_version=request.param,
    )


def _size(driver: Any, name: str) -> NodeSize:
    return NodeSize(id=name, name=name, ram=64, disk=0, bandwidth=0, price=0, driver=driver)


def _image(driver: Any, cloud: FurnishedCloud) -> NodeImage:
    (image,) = [image for image in driver.list_images() if image.id == f"ami-{cloud.ami:08d}"]
    assert image.name == f"{cloud.prefix}-ami"
    return image  # type: ignore[no-any-return]


def test_libcloud_manages_nodes(cloud: FurnishedCloud, ec2: Any, driver: Any) -> None:
    """Create, list, tag, stop, start, reboot, destroy."""
    node = driver.create_node(name="by libcloud", size=_size(driver, cloud.instance_type), image=_image(driver, cloud))
    try:
        wait(ec2, "instance_running", [node.id])
        (listed_node,) = [listed_node for listed_node in driver.list_nodes() if listed_node.id == node.id]
        assert (listed_node.name, listed_node.state) == ("by libcloud", NodeState.RUNNING)
        assert listed_node.private_ips[0].startswith("10.77.")
        assert listed_node.extra["instance_type"] == cloud.instance_type
        assert driver.ex_create_tags(node, {"one": "1", "two": ""}) is True
        assert driver.ex_describe_tags(node) == {"Name": "by libcloud", "one": "1", "two": ""}
        assert driver.ex_delete_tags(node, {"one": "1"}) is True
        assert driver.ex_describe_tags(node) == {"Name": "by libcloud", "two": ""}
        assert driver.ex_stop_node(node) is True
        wait(ec2, "instance_stopped", [node.id])
        assert driver.ex_start_node(node) is True
        wait(ec2, "instance_running", [node.id])
        assert driver.reboot_node(node) is True
    finally:
        assert driver.destroy_node(node) is True
    wait(ec2, "instance_terminated", [node.id])


def test_libcloud_manages_volumes_and_addresses(cloud: FurnishedCloud, ec2: Any, driver: Any) -> None:
    """Create, attach, list, snapshot, detach, destroy; allocate, associate, list, disassociate, release."""
    node = driver.create_node(name="node", size=_size(driver, cloud.instance_type), image=_image(driver, cloud))
    try:
        wait(ec2, "instance_running", [node.id])
        (location,) = [
            location for location in driver.list_locations() if location.availability_zone.name == cloud.zone
        ]
        volume = driver.create_volume(1, "by libcloud", location=location)
        wait_for(ec2, "volume_available", VolumeIds=[volume.id])
        assert driver.attach_volume(node, volume, "/dev/sdf") is True
        attached(ec2, volume.id)
        (listed_volume,) = [
            listed_volume for listed_volume in driver.list_volumes(node) if listed_volume.id == volume.id
        ]
        assert (listed_volume.name, listed_volume.size, listed_volume.extra["device"]) == ("by libcloud", 1, "/dev/sdf")
        snapshot = driver.create_volume_snapshot(volume, "saved by libcloud")
        wait_for(ec2, "snapshot_completed", SnapshotIds=[snapshot.id])
        assert [snapshot.id for snapshot in driver.list_volume_snapshots(volume)] == [snapshot.id]
        assert driver.destroy_volume_snapshot(snapshot) is True
        _detach(driver, ec2, volume)
        assert driver.destroy_volume(volume) is True
        wait_for(ec2, "volume_deleted", VolumeIds=[volume.id])

        for domain in (None, "vpc"):
            address = driver.ex_allocate_address(domain or "standard")
            association = driver.ex_associate_address_with_node(node, address, domain)
            assert association is None or association.startswith("eipassoc-")
            assert driver.ex_describe_addresses_for_node(node) == [address.ip]
            (listed_node,) = [listed_node for listed_node in driver.list_nodes() if listed_node.id == node.id]
            assert address.ip in listed_node.public_ips
            (address,) = [
                listed_address
                for listed_address in driver.ex_describe_all_addresses()
                if listed_address.ip == address.ip
            ]
            assert address.instance_id == node.id
            assert driver.ex_disassociate_address(address, domain) is True
            assert driver.ex_release_address(address, domain) is True
            assert address.ip not in {listed_address.ip for listed_address in driver.ex_describe_all_addresses()}
    finally:
        assert driver.destroy_node(node) is True


def _detach(driver: Any, ec2: Any, volume: Any) -> None:
    assert driver.detach_volume(volume) is True
    wait_for(ec2, "volume_available", VolumeIds=[volume.id])


def test_libcloud_manages_key_pairs(driver: Any, cloud: FurnishedCloud, econed: Econed) -> None:
    """Create, import, list, get, delete."""
    created = driver.create_key_pair("libcloud one")
    assert created.private_key.startswith("-----BEGIN RSA PRIVATE KEY-----")
    public = boto(cloud.alice, econed.url).describe_key_pairs(KeyNames=["libcloud one"], IncludePublicKey=True)
    imported = driver.import_key_pair_from_string("libcloud two", public["KeyPairs"][0]["PublicKey"])
    assert imported.name == "libcloud two"
    assert {"libcloud one", "libcloud two"} <= {key_pair.name for key_pair in driver.list_key_pairs()}
    assert driver.get_key_pair("libcloud one").fingerprint == created.fingerprint
    for key_pair in (created, imported):
        assert driver.delete_key_pair(key_pair) is True
    assert not {"libcloud one", "libcloud two"} & {key_pair.name for key_pair in driver.list_key_pairs()}


def test_libcloud_sees_the_zones_of_its_own_region(driver: Any, cloud: FurnishedCloud) -> None:
    """The driver knows Amazon's regions only, and lists zones by its region's name; its locations are those zones."""
    assert driver.region_name == "us-east-1"
    assert cloud.zone in {zone.name for zone in driver.ex_list_availability_zones()}
    assert cloud.zone in {location.availability_zone.name for location in driver.list_locations()}


def test_libcloud_manages_security_groups(driver: Any, cloud: FurnishedCloud) -> None:
    """Create, allow and revoke by name and by id, list, delete; a rule that is there is no error for the driver."""
    name = f"by libcloud {driver.signature_version}"
    group_id = driver.ex_create_security_group(name, "of a test")["group_id"]
    assert driver.ex_authorize_security_group(name, 22, 22, "192.0.2.0/24") is True
    assert driver.ex_authorize_security_group(name, 22, 22, "192.0.2.0/24") is None
    assert len(driver.ex_authorize_security_group_permissive(name)) == 3
    ranges = ["10.0.0.0/8", "192.0.2.0/24"]
    ingress: tuple[Any, ...] = (group_id, 80, 81, ranges)
    assert driver.ex_authorize_security_group_ingress(*ingress, description="web") is True
    assert driver.ex_authorize_security_group_egress(group_id, 443, 443, ranges) is True
    (group,) = driver.ex_get_security_groups(group_names=[name])
    assert (group.id, group.name) == (group_id, name)
    web = {"from_port": "80", "to_port": "81", "protocol": "tcp", "group_pairs": [], "cidr_ips": ranges}
    assert web in group.ingress_rules
    assert driver.ex_revoke_security_group_ingress(*ingress) is True
    assert driver.ex_revoke_security_group_egress(group_id, 443, 443, ranges) is True
    (group,) = driver.ex_get_security_groups(filters={"group-id": group_id})
    assert web not in group.ingress_rules
    assert len(group.egress_rules) == 1
    assert name in driver.ex_list_security_groups()
    assert driver.ex_delete_security_group(name) is True
    assert name not in driver.ex_list_security_groups()


def test_libcloud_lists_networks_subnets_and_interfaces(driver: Any, cloud: FurnishedCloud, launch: Any) -> None:
    (network,) = driver.ex_list_networks(filters={"isDefault": "true"})
    assert network.extra["is_default"] == "true"
    subnet_id = f"subnet-{cloud.network:08d}"
    (subnet,) = driver.ex_list_subnets(subnet_ids=[subnet_id])
    assert (subnet.id, subnet.extra["vpc_id"], subnet.extra["zone"]) == (subnet_id, network.id, cloud.zone)
    assert subnet_id in {each.id for each in driver.ex_list_subnets(filters={"vpc-id": network.id})}
    (instance,) = launch()
    attached_to = {
        interface.extra["attachment"]["instance_id"]: interface.extra
        for interface in driver.ex_list_network_interfaces()
    }
    assert attached_to[instance["InstanceId"]]["subnet_id"] == subnet_id


def test_libcloud_manages_networks_and_subnets(driver: Any, cloud: FurnishedCloud) -> None:
    """Create with names, list, modify to what is, delete."""
    network = driver.ex_create_network("10.40.0.0/16", name="by libcloud")
    assert (network.cidr_block, network.extra["tags"]) == ("10.40.0.0/16", {"Name": "by libcloud"})
    subnet = driver.ex_create_subnet(network.id, "10.40.1.0/24", cloud.zone, name="a subnet")
    (listed,) = driver.ex_list_subnets(filters={"vpc-id": network.id})
    assert (listed.id, listed.name, listed.extra["cidr_block"]) == (subnet.id, "a subnet", "10.40.1.0/24")
    assert driver.ex_modify_subnet_attribute(subnet, "auto_public_ip", value=False) is True
    assert driver.ex_delete_subnet(subnet) is True
    assert driver.ex_delete_network(network) is True
    assert network.id not in {listed.id for listed in driver.ex_list_networks()}
