"""Every parameter listed in docs/actions.md is handled by the dispatcher as the page says."""

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

from econed.services import AmazonService
from econed.wire.parameters import decode
from tests.support.cloud import dispatcher, service_with

PAGE = Path(__file__).parent.parent.parent / "docs/actions.md"
PATH = re.compile(r"\\u002F.*")
"""The patterns of IAM's paths, which begin with a slash."""
CARRIED_OUT, IGNORED, AS_IS = "Carried out", "Ignored", "As is"
SCALARS = {"string": "text", "boolean": True, "integer": 1, "long": 1, "float": 1.0, "double": 1.0, "blob": b"bytes"}


@dataclass(frozen=True)
class Claim:
    """A parameter listed on the page, by its dotted path; `value` is the only value accepted by an *As is*."""

    action: str
    kind: str
    path: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.action} {self.kind}: {self.path}"


def claims() -> Iterator[Claim]:
    """Yield the claims of the page, section by section."""
    for section in PAGE.read_text("utf-8").split("\n### ")[1:]:
        action = section.partition("\n")[0]
        for kind, listed in re.findall(r"^- \*(Carried out|Ignored|As is)\*: (.*)$", section, re.MULTILINE):
            if kind == AS_IS:
                pairs = re.findall(r"`([^`]+)` = `([^`]+)`", listed)
                assert len(pairs) == listed.count(" = "), listed
                yield from (Claim(action, kind, path, value) for path, value in pairs)
            else:
                yield from (Claim(action, kind, path) for path in paths(listed))


def paths(listed: str) -> Iterator[str]:
    """Yield the dotted paths of a list with members in brackets: `A` (`B`, `C`) is A, A.B and A.C."""
    outer: list[str] = []
    previous = ""
    for code, bracket in re.findall(r"`([^`]+)`|([()])", listed):
        if code:
            previous = code
            yield ".".join((*outer, code))
        elif bracket == "(":
            outer.append(previous)
        else:
            outer.pop()


@cache
def _amazon(service: AmazonService) -> ServiceModel:
    return ServiceModel(Loader().load_service_model(service.name, "service-2"), service.name)


def sample(shape: Shape) -> Any:
    """Return a valid value of a shape, with all its members."""
    if isinstance(shape, StructureShape):
        return {key: sample(member) for key, member in shape.members.items()}
    if isinstance(shape, ListShape):
        return [sample(shape.member)]
    if isinstance(shape, StringShape) and shape.enum:
        return shape.enum[0]
    if PATH.fullmatch(shape.metadata.get("pattern", "")):
        return "/"
    if "min" in shape.metadata:  # constraints are those of STS and IAM
        least = max(shape.metadata["min"], 1)
        return "1" * least if isinstance(shape, StringShape) else least
    return "2027-01-15T08:00:00Z" if shape.type_name == "timestamp" else SCALARS[shape.type_name]


def _required(structure: StructureShape) -> dict[str, Any]:
    return {name: sample(structure.members[name]) for name in structure.required_members}


def value_with(shape: Shape, path: list[str], value: str = "") -> Any:
    """Return a value of a shape with only the member at the path: a sample, or the value given as text.

    Structures in lists have their required members, too.
    """
    if isinstance(shape, ListShape):
        item = value_with(shape.member, path, value)
        return [{**_required(shape.member), **item} if isinstance(shape.member, StructureShape) else item]
    if path:
        assert isinstance(shape, StructureShape), path
        return {path[0]: value_with(shape.members[path[0]], path[1:], value)}
    if not value:
        return sample(shape)
    return value == "true" if shape.type_name == "boolean" else value


def send(claim: Claim) -> tuple[dict[str, Any], Any]:
    """Send a claimed parameter and the required ones; return the decoded parameters and the accepted ones."""
    service = service_with(claim.action)
    route = dispatcher().find(service, claim.action)
    client = _amazon(service).operation_model(claim.action)
    assert client.input_shape is not None
    required = {name: sample(client.input_shape.members[name]) for name in route.action.required}
    parameters = {**required, **value_with(client.input_shape, claim.path.split("."), claim.value)}
    serializer = create_serializer(service.protocol, include_validation=False)
    body = serializer.serialize_to_request(parameters, client)["body"]
    pairs = [(name, str(value).lower() if isinstance(value, bool) else str(value)) for name, value in body.items()]
    decoded = decode(route.operation, pairs, required=route.required)
    return decoded, route.accepted(decoded)


def contains(value: Any, path: list[str]) -> bool:
    """Whether a value has a member at a path, through lists too."""
    if isinstance(value, list):
        return any(contains(item, path) for item in value)
    return not path or (isinstance(value, dict) and path[0] in value and contains(value[path[0]], path[1:]))


ALL = list(claims())
WITH_MEMBERS = {(claim.action, claim.path.rpartition(".")[0]) for claim in ALL if claim.kind == CARRIED_OUT}
"""The structures whose supported members are listed on the page."""


@pytest.mark.parametrize("claim", [claim for claim in ALL if (claim.action, claim.path) not in WITH_MEMBERS], ids=str)
def test_a_listed_parameter_is_handled_as_the_page_says(claim: Claim) -> None:
    """A supported parameter reaches the action; an ignored or *As is* one does not, and is not refused."""
    decoded, accepted = send(claim)
    assert contains(decoded, claim.path.split("."))
    assert contains(accepted, claim.path.split(".")) == (claim.kind == CARRIED_OUT)


def test_the_whole_page_is_parsed() -> None:
    """All lists of parameters and all names in them are found."""
    assert {claim.action for claim in ALL} >= {"RunInstances", "DescribeInstances", "CreateTags"}
    names = re.sub(r"^- \*Filters\*.*$", "", PAGE.read_text("utf-8").partition("\n### ")[2], flags=re.MULTILINE)
    listed = [line for line in names.splitlines() if line.startswith("- *")]
    assert sum(line.count("`") // 2 for line in listed) == len(ALL) + sum(bool(claim.value) for claim in ALL)
