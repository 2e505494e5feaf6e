"""Decoding a form into the parameters of an action: names, empty strings, and invalid requests."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from econed.errors import EC2Error
from econed.wire.model import Model
from econed.wire.parameter_tree import MAX_DEPTH
from econed.wire.parameters import decode
from tests.wire.decoding import decoded, refusal


class TestNames:
    """Names on the wire and in the model."""

    def test_parameters_have_the_names_that_boto3_uses(self, model: Model) -> None:
        form = (
            "ImageId=ami-00000001&MinCount=1&MaxCount=2&KeyName=k&DryRun=true&InstanceInitiatedShutdownBehavior=terminate"
            "&Placement.AvailabilityZone=default&TagSpecification.1.ResourceType=instance"
            "&TagSpecification.1.Tag.1.Key=Name&TagSpecification.1.Tag.1.Value=web&BlockDeviceMapping.1.DeviceName=sda"
            "&BlockDeviceMapping.1.Ebs.VolumeSize=8&BlockDeviceMapping.1.Ebs.DeleteOnTermination=false"
            "&NetworkInterface.1.DeviceIndex=0&NetworkInterface.1.SubnetId=subnet-00000000"
            "&NetworkInterface.1.SecurityGroupId.1=sg-00000100&SecurityGroup.1=default&SecurityGroupId.1=sg-00000101"
        )
        assert decoded(model, "RunInstances", form) == {
            "ImageId": "ami-00000001",
            "MinCount": 1,
            "MaxCount": 2,
            "KeyName": "k",
            "DryRun": True,
            "InstanceInitiatedShutdownBehavior": "terminate",
            "Placement": {"AvailabilityZone": "default"},
            "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web"}]}],
            "BlockDeviceMappings": [{"DeviceName": "sda", "Ebs": {"VolumeSize": 8, "DeleteOnTermination": False}}],
            "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-00000000", "Groups": ["sg-00000100"]}],
            "SecurityGroups": ["default"],
            "SecurityGroupIds": ["sg-00000101"],
        }

    def test_the_parameters_of_the_protocol_are_not_passed_to_the_action(self, model: Model) -> None:
        form = (
            "Action=DescribeTags&Version=2016-11-15&AWSAccessKeyId=a&Signature=s&SignatureMethod=HmacSHA256"
            "&SignatureVersion=2&Timestamp=t&Expires=e&SecurityToken=x&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=c"
            "&X-Amz-Date=d&X-Amz-Expires=1&X-Amz-SignedHeaders=host&X-Amz-Signature=s&X-Amz-Security-Token=x"
        )
        assert decoded(model, "DescribeTags", form) == {}


class TestEmptyStrings:
    """An empty string means "not given", but never "all"."""

    @pytest.mark.parametrize(
        "name",
        [
            "IamInstanceProfile.Name", "Placement.AvailabilityZone", "Placement.Tenancy", "SubnetId", "UserData",
            "ClientToken", "DryRun", "EbsOptimized", "Ipv6AddressCount", "Placement",
        ],
    )  # fmt: skip
    def test_an_empty_string_counts_as_not_given(self, model: Model, name: str) -> None:
        """Terraform and Packer send empty strings for parameters that are not set."""
        form = f"MinCount=1&MaxCount=1&{name}="
        assert decoded(model, "RunInstances", form) == {"MinCount": 1, "MaxCount": 1}

    def test_an_empty_string_does_not_satisfy_a_required_parameter(self, model: Model) -> None:
        assert refusal(model, "DeleteVolume", "VolumeId=").code == "MissingParameter"

    @pytest.mark.parametrize("name", ["InstanceId", "InstanceId.0", "InstanceId.1"])
    @pytest.mark.parametrize("action", ["TerminateInstances", "DescribeInstances"])
    def test_an_empty_id_is_left_for_the_action_to_refuse(self, model: Model, action: str, name: str) -> None:
        """Without it the list would be empty, and an empty list selects everything."""
        assert decoded(model, action, f"{name}=") == {"InstanceIds": [""]}

    def test_an_empty_tag_value_is_a_value(self, model: Model) -> None:
        form = "ResourceId.1=i-1&Tag.1.Key=a&Tag.1.Value="
        assert decoded(model, "CreateTags", form)["Tags"] == [{"Key": "a", "Value": ""}]

    def test_deleting_a_tag_with_the_empty_value_differs_from_deleting_it_with_any_value(self, model: Model) -> None:
        assert decoded(model, "DeleteTags", "ResourceId.1=i-1&Tag.1.Key=a&Tag.1.Value=")["Tags"] == [
            {"Key": "a", "Value": ""}
        ]
        assert decoded(model, "DeleteTags", "ResourceId.1=i-1&Tag.1.Key=a")["Tags"] == [{"Key": "a"}]

    def test_an_empty_tag_to_delete_is_refused(self, model: Model) -> None:
        """DeleteTags without tags deletes them all."""
        assert refusal(model, "DeleteTags", "ResourceId.1=i-1&Tag.1.Key=").code == "InvalidParameterValue"

    @pytest.mark.parametrize("form", ["Filter.1.Name=", "Filter.1=", "Filter="])
    def test_an_empty_filter_is_refused(self, model: Model, form: str) -> None:
        assert refusal(model, "DescribeInstances", form).code == "InvalidParameterValue"

    def test_a_filter_may_have_the_empty_value(self, model: Model) -> None:
        form = "Filter.1.Name=tag:Name&Filter.1.Value.1="
        assert decoded(model, "DescribeInstances", form) == {"Filters": [{"Name": "tag:Name", "Values": [""]}]}

    def test_an_attribute_may_be_cleared(self, model: Model) -> None:
        assert decoded(model, "ModifyInstanceAttribute", "InstanceId=i-1&UserData.Value=") == {
            "InstanceId": "i-1",
            "UserData": {"Value": b""},
        }

    def test_an_empty_no_device_omits_a_device(self, model: Model) -> None:
        form = "MinCount=1&MaxCount=1&BlockDeviceMapping.1.DeviceName=sdb&BlockDeviceMapping.1.NoDevice="
        assert decoded(model, "RunInstances", form)["BlockDeviceMappings"] == [{"DeviceName": "sdb", "NoDevice": ""}]


class TestRefusals:
    """Errors name the parameter."""

    @pytest.mark.parametrize(
        ("sent", "reported"),
        [
            ("Foo", "Foo"),
            ("Foo.1.Bar", "Foo"),
            ("instanceId.1", "instanceId"),
            ("Filter.1.Foo", "Filter.1.Foo"),
            ("Filter.1.Name.Foo", "Filter.1.Name.Foo"),
            ("Filter.1.Name.1.1", "Filter.1.Name.1"),
            ("Filter.Name", "Filter.Name"),
            ("", ""),
            (".InstanceId.1", ""),
        ],
    )
    def test_the_error_names_an_unknown_parameter_up_to_its_first_unknown_part(
        self, model: Model, sent: str, reported: str
    ) -> None:
        error = refusal(model, "DescribeInstances", f"{sent}=x")
        assert (error.code, error.message) == ("UnknownParameter", f"The parameter {reported} is not recognized")

    def test_the_error_for_a_missing_parameter_has_its_name_on_the_wire(self, model: Model) -> None:
        error = refusal(model, "TerminateInstances", "DryRun=true")
        assert (error.code, error.message) == (
            "MissingParameter",
            "The request must contain the parameter InstanceId",
        )

    def test_the_error_for_a_missing_member_of_a_structure_has_its_path(self, model: Model) -> None:
        form = "MinCount=1&MaxCount=1&ElasticGpuSpecification.1.Type="
        assert refusal(model, "RunInstances", form).code == "InvalidParameterValue"
        form = "MinCount=1&MaxCount=1&ElasticInferenceAccelerator.1.Count=1"
        error = refusal(model, "RunInstances", form)
        assert error.message == "The request must contain the parameter ElasticInferenceAccelerator.1.Type"

    def test_the_caller_may_decide_which_members_are_required(self, model: Model) -> None:
        form = "ImageLocation=ami-00000001"
        assert refusal(model, "RegisterImage", form).message == "The request must contain the parameter Name"
        assert decoded(model, "RegisterImage", form, required=("ImageLocation",)) == {"ImageLocation": "ami-00000001"}

    @pytest.mark.parametrize(
        "form",
        [
            "InstanceId.1=i-1&InstanceId.1=i-2",
            "InstanceId.1=i-1&InstanceId.1=i-1",
            "InstanceId.1=i-1&Action=TerminateInstances&Action=DescribeInstances",
        ],
    )
    def test_duplicate_parameters_are_refused_also_of_the_protocol(self, model: Model, form: str) -> None:
        error = refusal(model, "TerminateInstances", form)
        assert error.code == "InvalidParameterValue"
        assert "more than once" in error.message

    @pytest.mark.parametrize("form", ["Placement=here", "Filter.1=x", "Filter=x"])
    def test_a_value_for_a_structure_is_refused(self, model: Model, form: str) -> None:
        action = "RunInstances" if form.startswith("Placement") else "DescribeInstances"
        assert refusal(model, action, form).code == "InvalidParameterValue"

    def test_a_long_value_is_truncated_in_the_message(self, model: Model) -> None:
        assert len(refusal(model, "DescribeTags", f"MaxResults={'9' * 10_000}").message) < 400
        assert len(refusal(model, "DescribeTags", f"{'A' * 10_000}=").message) < 400

    def test_a_name_with_more_parts_than_any_of_ec2_is_unknown(self, model: Model) -> None:
        assert refusal(model, "DescribeInstances", "Filter" + ".1" * 100_000 + "=x").code == "UnknownParameter"
        assert refusal(model, "DescribeInstances", "Filter" + ".1" * MAX_DEPTH + "=x").code == "UnknownParameter"


PARTS = st.sampled_from(
    ["InstanceId", "Filter", "Name", "Value", "Tag", "Key", "TagSpecification", "BlockDeviceMapping", "Ebs", "MinCount",
     "MaxCount", "DryRun", "0", "1", "2", "99999999999", "", "member", "Placement", "VolumeSize", "Signature"]
)  # fmt: skip


NAMES = st.lists(PARTS | st.text(max_size=4), max_size=20).map(".".join)


VALUES = st.sampled_from(["", "1", "true", "x"]) | st.text(max_size=8)


class TestArbitraryInput:
    """Any pairs."""

    @settings(max_examples=300)
    @given(
        pairs=st.lists(st.tuples(NAMES, VALUES), max_size=12),
        action=st.sampled_from(["RunInstances", "DescribeInstances", "CreateTags", "ModifyInstanceAttribute"]),
    )
    def test_any_pairs_are_decoded_or_refused_with_ec2s_errors(
        self, model: Model, pairs: list[tuple[str, str]], action: str
    ) -> None:
        operation = model.operation(action)
        assert operation is not None
        parameters: dict[str, Any] = {}
        code = ""
        try:
            parameters = decode(operation, pairs)
        except EC2Error as error:
            code = error.code
        assert code in ("", "UnknownParameter", "MissingParameter", "InvalidParameterValue")
        assert None not in parameters.values()

    @given(st.lists(st.integers(0, 10**9 - 1), unique=True, min_size=1, max_size=20))
    def test_every_id_is_decoded_once_at_any_index(self, model: Model, indexes: list[int]) -> None:
        operation = model.operation("TerminateInstances")
        assert operation is not None
        parameters = decode(operation, [(f"InstanceId.{index}", f"i-{index:08d}") for index in indexes])
        assert parameters == {"InstanceIds": [f"i-{index:08d}" for index in sorted(indexes)]}
