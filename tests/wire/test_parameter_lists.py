"""Lists in the parameters of an action: the indexes that clients use, and the maximum length."""

from __future__ import annotations

import pytest

from econed.errors import EC2Error
from econed.wire.model import Model
from econed.wire.parameters import decode
from tests.wire.decoding import decoded, refusal


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
