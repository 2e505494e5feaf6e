"""Amazon's model of EC2, and econed's own models in addition to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from econed.services import EC2, SERVICES
from econed.wire.model import Model, ModelError, merged, own_models
from econed.wire.parameter_tree import is_protocol_parameter
from econed.wire.parameters import wire_names

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
    """Definitions in addition to Amazon's."""

    def test_an_own_model_adds_operations_and_may_use_amazons_shapes(self) -> None:
        model = Model(EC2, merged(AMAZON, [OWN]))
        assert model.operation_names == {"DescribeThings", "UploadThing"}
        operation = model.operation("UploadThing")
        assert operation is not None
        assert operation.input_shape is not None
        assert operation.input_shape.members["Name"].type_name == "string"

    @pytest.mark.parametrize("kind", ["operations", "shapes"])
    def test_amazons_definitions_cannot_be_replaced(self, kind: str) -> None:
        with pytest.raises(ModelError, match=next(iter(AMAZON[kind]))):
            merged(AMAZON, [{kind: AMAZON[kind]}])

    def test_only_the_json_files_in_a_directory_are_read(self, tmp_path: Path) -> None:
        (tmp_path / "econe.json").write_text(json.dumps(OWN))
        (tmp_path / "README.md").write_text("not a model")
        assert own_models(tmp_path) == [OWN]
        assert own_models(tmp_path / "missing") == []

    def test_two_own_models_cannot_define_the_same_operation(self) -> None:
        with pytest.raises(ModelError, match="UploadThing"):
            merged(AMAZON, [OWN, OWN])


class TestModel:
    """Amazon's definitions."""

    def test_an_operation_of_ec2_has_its_input_and_output(self, model: Model) -> None:
        operation = model.operation("StopInstances")
        assert operation is not None
        assert operation.name == "StopInstances"
        assert operation.input_shape is not None
        assert "InstanceIds" in operation.input_shape.members
        assert operation.output_shape is not None
        assert list(operation.output_shape.members) == ["StoppingInstances"]

    def test_an_operation_without_an_output_has_no_output_shape(self, model: Model) -> None:
        operation = model.operation("RebootInstances")
        assert operation is not None
        assert operation.output_shape is None

    @pytest.mark.parametrize("name", ["NoSuchThing", "stopInstances", "", "__init__", "operation_model"])
    def test_an_unknown_name_has_no_operation(self, model: Model, name: str) -> None:
        assert model.operation(name) is None

    def test_a_model_in_the_users_home_directory_is_ignored(
        self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        directory = tmp_path_factory.mktemp("models")
        newer = directory / "ec2" / "2099-01-01"
        newer.mkdir(parents=True)
        (newer / "service-2.json").write_text('{"metadata": {}, "operations": {}, "shapes": {}}')
        monkeypatch.setenv("AWS_DATA_PATH", str(directory))
        monkeypatch.setattr("botocore.loaders.Loader.CUSTOMER_DATA_PATH", str(directory))
        assert Model.load(EC2).operation("DescribeInstances") is not None

    def test_no_parameter_of_an_action_has_the_name_of_a_protocol_parameter(self, model: Model) -> None:
        for name in model.operation_names:
            operation = model.operation(name)
            assert operation is not None
            if operation.input_shape is not None:
                assert not [name for name in wire_names(operation.input_shape) if is_protocol_parameter(name)]

    def test_no_operation_of_one_service_has_the_name_of_one_of_another(self) -> None:
        """So the name of an action says enough in logs, metrics and tables. The registry does not depend on it."""
        names = [name for service in SERVICES for name in Model.load(service).operation_names]
        assert len(names) == len(set(names)) > 900

    def test_no_two_members_of_a_structure_have_the_same_name_on_the_wire(self, model: Model) -> None:
        for name in model.operation_names:
            operation = model.operation(name)
            assert operation is not None
            if operation.input_shape is not None:
                assert len(wire_names(operation.input_shape)) == len(operation.input_shape.members)
