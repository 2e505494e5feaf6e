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
"""The versions of OpenNebula as which the sandbox can behave, the default last."""

REGIONS = ("us-east-1",)
"""Further names of the sandbox's region, so that existing scripts run unchanged."""


def embedded(
    reactor: Any, version: str | None, users: Sequence[tuple[str, str]], machines: int
) -> tuple[SandboxBackend, int]:
    """Return a sandbox with the demo cloud as the daemon's OpenNebula, and the id of its network for elastic IPs.

    `users` are names with their secret keys; if there are none, user `demo` is added and its secret key printed.
    `machines` is the number of machines that run at the start. Raises `UsageError`.
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
