"""Single values in the parameters of an action, decoded by their types in Amazon's model."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest

from econed.wire.model import Model
from tests.wire.decoding import decoded, refusal


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
