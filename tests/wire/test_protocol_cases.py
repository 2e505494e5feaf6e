"""The 58 cases with which Amazon tests this protocol in its SDKs, applied to the server."""

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
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from lxml import etree

from econed.errors import EC2Error
from econed.services import EC2
from econed.wire.encoder import Encoder, encode_error
from econed.wire.model import Model, ServiceOperation
from econed.wire.parameters import decode, wire_names
from econed.wire.query import parse_pairs
from econed.wire.shapes import Shape

DATA = Path(__file__).parent.parent / "data" / "ec2-protocol"
Case = tuple[ServiceOperation, dict[str, Any]]


def cases(file: str) -> list[Any]:
    """Return every case in a file with its operation and the description of its service; its id names the test."""
    params = []
    for suite in json.loads((DATA / file).read_text("utf-8")):
        for case in suite["cases"]:
            name = case["given"]["name"]
            description = {
                "metadata": suite["metadata"],
                "operations": {name: case["given"]},
                "shapes": suite["shapes"],
            }
            operation = Model(EC2, description).operation(name)
            case["description"] = description
            params.append(pytest.param((operation, case), id=case["id"]))
    return params


def value(shape: Shape | None, given: Any) -> Any:
    """Return the Python value of a JSON value in a case: a number may be a time, a word a special float."""
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


def is_same(first: Any, second: Any) -> bool:
    """Whether two values are equal, where NaN equals NaN."""
    if isinstance(first, dict):
        if not isinstance(second, dict) or first.keys() != second.keys():
            return False
        return all(is_same(first[key], second[key]) for key in first)
    if isinstance(first, float) and math.isnan(first):
        return isinstance(second, float) and math.isnan(second)
    return bool(first == second)


def form_of(operation: ServiceOperation, case: dict[str, Any]) -> bytes:
    """Return the form of a case. The two cases of Content-Encoding have none; theirs is made from their parameters."""
    if "body" in case["serialized"]:
        body: str = case["serialized"]["body"]
        return body.encode()
    assert operation.input_shape is not None
    names = {key: name for name, key in wire_names(operation.input_shape).items()}
    return urlencode({names[key]: item for key, item in case["params"].items()}).encode()


def expected_parameters(operation: ServiceOperation, case: dict[str, Any]) -> Any:
    """Return the parameters that a server receives: without empty lists, and with an idempotency token."""
    params = {key: item for key, item in value(operation.input_shape, case["params"]).items() if item != []}
    if case["id"] == "Ec2ProtocolIdempotencyTokenAutoFill":
        return {"token": "00000000-0000-4000-8000-000000000000"}
    return params


def tree(element: etree._Element) -> Any:
    """Return an element as (name, text, children), without namespaces and white space, and with parsed times."""
    name = etree.QName(element).localname
    if len(element) or name.endswith("Response"):
        children = [tree(child) for child in element]
        return name, "", [child for child in children if child[0] not in ("requestId", "RequestID")]
    return name, parsed_time(element.text or ""), []


def parsed_time(text: str) -> object:
    """Return a time as a datetime, so that different formats of the same time are equal; other text unchanged."""
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            return parse(text) if len(text) > 15 else text
        except ValueError:
            continue
    return text


OUTPUT = cases("output.json")
SUCCESSES = [case for case in OUTPUT if case.values[0][1]["response"]["status_code"] == 200]
ERRORS = [case for case in OUTPUT if case.values[0][1]["response"]["status_code"] != 200]


def response(case: Case) -> bytes:
    """Return econed's response for a case."""
    operation, given = case
    result = value(operation.output_shape, given["result"])
    return Encoder().encode(operation, result, version="2020-01-08", request_id="requestid")


class TestInput:
    """Decoding forms."""

    @pytest.mark.parametrize("case", cases("input.json"))
    def test_a_form_is_decoded_to_the_parameters_of_the_case(self, case: Case) -> None:
        operation, given = case
        decoded = decode(operation, parse_pairs(form_of(operation, given)))
        assert is_same(decoded, expected_parameters(operation, given))


class TestOutput:
    """Encoding results."""

    @pytest.mark.parametrize("case", SUCCESSES)
    def test_a_response_has_the_elements_of_the_case(self, case: Case) -> None:
        expected = etree.fromstring(case[1]["response"]["body"].encode())
        assert tree(etree.fromstring(response(case))) == tree(expected)

    @pytest.mark.parametrize("case", SUCCESSES)
    def test_botocore_parses_a_response_as_it_parses_the_body_of_the_case(self, case: Case) -> None:
        operation, given = case
        shape: Any = ServiceModel(given["description"], "ec2").operation_model(operation.name).output_shape
        parser = create_parser("ec2")
        parsed = [
            parser.parse({"body": body, "headers": {}, "status_code": 200}, shape)
            for body in (response(case), given["response"]["body"].encode())
        ]
        metadata = [result.pop("ResponseMetadata") for result in parsed]
        assert is_same(*parsed)
        assert metadata[0]["RequestId"] == "requestid"

    @pytest.mark.parametrize("case", ERRORS)
    def test_an_error_has_code_message_and_request_id_in_the_elements_of_the_case(self, case: Case) -> None:
        expected = etree.fromstring(case[1]["response"]["body"].encode())
        message = expected.findtext("Errors/Error/Message")
        assert message is not None
        error = etree.fromstring(encode_error(EC2, EC2Error(case[1]["errorCode"], message), "foo-id"))
        for path in ("Errors/Error/Code", "Errors/Error/Message", "RequestID"):
            assert error.findtext(path) == expected.findtext(path)
            assert error.findtext(path)


class TestCases:
    """The cases themselves."""

    def test_there_are_29_cases_of_input_and_29_of_output(self) -> None:
        assert len(cases("input.json")) == 29
        assert len(SUCCESSES) + len(ERRORS) == 29

    def test_ec2s_model_has_no_error_shapes_and_no_namespaces_of_members(self) -> None:
        """Two of the cases use these features; the encoder does not support them because EC2 does not use them."""
        loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
        description = loader.load_service_model("ec2", "service-2")
        assert not [name for name, shape in description["shapes"].items() if "exception" in shape]
        assert '"xmlNamespace"' not in json.dumps([description["operations"], description["shapes"]])
