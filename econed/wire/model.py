"""Amazon's machine-readable model of EC2, from botocore: the operations with the input and output of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, cast

from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape, StructureShape


class ModelError(ValueError):
    """A model file of econed conflicts with Amazon's model."""


@dataclass(frozen=True)
class EC2Operation:
    """An operation of EC2: its name and the structures of its input and output, None where it has none."""

    name: str
    input_shape: StructureShape | None
    output_shape: StructureShape | None


class Model:
    """The operations of a service. Immutable."""

    def __init__(self, service: ServiceModel) -> None:
        self._service = service
        self._names = frozenset(service.operation_names)

    @classmethod
    def load(cls) -> Model:
        """Return Amazon's newest EC2 model together with econed's own operations (takes about 0.3 s and 15 MB).

        Only the data in botocore's package is read: a `~/.aws/models` directory must not change what EC2 is.
        """
        loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
        amazon = loader.load_service_model("ec2", "service-2")
        own = own_models(resources.files(__package__) / "models")
        return cls(ServiceModel(merged(amazon, own), "ec2"))

    @property
    def operation_names(self) -> frozenset[str]:
        """The names of all operations."""
        return self._names

    def operation(self, name: str) -> EC2Operation | None:
        """Return the operation with this name, None if there is none (EC2's names are case-sensitive)."""
        if name not in self._names:
            return None
        model = self._service.operation_model(name)
        return EC2Operation(name, _structure(model.input_shape), _structure(model.output_shape))


def own_models(directory: Traversable) -> list[Mapping[str, Any]]:
    """Return the contents of the model files (`*.json`) in a directory, sorted by name; none if it does not exist."""
    if not directory.is_dir():
        return []
    files = sorted((file for file in directory.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)
    return [json.loads(file.read_text("utf-8")) for file in files]


def merged(amazon: Mapping[str, Any], own: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return Amazon's service description with the operations and shapes of other descriptions added.

    Raises `ModelError` for a name that exists already: Amazon's definitions are never replaced.
    """
    description = dict(amazon)
    for part in own:
        for kind in ("operations", "shapes"):
            added = part.get(kind, {})
            if duplicates := sorted(description[kind].keys() & added.keys()):
                raise ModelError(f"{kind} of these names are in the model already: {', '.join(duplicates)}")
            description[kind] = {**description[kind], **added}
    return description


def input_name(member: Shape, key: str) -> str:
    """Return the name of a member in a request: queryName, else locationName or the member's name, capitalised."""
    traits = member.serialization
    if "queryName" in traits:
        return cast(str, traits["queryName"])
    name = cast(str, traits.get("name", key))
    return name[:1].upper() + name[1:]


def output_name(member: Shape, key: str) -> str:
    """Return the name of a member's element in a response: locationName, else the member's name."""
    return cast(str, member.serialization.get("name", key))


def _structure(shape: Any) -> StructureShape | None:
    return cast("StructureShape | None", shape)
