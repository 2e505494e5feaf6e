"""Regions are OpenNebula's zones, and availability zones are its clusters."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
from lxml import etree
from zope.interface import implementer

from econed.config.settings import Settings
from econed.interfaces import IOpenNebula
from econed.user import Login
from tests.actions.volumes.test_volumes import snapshot, volume
from tests.support.cloud import ENDPOINT, Cloud

ZONES = """<ZONE_POOL>
<ZONE><ID>0</ID><NAME>far</NAME><TEMPLATE><ENDPOINT>http://far.example:2633/RPC2</ENDPOINT></TEMPLATE></ZONE>
<ZONE><ID>3</ID><NAME>near</NAME><TEMPLATE><ENDPOINT>HTTP://Near.example/RPC2/</ENDPOINT></TEMPLATE></ZONE>
<ZONE><ID>4</ID><NAME>other</NAME><TEMPLATE><ENDPOINT>-</ENDPOINT></TEMPLATE></ZONE>
</ZONE_POOL>"""


@implementer(IOpenNebula)
class FederatedOned:
    """An oned in a federation of three zones."""

    def __init__(self, oned: IOpenNebula) -> None:
        self._oned = oned

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        return await self._oned.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        if method == "one.zonepool.info":
            return etree.fromstring(ZONES)
        return await self._oned.document(user, method, *args, **options)


def federated_cloud(**settings: Any) -> Cloud:
    cloud = Cloud(settings=Settings(**settings))
    cloud.backend = FederatedOned(cloud.backend)
    return cloud


def names(result: dict[str, list[dict[str, str]]], member: str = "ZoneName") -> list[str]:
    """Return the names in the only list of a result."""
    (items,) = result.values()
    return [item[member] for item in items]


def test_the_region_is_the_own_zone_with_the_endpoint_that_the_client_used(cloud: Cloud) -> None:
    assert cloud.run("alice", "DescribeRegions")["Regions"] == [
        {"RegionName": "OpenNebula", "Endpoint": ENDPOINT, "OptInStatus": "opt-in-not-required"}
    ]


def test_an_unknown_region_name_is_refused(cloud: Cloud) -> None:
    assert names(cloud.run("alice", "DescribeRegions", RegionNames=["OpenNebula"]), "RegionName") == ["OpenNebula"]
    error = cloud.refusal("alice", "DescribeRegions", RegionNames=["us-east-1"])
    assert (error.code, error.message) == ("InvalidParameterValue", "Invalid region: [us-east-1]")


def region_names(cloud: Cloud, **parameters: Any) -> list[str]:
    """Return the names of the regions that alice lists."""
    return names(cloud.run("alice", "DescribeRegions", **parameters), "RegionName")


def zones_of(cloud: Cloud, region: str) -> list[tuple[str, str]]:
    """Return the availability zones that the filter `region-name` selects, each with its region."""
    filters = [{"Name": "region-name", "Values": [region]}]
    zones = cloud.run("alice", "DescribeAvailabilityZones", Filters=filters)["AvailabilityZones"]
    return [(zone["ZoneName"], zone["RegionName"]) for zone in zones]


def test_the_region_that_a_request_is_signed_for_is_a_name_of_the_own_region(cloud: Cloud) -> None:
    """There is one region, listed with the client's name and found by both names."""
    cloud.signed_region = "us-east-1"
    assert region_names(cloud) == ["us-east-1"]
    for requested in (["us-east-1"], ["OpenNebula"], ["OpenNebula", "us-east-1"]):
        (region,) = cloud.run("alice", "DescribeRegions", RegionNames=requested)["Regions"]
        assert (region["RegionName"] in requested, region["Endpoint"]) == (True, ENDPOINT)
    for pattern in ("us-east-1", "OpenNebula", "us-*", "Open*"):
        assert len(region_names(cloud, Filters=[{"Name": "region-name", "Values": [pattern]}])) == 1
    assert zones_of(cloud, "us-east-1") == [("default", "us-east-1")]
    assert zones_of(cloud, "OpenNebula") == [("default", "OpenNebula")]
    assert zones_of(cloud, "eu-west-1") == []
    assert cloud.refusal("alice", "DescribeRegions", RegionNames=["eu-west-1"]).code == "InvalidParameterValue"


def test_the_configured_names_are_names_of_the_own_region_too() -> None:
    """Signatures of Version 2 name no region; without a requested name, the zone's own name is listed."""
    cloud = Cloud(settings=Settings(region_names=("us-east-1", "eu-west-1")))
    assert region_names(cloud) == ["OpenNebula"]
    assert region_names(cloud, RegionNames=["us-east-1"]) == ["us-east-1"]
    assert region_names(cloud, RegionNames=["us-east-1", "eu-west-1"]) == ["us-east-1"]
    assert zones_of(cloud, "us-east-1") == [("default", "us-east-1")]
    assert zones_of(cloud, "us-*") == [("default", "OpenNebula")]
    assert zones_of(cloud, "ap-south-1") == []


def test_the_name_of_another_zone_is_never_a_name_of_the_own_region() -> None:
    """Whether or not its endpoint is configured, so that two regions are never merged."""
    regions = MappingProxyType({"other": "https://ec2.other.example/", "gone": "http://gone.example/"})
    for name in ("other", "near", "gone"):
        cloud = federated_cloud(regions=regions, region_names=(name,))
        cloud.signed_region = name
        assert region_names(cloud) == ["far", "other"]
        assert zones_of(cloud, name) == []
    assert region_names(federated_cloud(regions=regions), RegionNames=["other"]) == ["other"]


def test_copies_accept_every_name_of_the_own_region_as_their_source(cloud: Cloud) -> None:
    """SDKs send the region that they sign for."""
    cloud.settings = Settings(region_names=("eu-west-1",))
    cloud.signed_region = "us-east-1"
    copy: dict[str, Any] = {"SourceImageId": "ami-00000000"}
    snapshot_id = snapshot(cloud, volume(cloud))
    for index, region in enumerate(("us-east-1", "eu-west-1", "OpenNebula")):
        assert cloud.run("alice", "CopyImage", SourceRegion=region, Name=f"copy {index}", **copy)["ImageId"]
        assert cloud.run("alice", "CopySnapshot", SourceRegion=region, SourceSnapshotId=snapshot_id)["SnapshotId"]
        cloud.wait(5)
    for action, parameters, code in (
        ("CopyImage", {"Name": "copy", **copy}, "UnsupportedOperation"),
        ("CopySnapshot", {"SourceSnapshotId": snapshot_id}, "InvalidParameterValue"),
    ):
        assert cloud.refusal("alice", action, SourceRegion="mars-1", **parameters).code == code


def test_the_own_zone_in_a_federation_is_the_one_with_the_endpoint_of_the_configured_oned() -> None:
    cloud = federated_cloud(one_xmlrpc=("http://first.example/RPC2", "http://near.example:80/RPC2"))
    assert names(cloud.run("alice", "DescribeRegions"), "RegionName") == ["near"]
    zones = cloud.run("alice", "DescribeAvailabilityZones")["AvailabilityZones"]
    assert {zone["RegionName"] for zone in zones} == {"near"}


def test_the_own_zone_in_a_federation_is_the_oldest_if_none_has_that_endpoint() -> None:
    assert names(federated_cloud().run("alice", "DescribeRegions"), "RegionName") == ["far"]


def test_other_zones_of_a_federation_are_listed_if_their_ec2_endpoint_is_configured() -> None:
    regions = MappingProxyType({"other": "https://ec2.other.example/", "far": "http://x/", "gone": "http://y/"})
    result = federated_cloud(regions=regions).run("alice", "DescribeRegions")
    assert {region["RegionName"]: region["Endpoint"] for region in result["Regions"]} == {
        "far": ENDPOINT,
        "other": "https://ec2.other.example/",
    }


@pytest.mark.parametrize(
    ("name", "value", "matches"),
    [
        ("region-name", "Open*", True),
        ("region-name", "us-east-1", False),
        ("endpoint", ENDPOINT, True),
        ("opt-in-status", "opted-in", False),
    ],
)
def test_regions_are_filtered(cloud: Cloud, name: str, value: str, matches: bool) -> None:
    result = cloud.run("alice", "DescribeRegions", Filters=[{"Name": name, "Values": [value]}])
    assert bool(result["Regions"]) is matches


def test_an_unknown_filter_of_regions_is_refused(cloud: Cloud) -> None:
    error = cloud.refusal("alice", "DescribeRegions", Filters=[{"Name": "colour", "Values": ["red"]}])
    assert error.code == "InvalidParameterValue"


def test_a_cluster_with_datastores_and_networks_is_an_availability_zone(cloud: Cloud) -> None:
    assert cloud.run("alice", "DescribeAvailabilityZones")["AvailabilityZones"] == [
        {
            "ZoneName": "default",
            "ZoneId": "cluster-0",
            "ZoneType": "availability-zone",
            "State": "available",
            "Messages": [],
            "RegionName": "OpenNebula",
            "GroupName": "OpenNebula",
            "OptInStatus": "opt-in-not-required",
        }
    ]


def test_a_cluster_without_a_network_is_not_an_availability_zone(cloud: Cloud) -> None:
    disks_only = cloud.oneadmin("one.cluster.allocate", "disks-only")
    cloud.oneadmin("one.cluster.adddatastore", disks_only, 1)
    assert names(cloud.run("alice", "DescribeAvailabilityZones")) == ["default"]
    cloud.oneadmin("one.cluster.addvnet", disks_only, 0)
    assert names(cloud.run("alice", "DescribeAvailabilityZones")) == ["default", "disks-only"]


def test_the_configured_cluster_is_the_only_availability_zone() -> None:
    assert names(Cloud(settings=Settings(cluster_id=0)).run("alice", "DescribeAvailabilityZones")) == ["default"]
    assert names(Cloud(settings=Settings(cluster_id=7)).run("alice", "DescribeAvailabilityZones")) == []


def test_availability_zones_are_selected_by_name_and_by_id(cloud: Cloud) -> None:
    second = cloud.oneadmin("one.cluster.allocate", "second")
    cloud.oneadmin("one.cluster.adddatastore", second, 1)
    cloud.oneadmin("one.cluster.addvnet", second, 0)
    run = cloud.run
    assert names(run("alice", "DescribeAvailabilityZones", ZoneNames=["second"])) == ["second"]
    assert names(run("alice", "DescribeAvailabilityZones", ZoneIds=["cluster-0"])) == ["default"]
    by_id = [{"Name": "zone-id", "Values": [f"cluster-{second}"]}]
    assert names(run("alice", "DescribeAvailabilityZones", Filters=by_id)) == ["second"]


def test_an_unknown_availability_zone_is_refused(cloud: Cloud) -> None:
    by_name = cloud.refusal("alice", "DescribeAvailabilityZones", ZoneNames=["eu-west-1a"])
    assert (by_name.code, by_name.message) == ("InvalidParameterValue", "Invalid availability zone: [eu-west-1a]")
    assert cloud.refusal("alice", "DescribeAvailabilityZones", ZoneIds=["cluster-9"]).code == "InvalidParameterValue"
