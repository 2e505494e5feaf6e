"""RunInstances: the machines that it creates in OpenNebula for the parameters of a request."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from econed.actions.instances.run_instances import MAX_USER_DATA
from econed.config.settings import Settings
from econed.opennebula.documents import VirtualMachine
from econed.opennebula.session import Session
from econed.opennebula.states import ImageState
from tests.support.awkward_texts import AWKWARD
from tests.support.cloud import Cloud

AMI = "ami-00000000"
SCRIPT = base64.b64encode(b"#!/bin/sh\necho $HOME 100$ ]]>\n").decode()


def run(cloud: Cloud, **extra: Any) -> tuple[dict[str, Any], VirtualMachine]:
    """Run an instance as alice; return the instance in the result, and its machine in oned."""
    parameters = {"ImageId": AMI, "MinCount": 1, "MaxCount": 1, **extra}
    (instance,) = cloud.run("alice", "RunInstances", **parameters)["Instances"]
    return instance, cloud.result(Session(cloud.backend, "alice").vm(int(instance["InstanceId"][2:])))


def refusal_code(cloud: Cloud, **extra: Any) -> str:
    """Return the code of the error that alice gets, after checking that nothing was created."""
    refusal = cloud.refusal("alice", "RunInstances", **{"ImageId": AMI, "MinCount": 1, "MaxCount": 1, **extra})
    assert 400 <= refusal.status < 500
    assert cloud.run("alice", "DescribeInstances")["Reservations"] == []
    assert cloud.changes == []
    return refusal.code


def template(cloud: Cloud, text: str) -> int:
    """Create an instance type that the group may use, and return the template's id."""
    template_id = cloud.oneadmin("one.template.allocate", text)
    cloud.oneadmin("one.template.chown", template_id, -1, cloud.user("alice").gid)
    cloud.oneadmin("one.template.chmod", template_id, 1, 1, 0, 1, 0, 0, 0, 0, 0)
    return int(template_id)


def test_an_instance_is_a_machine_of_the_types_template_with_the_amis_disk(cloud: Cloud) -> None:
    instance, machine = run(cloud, InstanceType="m1.large")
    assert instance["InstanceType"] == "m1.large"
    assert instance["ImageId"] == AMI
    assert [disk.image_id for disk in machine.disks] == [0]
    assert machine.template_text("MEMORY") == "512"


def test_the_default_instance_type_is_the_configured_one_or_m1_small() -> None:
    assert run(Cloud())[0]["InstanceType"] == "m1.small"
    assert run(Cloud(settings=Settings(default_instance_type="m1.large")))[0]["InstanceType"] == "m1.large"


def test_key_and_user_data_are_in_the_context_for_old_and_current_context_packages(cloud: Cloud) -> None:
    cloud.run("alice", "CreateKeyPair", KeyName="mykey")
    instance, machine = run(cloud, KeyName="mykey", UserData=SCRIPT)
    context = machine.context
    assert instance["KeyName"] == "mykey"
    assert context["EC2_KEYNAME"] == "mykey"
    assert context["EC2_PUBLIC_KEY"] == context["SSH_PUBLIC_KEY"]
    assert context["EC2_PUBLIC_KEY"].startswith("ssh-rsa AAAA")
    assert context["EC2_USER_DATA"] == context["USER_DATA"] == SCRIPT
    assert context["USER_DATA_ENCODING"] == "base64"
    assert context["NETWORK"] == "YES", "the template's own member is kept"


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD.keys())
def test_awkward_texts_are_preserved_as_key_name_tag_and_user_data(cloud: Cloud, text: str) -> None:
    cloud.run("alice", "CreateKeyPair", KeyName=text)
    tags = [{"Key": text, "Value": text}]
    encoded = base64.b64encode(text.encode()).decode()
    instance, machine = run(
        cloud, KeyName=text, UserData=encoded, TagSpecifications=[{"ResourceType": "instance", "Tags": tags}]
    )
    assert instance["KeyName"] == text
    assert instance["Tags"] == tags
    assert base64.b64decode(machine.context["USER_DATA"]).decode() == text
    assert "EVIL" not in machine.user_template
    assert "EVIL" not in machine.context
    assert machine.context["NETWORK"] == "YES"


def test_the_comment_of_a_key_is_omitted_from_context_if_oned_would_expand_it(cloud: Cloud) -> None:
    pair = cloud.run("alice", "CreateKeyPair", KeyName="source", KeyType="ed25519")
    assert pair["KeyMaterial"]
    public = cloud.run("alice", "DescribeKeyPairs", KeyNames=["source"], IncludePublicKey=True)["KeyPairs"][0]
    blob = " ".join(public["PublicKey"].split()[:2])
    cloud.run("alice", "ImportKeyPair", KeyName="dear", PublicKeyMaterial=f"{blob} costs 100$".encode())
    _, machine = run(cloud, KeyName="dear")
    assert machine.context["SSH_PUBLIC_KEY"] == blob


def test_disks_context_and_requirements_of_the_template_are_kept(cloud: Cloud) -> None:
    template(
        cloud,
        'NAME="full"\nEC2_INSTANCE_TYPE="full"\nCPU="1"\nMEMORY="64"\nSCHED_REQUIREMENTS="CLUSTER_ID=0"\n'
        'NIC=[NETWORK_ID="0",INBOUND_AVG_BW="1000"]\nDISK=[TYPE="fs",SIZE="20",FORMAT="raw"]\n'
        'CONTEXT=[NETWORK="YES",FOO="a, \\"b\\" ]",SSH_PUBLIC_KEY="$USER[SSH_PUBLIC_KEY]"]',
    )
    cloud.as_user("alice", "one.user.update", cloud.user("alice").id, 'SSH_PUBLIC_KEY="ssh-rsa AAAA own"', 1)
    _, machine = run(cloud, InstanceType="full", UserData=SCRIPT, Placement={"AvailabilityZone": "default"})
    assert [disk.image_id for disk in machine.disks] == [0, None]
    assert machine.disks[1].size == 20
    assert machine.context["FOO"] == 'a, "b" ]'
    assert machine.context["SSH_PUBLIC_KEY"] == "ssh-rsa AAAA own", "variables of oned are still expanded"
    assert machine.nics[0].attributes["INBOUND_AVG_BW"] == "1000"
    assert machine.user_template.text("SCHED_REQUIREMENTS") == "(CLUSTER_ID=0) & CLUSTER_ID = 0"


def test_a_disk_of_the_template_with_restricted_attributes_is_accepted(cloud: Cloud) -> None:
    template(
        cloud,
        'NAME="slow"\nEC2_INSTANCE_TYPE="slow"\nCPU="1"\nMEMORY="64"\nNIC=[NETWORK_ID="0"]\n'
        'DISK=[IMAGE_ID="0",TOTAL_BYTES_SEC="1000"]',
    )
    _, machine = run(cloud, InstanceType="slow")
    assert [disk.attributes.get("TOTAL_BYTES_SEC") for disk in machine.disks] == [None, "1000"]


def test_the_configured_cluster_is_added_to_the_requirements() -> None:
    cloud = Cloud(settings=Settings(cluster_id=0))
    _, machine = run(cloud)
    assert machine.user_template.text("SCHED_REQUIREMENTS") == "CLUSTER_ID = 0"


def test_instances_of_one_call_share_a_reservation_and_are_numbered(cloud: Cloud) -> None:
    result = cloud.run("alice", "RunInstances", ImageId=AMI, MinCount=3, MaxCount=3)
    assert [instance["AmiLaunchIndex"] for instance in result["Instances"]] == [0, 1, 2]
    other = cloud.run("alice", "RunInstances", ImageId=AMI, MinCount=1, MaxCount=1)
    assert other["ReservationId"] != result["ReservationId"]
    listed = cloud.run("alice", "DescribeInstances")["Reservations"]
    assert {reservation["ReservationId"]: len(reservation["Instances"]) for reservation in listed} == {
        result["ReservationId"]: 3,
        other["ReservationId"]: 1,
    }


def test_the_tag_name_becomes_the_machines_name_if_it_is_valid(cloud: Cloud) -> None:
    for value, name in (("web 1", "web 1"), ("x" * 129, None), ("a\nb", None)):
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": value}]}]
        instance, machine = run(cloud, TagSpecifications=tags)
        assert machine.name == (name or f"m1.small-{machine.id}")
        assert instance["Tags"] == [{"Key": "Name", "Value": value}]


def test_as_many_instances_as_possible_run_between_minimum_and_maximum(cloud: Cloud) -> None:
    cloud.oneadmin("one.user.quota", cloud.user("alice").id, 'VM=[VMS="2",CPU="-2",MEMORY="-2"]')
    result = cloud.run("alice", "RunInstances", ImageId=AMI, MinCount=1, MaxCount=5)
    assert len(result["Instances"]) == 2


def network(cloud: Cloud, size: int) -> int:
    """Create a network with `size` addresses that all users may use, and return its id."""
    network_id = cloud.oneadmin(
        "one.vn.allocate", f'NAME="tiny"\nVN_MAD="dummy"\nBRIDGE="br7"\nAR=[TYPE="IP4",IP="10.9.0.1",SIZE="{size}"]', 0
    )
    cloud.clock.pump([1] * 5)
    cloud.oneadmin("one.vn.chmod", network_id, 1, 1, 0, 1, 0, 0, 1, 0, 0)
    return int(network_id)


def type_with(cloud: Cloud, *nics: str) -> dict[str, Any]:
    """Create an instance type with these interfaces; return the parameters for one instance of it."""
    lines = ('NAME="t"', 'EC2_INSTANCE_TYPE="tiny"', 'CPU="1"', 'MEMORY="64"', *(f"NIC=[{nic}]" for nic in nics))
    template(cloud, "\n".join(lines))
    return {"ImageId": AMI, "InstanceType": "tiny", "MinCount": 1, "MaxCount": 1}


def launch_failure(cloud: Cloud, **parameters: Any) -> tuple[str, int]:
    """Return the code and the status of the error of a launch."""
    refusal = cloud.refusal("alice", "RunInstances", **parameters)
    return refusal.code, refusal.status


LACKS_CAPACITY = ("InsufficientInstanceCapacity", 500)
INVALID_REQUEST = ("InvalidRequest", 400)


@pytest.mark.parametrize(
    "nic", ['NETWORK_ID="{}"', 'NETWORK="tiny",NETWORK_UNAME="oneadmin"', 'NETWORK="tiny",NETWORK_UID="0"']
)
def test_a_network_without_a_free_address_is_a_lack_of_capacity_which_sdks_retry(cloud: Cloud, nic: str) -> None:
    """The status is 500, as on Amazon; a retry succeeds once an instance is terminated."""
    parameters = type_with(cloud, nic.format(network(cloud, 1)))
    first = cloud.run("alice", "RunInstances", **parameters)["Instances"][0]["InstanceId"]
    refusal = cloud.refusal("alice", "RunInstances", **parameters)
    assert (refusal.code, refusal.status) == LACKS_CAPACITY
    assert "IP/MAC lease from virtual network" in str(refusal.__cause__)
    cloud.wait(10)
    cloud.run("alice", "TerminateInstances", InstanceIds=[first])
    cloud.wait(10)
    assert cloud.run("alice", "RunInstances", **parameters)["Instances"]


def test_no_instance_remains_if_a_network_has_too_few_free_addresses_for_all(cloud: Cloud) -> None:
    """The error is determined before the created machines release their addresses."""
    parameters = type_with(cloud, f'NETWORK_ID="{network(cloud, 3)}"')
    cloud.run("alice", "RunInstances", **parameters)
    assert launch_failure(cloud, **{**parameters, "MinCount": 3, "MaxCount": 3}) == LACKS_CAPACITY
    assert len(cloud.run("alice", "DescribeInstances")["Reservations"]) == 1


def test_an_instance_with_two_interfaces_needs_two_addresses_of_a_network(cloud: Cloud) -> None:
    tiny = f'NETWORK_ID="{network(cloud, 3)}"'
    parameters = type_with(cloud, tiny, tiny)
    cloud.run("alice", "RunInstances", **parameters)
    assert launch_failure(cloud, **parameters) == LACKS_CAPACITY


def test_a_launch_that_failed_for_lack_of_addresses_can_be_retried_with_its_token(cloud: Cloud) -> None:
    """SDKs retry; machines that the first attempt created and discarded do not count as instances of the token."""
    parameters = {**type_with(cloud, f'NETWORK_ID="{network(cloud, 3)}"'), "MinCount": 2, "MaxCount": 2}
    (first, _) = cloud.run("alice", "RunInstances", **parameters, ClientToken="first")["Instances"]
    assert launch_failure(cloud, **parameters, ClientToken="second") == LACKS_CAPACITY
    assert launch_failure(cloud, **parameters, ClientToken="second") == LACKS_CAPACITY
    cloud.wait(10)
    cloud.run("alice", "TerminateInstances", InstanceIds=[first["InstanceId"]])
    cloud.wait(10)
    launched = cloud.run("alice", "RunInstances", **parameters, ClientToken="second")["Instances"]
    assert cloud.run("alice", "RunInstances", **parameters, ClientToken="second")["Instances"] == launched
    assert len(launched) == 2


def test_permanent_lack_of_addresses_and_quotas_are_client_errors(cloud: Cloud) -> None:
    """An unknown network, a network that is too small, an address of another machine, and a quota."""
    assert launch_failure(cloud, **type_with(cloud, 'NETWORK_ID="9999"')) == INVALID_REQUEST
    cloud = Cloud(cloud.oned.version.rpartition(".")[0])
    parameters = type_with(cloud, f'NETWORK_ID="{network(cloud, 1)}"')
    assert launch_failure(cloud, **{**parameters, "MinCount": 2, "MaxCount": 2}) == INVALID_REQUEST
    cloud = Cloud(cloud.oned.version.rpartition(".")[0])
    parameters = type_with(cloud, f'NETWORK_ID="{network(cloud, 2)}",IP="10.9.0.2"')
    cloud.run("alice", "RunInstances", **parameters)
    assert launch_failure(cloud, **parameters) == INVALID_REQUEST
    cloud.oneadmin("one.user.quota", cloud.user("alice").id, 'VM=[VMS="1",CPU="-2",MEMORY="-2"]')
    assert launch_failure(cloud, **parameters) == ("InstanceLimitExceeded", 400)


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ({"ImageId": "ami-00009999"}, "InvalidAMIID.NotFound"),
        ({"ImageId": "ami-00000001"}, "InvalidAMIID.NotFound"),
        ({"ImageId": "i-00000000"}, "InvalidAMIID.Malformed"),
        ({"InstanceType": "m9.huge"}, "InvalidParameterValue"),
        ({"KeyName": "unknown"}, "InvalidKeyPair.NotFound"),
        ({"Placement": {"AvailabilityZone": "elsewhere"}}, "InvalidParameterValue"),
        ({"MinCount": 2}, "InvalidParameterValue"),
        ({"MinCount": 0}, "InvalidParameterValue"),
        ({"MaxCount": 1001}, "InstanceLimitExceeded"),
        ({"UserData": "no base64!"}, "InvalidUserData.Malformed"),
        ({"UserData": base64.b64encode(b"x" * (MAX_USER_DATA + 1)).decode()}, "InvalidParameterValue"),
        ({"InstanceInitiatedShutdownBehavior": "explode"}, "InvalidParameterValue"),
        ({"TagSpecifications": [{"ResourceType": "vpc", "Tags": [{"Key": "a"}]}]}, "InvalidParameterValue"),
        ({"TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "aws:x"}]}]}, "InvalidParameterValue"),
        ({"SubnetId": "subnet-99"}, "InvalidSubnetID.NotFound"),
        ({"Ipv6AddressCount": 1}, "UnsupportedOperation"),
        ({"IamInstanceProfile": {"Name": "admin"}}, "UnsupportedOperation"),
        ({"Placement": {"Tenancy": "dedicated"}}, "UnsupportedOperation"),
        ({"DisableApiTermination": True}, "UnsupportedOperation"),
    ],
)
def test_invalid_parameters_are_refused_before_any_change(extra: dict[str, Any], code: str) -> None:
    assert refusal_code(Cloud(), **extra) == code


def test_ignored_and_default_members_of_structures_are_accepted() -> None:
    """Terraform sends them with every launch."""
    instance, _ = run(
        Cloud(),
        HibernationOptions={"Configured": False},
        EnclaveOptions={"Enabled": False},
        CapacityReservationSpecification={"CapacityReservationPreference": "open"},
        Placement={"Tenancy": "default"},
    )
    assert instance["State"]["Name"] == "pending"


def test_other_members_of_the_same_structures_are_refused() -> None:
    reservation = {"CapacityReservationTarget": {"CapacityReservationId": "cr-1"}}
    preference = {"CapacityReservationPreference": "open"}
    assert refusal_code(Cloud(), HibernationOptions={"Configured": True}) == "UnsupportedOperation"
    assert (
        refusal_code(Cloud(), CapacityReservationSpecification={**preference, **reservation}) == "UnsupportedOperation"
    )


def test_an_image_is_required() -> None:
    refusal = Cloud().refusal("alice", "RunInstances", MinCount=1, MaxCount=1)
    assert refusal.code == "MissingParameter"


def test_a_private_image_of_another_user_is_not_found(cloud: Cloud) -> None:
    image = cloud.as_user("bob", "one.image.allocate", 'NAME="b"\nTYPE="OS"\nPATH="/b"\nSIZE="10"', 1)
    cloud.as_user("bob", "one.image.update", image, 'EC2_AMI="YES"', 1)
    cloud.clock.pump([1] * 10)
    refusal = cloud.refusal("alice", "RunInstances", ImageId=f"ami-{image:08d}", MinCount=1, MaxCount=1)
    assert refusal.code == "InvalidAMIID.NotFound"


def test_an_image_that_is_not_ready_is_unavailable(cloud: Cloud) -> None:
    image = cloud.as_user("alice", "one.image.allocate", 'NAME="new"\nTYPE="OS"\nPATH="/n"\nSIZE="10"', 1)
    cloud.as_user("alice", "one.image.update", image, 'EC2_AMI="YES"', 1)
    cloud.oned.cloud.images.get(image).state = ImageState.LOCKED
    refusal = cloud.refusal("alice", "RunInstances", ImageId=f"ami-{image:08d}", MinCount=1, MaxCount=1)
    assert refusal.code == "InvalidAMIID.Unavailable"


def test_of_several_templates_of_a_type_the_callers_own_is_used(cloud: Cloud) -> None:
    own_template = cloud.as_user(
        "alice", "one.template.allocate", 'NAME="mine"\nEC2_INSTANCE_TYPE="m1.small"\nCPU="1"\nMEMORY="77"'
    )
    _, machine = run(cloud)
    assert machine.template_id == own_template


def test_a_dry_run_creates_nothing() -> None:
    cloud = Cloud()
    parameters: dict[str, Any] = {"ImageId": AMI, "MinCount": 1, "MaxCount": 1}
    assert cloud.refusal("alice", "RunInstances", dry_run=True, **parameters).code == "DryRunOperation"
    refusal = cloud.refusal("alice", "RunInstances", dry_run=True, **{**parameters, "ImageId": "ami-00009999"})
    assert refusal.code == "InvalidAMIID.NotFound"
    assert cloud.changes == []
