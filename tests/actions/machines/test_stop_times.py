"""Noting when machines were stopped, for an oned that does not record it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.logger import Logger
from zope.interface import implementer

from econed.actions.machines.stop_times import StopTimeRecorder
from econed.errors import InvalidReply, ReplyTooLarge
from econed.interfaces import IOpenNebula
from econed.opennebula.states import VmState
from econed.user import Login
from tests.actions.machines.stopping import now, reconcile, run, settle, stop, stop_time
from tests.support.cloud import Cloud


def test_a_stopped_machine_is_examined_once_and_not_at_all_if_oned_records_stops(cloud: Cloud) -> None:
    """A round reads the short form of the stopped machines; each stop costs one note, in the owner's session."""
    recorder = StopTimeRecorder(cloud.backend, cloud.clock, log=Logger(namespace="econed"))
    mine, other = run(cloud), run(cloud)
    for instance in (mine, other):
        stop(cloud, "poweroff", instance)
    settle(cloud)

    def calls_of_a_round() -> list[tuple[str | None, str]]:
        before = len(cloud.oned.calls)
        reconcile(cloud, recorder)
        return [
            (call.user, call.method)
            for call in list(cloud.oned.calls)[before:]
            if call.method not in ("one.userpool.info", "one.user.info")
        ]

    records_stops = cloud.oned.version.startswith("7")
    lists = [("serveradmin", "one.vmpool.info")] * 2
    note = [("alice", "one.vm.update")]
    version = [("serveradmin", "one.system.version")]
    read = [("serveradmin", "one.vmpool.infoset")]
    assert calls_of_a_round() == version + ([] if records_stops else [*lists, *read, *note, *note])
    assert calls_of_a_round() == ([] if records_stops else lists)
    cloud.run("alice", "StartInstances", InstanceIds=[mine])
    settle(cloud)
    stop(cloud, "poweroff", mine)
    settle(cloud)
    assert calls_of_a_round() == ([] if records_stops else [*lists, *read, *note])


def test_a_stop_that_cannot_be_noted_does_not_affect_other_machines() -> None:
    """For example, a machine may be locked."""
    cloud = Cloud("5.12")
    mine, other = run(cloud), run(cloud)
    for instance in (mine, other):
        stop(cloud, "poweroff", instance)
    settle(cloud)
    cloud.as_user("alice", "one.vm.lock", int(mine[2:]), 2, False)
    reconcile(cloud, StopTimeRecorder(cloud.backend, cloud.clock, log=Logger(namespace="econed")))
    settle(cloud, 100)
    assert stop_time(cloud, other) == now(cloud) - 100
    assert cloud.oned.cloud.vms.get(int(mine[2:])).state is VmState.POWEROFF
    assert stop_time(cloud, mine) == now(cloud)


def test_the_stop_of_a_machine_with_a_too_long_document_is_noted_once_it_can_be_read() -> None:
    cloud = Cloud("5.12")
    mine, other = run(cloud), run(cloud)
    for instance in (mine, other):
        stop(cloud, "poweroff", instance)
    settle(cloud)
    oned = _OnedWithLongReplies(cloud.backend, mine[2:].lstrip("0") or "0")
    recorder = StopTimeRecorder(oned, cloud.clock, log=Logger(namespace="econed"))
    reconcile(cloud, recorder)
    settle(cloud, 100)
    assert stop_time(cloud, other) == now(cloud) - 100
    oned.too_long_id = ""
    reconcile(cloud, recorder)
    settle(cloud, 100)
    assert stop_time(cloud, mine) == now(cloud) - 100
    call_count = len(cloud.oned.calls)
    reconcile(cloud, recorder)
    assert "one.vmpool.infoset" not in [call.method for call in list(cloud.oned.calls)[call_count:]]


@pytest.mark.parametrize("version", ["", "x.1", "-5.12", "²"])
def test_an_invalid_version_of_oned_is_an_error_and_is_read_again_in_the_next_round(version: str) -> None:
    cloud = Cloud("5.12")
    recorder = StopTimeRecorder(_OnedWithVersion(cloud.backend, version), cloud.clock, log=Logger(namespace="econed"))
    for _ in range(2):
        with pytest.raises(InvalidReply):
            reconcile(cloud, recorder)
    assert [call.method for call in cloud.changes] == []


@implementer(IOpenNebula)
class _OnedWithVersion:
    """An oned with a given reply to `one.system.version`."""

    def __init__(self, oned: IOpenNebula, version: str) -> None:
        self._oned = oned
        self._version = version

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        """Make a call (`IOpenNebula`)."""
        return self._version if method == "one.system.version" else await self._oned.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Make a call and read its document (`IOpenNebula`)."""
        return await self._oned.document(user, method, *args, **options)


@implementer(IOpenNebula)
class _OnedWithLongReplies:
    """An oned whose replies are too long if they contain the machine with a given id."""

    def __init__(self, oned: IOpenNebula, too_long_id: str) -> None:
        self._oned = oned
        self.too_long_id = too_long_id

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        """Make a call (`IOpenNebula`)."""
        return await self._oned.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Make a call and read its document (`IOpenNebula`)."""
        if method == "one.vmpool.infoset" and self.too_long_id in str(args[0]).split(","):
            raise ReplyTooLarge(method, "a response of too many bytes")
        return await self._oned.document(user, method, *args, **options)
