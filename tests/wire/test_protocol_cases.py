"""The 58 cases that Amazon's own SDKs are tested with for this protocol, each read from the server's side."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape
from botocore.parsers import create_parser
from lxml import etree

from econed.wire.encoder import Encoder, encode_error
from econed.wire.model import EC2Operation, Model
from econed.wire.parameters import decode, wire_names
from econed.wire.query import parse_pairs

DATA = Path(__file__).parent.parent / "data" / "ec2-protocol"
Case = tuple[EC2Operation, dict[str, Any]]


def cases(file: str) -> list[Any]:
    """Every case of a file with its operation, named by its id."""
    found = []
    for suite in json.loads((DATA / file).read_text("utf-8")):
        for case in suite["cases"]:
            name = case["given"]["name"]
            description = {
                "metadata": suite["metadata"],
                "operations": {name: case["given"]},
                "shapes": suite["shapes"],
            }
            operation = Model(ServiceModel(description, "ec2")).operation(name)
            found.append(pytest.param((operation, case), id=case["id"]))
    return found


def value(shape: Shape | None, given: Any) -> Any:
    """The Python value of one that a case writes as JSON: numbers for times, words for special floats."""
    if shape is None:
        return given
    match shape.type_name:
        case "structure":
            return {key: value(shape.members[key], item) for key, item in given.items()}  # type: ignore[attr-defined]
        case "list":
            return [value(shape.member, item) for item in given]  # type: ignore[attr-defined]
        case "map":
            return {key: value(shape.value, item) for key, item in given.items()}  # type: ignore[attr-defined]
        case "timestamp":
            return datetime.fromtimestamp(given, UTC)
        case "blob":
            return given.encode()
        case "float" | "double":
            return float(given)
    return given


def same(one: Any, other: Any) -> bool:
    """Equality in which NaN is NaN."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return bool(one == other)


def form_of(operation: EC2Operation, case: dict[str, Any]) -> bytes:
    """The form body of a case; the two about Content-Encoding have none and get what their parameters amount to."""
    if "body" in case["serialized"]:
        body: str = case["serialized"]["body"]
        return body.encode()
    assert operation.input_shape is not None
    names = {key: name for name, key in wire_names(operation.input_shape).items()}
    return urlencode({names[key]: item for key, item in case["params"].items()}).encode()


def expected_parameters(operation: EC2Operation, case: dict[str, Any]) -> Any:
    """The parameters of a case as a server sees them: an empty list is not sent, a token that was missing is."""
    params = {key: item for key, item in value(operation.input_shape, case["params"]).items() if item != []}
    if case["id"] == "Ec2ProtocolIdempotencyTokenAutoFill":
        return {"token": "00000000-0000-4000-8000-000000000000"}
    return params


def tree(element: etree._Element) -> Any:
    """An element as (name, text, children): no namespaces, no white space between elements, times as moments."""
    name = etree.QName(element).localname
    if len(element) or name.endswith("Response"):
        children = [tree(child) for child in element]
        return name, "", [child for child in children if child[0] not in ("requestId", "RequestID")]
    return name, moment(element.text or ""), []


def moment(text: str) -> object:
    """A time as such, so that the same moment written in two ways is the same; other text as it is."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            return read(text) if len(text) > 15 else text
        except ValueError:
            continue
    return text


OUTPUT = cases("output.json")
ANSWERS = [case for case in OUTPUT if case.values[0][1]["response"]["status_code"] == 200]
ERRORS = [case for case in OUTPUT if case.values[0][1]["response"]["status_code"] != 200]


def answer(case: Case) -> bytes:
    """Our answer to a case."""
    operation, given = case
    result = value(operation.output_shape, given["result"])
    return Encoder().encode(operation, result, version="2020-01-08", request_id="requestid")


class TestInput:
    """Forms to parameters."""

    @pytest.mark.parametrize("case", cases("input.json"))
    def test_a_form_is_read_as_the_parameters_it_was_made_of(self, case: Case) -> None:
        operation, given = case
        decoded = decode(operation, parse_pairs(form_of(operation, given)))
        assert same(decoded, expected_parameters(operation, given))


class TestOutput:
    """Values to XML."""

    @pytest.mark.parametrize("case", ANSWERS)
    def test_an_answer_has_the_elements_of_the_case(self, case: Case) -> None:
        expected = etree.fromstring(case[1]["response"]["body"].encode())
        assert tree(etree.fromstring(answer(case))) == tree(expected)

    @pytest.mark.parametrize("case", ANSWERS)
    def test_an_answer_is_read_by_botocore_as_the_body_of_the_case(self, case: Case) -> None:
        operation, given = case
        assert operation.output_shape is not None
        parser = create_parser("ec2")
        parsed = [
            parser.parse({"body": body, "headers": {}, "status_code": 200}, operation.output_shape)
            for body in (answer(case), given["response"]["body"].encode())
        ]
        metadata = [one.pop("ResponseMetadata") for one in parsed]
        assert same(*parsed)
        assert metadata[0]["RequestId"] == "requestid"

    @pytest.mark.parametrize("case", ERRORS)
    def test_an_error_has_code_message_and_request_id_where_the_case_has_them(self, case: Case) -> None:
        expected = etree.fromstring(case[1]["response"]["body"].encode())
        message = expected.findtext("Errors/Error/Message")
        assert message is not None
        made = etree.fromstring(encode_error(case[1]["errorCode"], message, "foo-id"))
        for path in ("Errors/Error/Code", "Errors/Error/Message", "RequestID"):
            assert made.findtext(path) == expected.findtext(path)
            assert made.findtext(path)


class TestCases:
    """The cases as such."""

    def test_there_are_29_cases_each_way(self) -> None:
        assert len(cases("input.json")) == 29
        assert len(ANSWERS) + len(ERRORS) == 29

    def test_ec2_itself_has_no_errors_with_members_and_no_namespaces_within_an_answer(self) -> None:
        """What two of the cases show beyond this, EC2's model does not use, and the encoder does not have."""
        loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
        description = loader.load_service_model("ec2", "service-2")
        assert not [name for name, shape in description["shapes"].items() if "exception" in shape]
        assert '"xmlNamespace"' not in json.dumps([description["operations"], description["shapes"]])
