"""Console and password of an instance, of which OpenNebula keeps neither (EC2 GetConsoleOutput, GetPasswordData)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypedDict

from econed.actions.action import action
from econed.actions.machines.lookup import find_machines

if TYPE_CHECKING:
    from econed.actions.call import Call


class GetConsoleOutputResult(TypedDict):
    """EC2 GetConsoleOutputResult."""

    InstanceId: str
    Timestamp: datetime
    Output: str


class GetPasswordDataResult(TypedDict):
    """EC2 GetPasswordDataResult."""

    InstanceId: str
    Timestamp: datetime
    PasswordData: str


# Without a console there is no difference between its latest output and the one after the boot.
@action(ignores=("Latest",))
async def get_console_output(call: Call, *, instance_id: str) -> GetConsoleOutputResult:
    """Return an empty output: hypervisors keep no record of consoles (EC2 GetConsoleOutput)."""
    await find_machines(call, [instance_id])
    return {"InstanceId": instance_id, "Timestamp": _now(call), "Output": ""}


@action()
async def get_password_data(call: Call, *, instance_id: str) -> GetPasswordDataResult:
    """Return an empty text, as Amazon does for an instance that has generated no password (EC2 GetPasswordData)."""
    await find_machines(call, [instance_id])
    return {"InstanceId": instance_id, "Timestamp": _now(call), "PasswordData": ""}


def _now(call: Call) -> datetime:
    return datetime.fromtimestamp(call.now, UTC)
