"""Tags on instances, AMIs and key pairs: adding, removing, listing; all or nothing, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from econed.actions.tagging import PREFIX
from econed.opennebula.documents import Image, VirtualMachine
from econed.opennebula.template import hex_name
from econed.sandbox.objects.base import Kind, Right
from econed.sandbox.rights import INDIVIDUAL
from tests.actions.keys.test_public_keys import ED25519
from tests.support.awkward_texts import AWKWARD
from tests.support.cloud import Cloud

LEGACY = Path(__file__).parents[2] / "data" / "legacy"
VM, UBUNTU = "i-00000000", "ami-00000000"


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """A cloud with three running machines of alice."""
    return Cloud(request.param, vms=3)


def pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def add_tags(cloud: Cloud, resource: str, user: str = "alice", **tags: str) -> None:
    cloud.run(user, "CreateTags", Resources=[resource], Tags=pairs(tags))


def listed(cloud: Cloud, user: str = "alice", **filters: str) -> list[tuple[str, str, str]]:
    """Return the tags of DescribeTags, as (resource id, key, value); `resource_id` is the filter resource-id."""
    given = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in filters.items()]
    tags = cloud.run(user, "DescribeTags", Filters=given)["Tags"]
    return [(tag["ResourceId"], tag["Key"], tag["Value"]) for tag in tags]


def tags_on(cloud: Cloud, resource: str, user: str = "alice") -> dict[str, str]:
    return {key: value for _, key, value in listed(cloud, user, resource_id=resource)}


def attributes(cloud: Cloud, resource: str) -> dict[str, Any]:
    """Return the free attributes of an instance or an image."""
    prefix, _, digits = resource.partition("-")
    if prefix == "i":
        root = etree.fromstring(cloud.oneadmin("one.vm.info", int(digits), False))
        return dict(VirtualMachine(root).user_template)
    root = etree.fromstring(cloud.oneadmin("one.image.info", int(digits), False))
    return dict(Image(root).template)


def ami_of(cloud: Cloud, user: str) -> str:
    text = 'NAME="mine"\nTYPE="OS"\nPATH="/x"\nEC2_AMI="YES"'
    return f"ami-{cloud.as_user(user, 'one.image.allocate', text, 1):08d}"


def key_pair_of(cloud: Cloud, user: str, name: str = "mine") -> str:
    imported = cloud.run(user, "ImportKeyPair", KeyName=name, PublicKeyMaterial=ED25519.encode())
    return str(imported["KeyPairId"])


# CreateTags


def test_instances_amis_and_key_pairs_are_tagged_by_one_call(cloud: Cloud) -> None:
    resources = [VM, ami_of(cloud, "alice"), key_pair_of(cloud, "alice")]
    cloud.run("alice", "CreateTags", Resources=resources, Tags=pairs({"Name": "web", "env": ""}))
    for resource in resources:
        assert tags_on(cloud, resource) == {"Name": "web", "env": ""}
    (image,) = cloud.run("alice", "DescribeImages", Owners=["self"])["Images"]
    (key_pair,) = cloud.run("alice", "DescribeKeyPairs")["KeyPairs"]
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[VM])["Reservations"]
    for described in (image, key_pair, reservation["Instances"][0]):
        assert described["Tags"] == pairs({"Name": "web", "env": ""})


def test_a_tag_with_the_same_key_is_replaced_and_the_others_stay(cloud: Cloud) -> None:
    add_tags(cloud, VM, Name="web", env="prod")
    add_tags(cloud, VM, env="test")
    assert tags_on(cloud, VM) == {"Name": "web", "env": "test"}


def test_keys_are_case_sensitive(cloud: Cloud) -> None:
    add_tags(cloud, VM, name="a", Name="b", NAME="c")
    assert tags_on(cloud, VM) == {"name": "a", "Name": "b", "NAME": "c"}


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD)
def test_keys_and_values_of_any_characters_are_kept_and_nothing_else_changes(cloud: Cloud, text: str) -> None:
    for resource in (VM, ami_of(cloud, "alice")):
        before = attributes(cloud, resource)
        add_tags(cloud, resource, **{text: text})
        assert tags_on(cloud, resource) == {text: text}
        assert len(attributes(cloud, resource)) == len(before) + 1
        cloud.run("alice", "DeleteTags", Resources=[resource], Tags=[{"Key": text, "Value": text}])
        assert attributes(cloud, resource) == before


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ([{"Key": "", "Value": "x"}], "InvalidParameterValue"),
        ([{"Value": "x"}], "InvalidParameterValue"),
        ([{"Key": "x" * 129}], "InvalidParameterValue"),
        ([{"Key": "x", "Value": "y" * 257}], "InvalidParameterValue"),
        ([{"Key": "x\x00"}], "InvalidParameterValue"),
        ([{"Key": "x", "Value": "y\x1b"}], "InvalidParameterValue"),
        ([{"Key": "AWS:x"}], "InvalidParameterValue"),
        ([{"Key": "x"}, {"Key": "x"}], "InvalidParameterValue"),
        ([{"Key": f"x{number}"} for number in range(51)], "TagLimitExceeded"),
        ([], "MissingParameter"),
    ],
    ids=[
        "empty-key",
        "no-key",
        "long-key",
        "long-value",
        "key-not-in-xml",
        "value-not-in-xml",
        "aws",
        "twice",
        "51",
        "none",
    ],
)
def test_tags_that_amazon_refuses_are_refused(cloud: Cloud, tags: list[dict[str, str]], code: str) -> None:
    assert cloud.refusal("alice", "CreateTags", Resources=[VM], Tags=tags).code == code
    assert cloud.changes == []


def test_fifty_tags_are_the_limit_for_present_and_added_tags_together(cloud: Cloud) -> None:
    key_pair = key_pair_of(cloud, "alice")
    for resource in (VM, ami_of(cloud, "alice"), key_pair):
        add_tags(cloud, resource, **{f"k{number}": "" for number in range(49)})
        add_tags(cloud, resource, k48="again", k49="last")
        error = cloud.refusal("alice", "CreateTags", Resources=["i-00000001", resource], Tags=pairs({"k50": ""}))
        assert error.code == "TagLimitExceeded"
        add_tags(cloud, resource, k0="still")
    assert tags_on(cloud, "i-00000001") == {}


@pytest.mark.parametrize(
    ("resource", "code"),
    [
        ("i-00000099", "InvalidInstanceID.NotFound"),
        ("i-x", "InvalidID"),
        ("ami-00000001", "InvalidAMIID.NotFound"),
        ("ami-00000099", "InvalidAMIID.NotFound"),
        ("ami-", "InvalidID"),
        ("key-0123456789abcdef0", "InvalidKeyPair.NotFound"),
        ("vol-00000001", "InvalidVolume.NotFound"),
        ("vol-00000000009", "InvalidVolume.NotFound"),
        ("vol-x", "InvalidID"),
        ("snap-00000001", "InvalidSnapshot.NotFound"),
        ("sg-00000001", "InvalidGroup.NotFound"),
        ("subnet-00000099", "InvalidSubnetID.NotFound"),
        ("vpc-00000001", "InvalidVpcID.NotFound"),
        ("vpc-9999999999", "UnsupportedOperation"),
        ("eni-00000001", "InvalidNetworkInterfaceID.NotFound"),
        ("nonsense", "InvalidID"),
        ("x-00000001", "InvalidID"),
        ("", "InvalidID"),
    ],
)
@pytest.mark.parametrize("action", ["CreateTags", "DeleteTags"])
def test_nothing_is_changed_if_one_resource_does_not_exist(cloud: Cloud, action: str, resource: str, code: str) -> None:
    add_tags(cloud, VM, a="1")
    before = len(cloud.changes)
    error = cloud.refusal("alice", action, Resources=[VM, resource], Tags=[{"Key": "a", "Value": "1"}])
    assert error.code == code
    assert cloud.changes[before:] == []


def test_resources_of_another_user_are_not_found_and_not_changed(cloud: Cloud) -> None:
    for resource, code in (
        (VM, "InvalidInstanceID.NotFound"),
        (ami_of(cloud, "alice"), "InvalidAMIID.NotFound"),
        (key_pair_of(cloud, "alice"), "InvalidKeyPair.NotFound"),
    ):
        add_tags(cloud, resource, a="1")
        for action in ("CreateTags", "DeleteTags"):
            tags = pairs({"a": "1"})
            assert cloud.refusal("bob", action, Resources=[resource], Tags=tags).code == code
            assert cloud.refusal("bob", action, Resources=[resource], Tags=tags, dry_run=True).code == code
        assert listed(cloud, "bob", resource_id=resource) == []
        assert tags_on(cloud, resource) == {"a": "1"}


def test_a_resource_that_the_caller_may_only_use_is_unauthorized_and_nothing_is_changed(cloud: Cloud) -> None:
    cloud.oneadmin("one.image.update", 0, 'EC2_TAG_61=[KEY="a",VALUE="1"]', 1)
    add_tags(cloud, VM, a="1")
    for action in ("CreateTags", "DeleteTags"):
        for dry_run in (False, True):
            error = cloud.refusal("alice", action, Resources=[VM, UBUNTU], Tags=[{"Key": "a"}], dry_run=dry_run)
            assert error.code == "UnauthorizedOperation"
    assert tags_on(cloud, VM) == tags_on(cloud, UBUNTU) == {"a": "1"}


def test_a_change_that_an_access_control_list_grants_is_made(cloud: Cloud) -> None:
    alice, image = INDIVIDUAL | 2, Kind.IMAGE.bit | INDIVIDUAL
    cloud.oneadmin("one.acl.addrule", f"{alice:x}", f"{image:x}", f"{Right.MANAGE:x}")
    add_tags(cloud, UBUNTU, a="1")
    assert tags_on(cloud, UBUNTU) == {"a": "1"}


def test_dry_runs_change_nothing(cloud: Cloud) -> None:
    add_tags(cloud, VM, a="1")
    before = len(cloud.changes)
    for action, tags in (("CreateTags", pairs({"b": "2"})), ("DeleteTags", pairs({"a": "1"})), ("DeleteTags", [])):
        assert cloud.refusal("alice", action, Resources=[VM], Tags=tags, dry_run=True).code == "DryRunOperation"
    assert cloud.changes[before:] == []


def test_a_terminated_instance_is_not_found_once_it_is_no_longer_shown(cloud: Cloud) -> None:
    add_tags(cloud, VM, a="1")
    cloud.run("alice", "TerminateInstances", InstanceIds=[VM])
    cloud.wait(60)
    assert tags_on(cloud, VM) == {"a": "1"}
    cloud.wait(cloud.settings.terminated_instances_expiration_time)
    assert tags_on(cloud, VM) == {}
    error = cloud.refusal("alice", "CreateTags", Resources=[VM], Tags=pairs({"a": "1"}))
    assert error.code == "InvalidInstanceID.NotFound"


# DeleteTags


@pytest.mark.parametrize(
    ("tags", "remaining"),
    [
        ([{"Key": "a"}], {"b": "", "c": "3"}),
        ([{"Key": "a", "Value": "1"}], {"b": "", "c": "3"}),
        ([{"Key": "a", "Value": "2"}], {"a": "1", "b": "", "c": "3"}),
        ([{"Key": "a", "Value": ""}], {"a": "1", "b": "", "c": "3"}),
        ([{"Key": "b", "Value": ""}], {"a": "1", "c": "3"}),
        ([{"Key": "A"}], {"a": "1", "b": "", "c": "3"}),
        ([{"Key": "a"}, {"Key": "b"}, {"Key": "x"}], {"c": "3"}),
        ([{"Key": "a", "Value": "2"}, {"Key": "a", "Value": "1"}], {"b": "", "c": "3"}),
        ([], {}),
    ],
)
def test_tags_are_removed_by_key_or_by_key_and_value_or_all(
    cloud: Cloud, tags: list[dict[str, str]], remaining: dict[str, str]
) -> None:
    for resource in (VM, ami_of(cloud, "alice"), key_pair_of(cloud, "alice")):
        add_tags(cloud, resource, a="1", b="", c="3")
        cloud.run("alice", "DeleteTags", Resources=[resource], Tags=tags)
        assert tags_on(cloud, resource) == remaining


def test_a_tag_to_remove_must_have_a_key(cloud: Cloud) -> None:
    error = cloud.refusal("alice", "DeleteTags", Resources=[VM], Tags=[{"Value": "x"}])
    assert error.code == "InvalidParameterValue"


def test_removing_a_tag_that_does_not_exist_changes_nothing_in_oned(cloud: Cloud) -> None:
    cloud.run("alice", "DeleteTags", Resources=[VM], Tags=[{"Key": "a"}])
    assert cloud.changes == []


def test_tags_of_the_ruby_server_are_listed_changed_and_removed(cloud: Cloud) -> None:
    template = etree.parse(str(LEGACY / "vm-running.xml")).find("USER_TEMPLATE")
    assert template is not None
    cloud.as_user("alice", "one.vm.update", 0, etree.tostring(template, encoding="unicode"), 1)
    assert tags_on(cloud, VM) == {"ENV": "prod", "NAME": "web"}
    before = attributes(cloud, VM)
    add_tags(cloud, VM, ENV="test", Name="new")
    assert tags_on(cloud, VM) == {"ENV": "test", "NAME": "web", "Name": "new"}
    cloud.run("alice", "DeleteTags", Resources=[VM], Tags=[{"Key": "ENV", "Value": "prod"}, {"Key": "NAME"}])
    assert tags_on(cloud, VM) == {"ENV": "test", "Name": "new"}
    cloud.run("alice", "DeleteTags", Resources=[VM])
    assert tags_on(cloud, VM) == {}
    hidden = {hex_name(PREFIX, key): "" for key in ("ENV", "NAME")}
    assert attributes(cloud, VM) == before | hidden, "only the tags of the Ruby server leave empty attributes"


@pytest.mark.parametrize("kind", ["instance", "image"])
def test_tags_that_are_added_and_removed_leave_no_attributes(cloud: Cloud, kind: str) -> None:
    resource = VM if kind == "instance" else ami_of(cloud, "alice")
    add_tags(cloud, resource, at="first")
    cloud.run("alice", "DeleteTags", Resources=[resource])
    before = attributes(cloud, resource)
    add_tags(cloud, resource, a="1", b="")
    cloud.run("alice", "DeleteTags", Resources=[resource], Tags=[{"Key": "a"}])
    cloud.run("alice", "DeleteTags", Resources=[resource])
    assert attributes(cloud, resource) == before
    assert not [name for name in before if name.startswith(PREFIX)]


# DescribeTags


def tag_resources(cloud: Cloud) -> tuple[str, str]:
    """Tag two instances, an AMI and a key pair; return the ids of the last two."""
    ami, key_pair = ami_of(cloud, "alice"), key_pair_of(cloud, "alice")
    add_tags(cloud, VM, Name="web", env="prod")
    add_tags(cloud, "i-00000002", Name="db", **{"a*b": "x"})
    add_tags(cloud, ami, Name="web")
    add_tags(cloud, key_pair, env="prod")
    return ami, key_pair


def test_tags_are_listed_by_resource_and_key(cloud: Cloud) -> None:
    ami, key_pair = tag_resources(cloud)
    assert cloud.run("alice", "DescribeTags")["Tags"] == [
        {"ResourceId": ami, "ResourceType": "image", "Key": "Name", "Value": "web"},
        {"ResourceId": VM, "ResourceType": "instance", "Key": "Name", "Value": "web"},
        {"ResourceId": VM, "ResourceType": "instance", "Key": "env", "Value": "prod"},
        {"ResourceId": "i-00000002", "ResourceType": "instance", "Key": "Name", "Value": "db"},
        {"ResourceId": "i-00000002", "ResourceType": "instance", "Key": "a*b", "Value": "x"},
        {"ResourceId": key_pair, "ResourceType": "key-pair", "Key": "env", "Value": "prod"},
    ]
    assert listed(cloud, "bob") == []


@pytest.mark.parametrize(
    ("name", "values", "count"),
    [
        ("key", ["Name"], 3),
        ("key", ["n*", "e*"], 2),
        ("value", ["web", "x"], 3),
        ("value", ["WEB"], 0),
        ("resource-id", [VM], 2),
        ("resource-id", [VM, "i-00000002"], 4),
        ("resource-id", ["i-*"], 4),
        ("resource-id", ["i-0", "nonsense", "vol-00000000", ""], 0),
        ("resource-type", ["instance"], 4),
        ("resource-type", ["image", "key-pair"], 2),
        ("resource-type", ["i*"], 5),
        ("resource-type", ["volume"], 0),
        ("tag:Name", ["web"], 2),
        ("tag:Name", ["*"], 3),
        ("tag:name", ["web"], 0),
        ("tag:a*b", ["x"], 1),
        ("tag:?ame", ["web"], 0),
    ],
)
def test_tags_are_filtered(cloud: Cloud, name: str, values: list[str], count: int) -> None:
    tag_resources(cloud)
    assert len(cloud.run("alice", "DescribeTags", Filters=[{"Name": name, "Values": values}])["Tags"]) == count


def test_all_filters_must_match(cloud: Cloud) -> None:
    ami, _ = tag_resources(cloud)
    assert listed(cloud, key="Name", value="web", resource_type="image") == [(ami, "Name", "web")]
    assert listed(cloud, resource_id=VM, resource_type="image") == []


@pytest.mark.parametrize("name", ["tag-key", "tag-value", "resource"])
def test_an_unknown_filter_of_tags_is_refused(cloud: Cloud, name: str) -> None:
    error = cloud.refusal("alice", "DescribeTags", Filters=[{"Name": name, "Values": ["x"]}])
    assert error.code == "InvalidParameterValue"


@pytest.mark.parametrize(
    ("filters", "methods"),
    [
        ([{"Name": "resource-id", "Values": [VM]}], {"one.vmpool.infoset"}),
        ([{"Name": "resource-id", "Values": [UBUNTU]}], {"one.imagepool.info"}),
        ([{"Name": "resource-type", "Values": ["image"]}], {"one.imagepool.info"}),
        ([{"Name": "resource-type", "Values": ["key-pair"]}], {"one.user.info"}),
        ([{"Name": "resource-type", "Values": ["snapshot"]}], {"one.imagepool.info"}),
        (
            [{"Name": "resource-type", "Values": ["volume"]}],
            {"one.imagepool.info", "one.vmpool.info", "one.vmpool.infoextended"},
        ),
        ([{"Name": "resource-type", "Values": ["subnet"]}], {"one.vnpool.info"}),
        ([{"Name": "resource-id", "Values": ["vpc-00000001"]}], {"one.vnpool.info"}),
        ([{"Name": "resource-id", "Values": ["sg-00000001"]}], {"one.secgrouppool.info"}),
        ([{"Name": "resource-type", "Values": ["network-acl"]}], set()),
    ],
)
def test_only_resources_that_match_the_filters_are_read_from_oned(
    cloud: Cloud, filters: list[dict[str, Any]], methods: set[str]
) -> None:
    call = cloud.call_as("alice")
    before = len(cloud.oned.calls)
    cloud.run("alice", "DescribeTags", Filters=filters)
    called = {oned_call.method for oned_call in list(cloud.oned.calls)[before:] if oned_call.user == call.caller.name}
    assert called == methods


def test_pages_of_tags_add_up_to_the_list(cloud: Cloud) -> None:
    tag_resources(cloud)
    add_tags(cloud, "i-00000001", **{f"k{number}": "" for number in range(10)})
    all_tags = cloud.run("alice", "DescribeTags")["Tags"]
    listed_tags: list[dict[str, str]] = []
    token: dict[str, Any] = {}
    while True:
        page = cloud.run("alice", "DescribeTags", MaxResults=5, **token)
        listed_tags += page["Tags"]
        if "NextToken" not in page:
            break
        assert len(page["Tags"]) == 5
        token = {"NextToken": page["NextToken"]}
    assert listed_tags == all_tags
    assert len(all_tags) == 16


def test_pages_of_the_tags_of_key_pairs_add_up_to_the_list(cloud: Cloud) -> None:
    for number in range(8):
        add_tags(cloud, key_pair_of(cloud, "alice", f"key-{number}"), a="1")
    first = cloud.run("alice", "DescribeTags", MaxResults=5)
    second = cloud.run("alice", "DescribeTags", MaxResults=5, NextToken=first["NextToken"])
    assert first["Tags"] + second["Tags"] == cloud.run("alice", "DescribeTags")["Tags"]
    assert len(first["Tags"] + second["Tags"]) == 8


def test_pages_stay_valid_while_tags_are_added_and_removed(cloud: Cloud) -> None:
    for machine in ("i-00000000", "i-00000001", "i-00000002"):
        add_tags(cloud, machine, a="1", c="3", e="5")
    first = cloud.run("alice", "DescribeTags", MaxResults=5)
    add_tags(cloud, "i-00000000", b="new, before the page's end")
    cloud.run("alice", "DeleteTags", Resources=["i-00000001"], Tags=[{"Key": "c"}])
    second = cloud.run("alice", "DescribeTags", MaxResults=5, NextToken=first["NextToken"])
    assert [(tag["ResourceId"], tag["Key"]) for tag in second["Tags"]] == [
        ("i-00000001", "e"),
        ("i-00000002", "a"),
        ("i-00000002", "c"),
        ("i-00000002", "e"),
    ]


def test_a_page_reads_no_machines_before_its_first_tag(cloud: Cloud) -> None:
    for machine in ("i-00000000", "i-00000001", "i-00000002"):
        add_tags(cloud, machine, **{f"k{number}": "" for number in range(5)})
    first = cloud.run("alice", "DescribeTags", MaxResults=10)
    before = len(cloud.oned.calls)
    cloud.run("alice", "DescribeTags", MaxResults=5, NextToken=first["NextToken"])
    calls = list(cloud.oned.calls)[before:]
    assert [call.args[1:3] for call in calls if call.method == "one.vmpool.infoextended"] == [(1, 2)]
    assert "one.imagepool.info" not in {call.method for call in calls}


@pytest.mark.parametrize("parameters", [{"MaxResults": 4}, {"NextToken": "nonsense"}])
def test_invalid_page_parameters_are_refused(cloud: Cloud, parameters: dict[str, Any]) -> None:
    assert cloud.refusal("alice", "DescribeTags", **parameters).code in ("InvalidParameterValue", "InvalidNextToken")
