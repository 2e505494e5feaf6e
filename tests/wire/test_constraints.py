"""The constraints of Amazon's models of STS and IAM, with Amazon's words for their violation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from econed.actions.action import Members
from econed.catalogue import all_actions
from econed.dispatch import Dispatcher
from econed.errors import EC2Error
from econed.services import IAM, STS, AmazonService
from econed.wire.constraints import readable_pattern
from econed.wire.model import Model
from econed.wire.shapes import ListShape, Shape, StructureShape
from tests.wire.decoding import decoded

MODELS = {service: Model.load(service) for service in (STS, IAM)}
ROLE = "arn:aws:iam::000000000002:role/staff"


def violations(service: AmazonService, action: str, **parameters: Any) -> str:
    """Return the message of the ValidationError for these parameters."""
    with pytest.raises(EC2Error) as caught:
        decoded(MODELS[service], action, urlencode(parameters))
    assert (caught.value.code, caught.value.status) == ("ValidationError", 400)
    return caught.value.message


def one(path: str, value: str, constraint: str) -> str:
    """Return the message for one violation."""
    return f"1 validation error detected: Value {value} at '{path}' failed to satisfy constraint: {constraint}"


def test_a_text_may_be_too_short_or_too_long() -> None:
    short, long = "x", "x" * 65
    assert violations(STS, "AssumeRole", RoleArn=ROLE, RoleSessionName=short) == one(
        "roleSessionName", "'x'", "Member must have length greater than or equal to 2"
    )
    assert violations(STS, "AssumeRole", RoleArn=ROLE, RoleSessionName=long) == one(
        "roleSessionName", f"'{long}'", "Member must have length less than or equal to 64"
    )


def test_a_number_may_be_too_small_or_too_large() -> None:
    assert violations(STS, "GetSessionToken", DurationSeconds="899") == one(
        "durationSeconds", "'899'", "Member must have value greater than or equal to 900"
    )
    assert violations(STS, "GetSessionToken", DurationSeconds="129601") == one(
        "durationSeconds", "'129601'", "Member must have value less than or equal to 129600"
    )


def test_a_text_may_not_match_its_pattern() -> None:
    """All of it has to match, and only letters of ASCII are word characters."""
    for name in ("a b", "größe", "ab\n"):
        assert violations(STS, "AssumeRole", RoleArn=ROLE, RoleSessionName=name) == one(
            "roleSessionName", f"'{name}'", r"Member must satisfy regular expression pattern: [\w+=,.@-]*"
        )


def test_a_text_may_be_none_of_its_enumeration() -> None:
    message = violations(IAM, "UpdateAccessKey", AccessKeyId="A" * 20, Status="Asleep")
    assert message.startswith(one("status", "'Asleep'", "Member must satisfy enum value set: [Active, Inactive"))


def test_all_violations_are_named() -> None:
    message = violations(STS, "AssumeRole", RoleArn="role", RoleSessionName="x")
    assert message.startswith("2 validation errors detected: Value 'role' at 'roleArn' failed")
    assert "; Value 'x' at 'roleSessionName' failed" in message


def test_a_member_of_an_item_is_named_with_its_index() -> None:
    parameters = {"RoleArn": ROLE, "RoleSessionName": "me", "Tags.member.1.Key": "k" * 129, "Tags.member.1.Value": "v"}
    assert "at 'tags.1.member.key'" in violations(STS, "AssumeRole", **parameters).replace("k" * 128, "")


def test_a_long_value_is_shortened_and_a_sensitive_one_is_not_quoted() -> None:
    assert len(violations(STS, "AssumeRole", RoleArn=ROLE, RoleSessionName="x" * 10_000)) < 400
    message = violations(STS, "AssumeRoleWithWebIdentity", RoleArn=ROLE, RoleSessionName="me", WebIdentityToken="abc")
    assert message == one("webIdentityToken", "", "Member must have length greater than or equal to 4").replace(
        "  ", " "
    )


def patterns_of(shape: Shape | None, members: Members) -> Iterator[str]:
    """Yield the patterns of the parameters that an action carries out."""
    if shape is not None and shape.pattern is not None:
        yield shape.pattern
    if isinstance(shape, ListShape):
        yield from patterns_of(shape.member, members)
    elif isinstance(shape, StructureShape):
        for key, member in shape.members.items():
            supported = members.find(key)
            if supported is not None:
                yield from patterns_of(member, supported)


def test_all_patterns_of_the_parameters_of_actions_can_be_checked() -> None:
    routes = Dispatcher.load(all_actions()).routes
    used = {
        pattern
        for (service, _), route in routes.items()
        if service.protocol == "query"
        for pattern in patterns_of(route.operation.input_shape, route.action.accepts)
    }
    assert not [pattern for pattern in used if readable_pattern(pattern) is None]
    assert readable_pattern(r"[\p{L}]") is None
