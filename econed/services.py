"""The services of Amazon's that econed speaks. A request belongs to one of them by its Version."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, eq=False)
class AmazonService:
    """A service: `name` is that of botocore, and of the scope of Version 4 signatures.

    `protocol` has botocore's name. `version` is the only version of the API; None: every date that is none of another
    service.
    """

    name: str
    protocol: Literal["ec2", "query"]
    version: str | None


EC2: Final = AmazonService("ec2", "ec2", None)
STS: Final = AmazonService("sts", "query", "2011-06-15")
IAM: Final = AmazonService("iam", "query", "2010-05-08")

SERVICES: Final = (EC2, STS, IAM)

_BY_VERSION: Final = {service.version: service for service in SERVICES}
_BY_SCOPE: Final = {service.name.encode(): service for service in SERVICES}


def service_of(pairs: Iterable[tuple[str, str]]) -> AmazonService:
    """Return the service that the parameters of a request ask for, by the first Version among them."""
    return _BY_VERSION.get(next((value for name, value in pairs if name == "Version"), None), EC2)


def service_of_scope(name: bytes) -> AmazonService:
    """Return the service with the name in the scope of a Version 4 signature; EC2 for the name of none."""
    return _BY_SCOPE.get(name, EC2)
