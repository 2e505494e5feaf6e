"""The shapes of the model are those of `botocore.model` in all operations, and in a part of the model."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

from econed.services import EC2, SERVICES, AmazonService
from econed.wire.model import Model
from econed.wire.shapes import ListShape, MapShape, Shape, StructureShape


@pytest.mark.parametrize("service", SERVICES)
def test_every_shape_of_every_operation_is_botocores(service: AmazonService) -> None:
    loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    amazons = ServiceModel(loader.load_service_model(service.name, "service-2"), service.name)
    model = Model.load(service)
    assert model.operation_names == {*amazons.operation_names, *(["UploadImage"] if service is EC2 else [])}
    for name in amazons.operation_names:
        operation, botocores = model.operation(name), amazons.operation_model(name)
        assert operation is not None
        assert_same(operation.input_shape, botocores.input_shape)
        assert_same(operation.output_shape, botocores.output_shape)


def test_a_part_of_the_model_has_the_same_operations_as_the_whole(model: Model) -> None:
    names = ["RunInstances", "DescribeInstances", "RebootInstances", "UploadImage"]
    loaded = Model.load(EC2, [*names, "NoSuchThing"])
    assert loaded.operation_names == set(names)
    for name in names:
        operation, whole = loaded.operation(name), model.operation(name)
        assert operation is not None
        assert whole is not None
        assert_same(operation.input_shape, whole.input_shape)
        assert_same(operation.output_shape, whole.output_shape)


def assert_same(shape: Shape | None, other: Any, within: frozenset[str] = frozenset()) -> None:
    """Compare a shape with another or one of botocore's, down to the shapes that contain themselves."""
    if shape is None:
        assert other is None
        return
    assert traits(shape) == (traits(other) if isinstance(other, Shape) else traits_of_botocores(other))
    if shape.name in within:
        return
    within |= {shape.name}
    match shape:
        case StructureShape():
            assert list(shape.members) == list(other.members)
            assert list(shape.required_members) == list(other.required_members)
            for key, member in shape.members.items():
                assert_same(member, other.members[key], within)
        case ListShape():
            assert_same(shape.member, other.member, within)
        case MapShape():
            assert_same(shape.key, other.key, within)
            assert_same(shape.value, other.value, within)


def traits(shape: Shape) -> tuple[object, ...]:
    """Return what a shape says about its own values."""
    names = (shape.name, shape.type_name, shape.location_name, shape.query_name)
    values = (list(shape.enum), shape.minimum, shape.maximum, shape.pattern, shape.is_sensitive)
    return (*names, shape.is_flattened, shape.timestamp_format, *values)


def traits_of_botocores(shape: Any) -> tuple[object, ...]:
    """Return the same of one of botocore's shapes."""
    wire, metadata = shape.serialization, shape.metadata
    names = (shape.name, shape.type_name, wire.get("name"), wire.get("queryName"))
    limits = (metadata.get("enum", []), metadata.get("min"), metadata.get("max"))
    values = (*limits, metadata.get("pattern"), metadata.get("sensitive", False))
    return (*names, bool(wire.get("flattened")), wire.get("timestampFormat"), *values)
