"""How an action describes itself, is held against Amazon's model, and gets its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, TypedDict

import pytest

from econed.actions.action import Action, Parts, action, actions_of
from econed.catalogue import all_actions
from econed.dispatch import ActionError, Dispatcher, Route
from econed.errors import EC2Error
from econed.wire.model import Model
from econed.wire.parameters import decode

MODEL = Model.load()


class Placed(TypedDict, total=False):
    """A structure of which one member is carried out."""

    AvailabilityZone: str


def described(run: Any) -> Action:
    """Return the action that a function describes."""
    module = ModuleType(run.__module__)
    setattr(module, run.__name__, run)
    (found,) = actions_of(module)
    return found


def route(run: Any) -> Route:
    """Return the route to an action that a function describes."""
    return Dispatcher(MODEL, [described(run)]).find(described(run).name)


@action(
    ignores=["Monitoring", "MetadataOptions.HttpTokens"],
    as_is={"EbsOptimized": False, "Placement.Tenancy": "default", "LicenseSpecifications.LicenseConfigurationArn": "a"},
)
async def run_instances(
    call: object, *, image_id: str, min_count: int = 1, max_count: int = 1, placement: Placed | None = None
) -> None:
    """Run instances."""


def test_the_name_of_the_function_is_the_name_of_the_action() -> None:
    assert described(run_instances).name == "RunInstances"


def test_keyword_parameters_are_the_members_it_carries_out_and_those_without_default_are_required() -> None:
    found = described(run_instances)
    assert set(found.accepts.of) == {"ImageId", "MinCount", "MaxCount", "Placement"}
    assert found.required == {"ImageId"}


def test_parameters_reach_the_function_under_its_own_names() -> None:
    asked = {"ImageId": "ami-1", "MinCount": 2}
    assert described(run_instances).keywords(asked) == {"image_id": "ami-1", "min_count": 2}


def test_an_ignored_member_is_dropped_with_all_that_is_in_it() -> None:
    asked = {"ImageId": "ami-1", "Monitoring": {"Enabled": True}}
    assert route(run_instances).accepted(asked) == {"ImageId": "ami-1"}


def test_a_member_that_asks_for_what_is_so_anyway_is_dropped_with_that_value_only() -> None:
    found = route(run_instances)
    assert found.accepted({"ImageId": "ami-1", "EbsOptimized": False}) == {"ImageId": "ami-1"}
    with pytest.raises(EC2Error) as caught:
        found.accepted({"ImageId": "ami-1", "EbsOptimized": True})
    assert caught.value.code == "UnsupportedOperation"
    assert "EbsOptimized" in caught.value.message


@pytest.mark.parametrize(
    "parameters",
    [
        {"MetadataOptions": {"HttpTokens": "required"}},
        {"LicenseSpecifications": [{"LicenseConfigurationArn": "a"}, {"LicenseConfigurationArn": "a"}]},
    ],
)
def test_a_structure_that_is_not_carried_out_is_dropped_if_all_that_it_holds_is_declared(
    parameters: dict[str, Any],
) -> None:
    assert route(run_instances).accepted({"ImageId": "ami-1", **parameters}) == {"ImageId": "ami-1"}


def test_an_action_without_parameters_takes_none() -> None:
    @action()
    async def describe_account_attributes(call: object) -> None:
        """Describe the account."""

    assert route(describe_account_attributes).accepted({}) == {}
    with pytest.raises(EC2Error) as caught:
        route(describe_account_attributes).accepted({"AttributeNames": ["default-vpc"]})
    assert caught.value.code == "UnsupportedOperation"


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"KernelId": "aki-1"}, "KernelId"),
        ({"Placement": {"AvailabilityZone": "a", "GroupName": "g"}}, "Placement.GroupName"),
        ({"Placement": {"Tenancy": "dedicated"}}, "Placement.Tenancy"),
        ({"MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled"}}, "MetadataOptions.HttpEndpoint "),
        (
            {"LicenseSpecifications": [{"LicenseConfigurationArn": "b"}]},
            "LicenseSpecifications.LicenseConfigurationArn ",
        ),
        ({"LicenseSpecifications": []}, "LicenseSpecifications "),
        ({"BlockDeviceMappings": [{"DeviceName": "/dev/sda"}]}, "BlockDeviceMappings"),
    ],
)
def test_what_is_neither_carried_out_nor_declared_is_refused_by_its_name(
    parameters: dict[str, Any], named: str
) -> None:
    with pytest.raises(EC2Error) as caught:
        route(run_instances).accepted({"ImageId": "ami-1", **parameters})
    assert caught.value.code == "UnsupportedOperation"
    assert named in caught.value.message


def test_a_request_without_a_required_member_is_refused() -> None:
    found = route(run_instances)
    with pytest.raises(EC2Error) as caught:
        decode(found.operation, (), required=found.required)
    assert (caught.value.code, "ImageId" in caught.value.message) == ("MissingParameter", True)


def test_an_action_may_have_an_error_of_its_own_for_what_is_missing() -> None:
    @action(missing={"InstanceIds": ("InvalidParameterCombination", "No instances specified")})
    async def reboot_instances(call: object, *, instance_ids: Sequence[str]) -> None:
        """Reboot instances."""

    found = route(reboot_instances)
    assert found.required == ()
    with pytest.raises(EC2Error) as caught:
        found.accepted({})
    assert (caught.value.code, caught.value.message) == ("InvalidParameterCombination", "No instances specified")


def test_the_action_decides_which_members_are_required_and_not_the_model() -> None:
    """The model requires MinCount and MaxCount, and not ImageId."""
    assert route(run_instances).required == ("ImageId",)


def test_an_action_that_amazon_does_not_have_stops_the_start_and_names_its_line() -> None:
    @action()
    async def paint_instances(call: object) -> None:
        """Paint instances."""

    with pytest.raises(ActionError, match=r"test_dispatch\.py:\d+: .*PaintInstances"):
        route(paint_instances)


def test_a_member_that_amazon_does_not_have_stops_the_start() -> None:
    class Odd(TypedDict, total=False):
        """A structure with a member of its own invention."""

        Colour: str

    @action()
    async def reboot_instances(call: object, *, instance_ids: Sequence[str], colour: str = "") -> None:
        """Reboot instances."""

    @action(ignores=["Placement.Colour"])
    async def start_instances(call: object, *, instance_ids: Sequence[str]) -> None:
        """Start instances."""

    for run, named in ((reboot_instances, "Colour"), (start_instances, "Placement.Colour")):
        with pytest.raises(ActionError, match=named):
            route(run)


class Repainted(TypedDict):
    """A result with a member of its own invention."""

    Instances: list[Any]
    Colour: str


def test_a_member_of_the_result_that_amazon_does_not_have_stops_the_start() -> None:
    @action()
    async def run_instances(call: object) -> Repainted:
        """Run instances."""
        return {"Instances": [], "Colour": "red"}

    @action()
    async def describe_instances(call: object) -> Parts[Repainted]:
        """Describe instances."""
        raise NotImplementedError

    for run in (run_instances, describe_instances):
        with pytest.raises(ActionError, match="Colour"):
            route(run)


def test_every_action_names_the_members_of_its_result() -> None:
    """In a TypedDict of its own, or one of types_boto3_ec2."""
    untyped = [
        found.name
        for found in all_actions()
        if found.returns is None and not found.run.__annotations__["return"].endswith("TypeDef")
    ]
    assert untyped == []


def _one_way() -> Action:
    @action()
    async def reboot_instances(call: object, *, instance_ids: Sequence[str]) -> None:
        """Reboot instances."""

    return described(reboot_instances)


def _another_way() -> Action:
    @action()
    async def reboot_instances(call: object, *, instance_ids: Sequence[str]) -> None:
        """Reboot instances otherwise."""

    return described(reboot_instances)


def test_two_actions_of_one_name_stop_the_start_and_both_their_lines_are_named() -> None:
    first, second = _one_way(), _another_way()
    assert first.where != second.where
    with pytest.raises(ActionError) as caught:
        Dispatcher(MODEL, [first, second])
    assert str(caught.value) == f"{second.where}: RebootInstances is defined at {first.where} already"


@pytest.mark.parametrize("name", ["", "runInstances", "__class__", "keywords", "CreateVpc" * 100])
def test_an_unknown_action_is_ec2s_invalid_action(name: str) -> None:
    with pytest.raises(EC2Error) as caught:
        Dispatcher(MODEL, all_actions()).find(name)
    assert (caught.value.code, caught.value.status) == ("InvalidAction", 400)
    assert len(caught.value.message) < 200


def test_every_action_fits_amazons_model() -> None:
    assert set(Dispatcher(MODEL, all_actions()).routes) >= {"RunInstances", "DescribeInstances", "CreateTags"}


def test_every_action_says_what_it_is_for() -> None:
    assert [found.name for found in all_actions() if not found.run.__doc__] == []


def test_only_describing_actions_may_be_broken_off() -> None:
    assert {found.name for found in all_actions() if found.only_reads} == {
        found.name for found in all_actions() if found.name.startswith("Describe")
    }


def test_upload_image_alone_takes_a_file() -> None:
    assert [found.name for found in all_actions() if found.takes_file] == ["UploadImage"]
