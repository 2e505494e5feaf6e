"""The cases with which Amazon tests its SDKs, applied to the server: 58 of EC2's protocol, 76 of the query protocol."""

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
from econed.services import EC2, SERVICES, STS, AmazonService
from econed.wire.encoder import Encoder, encode_error
from econed.wire.model import Model, ServiceOperation, input_name, own_name
from econed.wire.parameters import decode
from econed.wire.query import parse_pairs
from econed.wire.shapes import Shape

DATA = Path(__file__).parent.parent / "data"
Case = tuple[ServiceOperation, dict[str, Any]]


def cases(service: AmazonService, file: str) -> list[Any]:
    """Return every case in a file of the service's protocol, with its operation and the description of its service.

    Its id names the test.
    """
    params = []
    for suite in json.loads((DATA / f"{service.protocol}-protocol" / file).read_text("utf-8")):
        for case in suite["cases"]:
            name = case["given"]["name"]
            if service is STS and "output" in case["given"]:  # the models of STS and IAM name it, the cases do not
                case["given"]["output"]["resultWrapper"] = f"{name}Result"
            description = {
                "metadata": suite["metadata"],
                "operations": {name: case["given"]},
                "shapes": suite["shapes"],
            }
            operation = Model(service, description).operation(name)
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
    name = input_name if operation.service is EC2 else own_name
    names = {key: name(member, key) for key, member in operation.input_shape.members.items()}
    return urlencode({names[key]: item for key, item in case["params"].items()}).encode()


def expected_parameters(operation: ServiceOperation, case: dict[str, Any]) -> Any:
    """Return the parameters that a server receives: without what the form has not, and with an idempotency token."""
    unsent: tuple[Any, ...] = ([], {}) if operation.service is EC2 else ({},)
    params = {key: item for key, item in value(operation.input_shape, case["params"]).items() if item not in unsent}
    if case["id"] in ("Ec2ProtocolIdempotencyTokenAutoFill", "QueryProtocolIdempotencyTokenAutoFill"):
        return {"token": "00000000-0000-4000-8000-000000000000"}
    return params


def tree(element: etree._Element) -> Any:
    """Return an element as (name, text, children), without namespaces and white space, and with parsed times."""
    name = etree.QName(element).localname
    if len(element) or name.endswith("Response"):
        children = [tree(child) for child in element]
        return name, "", [child for child in children if child[0] not in ("requestId", "RequestID", "ResponseMetadata")]
    return name, parsed_time(text if (text := element.text or "").strip() else ""), []


def parsed_time(text: str) -> object:
    """Return a time as a datetime, so that different formats of the same time are equal; other text unchanged."""
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            return parse(text) if len(text) > 15 else text
        except ValueError:
            continue
    return text


def body_of(case: Case) -> bytes:
    """Return the body of the response in a case; if it has none, because nothing is returned, that without members."""
    operation, given = case
    wrapper = f"<{operation.result_wrapper}/>" if operation.result_wrapper else ""
    body: str = given["response"].get("body") or f"<{operation.name}Response>{wrapper}</{operation.name}Response>"
    return body.encode()


def texts(root: etree._Element, name: str) -> list[str | None]:
    """Return the texts of all elements with a name, in any namespace."""
    return [element.text for element in root.iter(f"{{*}}{name}")]


OUTPUT = [*cases(EC2, "output.json"), *cases(STS, "output.json")]
SUCCESSES = [case for case in OUTPUT if case.values[0][1]["response"]["status_code"] == 200]
ERRORS = [case for case in OUTPUT if case.values[0][1]["response"]["status_code"] != 200]


def response(case: Case) -> bytes:
    """Return econed's response for a case."""
    operation, given = case
    result = value(operation.output_shape, given["result"])
    return Encoder().encode(operation, result, version="2020-01-08", request_id="requestid")


class TestInput:
    """Decoding forms."""

    @pytest.mark.parametrize("case", [*cases(EC2, "input.json"), *cases(STS, "input.json")])
    def test_a_form_is_decoded_to_the_parameters_of_the_case(self, case: Case) -> None:
        operation, given = case
        decoded = decode(operation, parse_pairs(form_of(operation, given)))
        assert is_same(decoded, expected_parameters(operation, given))


class TestOutput:
    """Encoding results."""

    @pytest.mark.parametrize("case", SUCCESSES)
    def test_a_response_has_the_elements_of_the_case(self, case: Case) -> None:
        assert tree(etree.fromstring(response(case))) == tree(etree.fromstring(body_of(case)))

    @pytest.mark.parametrize("case", SUCCESSES)
    def test_botocore_parses_a_response_as_it_parses_the_body_of_the_case(self, case: Case) -> None:
        operation, given = case
        shape: Any = ServiceModel(given["description"], "any").operation_model(operation.name).output_shape
        parser = create_parser(operation.service.protocol)
        parsed = [
            parser.parse({"body": body, "headers": {}, "status_code": 200}, shape)
            for body in (response(case), body_of(case))
        ]
        metadata = [result.pop("ResponseMetadata", {}) for result in parsed]
        assert is_same(*parsed)
        assert metadata[0]["RequestId"] == "requestid"

    @pytest.mark.parametrize("case", ERRORS)
    def test_an_error_has_code_message_and_request_id_in_the_elements_of_the_case(self, case: Case) -> None:
        """One of the query protocol has further members, which no error of STS or IAM has; it has no message."""
        operation, given = case
        expected = etree.fromstring(body_of(case))
        message = expected.findtext(".//Message")
        assert message is not None or given["id"] == "QueryComplexError"
        error = EC2Error(given["errorCode"], message or "x", given["response"]["status_code"])
        body = etree.fromstring(encode_error(operation.service, error, "foo-id"))
        for name in ("Code", "Message", "Type", "RequestID", "RequestId"):
            if message is not None or name != "Message":
                assert texts(body, name) == texts(expected, name)
        assert texts(body, "Code") == [given["errorCode"]]
        assert texts(body, "RequestID") + texts(body, "RequestId") == ["foo-id"]

    @pytest.mark.parametrize("case", ERRORS)
    def test_botocore_parses_an_error_as_it_parses_the_body_of_the_case(self, case: Case) -> None:
        operation, given = case
        status = given["response"]["status_code"]
        error = EC2Error(given["errorCode"], etree.fromstring(body_of(case)).findtext(".//Message") or "", status)
        shape: Any = ServiceModel(given["description"], "any").operation_model(operation.name).output_shape
        bodies = (encode_error(operation.service, error, "foo-id"), body_of(case))
        parser = create_parser(operation.service.protocol)
        parsed = [parser.parse({"body": body, "headers": {}, "status_code": status}, shape) for body in bodies]
        assert [result["Error"]["Code"] for result in parsed] == [given["errorCode"]] * 2
        assert [result["ResponseMetadata"]["RequestId"] for result in parsed] == ["foo-id"] * 2
        assert parsed[0]["Error"]["Message"] == parsed[1]["Error"].get("Message")


class TestCases:
    """The cases themselves."""

    @pytest.mark.parametrize(("service", "count"), [(EC2, 29), (STS, 38)])
    def test_as_many_are_of_input_as_of_output(self, service: AmazonService, count: int) -> None:
        assert len(cases(service, "input.json")) == count
        assert sum(case.values[0][0].service is service for case in SUCCESSES + ERRORS) == count

    @pytest.mark.parametrize("service", SERVICES)
    def test_amazons_models_have_no_members_of_errors_and_no_namespaces_of_members(
        self, service: AmazonService
    ) -> None:
        """Some of the cases use these features; the encoder does not support them because no service uses them."""
        loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
        description = loader.load_service_model(service.name, "service-2")
        errors = [shape for shape in description["shapes"].values() if "exception" in shape]
        assert {member for shape in errors for member in shape["members"]} <= {"message"}
        assert '"xmlNamespace"' not in json.dumps([description["operations"], description["shapes"]])
