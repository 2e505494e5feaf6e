"""An OpenNebula in the memory of the daemon, for `twistd econe --sandbox`."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from twisted.python.usage import UsageError

from econed.clock import WallClock
from econed.sandbox.backend import SandboxBackend
from econed.sandbox.demo_cloud import elastic_ips, populate
from econed.sandbox.oned import Oned

VERSIONS = ("5.12", "7.4")
"""The versions of OpenNebula that the sandbox can behave as, the default last."""

REGIONS = ("us-east-1",)
"""Further names of the sandbox's region, so that existing scripts run unchanged."""


def embedded(
    reactor: Any, version: str | None, users: Sequence[tuple[str, str]], machines: int
) -> tuple[SandboxBackend, int]:
    """Return a furnished sandbox as the daemon's OpenNebula, and the id of its network of elastic IPs.

    `users` are names with their secret keys; without any, user `demo` is made and its secret key is printed.
    `machines` is the number of running machines. Raises `UsageError`.
    """
    oned = Oned(WallClock(reactor), version=version or VERSIONS[-1])
    accounts = users or [("demo", secrets.token_hex(20))]
    try:
        populate(oned, users=accounts, vms=machines)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not users:
        ((name, secret),) = accounts
        print(f"sandbox user: access key {name}, secret key {secret}", flush=True)  # noqa: T201  not for the log
    return SandboxBackend(oned), elastic_ips(oned)
