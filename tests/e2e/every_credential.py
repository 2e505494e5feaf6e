"""The credentials of every kind with which users sign requests, made as users make them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from tests.e2e.waiting import known
from tests.support.clients import boto
from tests.support.econed_process import Person

TOKEN_LIFE = 3600
"""The life in seconds of login tokens that tests make."""


def with_token(person: Person, group: int = -1) -> Person:
    """Return a user who signs with a new login token, of all their groups (-1) or of one."""
    return replace(person, secret=str(person.oned("one.user.login", person.name, "", TOKEN_LIFE, group)))


def with_access_key(person: Person, url: str) -> Person:
    """Return a user who signs with a new access key, which they create with their present credentials."""
    key = boto(person, url, service="iam").create_access_key()["AccessKey"]
    return replace(person, name=key["AccessKeyId"], secret=key["SecretAccessKey"])


def with_session(person: Person, url: str) -> Person:
    """Return a user who signs with the temporary credentials of GetSessionToken."""
    return _with_temporary(person, boto(person, url, service="sts").get_session_token())


def with_role(person: Person, url: str, group: str) -> Person:
    """Return a user who signs with the temporary credentials of AssumeRole for one of their groups."""
    client = boto(person, url, service="sts")
    return _with_temporary(person, client.assume_role(RoleArn=role_arn(person, group), RoleSessionName="tests"))


def role_arn(person: Person, group: str) -> str:
    """Return the ARN of a group as a role of a user."""
    return f"arn:aws:iam::{person.id:012d}:role/{group}"


def _with_temporary(person: Person, result: Mapping[str, Any]) -> Person:
    made = result["Credentials"]
    return replace(person, name=made["AccessKeyId"], secret=made["SecretAccessKey"], session_token=made["SessionToken"])


Make = Callable[[Person, str, str], Person]

KINDS: Final[Mapping[str, Make]] = MappingProxyType(
    {
        "password": lambda person, url, group: person,
        "login token": lambda person, url, group: with_token(person),
        "access key": lambda person, url, group: with_access_key(person, url),
        "temporary credentials": lambda person, url, group: with_session(person, url),
        "role": lambda person, url, group: with_role(person, url, group),
    }
)
"""By kind, how a user who signs with their password, at the URL of econed and in a group, gets such credentials."""


def signing(kind: str, person: Person, url: str, group: str) -> Person:
    """Return a user who signs with new credentials of a kind, once econed accepts them."""
    known(boto(person, url))
    signer = KINDS[kind](person, url, group)
    known(boto(signer, url))
    return signer
