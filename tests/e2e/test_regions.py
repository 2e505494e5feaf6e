"""The region has the name that a client signs for, or a name that econe.conf lists."""

from __future__ import annotations

import boto3
import pytest

from tests.support.clients import ec2_error, v2
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import FurnishedCloud


@pytest.mark.parametrize("region", ["eu-north-1", "wherever"])
def test_an_sdk_sees_the_region_that_it_signs_for(
    cloud: FurnishedCloud, econed: Econed, alice: Person, region: str
) -> None:
    """Without configuration there is one region, at this server, with its zones; copies within it succeed."""
    session = boto3.Session(alice.name, alice.secret, region_name=region)
    ec2 = session.client("ec2", endpoint_url=econed.url)
    (described_region,) = ec2.describe_regions()["Regions"]
    assert (described_region["RegionName"], described_region["Endpoint"]) == (region, econed.url.rstrip("/"))
    assert [
        described_region["RegionName"] for described_region in ec2.describe_regions(RegionNames=[region])["Regions"]
    ] == [region]
    of_region = [{"Name": "region-name", "Values": [region]}]
    zones = ec2.describe_availability_zones(Filters=of_region)["AvailabilityZones"]
    assert cloud.zone in {zone["ZoneName"] for zone in zones}
    assert {zone["RegionName"] for zone in zones} == {region}
    copy = ec2.copy_image(SourceImageId=f"ami-{cloud.ami:08d}", SourceRegion=region, Name=f"copied in {region}")
    ec2.deregister_image(ImageId=copy["ImageId"])


def test_a_client_of_signature_version_2_finds_the_region_by_a_configured_name(econed: Econed, alice: Person) -> None:
    """VM::EC2 looks up its region by name first, and continues at the endpoint in the response."""
    response = v2(alice, econed.url, "DescribeRegions", {"RegionName.1": "us-east-1"})
    assert response.texts("regionInfo", "item", "regionName") == ["us-east-1"]
    assert response.texts("regionInfo", "item", "regionEndpoint") == [econed.url.rstrip("/")]
    refused = v2(alice, econed.url, "DescribeRegions", {"RegionName.1": "eu-north-1"})
    assert (refused.status, ec2_error(refused)) == (400, "InvalidParameterValue")
