"""How actions are described, checked against Amazon's model, and given their parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypedDict

import pytest
from botocore.loaders import Loader

from econed.actions.action import Action, Parts, action, actions_of
from econed.actions.unsupported import UNSUPPORTED
from econed.catalogue import all_actions
from econed.dispatch import ActionError, Dispatcher, Route
from econed.errors import EC2Error
from econed.services import EC2, IAM, STS
from econed.wire.model import Model
from econed.wire.parameters import decode

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import VolumeTypeDef

MODEL = Model.load(EC2)


class PartOfPlacement(TypedDict, total=False):
    """A structure of which one member is accepted."""

    AvailabilityZone: str


def described(run: Any) -> Action:
    """Return the action that a function describes."""
    module = ModuleType(run.__module__)
    setattr(module, run.__name__, run)
    (described_action,) = actions_of(module)
    return described_action


def route(run: Any) -> Route:
    """Return the route to an action that a function describes."""
    return Dispatcher([MODEL], [described(run)]).find(EC2, described(run).name)


@action(
    ignores=["Monitoring", "MetadataOptions.HttpTokens"],
    as_is={"EbsOptimized": False, "Placement.Tenancy": "default", "LicenseSpecifications.LicenseConfigurationArn": "a"},
)
async def run_instances(
    call: object, *, image_id: str, min_count: int = 1, max_count: int = 1, placement: PartOfPlacement | None = None
) -> None:
    """Run instances."""


def test_the_name_of_the_function_is_the_name_of_the_action() -> None:
    assert described(run_instances).name == "RunInstances"


def test_keyword_parameters_are_accepted_and_required_if_they_have_no_default() -> None:
    run = described(run_instances)
    assert set(run.accepts.of) == {"ImageId", "MinCount", "MaxCount", "Placement"}
    assert run.required == {"ImageId"}


def test_parameters_are_passed_under_the_names_of_the_function() -> None:
    parameters = {"ImageId": "ami-1", "MinCount": 2}
    assert described(run_instances).keywords(parameters) == {"image_id": "ami-1", "min_count": 2}


def test_an_ignored_member_is_dropped_with_its_members() -> None:
    parameters = {"ImageId": "ami-1", "Monitoring": {"Enabled": True}}
    assert route(run_instances).accepted(parameters) == {"ImageId": "ami-1"}


def test_an_as_is_member_is_dropped_with_its_declared_value_only() -> None:
    run = route(run_instances)
    assert run.accepted({"ImageId": "ami-1", "EbsOptimized": False}) == {"ImageId": "ami-1"}
    with pytest.raises(EC2Error) as caught:
        run.accepted({"ImageId": "ami-1", "EbsOptimized": True})
    assert caught.value.code == "UnsupportedOperation"
    assert caught.value.message == "The parameter EbsOptimized can only be 'false' here."


@pytest.mark.parametrize(
    "parameters",
    [
        {"MetadataOptions": {"HttpTokens": "required"}},
        {"LicenseSpecifications": [{"LicenseConfigurationArn": "a"}, {"LicenseConfigurationArn": "a"}]},
    ],
)
def test_a_structure_is_dropped_if_all_its_members_are_declared(
    parameters: dict[str, Any],
) -> None:
    assert route(run_instances).accepted({"ImageId": "ami-1", **parameters}) == {"ImageId": "ami-1"}


def test_an_action_without_parameters_accepts_none() -> None:
    @action()
    async def describe_account_attributes(call: object) -> None:
        """Describe the account."""

    assert route(describe_account_attributes).accepted({}) == {}
    with pytest.raises(EC2Error) as caught:
        route(describe_account_attributes).accepted({"AttributeNames": ["default-vpc"]})
    assert caught.value.code == "UnsupportedOperation"


@pytest.mark.parametrize(
    ("parameters", "name"),
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
def test_a_parameter_that_is_neither_accepted_nor_declared_is_refused_by_name(
    parameters: dict[str, Any], name: str
) -> None:
    with pytest.raises(EC2Error) as caught:
        route(run_instances).accepted({"ImageId": "ami-1", **parameters})
    assert caught.value.code == "UnsupportedOperation"
    assert name in caught.value.message


def test_a_request_without_a_required_member_is_refused() -> None:
    run = route(run_instances)
    with pytest.raises(EC2Error) as caught:
        decode(run.operation, (), required=run.required)
    assert (caught.value.code, "ImageId" in caught.value.message) == ("MissingParameter", True)


def test_an_action_may_define_the_error_for_a_missing_parameter() -> None:
    @action(missing={"InstanceIds": ("InvalidParameterCombination", "No instances specified")})
    async def reboot_instances(call: object, *, instance_ids: Sequence[str]) -> None:
        """Reboot instances."""

    reboot = route(reboot_instances)
    assert reboot.required == ()
    with pytest.raises(EC2Error) as caught:
        reboot.accepted({})
    assert (caught.value.code, caught.value.message) == ("InvalidParameterCombination", "No instances specified")


def test_the_action_decides_which_members_are_required_and_not_the_model() -> None:
    """The model requires MinCount and MaxCount, and not ImageId."""
    assert route(run_instances).required == ("ImageId",)


def test_an_action_that_is_not_in_amazons_model_is_an_error_with_its_line() -> None:
    @action()
    async def paint_instances(call: object) -> None:
        """Paint instances."""

    with pytest.raises(ActionError, match=r"test_dispatch\.py:\d+: .*PaintInstances"):
        route(paint_instances)


def test_a_member_that_is_not_in_amazons_model_is_an_error() -> None:
    class Odd(TypedDict, total=False):
        """A structure with a member that the model does not have."""

        Colour: str

    @action()
    async def reboot_instances(call: object, *, instance_ids: Sequence[str], colour: str = "") -> None:
        """Reboot instances."""

    @action(ignores=["Placement.Colour"])
    async def start_instances(call: object, *, instance_ids: Sequence[str]) -> None:
        """Start instances."""

    for run, name in ((reboot_instances, "Colour"), (start_instances, "Placement.Colour")):
        with pytest.raises(ActionError, match=name):
            route(run)


class Repainted(TypedDict):
    """A result with a member that the model does not have."""

    Instances: list[Any]
    Colour: str


class RepaintedList(TypedDict):
    """A result of parts with a member that the model does not have."""

    Reservations: list[Any]
    Colour: str


def test_a_member_of_the_result_that_is_not_in_amazons_model_is_an_error() -> None:
    @action()
    async def run_instances(call: object) -> Repainted:
        """Run instances."""
        return {"Instances": [], "Colour": "red"}

    @action()
    async def describe_instances(call: object) -> Parts[RepaintedList]:
        """Describe instances."""
        raise NotImplementedError

    for run in (run_instances, describe_instances):
        with pytest.raises(ActionError, match="Colour"):
            route(run)


def test_a_result_whose_type_does_not_name_its_members_is_an_error_with_its_line() -> None:
    @action()
    async def run_instances(call: object) -> dict[str, int]:
        """Run instances."""
        return {"Instances": 1}

    @action()
    async def stop_instances(call: object):  # type: ignore[no-untyped-def]
        """Stop instances."""

    @action()
    async def start_instances(call: object) -> list[RepaintedList]:
        """Start instances."""
        return []

    @action()
    async def describe_instances(call: object) -> Parts[Any]:
        """Describe instances."""
        raise NotImplementedError

    for run in (run_instances, stop_instances, start_instances, describe_instances):
        name = described(run).name
        with pytest.raises(ActionError, match=rf"test_dispatch\.py:\d+: the type of the result of {name} "):
            route(run)


def test_a_result_of_amazons_own_type_must_be_the_output_of_the_operation() -> None:
    @action()
    async def create_volume(call: object) -> VolumeTypeDef:
        """Create a volume."""
        raise NotImplementedError

    @action()
    async def create_snapshot(call: object) -> VolumeTypeDef:
        """Create a snapshot, and return a volume."""
        raise NotImplementedError

    @action()
    async def delete_volume(call: object) -> VolumeTypeDef:
        """Return a volume, although the operation has no output."""
        raise NotImplementedError

    assert route(create_volume).operation.name == "CreateVolume"
    for run, expected in ((create_snapshot, "Snapshot"), (delete_volume, "nothing")):
        message = rf"test_dispatch\.py:\d+: {described(run).name} returns {expected} in Amazon's model, not Volume$"
        with pytest.raises(ActionError, match=message):
            route(run)


def _first_definition() -> Action:
    @action()
    async def reboot_instances(call: object, *, instance_ids: Sequence[str]) -> None:
        """Reboot instances."""

    return described(reboot_instances)


def _second_definition() -> Action:
    @action()
    async def reboot_instances(call: object, *, instance_ids: Sequence[str]) -> None:
        """Reboot instances otherwise."""

    return described(reboot_instances)


def test_two_actions_of_one_name_are_an_error_with_both_lines() -> None:
    first, second = _first_definition(), _second_definition()
    assert first.source_location != second.source_location
    with pytest.raises(ActionError) as caught:
        Dispatcher([MODEL], [first, second])
    assert (
        str(caught.value) == f"{second.source_location}: RebootInstances is defined at {first.source_location} already"
    )


def test_two_services_may_have_actions_of_one_name() -> None:
    """Both STS and EC2 could have it: here an operation of STS is given the name of EC2's."""

    @action(service=STS)
    async def reboot_instances(call: object) -> None:
        """Reboot nothing."""

    description: Mapping[str, Any] = {"operations": {"RebootInstances": {}}, "shapes": {}}
    of_sts, of_ec2 = described(reboot_instances), _first_definition()
    found = Dispatcher([MODEL, Model(STS, description)], [of_sts, of_ec2])
    assert found.find(STS, "RebootInstances").action is of_sts
    assert found.find(EC2, "RebootInstances").action is of_ec2
    with pytest.raises(EC2Error, match="InvalidAction"):
        found.find(IAM, "RebootInstances")


def test_an_action_is_looked_for_in_the_model_of_its_service() -> None:
    @action(service=IAM)
    async def run_instances(call: object) -> None:
        """Run nothing."""

    with pytest.raises(ActionError, match="Amazon's model of IAM has no operation RunInstances"):
        Dispatcher.load([described(run_instances)])


@pytest.mark.parametrize("name", ["", "runInstances", "__class__", "keywords", "CreateVpc" * 100])
def test_an_unknown_action_is_refused_with_invalid_action(name: str) -> None:
    with pytest.raises(EC2Error) as caught:
        Dispatcher.load(all_actions()).find(EC2, name)
    assert (caught.value.code, caught.value.status) == ("InvalidAction", 400)
    assert len(caught.value.message) < 200


def test_an_action_that_is_not_supported_is_refused_with_what_an_administrator_can_do() -> None:
    found = Dispatcher.load(all_actions())
    with pytest.raises(EC2Error) as caught:
        found.find(EC2, "CreateNatGateway")
    assert (caught.value.code, caught.value.status) == ("UnsupportedOperation", 400)
    assert caught.value.message.startswith("CreateNatGateway is not supported by this cloud. An administrator ")
    with pytest.raises(EC2Error, match="InvalidAction"):
        found.find(IAM, "CreateNatGateway")


def test_any_other_action_of_amazons_is_refused_as_not_supported() -> None:
    with pytest.raises(EC2Error) as caught:
        Dispatcher.load(all_actions()).find(EC2, "DescribeIpams")
    assert str(caught.value) == "UnsupportedOperation: DescribeIpams is not supported by this cloud."


def test_actions_that_are_not_supported_are_amazons_and_econed_has_none_of_them() -> None:
    amazons = Loader().load_service_model("ec2", "service-2")["operations"]
    assert [name for name in UNSUPPORTED if name not in amazons] == []
    assert UNSUPPORTED.keys() & {known.name for known in all_actions()} == set()


def test_every_action_fits_amazons_model() -> None:
    routes = Dispatcher.load(all_actions()).routes
    assert {name for service, name in routes if service is EC2} >= {"RunInstances", "DescribeInstances", "CreateTags"}


def test_every_action_has_a_docstring() -> None:
    assert [known.name for known in all_actions() if not known.run.__doc__] == []


def test_of_ec2s_actions_only_those_that_describe_or_get_may_be_cancelled() -> None:
    actions = [known for known in all_actions() if known.service is EC2]
    assert {known.name for known in actions if known.only_reads} == {
        known.name for known in actions if known.name.startswith(("Describe", "Get"))
    }


def test_an_action_may_say_that_it_changes_something_although_its_name_does_not() -> None:
    @action(service=STS, only_reads=False)
    async def get_session_token(call: object) -> None:
        """Make credentials."""

    @action(service=IAM)
    async def list_access_keys(call: object) -> None:
        """List keys."""

    assert not described(get_session_token).only_reads
    assert described(list_access_keys).only_reads


def test_only_upload_image_takes_a_file() -> None:
    assert [known.name for known in all_actions() if known.takes_file] == ["UploadImage"]
