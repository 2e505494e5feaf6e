"""From a form to the parameters of an action: what clients really send, and what nobody should."""

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


def read(model: Model, action: str, form: str, **options: Any) -> dict[str, Any]:
    """The parameters of a form."""
    operation = model.operation(action)
    assert operation is not None
    return decode(operation, parse_pairs(form.encode()), **options)


def refusal(model: Model, action: str, form: str) -> EC2Error:
    """The error that a form is refused with."""
    with pytest.raises(EC2Error) as caught:
        read(model, action, form)
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
        assert read(model, "RunInstances", form) == {
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

    def test_the_protocols_own_parameters_are_none_of_the_actions(self, model: Model) -> None:
        form = (
            "Action=DescribeTags&Version=2016-11-15&AWSAccessKeyId=a&Signature=s&SignatureMethod=HmacSHA256"
            "&SignatureVersion=2&Timestamp=t&Expires=e&SecurityToken=x&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=c"
            "&X-Amz-Date=d&X-Amz-Expires=1&X-Amz-SignedHeaders=host&X-Amz-Signature=s&X-Amz-Security-Token=x"
        )
        assert read(model, "DescribeTags", form) == {}


class TestLists:
    """Lists as clients count them."""

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
    def test_lists_start_anywhere_have_gaps_and_are_ordered_by_their_index(
        self, model: Model, form: str, ids: list[str]
    ) -> None:
        assert read(model, "TerminateInstances", form) == {"InstanceIds": ids}

    def test_tags_may_count_from_0(self, model: Model) -> None:
        """apache-libcloud does."""
        form = "ResourceId.0=i-1&Tag.0.Key=a&Tag.0.Value=b&Tag.1.Key=c&Tag.1.Value=d"
        assert read(model, "CreateTags", form) == {
            "Resources": ["i-1"],
            "Tags": [{"Key": "a", "Value": "b"}, {"Key": "c", "Value": "d"}],
        }

    def test_a_filter_value_without_an_index_is_the_one_value(self, model: Model) -> None:
        """Perl's VM::EC2 sends it so."""
        form = "Filter.1.Name=instance-state-name&Filter.1.Value=running"
        assert read(model, "DescribeInstances", form) == {
            "Filters": [{"Name": "instance-state-name", "Values": ["running"]}]
        }

    def test_an_index_on_a_single_value_is_let_pass(self, model: Model) -> None:
        """Boto 2 sends it so."""
        assert read(model, "GetConsoleOutput", "InstanceId.1=i-1") == {"InstanceId": "i-1"}

    @pytest.mark.parametrize(
        "form", ["InstanceId.1=i-1&InstanceId.2=i-2", "InstanceId=i-1&InstanceId.1=i-2", "InstanceId=i-1&InstanceId.0="]
    )
    def test_several_values_for_a_single_one_are_refused(self, model: Model, form: str) -> None:
        error = refusal(model, "GetConsoleOutput", form)
        assert error.code == "InvalidParameterValue"
        assert "InstanceId" in error.message

    def test_an_index_and_none_at_once_is_refused(self, model: Model) -> None:
        error = refusal(model, "TerminateInstances", "InstanceId=i-1&InstanceId.1=i-2")
        assert error.code == "InvalidParameterValue"

    @pytest.mark.parametrize(
        "name",
        [
            "InstanceId.x", "InstanceId.", "InstanceId.-1", "InstanceId.01", "InstanceId.1.Foo", "InstanceId.1.1",
            "InstanceId.99999999999", "InstanceId.%D9%A1", "InstanceId.1e3", "InstanceId.+1", "InstanceId.member.1",
        ],
    )  # fmt: skip
    def test_what_is_no_index_is_refused_and_never_means_no_instances_named(self, model: Model, name: str) -> None:
        assert refusal(model, "DescribeInstances", f"{name}=i-1").code == "UnknownParameter"


class TestEmptyStrings:
    """An empty string is "not given", but never "all"."""

    @pytest.mark.parametrize(
        "name",
        [
            "IamInstanceProfile.Name", "Placement.AvailabilityZone", "Placement.Tenancy", "SubnetId", "UserData",
            "ClientToken", "DryRun", "EbsOptimized", "Ipv6AddressCount", "Placement",
        ],
    )  # fmt: skip
    def test_an_empty_string_is_not_given(self, model: Model, name: str) -> None:
        """Terraform and Packer send empty strings for what they leave out."""
        form = f"MinCount=1&MaxCount=1&{name}="
        assert read(model, "RunInstances", form) == {"MinCount": 1, "MaxCount": 1}

    def test_an_empty_string_is_no_required_parameter(self, model: Model) -> None:
        assert refusal(model, "DeleteVolume", "VolumeId=").code == "MissingParameter"

    @pytest.mark.parametrize("name", ["InstanceId", "InstanceId.0", "InstanceId.1"])
    @pytest.mark.parametrize("action", ["TerminateInstances", "DescribeInstances"])
    def test_an_empty_id_stays_in_the_list_for_the_action_to_refuse(self, model: Model, action: str, name: str) -> None:
        """Dropped, it would leave a list of nothing, and nothing named is everything."""
        assert read(model, action, f"{name}=") == {"InstanceIds": [""]}

    def test_an_empty_tag_value_is_a_value(self, model: Model) -> None:
        form = "ResourceId.1=i-1&Tag.1.Key=a&Tag.1.Value="
        assert read(model, "CreateTags", form)["Tags"] == [{"Key": "a", "Value": ""}]

    def test_deleting_a_tag_of_the_empty_value_is_not_deleting_it_whatever_its_value(self, model: Model) -> None:
        assert read(model, "DeleteTags", "ResourceId.1=i-1&Tag.1.Key=a&Tag.1.Value=")["Tags"] == [
            {"Key": "a", "Value": ""}
        ]
        assert read(model, "DeleteTags", "ResourceId.1=i-1&Tag.1.Key=a")["Tags"] == [{"Key": "a"}]

    def test_an_empty_tag_to_delete_is_not_all_tags(self, model: Model) -> None:
        """DeleteTags without tags deletes them all."""
        assert refusal(model, "DeleteTags", "ResourceId.1=i-1&Tag.1.Key=").code == "InvalidParameterValue"

    @pytest.mark.parametrize("form", ["Filter.1.Name=", "Filter.1=", "Filter="])
    def test_an_empty_filter_is_not_no_filter(self, model: Model, form: str) -> None:
        assert refusal(model, "DescribeInstances", form).code == "InvalidParameterValue"

    def test_a_filter_may_look_for_the_empty_value(self, model: Model) -> None:
        form = "Filter.1.Name=tag:Name&Filter.1.Value.1="
        assert read(model, "DescribeInstances", form) == {"Filters": [{"Name": "tag:Name", "Values": [""]}]}

    def test_an_attribute_may_be_set_to_nothing(self, model: Model) -> None:
        assert read(model, "ModifyInstanceAttribute", "InstanceId=i-1&UserData.Value=") == {
            "InstanceId": "i-1",
            "UserData": {"Value": b""},
        }

    def test_an_empty_no_device_leaves_a_device_out(self, model: Model) -> None:
        form = "MinCount=1&MaxCount=1&BlockDeviceMapping.1.DeviceName=sdb&BlockDeviceMapping.1.NoDevice="
        assert read(model, "RunInstances", form)["BlockDeviceMappings"] == [{"DeviceName": "sdb", "NoDevice": ""}]


class TestRefusals:
    """What is not understood is refused, by its name."""

    @pytest.mark.parametrize(
        ("sent", "named"),
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
    def test_an_unknown_parameter_is_named_as_far_as_it_is_not_understood(
        self, model: Model, sent: str, named: str
    ) -> None:
        error = refusal(model, "DescribeInstances", f"{sent}=x")
        assert (error.code, error.message) == ("UnknownParameter", f"The parameter {named} is not recognized")

    def test_a_missing_parameter_is_named_as_on_the_wire(self, model: Model) -> None:
        error = refusal(model, "TerminateInstances", "DryRun=true")
        assert (error.code, error.message) == (
            "MissingParameter",
            "The request must contain the parameter InstanceId",
        )

    def test_a_missing_member_of_a_structure_is_named_with_where_it_is_missing(self, model: Model) -> None:
        form = "MinCount=1&MaxCount=1&ElasticGpuSpecification.1.Type="
        assert refusal(model, "RunInstances", form).code == "InvalidParameterValue"
        form = "MinCount=1&MaxCount=1&ElasticInferenceAccelerator.1.Count=1"
        error = refusal(model, "RunInstances", form)
        assert error.message == "The request must contain the parameter ElasticInferenceAccelerator.1.Type"

    def test_a_required_member_may_be_declared_optional(self, model: Model) -> None:
        form = "ImageLocation=ami-00000001"
        assert refusal(model, "RegisterImage", form).message == "The request must contain the parameter Name"
        assert read(model, "RegisterImage", form, required=("ImageLocation",)) == {"ImageLocation": "ami-00000001"}

    @pytest.mark.parametrize(
        "form",
        [
            "InstanceId.1=i-1&InstanceId.1=i-2",
            "InstanceId.1=i-1&InstanceId.1=i-1",
            "InstanceId.1=i-1&Action=TerminateInstances&Action=DescribeInstances",
        ],
    )
    def test_a_parameter_given_twice_is_refused_also_the_protocols_own(self, model: Model, form: str) -> None:
        error = refusal(model, "TerminateInstances", form)
        assert error.code == "InvalidParameterValue"
        assert "more than once" in error.message

    @pytest.mark.parametrize("form", ["Placement=here", "Filter.1=x", "Filter=x"])
    def test_a_value_for_what_has_members_is_refused(self, model: Model, form: str) -> None:
        action = "RunInstances" if form.startswith("Placement") else "DescribeInstances"
        assert refusal(model, action, form).code == "InvalidParameterValue"

    def test_a_long_value_is_cut_in_the_message(self, model: Model) -> None:
        assert len(refusal(model, "DescribeTags", f"MaxResults={'9' * 10_000}").message) < 400
        assert len(refusal(model, "DescribeTags", f"{'A' * 10_000}=").message) < 400

    def test_a_name_deeper_than_any_of_ec2_is_unknown(self, model: Model) -> None:
        assert refusal(model, "DescribeInstances", "Filter" + ".1" * 100_000 + "=x").code == "UnknownParameter"
        assert refusal(model, "DescribeInstances", "Filter" + ".1" * MAX_DEPTH + "=x").code == "UnknownParameter"


class TestValues:
    """Single values."""

    @pytest.mark.parametrize(
        ("text", "meant"),
        [("true", True), ("True", True), ("TRUE", True), ("1", True), ("false", False), ("False", False), ("0", False)],
    )
    def test_booleans(self, model: Model, text: str, meant: bool) -> None:
        assert read(model, "StopInstances", f"InstanceId.1=i-1&Force={text}")["Force"] is meant

    @pytest.mark.parametrize("text", ["yes", "2", "t", "null", "+true"])
    def test_what_is_no_boolean_is_refused(self, model: Model, text: str) -> None:
        error = refusal(model, "StopInstances", f"InstanceId.1=i-1&Force={text}")
        assert error.code == "InvalidParameterValue"
        assert error.message.startswith("Value (")
        assert "for parameter Force is invalid." in error.message

    def test_an_integer_of_32_bits(self, model: Model) -> None:
        form = "MinCount=-2147483648&MaxCount=2147483647"
        assert read(model, "RunInstances", form) == {"MinCount": -(2**31), "MaxCount": 2**31 - 1}

    @pytest.mark.parametrize(
        "text", ["2147483648", "-2147483649", "1.0", "1e3", "0x10", "1_000", "%D9%A1", "+1", "one", "9" * 5000, "%00"]
    )
    def test_what_is_no_integer_of_32_bits_is_refused(self, model: Model, text: str) -> None:
        assert refusal(model, "RunInstances", f"MinCount=1&MaxCount={text}").code == "InvalidParameterValue"

    def test_the_bounds_of_the_model_hold(self, model: Model) -> None:
        assert read(model, "DescribeVpcs", "MaxResults=5") == {"MaxResults": 5}
        error = refusal(model, "DescribeVpcs", "MaxResults=4")
        assert error.message == ("Value (4) for parameter MaxResults is invalid. Expecting a value between 5 and 1000.")

    @pytest.mark.parametrize("text", ["inf", "nan", "1e999", "1_0", "0x1", "-"])
    def test_what_is_no_number_is_refused(self, model: Model, text: str) -> None:
        assert refusal(model, "PurchaseReservedInstancesOffering", _offering(text)).code == "InvalidParameterValue"

    def test_a_number(self, model: Model) -> None:
        bought = read(model, "PurchaseReservedInstancesOffering", _offering("-12.5e1"))
        assert bought["LimitPrice"] == {"Amount": -125.0}

    def test_a_blob_is_base64_in_one_line_or_several(self, model: Model) -> None:
        key = b"ssh-ed25519 " + b"A" * 80
        lines = base64.encodebytes(key).decode().replace("+", "%2B").replace("\n", "%0A")
        assert read(model, "ImportKeyPair", f"KeyName=k&PublicKeyMaterial={lines}")["PublicKeyMaterial"] == key

    @pytest.mark.parametrize("text", ["a", "ssh-rsa%20AAAA", "YWJj=", "=YWJ", "YQ==YQ==", "YQ", "ab+/", "%E2%9C%93"])
    def test_what_is_no_base64_is_refused(self, model: Model, text: str) -> None:
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
    def test_times_are_iso_8601_and_utc(self, model: Model, text: str, moment: datetime) -> None:
        assert read(model, "DescribeSpotPriceHistory", f"StartTime={text}") == {"StartTime": moment}

    @pytest.mark.parametrize("text", ["yesterday", "0001-01-01T00:00:00%2B10:00", "2026-02-30", "1767322245"])
    def test_what_is_no_time_is_refused(self, model: Model, text: str) -> None:
        assert refusal(model, "DescribeSpotPriceHistory", f"StartTime={text}").code == "InvalidParameterValue"

    def test_a_value_outside_of_an_enumeration_is_refused_with_what_is_valid(self, model: Model) -> None:
        error = refusal(model, "CreateKeyPair", "KeyName=k&KeyType=dsa")
        assert error.code == "InvalidParameterValue"
        assert error.message == "Value (dsa) for parameter KeyType is invalid. Valid values: rsa, ed25519."

    def test_instance_types_are_this_clouds_and_not_amazons(self, model: Model) -> None:
        form = "MinCount=1&MaxCount=1&InstanceType=our.own"
        assert read(model, "RunInstances", form)["InstanceType"] == "our.own"

    def test_an_attribute_value_is_read_by_its_type(self, model: Model) -> None:
        form = (
            "InstanceId=i-1&DisableApiTermination.Value=true&InstanceType.Value=small&UserData.Value=aGk%3D"
            "&GroupId.1=sg-00000001&BlockDeviceMapping.1.DeviceName=sda"
            "&BlockDeviceMapping.1.Ebs.DeleteOnTermination=true"
        )
        assert read(model, "ModifyInstanceAttribute", form) == {
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


class TestAnything:
    """Whatever is sent."""

    @settings(max_examples=300)
    @given(
        pairs=st.lists(st.tuples(NAMES, VALUES), max_size=12),
        action=st.sampled_from(["RunInstances", "DescribeInstances", "CreateTags", "ModifyInstanceAttribute"]),
    )
    def test_any_pairs_are_decoded_or_refused_as_ec2_would(
        self, model: Model, pairs: list[tuple[str, str]], action: str
    ) -> None:
        operation = model.operation(action)
        assert operation is not None
        decoded: dict[str, Any] = {}
        code = ""
        try:
            decoded = decode(operation, pairs)
        except EC2Error as error:
            code = error.code
        assert code in ("", "UnknownParameter", "MissingParameter", "InvalidParameterValue")
        assert None not in decoded.values()

    @given(st.lists(st.integers(0, 10**9 - 1), unique=True, min_size=1, max_size=20))
    def test_every_id_that_is_sent_is_there_once_whatever_its_index(self, model: Model, indexes: list[int]) -> None:
        operation = model.operation("TerminateInstances")
        assert operation is not None
        decoded = decode(operation, [(f"InstanceId.{index}", f"i-{index:08d}") for index in indexes])
        assert decoded == {"InstanceIds": [f"i-{index:08d}" for index in sorted(indexes)]}


class TestLongLists:
    """A list has a bound, wherever it stands; filters have one of their own, for the values of all together."""

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
    def test_a_thousand_elements_are_taken_and_one_more_is_refused(self, model: Model, action: str, name: str) -> None:
        operation = model.operation(action)
        assert operation is not None
        pairs = [(name.format(number), f"x{number}") for number in range(1001)]
        assert decode(operation, pairs[:1000], required=())
        with pytest.raises(EC2Error, match="cannot contain over 1000 values") as caught:
            decode(operation, pairs, required=())
        assert caught.value.code == "InvalidParameterValue"

    def test_the_values_of_filters_are_not_counted_here(self, model: Model) -> None:
        operation = model.operation("DescribeInstances")
        assert operation is not None
        decoded = decode(operation, [(f"Filter.1.Value.{number}", "x") for number in range(1001)])
        assert len(decoded["Filters"][0]["Values"]) == 1001
