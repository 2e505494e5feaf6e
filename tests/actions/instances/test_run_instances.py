"""RunInstances: what it makes in OpenNebula of what a client asks for."""

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


def run(cloud: Cloud, **more: Any) -> tuple[dict[str, Any], VirtualMachine]:
    """Run an instance as alice; return it as answered, and the machine that oned has for it."""
    asked = {"ImageId": AMI, "MinCount": 1, "MaxCount": 1, **more}
    (instance,) = cloud.run("alice", "RunInstances", **asked)["Instances"]
    return instance, cloud.result(Session(cloud.backend, "alice").vm(int(instance["InstanceId"][2:])))


def refused(cloud: Cloud, **more: Any) -> str:
    """Return the code with which alice is refused, having seen that nothing was made."""
    refusal = cloud.refusal("alice", "RunInstances", **{"ImageId": AMI, "MinCount": 1, "MaxCount": 1, **more})
    assert 400 <= refusal.status < 500
    assert cloud.run("alice", "DescribeInstances")["Reservations"] == []
    assert cloud.changes == []
    return refusal.code


def template(cloud: Cloud, text: str) -> int:
    """Make an instance type that the group may use, and return the template's id."""
    number = cloud.oneadmin("one.template.allocate", text)
    cloud.oneadmin("one.template.chown", number, -1, cloud.user("alice").gid)
    cloud.oneadmin("one.template.chmod", number, 1, 1, 0, 1, 0, 0, 0, 0, 0)
    return int(number)


def test_an_instance_is_a_machine_of_the_types_template_with_the_amis_disk(cloud: Cloud) -> None:
    instance, machine = run(cloud, InstanceType="m1.large")
    assert instance["InstanceType"] == "m1.large"
    assert instance["ImageId"] == AMI
    assert [disk.image_id for disk in machine.disks] == [0]
    assert machine.template_text("MEMORY") == "512"


def test_the_default_instance_type_is_m1_small() -> None:
    assert run(Cloud())[0]["InstanceType"] == "m1.small"


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
    assert context["NETWORK"] == "YES", "what the template says is kept"


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
    assert machine.context["SSH_PUBLIC_KEY"] == "ssh-rsa AAAA own", "oned's own variables go on working"
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
    answer = cloud.run("alice", "RunInstances", ImageId=AMI, MinCount=3, MaxCount=3)
    assert [instance["AmiLaunchIndex"] for instance in answer["Instances"]] == [0, 1, 2]
    other = cloud.run("alice", "RunInstances", ImageId=AMI, MinCount=1, MaxCount=1)
    assert other["ReservationId"] != answer["ReservationId"]
    listed = cloud.run("alice", "DescribeInstances")["Reservations"]
    assert {each["ReservationId"]: len(each["Instances"]) for each in listed} == {
        answer["ReservationId"]: 3,
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
    answer = cloud.run("alice", "RunInstances", ImageId=AMI, MinCount=1, MaxCount=5)
    assert len(answer["Instances"]) == 2


def network(cloud: Cloud, size: int) -> int:
    """Make a network of so many addresses, which everybody may use."""
    number = cloud.oneadmin(
        "one.vn.allocate", f'NAME="tiny"\nVN_MAD="dummy"\nBRIDGE="br7"\nAR=[TYPE="IP4",IP="10.9.0.1",SIZE="{size}"]', 0
    )
    cloud.clock.pump([1] * 5)
    cloud.oneadmin("one.vn.chmod", number, 1, 1, 0, 1, 0, 0, 1, 0, 0)
    return int(number)


def type_with(cloud: Cloud, *nics: str) -> dict[str, Any]:
    """Make an instance type with these interfaces; return the parameters that ask for one instance of it."""
    lines = ('NAME="t"', 'EC2_INSTANCE_TYPE="tiny"', 'CPU="1"', 'MEMORY="64"', *(f"NIC=[{nic}]" for nic in nics))
    template(cloud, "\n".join(lines))
    return {"ImageId": AMI, "InstanceType": "tiny", "MinCount": 1, "MaxCount": 1}


def shortage(cloud: Cloud, **asked: Any) -> tuple[str, int]:
    """Return with which code and status a launch is refused."""
    refusal = cloud.refusal("alice", "RunInstances", **asked)
    return refusal.code, refusal.status


LACKS_CAPACITY = ("InsufficientInstanceCapacity", 500)
CANNOT_BE = ("InvalidRequest", 400)


@pytest.mark.parametrize(
    "nic", ['NETWORK_ID="{}"', 'NETWORK="tiny",NETWORK_UNAME="oneadmin"', 'NETWORK="tiny",NETWORK_UID="0"']
)
def test_a_network_without_a_free_address_is_a_lack_of_capacity_which_sdks_retry(cloud: Cloud, nic: str) -> None:
    """A 500, as on Amazon; it passes when an instance ends."""
    asked = type_with(cloud, nic.format(network(cloud, 1)))
    first = cloud.run("alice", "RunInstances", **asked)["Instances"][0]["InstanceId"]
    assert shortage(cloud, **asked) == LACKS_CAPACITY
    cloud.wait(10)
    cloud.run("alice", "TerminateInstances", InstanceIds=[first])
    cloud.wait(10)
    assert cloud.run("alice", "RunInstances", **asked)["Instances"]


def test_no_instance_remains_if_a_network_has_too_few_free_addresses_for_all(cloud: Cloud) -> None:
    """What is told is found out before those that were made give their addresses back."""
    asked = type_with(cloud, f'NETWORK_ID="{network(cloud, 3)}"')
    cloud.run("alice", "RunInstances", **asked)
    assert shortage(cloud, **{**asked, "MinCount": 3, "MaxCount": 3}) == LACKS_CAPACITY
    assert len(cloud.run("alice", "DescribeInstances")["Reservations"]) == 1


def test_an_instance_with_two_interfaces_needs_two_addresses_of_a_network(cloud: Cloud) -> None:
    tiny = f'NETWORK_ID="{network(cloud, 3)}"'
    asked = type_with(cloud, tiny, tiny)
    cloud.run("alice", "RunInstances", **asked)
    assert shortage(cloud, **asked) == LACKS_CAPACITY


def test_a_launch_that_failed_for_lack_of_addresses_can_be_retried_with_its_token(cloud: Cloud) -> None:
    """As SDKs do; what the first try made and took back is not seen as the instances of the token."""
    asked = {**type_with(cloud, f'NETWORK_ID="{network(cloud, 3)}"'), "MinCount": 2, "MaxCount": 2}
    (first, _) = cloud.run("alice", "RunInstances", **asked, ClientToken="first")["Instances"]
    assert shortage(cloud, **asked, ClientToken="second") == LACKS_CAPACITY
    assert shortage(cloud, **asked, ClientToken="second") == LACKS_CAPACITY
    cloud.wait(10)
    cloud.run("alice", "TerminateInstances", InstanceIds=[first["InstanceId"]])
    cloud.wait(10)
    made = cloud.run("alice", "RunInstances", **asked, ClientToken="second")["Instances"]
    assert cloud.run("alice", "RunInstances", **asked, ClientToken="second")["Instances"] == made
    assert len(made) == 2


def test_permanent_lack_of_addresses_and_quotas_are_client_errors(cloud: Cloud) -> None:
    """A network that does not exist, one that is too small in all, an address that another machine has, a quota."""
    assert shortage(cloud, **type_with(cloud, 'NETWORK_ID="9999"')) == CANNOT_BE
    cloud = Cloud(cloud.oned.version.rpartition(".")[0])
    asked = type_with(cloud, f'NETWORK_ID="{network(cloud, 1)}"')
    assert shortage(cloud, **{**asked, "MinCount": 2, "MaxCount": 2}) == CANNOT_BE
    cloud = Cloud(cloud.oned.version.rpartition(".")[0])
    asked = type_with(cloud, f'NETWORK_ID="{network(cloud, 2)}",IP="10.9.0.2"')
    cloud.run("alice", "RunInstances", **asked)
    assert shortage(cloud, **asked) == CANNOT_BE
    cloud.oneadmin("one.user.quota", cloud.user("alice").id, 'VM=[VMS="1",CPU="-2",MEMORY="-2"]')
    assert shortage(cloud, **asked) == ("InstanceLimitExceeded", 400)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"ImageId": "ami-00009999"}, "InvalidAMIID.NotFound"),
        ({"ImageId": "ami-00000001"}, "InvalidAMIID.NotFound"),
        ({"ImageId": "i-00000000"}, "InvalidAMIID.Malformed"),
        ({"InstanceType": "m9.huge"}, "InvalidParameterValue"),
        ({"KeyName": "nobodys"}, "InvalidKeyPair.NotFound"),
        ({"Placement": {"AvailabilityZone": "elsewhere"}}, "InvalidParameterValue"),
        ({"MinCount": 2}, "InvalidParameterValue"),
        ({"MinCount": 0}, "InvalidParameterValue"),
        ({"MaxCount": 1001}, "InstanceLimitExceeded"),
        ({"UserData": "no base64!"}, "InvalidUserData.Malformed"),
        ({"UserData": base64.b64encode(b"x" * (MAX_USER_DATA + 1)).decode()}, "InvalidParameterValue"),
        ({"InstanceInitiatedShutdownBehavior": "explode"}, "InvalidParameterValue"),
        ({"TagSpecifications": [{"ResourceType": "vpc", "Tags": [{"Key": "a"}]}]}, "InvalidParameterValue"),
        ({"TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "aws:x"}]}]}, "InvalidParameterValue"),
        ({"SubnetId": "subnet-1"}, "UnsupportedOperation"),
        ({"IamInstanceProfile": {"Name": "admin"}}, "UnsupportedOperation"),
        ({"Placement": {"Tenancy": "dedicated"}}, "UnsupportedOperation"),
        ({"DisableApiTermination": True}, "UnsupportedOperation"),
    ],
)
def test_invalid_parameters_are_refused_before_any_change(more: dict[str, Any], code: str) -> None:
    assert refused(Cloud(), **more) == code


def test_ignored_and_default_members_of_structures_are_accepted() -> None:
    """As Terraform sends them with every launch."""
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
    assert refused(Cloud(), HibernationOptions={"Configured": True}) == "UnsupportedOperation"
    assert refused(Cloud(), CapacityReservationSpecification={**preference, **reservation}) == "UnsupportedOperation"


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
    own = cloud.as_user(
        "alice", "one.template.allocate", 'NAME="mine"\nEC2_INSTANCE_TYPE="m1.small"\nCPU="1"\nMEMORY="77"'
    )
    _, machine = run(cloud)
    assert machine.template_id == own


def test_a_dry_run_creates_nothing() -> None:
    cloud = Cloud()
    asked: dict[str, Any] = {"ImageId": AMI, "MinCount": 1, "MaxCount": 1}
    assert cloud.refusal("alice", "RunInstances", dry_run=True, **asked).code == "DryRunOperation"
    refusal = cloud.refusal("alice", "RunInstances", dry_run=True, **{**asked, "ImageId": "ami-00009999"})
    assert refusal.code == "InvalidAMIID.NotFound"
    assert cloud.changes == []
