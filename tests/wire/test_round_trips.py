"""For every operation of all services: requests of botocore are decoded, and its parser accepts the responses."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any, cast
from urllib.parse import urlencode

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from econed.services import IAM, STS, AmazonService
from econed.wire.encoder import Encoder
from econed.wire.model import Model
from econed.wire.parameters import decode
from econed.wire.query import parse_pairs
from econed.wire.shapes import ListShape, MapShape, Shape, StructureShape


@pytest.fixture(scope="module")
def service() -> ServiceModel:
    """Return Amazon's model as botocore's clients load it."""
    loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    return ServiceModel(loader.load_service_model("ec2", "service-2"), "ec2")


def sample(shape: Shape, numbers: Iterator[int]) -> Any:
    """Return a value with every member, and unique texts and numbers where the model permits."""
    match shape.type_name:
        case "structure":
            members = cast(StructureShape, shape).members
            return {key: sample(member, numbers) for key, member in members.items()}
        case "list":
            member = cast(ListShape, shape).member
            return [sample(member, numbers) for _ in range(2)]
        case "map":
            entry = cast(MapShape, shape)
            return {sample(entry.key, numbers): sample(entry.value, numbers) for _ in range(2)}
        case "string":
            return shape.enum[0] if shape.enum else f"a text & more, {next(numbers)}"
        case "integer" | "long":
            minimum = shape.minimum or 0
            return minimum + next(numbers) if shape.maximum is None else minimum
        case "float" | "double":
            return 0.5 if shape.minimum is None else shape.minimum
        case "boolean":
            return next(numbers) % 2 == 0
        case "blob":
            return f"bytes {next(numbers)}".encode()
        case "timestamp":
            return datetime.fromtimestamp(1_700_000_000 + next(numbers), UTC)
    raise AssertionError(shape.type_name)


def sent_by_botocore(service: ServiceModel, name: str, params: Mapping[str, Any]) -> bytes:
    """Return the form that botocore sends."""
    serializer = create_serializer(service.metadata["protocol"], include_validation=False)
    request = serializer.serialize_to_request(dict(params), service.operation_model(name))
    return urlencode(request["body"]).encode()


def parsed_by_botocore(service: ServiceModel, name: str, body: bytes) -> dict[str, Any]:
    """Return the result that botocore parses."""
    response = {"body": body, "headers": {}, "status_code": 200}
    shape: Any = service.operation_model(name).output_shape
    parsed: dict[str, Any] = create_parser(service.metadata["protocol"]).parse(response, shape)
    assert parsed.pop("ResponseMetadata")["RequestId"] == "req-1"
    return parsed


RUN = {
    "ImageId": "ami-00000003",
    "InstanceType": "small",
    "MinCount": 1,
    "MaxCount": 2,
    "KeyName": "key with spaces & ümläuts",
    "SecurityGroupIds": ["sg-00000100"],
    "UserData": "IyEvYmluL3NoCmVjaG8gaGk7Cg==",
    "ClientToken": "6f9a1c3e;Action=TerminateInstances",
    "DryRun": False,
    "Placement": {"AvailabilityZone": "default"},
    "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 8, "DeleteOnTermination": True}}],
    "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-00000000", "Groups": ["sg-00000100"]}],
    "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": ""}, {"Key": "ü=&+%"}]}],
}


class TestRoundTrips:
    """Encoding by one side and decoding by the other."""

    def test_every_parameter_of_every_operation_is_decoded_as_sent_by_botocore(
        self, model: Model, service: ServiceModel
    ) -> None:
        assert len(service.operation_names) > 700
        for name in service.operation_names:
            operation = model.operation(name)
            assert operation is not None
            if operation.input_shape is None:
                continue
            params = sample(operation.input_shape, count())
            assert decode(operation, parse_pairs(sent_by_botocore(service, name, params))) == params, name

    def test_every_member_of_every_result_is_parsed_by_botocore(self, model: Model, service: ServiceModel) -> None:
        encoder = Encoder()
        for name in service.operation_names:
            operation = model.operation(name)
            assert operation is not None
            if operation.output_shape is None:
                continue
            result = sample(operation.output_shape, count())
            body = encoder.encode(operation, result, version="2016-11-15", request_id="req-1")
            assert parsed_by_botocore(service, name, body) == result, name

    @pytest.mark.parametrize(
        ("name", "params"),
        [
            ("RunInstances", RUN),
            ("DescribeInstances", {"Filters": [{"Name": "tag:Name", "Values": ["a*", ""]}], "MaxResults": 10}),
            ("TerminateInstances", {"InstanceIds": [f"i-{n:08d}" for n in range(20)]}),
            ("CreateTags", {"Resources": ["i-00000001"], "Tags": [{"Key": "a", "Value": ""}]}),
            ("DeleteTags", {"Resources": ["i-00000001"], "Tags": [{"Key": "a"}]}),
            ("ImportKeyPair", {"KeyName": "k", "PublicKeyMaterial": b"ssh-ed25519 AAAA"}),
            ("ModifyInstanceAttribute", {"InstanceId": "i-00000001", "UserData": {"Value": b""}}),
            ("ModifyInstanceAttribute", {"InstanceId": "i-00000001", "DisableApiTermination": {"Value": True}}),
            ("DescribeRegions", {}),
        ],
    )
    def test_typical_requests_are_decoded_as_sent_by_botocore(
        self, model: Model, service: ServiceModel, name: str, params: dict[str, Any]
    ) -> None:
        operation = model.operation(name)
        assert operation is not None
        assert decode(operation, parse_pairs(sent_by_botocore(service, name, params))) == params


CONSTRAINTS = ("min", "max", "pattern", "enum")
"""The traits of shapes that samples do not satisfy; `tests/wire/test_constraints.py` has these."""


def unconstrained(value: Any) -> Any:
    """Return a description of a service without the constraints of its scalars, lists and maps."""
    if isinstance(value, list):
        return [unconstrained(item) for item in value]
    if not isinstance(value, dict):
        return value
    dropped: Collection[str] = CONSTRAINTS if isinstance(value.get("type"), str) else ()
    return {key: unconstrained(item) for key, item in value.items() if key not in dropped}


@pytest.mark.parametrize(("service", "count_of_operations"), [(STS, 10), (IAM, 170)])
class TestQueryServices:
    """All operations of the services of the query protocol, as botocore's clients send and read them."""

    def test_every_parameter_is_decoded_and_every_result_parsed(
        self, service: AmazonService, count_of_operations: int
    ) -> None:
        loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
        description = unconstrained(loader.load_service_model(service.name, "service-2"))
        botocores, model, encoder = ServiceModel(description, service.name), Model(service, description), Encoder()
        assert len(botocores.operation_names) > count_of_operations
        for name in botocores.operation_names:
            operation = model.operation(name)
            assert operation is not None
            if operation.input_shape is not None:
                params = sample(operation.input_shape, count())
                assert decode(operation, parse_pairs(sent_by_botocore(botocores, name, params))) == params, name
            if operation.output_shape is not None:
                result = sample(operation.output_shape, count())
                body = encoder.encode(operation, result, version=str(service.version), request_id="req-1")
                assert parsed_by_botocore(botocores, name, body) == result, name
                assert operation.result_wrapper == f"{name}Result"
