"""Decoding requests of the query protocol, which STS and IAM speak: what is refused, and with which error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from econed.errors import EC2Error
from econed.services import STS
from econed.wire.model import Model
from econed.wire.parameter_tree import MAX_DEPTH, MAX_ELEMENTS
from econed.wire.parameters import decode
from econed.wire.query import parse_pairs
from tests.wire.decoding import decoded

DESCRIPTION: Mapping[str, Any] = {
    "operations": {"Make": {"input": {"shape": "Request"}}, "Look": {}},
    "shapes": {
        "Request": {
            "type": "structure",
            "members": {
                "Name": {"shape": "Text"},
                "seconds": {"shape": "Number"},
                "Tags": {"shape": "Tags"},
                "Flat": {"shape": "Texts", "flattened": True},
                "Map": {"shape": "Map"},
                "When": {"shape": "Time"},
            },
        },
        "Tags": {"type": "list", "member": {"shape": "Tag"}},
        "Tag": {"type": "structure", "members": {"Key": {"shape": "Text"}, "Value": {"shape": "Text"}}},
        "Texts": {"type": "list", "member": {"shape": "Text"}},
        "Map": {"type": "map", "key": {"shape": "Text"}, "value": {"shape": "Text"}},
        "Text": {"type": "string"},
        "Number": {"type": "integer"},
        "Time": {"type": "timestamp"},
    },
}
MODEL = Model(STS, DESCRIPTION)


def refusal(form: str, action: str = "Make") -> str:
    """Return the code and the message of the error for a form."""
    with pytest.raises(EC2Error) as caught:
        decoded(MODEL, action, form)
    assert caught.value.status == 400
    return str(caught.value)


def test_an_empty_string_is_a_value_and_an_empty_list_is_given() -> None:
    """Unlike in EC2: an empty RoleSessionName is too short, not missing."""
    form = "Name=&Tags=&Map=&Flat="
    assert decoded(MODEL, "Make", form) == {"Name": "", "Tags": [], "Map": {}, "Flat": []}


def test_a_name_is_that_of_the_model_and_begins_as_there() -> None:
    assert decoded(MODEL, "Make", "seconds=900") == {"seconds": 900}
    assert refusal("Seconds=900").startswith("UnknownParameter: ")


def test_the_parameters_of_the_protocol_are_not_passed_to_the_action() -> None:
    form = "Action=Make&Version=2011-06-15&AWSAccessKeyId=a&Signature=s&X-Amz-Security-Token=x&SecurityToken=x"
    assert decoded(MODEL, "Make", form) == {}


def test_the_items_of_a_list_may_begin_at_any_index_and_are_in_its_order() -> None:
    form = "Tags.member.10.Key=b&Tags.member.2.Key=a&Flat.0=x"
    assert decoded(MODEL, "Make", form) == {"Tags": [{"Key": "a"}, {"Key": "b"}], "Flat": ["x"]}


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ("Colour=red", "UnknownParameter: The parameter Colour"),
        ("Name.1=a", "UnknownParameter: The parameter Name.1"),
        ("Tags.1.Key=a", "UnknownParameter: The parameter Tags.1"),
        ("Tags.member=a", "UnknownParameter: The parameter Tags.member"),
        ("Tags.member.1.Colour=a", "UnknownParameter: The parameter Tags.member.1.Colour"),
        ("Tags.member.x.Key=a", "UnknownParameter: The parameter Tags.member.x"),
        ("Tags.member.01.Key=a", "UnknownParameter: The parameter Tags.member.01"),
        ("Map.entry.1.key=a&Map.entry.1.value=b&Map.entry.1.colour=c", "UnknownParameter: The parameter Map.entry.1"),
        ("Tags.member.1=a", "InvalidParameterValue: "),
        ("Tags=a", "InvalidParameterValue: "),
        ("Map.entry.1.key=a", "InvalidParameterValue: "),
        ("seconds=", "InvalidParameterValue: "),
        ("seconds=x", "InvalidParameterValue: "),
        ("seconds=2147483648", "InvalidParameterValue: "),
        ("When=yesterday", "InvalidParameterValue: "),
        ("Name=a&Name=b", "InvalidParameterValue: "),
        ("Name" + ".1" * MAX_DEPTH + "=x", "UnknownParameter: "),
    ],
)
def test_what_the_model_does_not_have_is_refused(form: str, code: str) -> None:
    """Amazon ignores unknown parameters: a request that loses the name of a user would then apply to the caller."""
    assert refusal(form).startswith(code)


def test_an_operation_without_parameters_takes_none() -> None:
    assert decoded(MODEL, "Look", "Action=Look&Version=2011-06-15") == {}
    assert refusal("Name=a", "Look").startswith("UnknownParameter: ")


@pytest.mark.parametrize("name", ["Tags.member.{}.Key", "Flat.{}"])
def test_a_list_has_a_maximum_length(name: str) -> None:
    form = "&".join(f"{name.format(number)}=a" for number in range(MAX_ELEMENTS + 1))
    assert refusal(form).startswith("InvalidParameterValue: ")
    assert decoded(MODEL, "Make", form.rpartition("&")[0])


def test_a_required_parameter_that_is_missing_is_null() -> None:
    operation = MODEL.operation("Make")
    assert operation is not None
    with pytest.raises(EC2Error) as caught:
        decode(operation, parse_pairs(b"seconds=1"), required=["Name"])
    assert str(caught.value) == (
        "ValidationError: 1 validation error detected: Value null at 'name' failed to satisfy constraint: "
        "Member must not be null"
    )
