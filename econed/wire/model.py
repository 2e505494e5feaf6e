"""Amazon's machine-readable models, from botocore: the operations of a service with the input and output of each."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, cast

from econed.services import EC2, AmazonService
from econed.wire.shapes import Definitions, Shape, StructureShape, references_in, shape_of


class ModelError(ValueError):
    """Amazon's model cannot be read, or a model file of econed conflicts with it."""


@dataclass(frozen=True)
class ServiceOperation:
    """An operation of a service: its name and the structures of its input and output, None where it has none.

    `result_wrapper` is the element around the members of its output in a response; None: there is no such element.
    """

    service: AmazonService
    name: str
    input_shape: StructureShape | None
    output_shape: StructureShape | None
    result_wrapper: str | None = None


class Model:
    """The operations of a service. Immutable."""

    def __init__(self, service: AmazonService, description: Mapping[str, Any], other_names: Iterable[str] = ()) -> None:
        """Take a description of the service in the format of botocore's `service-2.json`.

        `other_names` are those of operations of the service that the description does not have.
        """
        self.service = service
        self._operations: Mapping[str, Mapping[str, Any]] = description["operations"]
        self._definitions: Definitions = description["shapes"]
        self.all_names: frozenset[str] = frozenset((*self._operations, *other_names))
        """The names of all operations of the service."""

    @classmethod
    def load(cls, service: AmazonService, operations: Iterable[str] | None = None) -> Model:
        """Return Amazon's newest model of a service, that of EC2 together with econed's own operations.

        Of `operations`, those that exist; None: all. Raises `ModelError`. Only the data in botocore's package is read:
        a `~/.aws/models` directory must not change what EC2 is.
        """
        # Parsed once more, from the text of the part: as a part of the whole, 46 of the 830 operations would keep most
        # of the memory of all (7 MB instead of 4).
        text, names = _text_of_description(service, operations)
        return cls(service, json.loads(text), names)

    @property
    def operation_names(self) -> frozenset[str]:
        """The names of the operations that can be looked up."""
        return frozenset(self._operations)

    def operation(self, name: str) -> ServiceOperation | None:
        """Return the operation with this name, None if there is none (Amazon's names are case-sensitive)."""
        operation = self._operations.get(name)
        if operation is None:
            return None
        output = operation.get("output")
        return ServiceOperation(
            self.service,
            name,
            self._structure(operation.get("input")),
            self._structure(output),
            None if output is None else output.get("resultWrapper"),
        )

    def _structure(self, reference: Mapping[str, Any] | None) -> StructureShape | None:
        return None if reference is None else cast(StructureShape, shape_of(reference, self._definitions))


def _text_of_description(service: AmazonService, operations: Iterable[str] | None) -> tuple[str, list[str]]:
    """Return Amazon's description of a service with econed's own, as JSON without documentation.

    Of `operations`, those that exist; None: all. And the names of all.
    """
    description = _amazons_description(service)
    if service is EC2:
        description = merged(description, own_models(resources.files(__package__) / "models"))
    names = list(description["operations"])
    return json.dumps(description if operations is None else part(description, operations)), names


def _amazons_description(service: AmazonService) -> Mapping[str, Any]:
    """Return the description in botocore's package; raises `ModelError` if it is not where and what it was."""
    try:
        versions = resources.files("botocore") / "data" / service.name
        newest = max(versions.iterdir(), key=lambda directory: directory.name)
        text = gzip.decompress((newest / "service-2.json.gz").read_bytes())
        description = json.loads(text, object_hook=_without_documentation)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise ModelError(f"the model of {service.name.upper()} cannot be read: {error}") from None
    if not all(isinstance(description.get(kind), dict) for kind in ("operations", "shapes")):
        raise ModelError(f"the model of {service.name.upper()} has no operations or no shapes")
    return cast("Mapping[str, Any]", description)


def _without_documentation(item: dict[str, Any]) -> dict[str, Any]:
    if isinstance(item.get("documentation"), str):  # a member with this name would be a mapping
        del item["documentation"]
    return item


def part(description: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the operations with these names of a service description, as far as they exist, and their shapes."""
    operations = {name: description["operations"][name] for name in names if name in description["operations"]}
    shapes: dict[str, Mapping[str, Any]] = {}
    references = [item[key] for item in operations.values() for key in ("input", "output") if key in item]
    while references:
        name = references.pop()["shape"]
        if name not in shapes:
            shapes[name] = description["shapes"][name]
            references += references_in(shapes[name])
    return {"operations": operations, "shapes": shapes}


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
    if member.query_name is not None:
        return member.query_name
    name = member.location_name or key
    return name[:1].upper() + name[1:]


def own_name(member: Shape, key: str) -> str:
    """Return the name of a member in a response, and in a request of the query protocol: locationName, else its own."""
    return member.location_name or key
