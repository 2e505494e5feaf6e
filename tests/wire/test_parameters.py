"""Decoding a form into the parameters of an action: what clients send, and invalid requests."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from econed.errors import EC2Error
from econed.wire.model import Model
from econed.wire.parameters import MAX_DEPTH, decode
from econed.wire.query import parse_pairs


def decoded(model: Model, action: str, form: str, **options: Any) -> dict[str, Any]:
    """Return the parameters in a form."""
    operation = model.operation(action)
    assert operation is not None
    return decode(operation, parse_pairs(form.encode()), **options)


def refusal(model: Model, action: str, form: str) -> EC2Error:
    """Return the error for a form."""
    with pytest.raises(EC2Error) as caught:
        decoded(model, action, form)
    assert caught.value.status == 400
    return caught.value


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


class TestLists:
    """Lists, with the indexes that clients use."""

    @pytest.mark.parametrize(
        ("form", "ids"),
        [
            ("InstanceId.1=i-1&InstanceId.2=i-2", ["i-1", "i-2"]),
            ("InstanceId.0=i-1&InstanceId.1=i-2", ["i-1", "i-2"]),
            ("InstanceId.0=i-1", ["i-1"]),
            ("InstanceId.10=i-3&InstanceId.2=i-1&InstanceId.9=i-2", ["i-1", "i-2", "i-3"]),
            ("InstanceId=i-1", ["i-1"]),
            ("InstanceId.999999999=i-1", ["i-1"]),
        ],
    )
    def test_lists_start_at_any_index_and_have_gaps_and_are_ordered_by_index(
        self, model: Model, form: str, ids: list[str]
    ) -> None:
        assert decoded(model, "TerminateInstances", form) == {"InstanceIds": ids}

    def test_the_index_of_tags_may_start_at_0(self, model: Model) -> None:
        """apache-libcloud does."""
        form = "ResourceId.0=i-1&Tag.0.Key=a&Tag.0.Value=b&Tag.1.Key=c&Tag.1.Value=d"
        assert decoded(model, "CreateTags", form) == {
            "Resources": ["i-1"],
            "Tags": [{"Key": "a", "Value": "b"}, {"Key": "c", "Value": "d"}],
        }

    def test_a_filter_value_without_an_index_is_a_list_of_one(self, model: Model) -> None:
        """Perl's VM::EC2 sends it."""
        form = "Filter.1.Name=instance-state-name&Filter.1.Value=running"
        assert decoded(model, "DescribeInstances", form) == {
            "Filters": [{"Name": "instance-state-name", "Values": ["running"]}]
        }

    def test_a_single_value_may_have_an_index(self, model: Model) -> None:
        """Boto 2 sends it."""
        assert decoded(model, "GetConsoleOutput", "InstanceId.1=i-1") == {"InstanceId": "i-1"}

    @pytest.mark.parametrize(
        "form", ["InstanceId.1=i-1&InstanceId.2=i-2", "InstanceId=i-1&InstanceId.1=i-2", "InstanceId=i-1&InstanceId.0="]
    )
    def test_several_values_of_a_parameter_that_takes_one_are_refused(self, model: Model, form: str) -> None:
        error = refusal(model, "GetConsoleOutput", form)
        assert error.code == "InvalidParameterValue"
        assert "InstanceId" in error.message

    def test_a_list_with_an_index_and_without_is_refused(self, model: Model) -> None:
        error = refusal(model, "TerminateInstances", "InstanceId=i-1&InstanceId.1=i-2")
        assert error.code == "InvalidParameterValue"

    @pytest.mark.parametrize(
        "name",
        [
            "InstanceId.x", "InstanceId.", "InstanceId.-1", "InstanceId.01", "InstanceId.1.Foo", "InstanceId.1.1",
            "InstanceId.99999999999", "InstanceId.%D9%A1", "InstanceId.1e3", "InstanceId.+1", "InstanceId.member.1",
        ],
    )  # fmt: skip
    def test_an_invalid_index_is_refused_so_that_no_selector_is_lost(self, model: Model, name: str) -> None:
        assert refusal(model, "DescribeInstances", f"{name}=i-1").code == "UnknownParameter"


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


class TestValues:
    """Single values."""

    @pytest.mark.parametrize(
        ("text", "value"),
        [("true", True), ("True", True), ("TRUE", True), ("1", True), ("false", False), ("False", False), ("0", False)],
    )
    def test_booleans_are_decoded(self, model: Model, text: str, value: bool) -> None:
        assert decoded(model, "StopInstances", f"InstanceId.1=i-1&Force={text}")["Force"] is value

    @pytest.mark.parametrize("text", ["yes", "2", "t", "null", "+true"])
    def test_an_invalid_boolean_is_refused(self, model: Model, text: str) -> None:
        error = refusal(model, "StopInstances", f"InstanceId.1=i-1&Force={text}")
        assert error.code == "InvalidParameterValue"
        assert error.message.startswith("Value (")
        assert "for parameter Force is invalid." in error.message

    def test_integers_have_32_bits(self, model: Model) -> None:
        form = "MinCount=-2147483648&MaxCount=2147483647"
        assert decoded(model, "RunInstances", form) == {"MinCount": -(2**31), "MaxCount": 2**31 - 1}

    @pytest.mark.parametrize(
        "text", ["2147483648", "-2147483649", "1.0", "1e3", "0x10", "1_000", "%D9%A1", "+1", "one", "9" * 5000, "%00"]
    )
    def test_an_invalid_integer_is_refused(self, model: Model, text: str) -> None:
        assert refusal(model, "RunInstances", f"MinCount=1&MaxCount={text}").code == "InvalidParameterValue"

    def test_the_limits_of_the_model_are_checked(self, model: Model) -> None:
        assert decoded(model, "DescribeVpcs", "MaxResults=5") == {"MaxResults": 5}
        error = refusal(model, "DescribeVpcs", "MaxResults=4")
        assert error.message == ("Value (4) for parameter MaxResults is invalid. Expecting a value between 5 and 1000.")

    @pytest.mark.parametrize("text", ["inf", "nan", "1e999", "1_0", "0x1", "-"])
    def test_an_invalid_number_is_refused(self, model: Model, text: str) -> None:
        assert refusal(model, "PurchaseReservedInstancesOffering", _offering(text)).code == "InvalidParameterValue"

    def test_floats_are_decoded(self, model: Model) -> None:
        parameters = decoded(model, "PurchaseReservedInstancesOffering", _offering("-12.5e1"))
        assert parameters["LimitPrice"] == {"Amount": -125.0}

    def test_a_blob_is_base64_on_one_line_or_several(self, model: Model) -> None:
        key = b"ssh-ed25519 " + b"A" * 80
        lines = base64.encodebytes(key).decode().replace("+", "%2B").replace("\n", "%0A")
        assert decoded(model, "ImportKeyPair", f"KeyName=k&PublicKeyMaterial={lines}")["PublicKeyMaterial"] == key

    @pytest.mark.parametrize("text", ["a", "ssh-rsa%20AAAA", "YWJj=", "=YWJ", "YQ==YQ==", "YQ", "ab+/", "%E2%9C%93"])
    def test_invalid_base64_is_refused(self, model: Model, text: str) -> None:
        assert refusal(model, "ImportKeyPair", f"KeyName=k&PublicKeyMaterial={text}").code == "InvalidParameterValue"

    @pytest.mark.parametrize(
        ("text", "moment"),
        [
            ("2026-01-02T03:04:05.000Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
            ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
            ("2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
            ("2026-01-02T03:04:05%2B02:00", datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)),
            ("2026-01-02", datetime(2026, 1, 2, tzinfo=UTC)),
        ],
    )
    def test_times_are_iso_8601_and_decoded_as_utc(self, model: Model, text: str, moment: datetime) -> None:
        assert decoded(model, "DescribeSpotPriceHistory", f"StartTime={text}") == {"StartTime": moment}

    @pytest.mark.parametrize("text", ["yesterday", "0001-01-01T00:00:00%2B10:00", "2026-02-30", "1767322245"])
    def test_an_invalid_time_is_refused(self, model: Model, text: str) -> None:
        assert refusal(model, "DescribeSpotPriceHistory", f"StartTime={text}").code == "InvalidParameterValue"

    def test_the_error_for_an_enumeration_lists_the_valid_values(self, model: Model) -> None:
        error = refusal(model, "CreateKeyPair", "KeyName=k&KeyType=dsa")
        assert error.code == "InvalidParameterValue"
        assert error.message == "Value (dsa) for parameter KeyType is invalid. Valid values: rsa, ed25519."

    def test_instance_types_are_not_limited_to_amazons(self, model: Model) -> None:
        form = "MinCount=1&MaxCount=1&InstanceType=our.own"
        assert decoded(model, "RunInstances", form)["InstanceType"] == "our.own"

    def test_an_attribute_value_is_decoded_by_its_type(self, model: Model) -> None:
        form = (
            "InstanceId=i-1&DisableApiTermination.Value=true&InstanceType.Value=small&UserData.Value=aGk%3D"
            "&GroupId.1=sg-00000001&BlockDeviceMapping.1.DeviceName=sda"
            "&BlockDeviceMapping.1.Ebs.DeleteOnTermination=true"
        )
        assert decoded(model, "ModifyInstanceAttribute", form) == {
            "InstanceId": "i-1",
            "DisableApiTermination": {"Value": True},
            "InstanceType": {"Value": "small"},
            "UserData": {"Value": b"hi"},
            "Groups": ["sg-00000001"],
            "BlockDeviceMappings": [{"DeviceName": "sda", "Ebs": {"DeleteOnTermination": True}}],
        }


def _offering(amount: str) -> str:
    return f"InstanceCount=1&ReservedInstancesOfferingId=o&LimitPrice.Amount={amount}"


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


class TestLongLists:
    """The length of every list is limited; the values of all filters have a limit of their own."""

    @pytest.mark.parametrize(
        ("action", "name"),
        [
            ("TerminateInstances", "InstanceId.{}"),
            ("CreateTags", "ResourceId.{}"),
            ("DescribeKeyPairs", "KeyName.{}"),
            ("CreateTags", "Tag.{}.Key"),
            ("RunInstances", "TagSpecification.1.Tag.{}.Key"),
        ],
    )
    def test_1000_elements_are_accepted_and_1001_refused(self, model: Model, action: str, name: str) -> None:
        operation = model.operation(action)
        assert operation is not None
        pairs = [(name.format(number), f"x{number}") for number in range(1001)]
        assert decode(operation, pairs[:1000], required=())
        with pytest.raises(EC2Error, match="cannot contain over 1000 values") as caught:
            decode(operation, pairs, required=())
        assert caught.value.code == "InvalidParameterValue"

    def test_the_number_of_filter_values_is_not_limited_here(self, model: Model) -> None:
        operation = model.operation("DescribeInstances")
        assert operation is not None
        parameters = decode(operation, [(f"Filter.1.Value.{number}", "x") for number in range(1001)])
        assert len(parameters["Filters"][0]["Values"]) == 1001
