"""Instance types are listed as EC2 lists its own, whole, and with the zones in which they can run."""

from __future__ import annotations

from typing import Any

import pytest

from tests.actions.instances.test_file_templates import with_files
from tests.support.cloud import Cloud

# Members without which clients fail (botocore's model has none that are required).
NEEDED = {
    *("InstanceType", "CurrentGeneration", "FreeTierEligible", "SupportedUsageClasses", "SupportedRootDeviceTypes"),
    *("SupportedVirtualizationTypes", "BareMetal", "Hypervisor", "ProcessorInfo", "VCpuInfo", "MemoryInfo"),
    *("InstanceStorageSupported", "EbsInfo", "NetworkInfo", "PlacementGroupInfo", "HibernationSupported"),
    *("BurstablePerformanceSupported", "DedicatedHostsSupported", "AutoRecoverySupported", "SupportedBootModes"),
    *("NitroEnclavesSupport", "NitroTpmSupport"),
}


@pytest.fixture(name="cloud")
def one_cloud() -> Cloud:
    return Cloud()


def add_type(cloud: Cloud, name: str, text: str, user: str = "oneadmin") -> int:
    """Create a template for everyone that is an instance type, and return its id."""
    full = f'NAME="{name}-{user}"\nEC2_INSTANCE_TYPE="{name}"\nCPU="1"\n{text}'
    allocate = cloud.oneadmin if user == "oneadmin" else lambda *args: cloud.as_user(user, *args)
    template_id = int(allocate("one.template.allocate", full))
    allocate("one.template.chmod", template_id, 1, 1, 0, 1, 0, 0, 1, 0, 0)
    return template_id


def described(cloud: Cloud, name: str) -> dict[str, Any]:
    """Return an instance type."""
    (view,) = cloud.run("alice", "DescribeInstanceTypes", InstanceTypes=[name])["InstanceTypes"]
    return dict(view)


def names(cloud: Cloud, *filters: tuple[str, str]) -> list[str]:
    """Return the names of the types that match filters."""
    given = [{"Name": name, "Values": [value]} for name, value in filters]
    parameters: dict[str, Any] = {"Filters": given} if given else {}
    types = cloud.run("alice", "DescribeInstanceTypes", **parameters)["InstanceTypes"]
    return [view["InstanceType"] for view in types]


def offered(cloud: Cloud, location_type: str, *filters: tuple[str, str]) -> list[tuple[str, str]]:
    """Return types and locations of the offerings."""
    given = [{"Name": name, "Values": [value]} for name, value in filters]
    parameters: dict[str, Any] = {"LocationType": location_type, **({"Filters": given} if given else {})}
    offerings = cloud.run("alice", "DescribeInstanceTypeOfferings", **parameters)["InstanceTypeOfferings"]
    assert {offering["LocationType"] for offering in offerings} <= {location_type}
    return [(offering["InstanceType"], offering["Location"]) for offering in offerings]


class TestTypes:
    """DescribeInstanceTypes."""

    def test_every_type_has_all_that_clients_need(self, cloud: Cloud) -> None:
        types = cloud.run("alice", "DescribeInstanceTypes")["InstanceTypes"]
        assert [view["InstanceType"] for view in types] == sorted(view["InstanceType"] for view in types)
        for view in types:
            assert view.keys() == NEEDED
            assert view["VCpuInfo"].keys() == {"DefaultVCpus", "DefaultCores", "DefaultThreadsPerCore"}
            assert view["NetworkInfo"]["NetworkCards"][0]["NetworkCardIndex"] == 0

    def test_capacity_is_that_of_the_template(self, cloud: Cloud) -> None:
        add_type(cloud, "big", 'VCPU="8"\nMEMORY="4096"\nTOPOLOGY=[SOCKETS="2",CORES="2",THREADS="2"]')
        view = described(cloud, "big")
        assert view["VCpuInfo"] == {"DefaultVCpus": 8, "DefaultCores": 4, "DefaultThreadsPerCore": 2}
        assert view["MemoryInfo"] == {"SizeInMiB": 4096}

    @pytest.mark.parametrize("text", ['MEMORY="64"', 'MEMORY="64"\nVCPU="0"', 'MEMORY="64"\nVCPU="many"'])
    def test_a_type_without_a_number_of_vcpus_has_one(self, cloud: Cloud, text: str) -> None:
        add_type(cloud, "small", text)
        assert described(cloud, "small")["VCpuInfo"]["DefaultVCpus"] == 1

    def test_architecture_and_boot_mode_are_those_of_os(self, cloud: Cloud) -> None:
        add_type(cloud, "arm", 'MEMORY="64"\nOS=[ARCH="aarch64",FIRMWARE="UEFI"]')
        view = described(cloud, "arm")
        assert view["ProcessorInfo"]["SupportedArchitectures"] == ["arm64"]
        assert view["SupportedBootModes"] == ["uefi"]
        assert described(cloud, "m1.small")["ProcessorInfo"]["SupportedArchitectures"] == ["x86_64"]
        assert described(cloud, "m1.small")["SupportedBootModes"] == ["legacy-bios"]

    def test_gpus_are_the_display_controllers_among_its_pci_devices(self, cloud: Cloud) -> None:
        gpu = 'PCI=[VENDOR="10DE",DEVICE="1eb8",CLASS="0302"]\n'
        nic = 'PCI=[VENDOR="8086",DEVICE="10ed",CLASS="0200"]\n'
        add_type(cloud, "g1", f'MEMORY="64"\n{gpu}{gpu}{nic}')
        assert described(cloud, "g1")["GpuInfo"] == {
            "Gpus": [{"Name": "10de:1eb8", "Manufacturer": "NVIDIA", "Count": 2}]
        }

    def test_ones_own_template_of_a_name_comes_first(self, cloud: Cloud) -> None:
        add_type(cloud, "m1.small", 'MEMORY="77"', "bob")
        assert described(cloud, "m1.small")["MemoryInfo"]["SizeInMiB"] != 77
        add_type(cloud, "m1.small", 'MEMORY="78"', "alice")
        assert described(cloud, "m1.small")["MemoryInfo"]["SizeInMiB"] == 78
        assert names(cloud).count("m1.small") == 1

    def test_files_are_instance_types(self) -> None:
        cloud = with_files(Cloud())
        assert names(cloud) == ["m1.small"]
        assert described(cloud, "m1.small")["MemoryInfo"]["SizeInMiB"] > 0

    def test_types_that_do_not_exist_are_named(self, cloud: Cloud) -> None:
        error = cloud.refusal("alice", "DescribeInstanceTypes", InstanceTypes=["m1.small", "x1", "x2"])
        assert error.code == "InvalidInstanceType"
        assert error.message == "The following supplied instance types do not exist: [x1, x2]"

    def test_filters_find_what_they_name(self, cloud: Cloud) -> None:
        add_type(cloud, "arm", 'MEMORY="64"\nVCPU="3"\nOS=[ARCH="aarch64"]')
        assert names(cloud, ("processor-info.supported-architecture", "arm64")) == ["arm"]
        assert names(cloud, ("vcpu-info.default-vcpus", "3"), ("memory-info.size-in-mib", "64")) == ["arm"]
        assert names(cloud, ("instance-type", "m1.*")) == [name for name in names(cloud) if name.startswith("m1.")]
        assert names(cloud, ("burstable-performance-supported", "true")) == []
        assert names(cloud, ("ebs-info.maximum-ebs-attachments", "*")) == []

    def test_pages_hold_all_types_once(self, cloud: Cloud) -> None:
        for number in range(7):
            add_type(cloud, f"t{number}", 'MEMORY="64"')
        found: list[str] = []
        parameters: dict[str, Any] = {"MaxResults": 5}
        while True:
            page = cloud.run("alice", "DescribeInstanceTypes", **parameters)
            found += [view["InstanceType"] for view in page["InstanceTypes"]]
            if "NextToken" not in page:
                break
            parameters["NextToken"] = page["NextToken"]
        assert found == names(cloud)


class TestOfferings:
    """DescribeInstanceTypeOfferings."""

    def test_types_are_offered_in_the_region_and_in_the_zones_of_their_networks(self, cloud: Cloud) -> None:
        assert offered(cloud, "region", ("instance-type", "m1.small")) == [("m1.small", "OpenNebula")]
        assert offered(cloud, "availability-zone", ("instance-type", "m1.small")) == [("m1.small", "default")]
        assert offered(cloud, "availability-zone-id", ("instance-type", "m1.small")) == [("m1.small", "cluster-0")]
        assert offered(cloud, "outpost") == []

    def test_the_region_has_all_its_names(self, cloud: Cloud) -> None:
        cloud.signed_region = "eu-west-1"
        assert ("m1.small", "eu-west-1") in offered(cloud, "region", ("location", "eu-west-1"))

    def test_a_type_with_requirements_is_offered_only_in_their_clusters(self, cloud: Cloud) -> None:
        add_type(cloud, "here", 'MEMORY="64"\nSCHED_REQUIREMENTS="CLUSTER_ID = \\"0\\" | CLUSTER_ID = 9"')
        add_type(cloud, "nowhere", 'MEMORY="64"\nSCHED_REQUIREMENTS="CLUSTER_ID = 9"')
        add_type(cloud, "host", 'MEMORY="64"\nSCHED_REQUIREMENTS="FREE_CPU > 5"')
        found = {name for name, _ in offered(cloud, "availability-zone")}
        assert {"here", "host"} <= found
        assert "nowhere" not in found
        assert "nowhere" not in {name for name, _ in offered(cloud, "region")}

    def test_a_type_on_a_network_that_the_caller_cannot_use_is_not_offered(self, cloud: Cloud) -> None:
        add_type(cloud, "foreign", 'MEMORY="64"\nNIC=[NETWORK_ID="99"]')
        add_type(cloud, "any", 'MEMORY="64"\nNIC=[NETWORK_MODE="auto"]')
        found = {name for name, _ in offered(cloud, "availability-zone")}
        assert "any" in found
        assert "foreign" not in found

    def test_locations_are_filtered(self, cloud: Cloud) -> None:
        assert offered(cloud, "availability-zone", ("location", "no-such-zone")) == []
        assert offered(cloud, "availability-zone", ("location", "default")) == offered(cloud, "availability-zone")

    def test_another_type_of_location_is_refused(self, cloud: Cloud) -> None:
        error = cloud.refusal("alice", "DescribeInstanceTypeOfferings", LocationType="planet")
        assert error.code == "InvalidParameterValue"


def test_requirements_are_read_in_linear_time(cloud: Cloud) -> None:
    """Any user may share a type with all others."""
    add_type(cloud, "blank", f'MEMORY="64"\nSCHED_REQUIREMENTS="{" " * 1_000_000}x"')
    assert ("blank", "OpenNebula") in offered(cloud, "region")
