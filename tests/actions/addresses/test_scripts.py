"""The scripts of associations: failures, their time, and clouds without scripts."""

from __future__ import annotations

import pytest

from tests.support.addresses import AddressCloud
from tests.support.cloud import Cloud


@pytest.mark.parametrize("how", ["failing", "broken"])
def test_nothing_is_associated_if_the_script_fails(cloud: AddressCloud, how: str) -> None:
    instance, ip = cloud.run_instance(), cloud.allocate()
    getattr(cloud.fake_scripts, how).add("associate")
    refusal = cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    assert (refusal.code, refusal.status) == ("IncorrectState", 400)
    assert cloud.associations() == {}
    assert "PublicIpAddress" not in str(cloud.run("alice", "DescribeInstances"))
    getattr(cloud.fake_scripts, how).clear()
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    assert cloud.associations() == {ip: instance}


def test_the_effect_of_a_killed_script_is_undone(cloud: AddressCloud) -> None:
    instance, ip = cloud.run_instance(), cloud.allocate()
    cloud.fake_scripts.broken.add("associate")
    cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    cloud.reconcile()
    assert cloud.fake_scripts.runs[1:] == [("disassociate", ip, cloud.private_ip(instance))]
    cloud.reconcile()
    assert len(cloud.fake_scripts.runs) == 2


def test_the_effect_of_a_killed_script_is_undone_before_the_address_is_released(
    cloud: AddressCloud,
) -> None:
    instance, ip = cloud.run_instance(), cloud.allocate()
    cloud.fake_scripts.broken.add("associate")
    cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    cloud.run("alice", "ReleaseAddress", PublicIp=ip)
    assert cloud.fake_scripts.runs[-1] == ("disassociate", ip, cloud.private_ip(instance))
    assert cloud.held_addresses() == set()


def test_an_association_is_kept_if_the_disassociate_script_fails(cloud: AddressCloud) -> None:
    ip, instance, association = cloud.associate()
    cloud.fake_scripts.failing.add("disassociate")
    other = cloud.run_instance()
    assert cloud.refusal("alice", "DisassociateAddress", PublicIp=ip).code == "IncorrectState"
    refusal = cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=other)
    assert refusal.code == "IncorrectState"
    assert cloud.associations() == {ip: instance}
    assert cloud.addresses()[ip]["AssociationId"] == association
    assert cloud.pool().claims == ()


def test_the_scripts_of_a_request_have_less_time_than_clients_wait(cloud: AddressCloud) -> None:
    ip, _, _ = cloud.associate()
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=cloud.run_instance())
    assert max(cloud.fake_scripts.seconds) <= 45


def test_without_scripts_associations_are_only_recorded() -> None:
    cloud = AddressCloud()
    cloud.scripts = Cloud().scripts
    ip, instance, _ = cloud.associate()
    assert cloud.associations() == {ip: instance}
    assert cloud.fake_scripts.runs == []


def test_instances_are_listed_without_the_network_of_elastic_ips() -> None:
    cloud = AddressCloud(network=99)
    instance = cloud.run_instance()
    (reservation,) = cloud.run("alice", "DescribeInstances")["Reservations"]
    assert reservation["Instances"][0]["InstanceId"] == instance
