"""Every parameter that docs/actions.md names as carried out, ignored or as is passes the dispatcher."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ListShape, ServiceModel, Shape, StringShape, StructureShape
from botocore.serialize import create_serializer

from econed.catalogue import all_actions
from econed.dispatch import Dispatcher
from econed.wire.model import Model
from econed.wire.parameters import decode

PAGE = Path(__file__).parent.parent.parent / "docs/actions.md"
CARRIED_OUT, IGNORED, AS_IS = "Carried out", "Ignored", "As is"
SCALARS = {"string": "text", "boolean": True, "integer": 1, "long": 1, "float": 1.0, "double": 1.0, "blob": b"bytes"}


@dataclass(frozen=True)
class Claim:
    """A parameter that the page names, by its dotted path; `value` is the text of the one value of an *As is*."""

    action: str
    kind: str
    path: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.action} {self.kind}: {self.path}"


def claims() -> Iterator[Claim]:
    """Yield what the page says of parameters, section by section."""
    for section in PAGE.read_text("utf-8").split("\n## ")[1:]:
        action = section.partition("\n")[0]
        for kind, listed in re.findall(r"^- \*(Carried out|Ignored|As is)\*: (.*)$", section, re.MULTILINE):
            if kind == AS_IS:
                pairs = re.findall(r"`([^`]+)` = `([^`]+)`", listed)
                assert len(pairs) == listed.count(" = "), listed
                yield from (Claim(action, kind, path, value) for path, value in pairs)
            else:
                yield from (Claim(action, kind, path) for path in paths(listed))


def paths(listed: str) -> Iterator[str]:
    """Yield the dotted paths of a list whose members stand in brackets: `A` (`B`, `C`) is A, A.B and A.C."""
    outer: list[str] = []
    last = ""
    for code, bracket in re.findall(r"`([^`]+)`|([()])", listed):
        if code:
            last = code
            yield ".".join((*outer, code))
        elif bracket == "(":
            outer.append(last)
        else:
            outer.pop()


@cache
def _dispatcher() -> Dispatcher:
    return Dispatcher(Model.load(), all_actions())


@cache
def _amazon() -> ServiceModel:
    return ServiceModel(Loader().load_service_model("ec2", "service-2"), "ec2")


def sample(shape: Shape) -> Any:
    """Return some value of a shape, with every member in it."""
    if isinstance(shape, StructureShape):
        return {key: sample(member) for key, member in shape.members.items()}
    if isinstance(shape, ListShape):
        return [sample(shape.member)]
    if isinstance(shape, StringShape) and shape.enum:
        return shape.enum[0]
    return "2027-01-15T08:00:00Z" if shape.type_name == "timestamp" else SCALARS[shape.type_name]


def holding(shape: Shape, path: list[str], value: str = "") -> Any:
    """Return a value of a shape with nothing in it but what the path leads to: a sample, or the value of that text."""
    if isinstance(shape, ListShape):
        return [holding(shape.member, path, value)]
    if path:
        assert isinstance(shape, StructureShape), path
        return {path[0]: holding(shape.members[path[0]], path[1:], value)}
    if not value:
        return sample(shape)
    return value == "true" if shape.type_name == "boolean" else value


def sent(claim: Claim) -> tuple[dict[str, Any], Any]:
    """Send what a claim names with all that the action requires; return it as decoded, and what was let through."""
    route = _dispatcher().find(claim.action)
    client = _amazon().operation_model(claim.action)
    assert client.input_shape is not None
    required = {name: sample(client.input_shape.members[name]) for name in route.action.required}
    parameters = {**required, **holding(client.input_shape, claim.path.split("."), claim.value)}
    body = create_serializer("ec2", include_validation=False).serialize_to_request(parameters, client)["body"]
    pairs = [(name, str(value).lower() if isinstance(value, bool) else str(value)) for name, value in body.items()]
    decoded = decode(route.operation, pairs, required=route.required)
    return decoded, route.accepted(decoded)


def found(value: Any, path: list[str]) -> bool:
    """Whether something stands under a path, through lists too."""
    if isinstance(value, list):
        return any(found(item, path) for item in value)
    return not path or (isinstance(value, dict) and path[0] in value and found(value[path[0]], path[1:]))


ALL = list(claims())
WITH_MEMBERS = {(claim.action, claim.path.rpartition(".")[0]) for claim in ALL if claim.kind == CARRIED_OUT}
"""The structures of which the page names the members that are carried out."""


@pytest.mark.parametrize("claim", [each for each in ALL if (each.action, each.path) not in WITH_MEMBERS], ids=str)
def test_a_parameter_that_the_page_names_is_taken_as_it_says(claim: Claim) -> None:
    """What is carried out reaches the action; what is ignored or as is does not, and is not refused."""
    decoded, admitted = sent(claim)
    assert found(decoded, claim.path.split("."))
    assert found(admitted, claim.path.split(".")) == (claim.kind == CARRIED_OUT)


def test_the_page_is_read_whole() -> None:
    """Every list of parameters, and within it every name."""
    assert {claim.action for claim in ALL} >= {"RunInstances", "DescribeInstances", "CreateTags"}
    names = re.sub(r"^- \*Filters\*.*$", "", PAGE.read_text("utf-8").partition("\n## ")[2], flags=re.MULTILINE)
    listed = [line for line in names.splitlines() if line.startswith("- *")]
    assert sum(line.count("`") // 2 for line in listed) == len(ALL) + sum(bool(claim.value) for claim in ALL)
