"""Amazon's model of EC2 and how models of our own stand beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.model import ServiceModel

from econed.wire.model import Model, ModelError, merged, own_models
from econed.wire.parameters import is_protocol_parameter, wire_names

AMAZON: dict[str, Any] = {
    "metadata": {"apiVersion": "2016-11-15"},
    "operations": {"DescribeThings": {"name": "DescribeThings", "http": {"method": "POST", "requestUri": "/"}}},
    "shapes": {"String": {"type": "string"}},
}
OWN: dict[str, Any] = {
    "operations": {
        "UploadThing": {
            "name": "UploadThing",
            "http": {"method": "POST", "requestUri": "/"},
            "input": {"shape": "UploadThingRequest"},
        }
    },
    "shapes": {"UploadThingRequest": {"type": "structure", "members": {"Name": {"shape": "String"}}}},
}


class TestOwnModels:
    """What is defined beside Amazon's."""

    def test_a_model_of_our_own_adds_operations_and_may_use_amazons_shapes(self) -> None:
        model = Model(ServiceModel(merged(AMAZON, [OWN]), "ec2"))
        assert model.operation_names == {"DescribeThings", "UploadThing"}
        operation = model.operation("UploadThing")
        assert operation is not None
        assert operation.input_shape is not None
        assert operation.input_shape.members["Name"].type_name == "string"

    @pytest.mark.parametrize("kind", ["operations", "shapes"])
    def test_what_amazon_defines_is_not_redefined(self, kind: str) -> None:
        with pytest.raises(ModelError, match=next(iter(AMAZON[kind]))):
            merged(AMAZON, [{kind: AMAZON[kind]}])

    def test_the_model_files_of_a_directory_are_read_and_nothing_else_in_it(self, tmp_path: Path) -> None:
        (tmp_path / "econe.json").write_text(json.dumps(OWN))
        (tmp_path / "README.md").write_text("no model")
        assert own_models(tmp_path) == [OWN]
        assert own_models(tmp_path / "missing") == []

    def test_two_models_of_our_own_do_not_define_the_same(self) -> None:
        with pytest.raises(ModelError, match="UploadThing"):
            merged(AMAZON, [OWN, OWN])


class TestModel:
    """What Amazon defines."""

    def test_the_operations_of_ec2_are_there_with_what_goes_in_and_out(self, model: Model) -> None:
        operation = model.operation("StopInstances")
        assert operation is not None
        assert operation.name == "StopInstances"
        assert operation.input_shape is not None
        assert "InstanceIds" in operation.input_shape.members
        assert operation.output_shape is not None
        assert list(operation.output_shape.members) == ["StoppingInstances"]

    def test_an_operation_without_an_output_says_so(self, model: Model) -> None:
        operation = model.operation("RebootInstances")
        assert operation is not None
        assert operation.output_shape is None

    @pytest.mark.parametrize("name", ["NoSuchThing", "stopInstances", "", "__init__", "operation_model"])
    def test_a_name_that_is_no_operation_is_none(self, model: Model, name: str) -> None:
        assert model.operation(name) is None

    def test_a_directory_of_the_user_has_no_say_in_the_model(
        self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        directory = tmp_path_factory.mktemp("models")
        newer = directory / "ec2" / "2099-01-01"
        newer.mkdir(parents=True)
        (newer / "service-2.json").write_text('{"metadata": {}, "operations": {}, "shapes": {}}')
        monkeypatch.setenv("AWS_DATA_PATH", str(directory))
        monkeypatch.setattr("botocore.loaders.Loader.CUSTOMER_DATA_PATH", str(directory))
        assert Model.load().operation("DescribeInstances") is not None

    def test_no_parameter_of_any_action_is_taken_for_one_of_the_protocol(self, model: Model) -> None:
        for name in model.operation_names:
            operation = model.operation(name)
            assert operation is not None
            if operation.input_shape is not None:
                assert not [wire for wire in wire_names(operation.input_shape) if is_protocol_parameter(wire)]

    def test_no_two_members_of_a_structure_have_the_same_name_on_the_wire(self, model: Model) -> None:
        for name in model.operation_names:
            operation = model.operation(name)
            assert operation is not None
            if operation.input_shape is not None:
                assert len(wire_names(operation.input_shape)) == len(operation.input_shape.members)
