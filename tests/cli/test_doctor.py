"""`econe-server doctor`: what it finds, what `--fix` repairs, and that nothing is left afterwards."""

from __future__ import annotations

import io
from typing import Any

import pytest

from econed.actions.instances.chores import HOLD_AGE
from econed.actions.machines.facts import DISCARDED, LAUNCH_INDEX
from econed.catalogue import all_finders
from econed.cli import check, doctor
from econed.cli.installation import Exit
from econed.cli.survey import Row, Verdict
from econed.errors import ReplyTooLarge
from econed.opennebula.session import Session
from econed.opennebula.states import VmState
from econed.sandbox.backend import SandboxBackend
from econed.user import Login
from tests.cli.test_check import loaded_configuration
from tests.support.cloud import NOW, Cloud

LAUNCH = f'DISK=[IMAGE_ID="0"]\n{LAUNCH_INDEX}="0"\n'


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """A new cloud of each form of oned."""
    return Cloud(request.param)


def run_doctor(cloud: Cloud, *, fix: bool = False) -> tuple[Exit, str]:
    """Run the command; return its exit code and its output."""
    out = io.StringIO()
    return cloud.result(doctor.run(cloud.backend, cloud.settings, cloud.clock, fix, out)), out.getvalue()


def create_machine(cloud: Cloud, text: str, *, hold: bool = True) -> int:
    """Create a virtual machine as RunInstances does, without its later steps; return its id."""
    return int(cloud.as_user("alice", "one.template.instantiate", 0, "", hold, text, False))


def test_in_a_consistent_cloud_every_finder_reports_none(cloud: Cloud) -> None:
    code, output = run_doctor(cloud, fix=True)
    assert code is Exit.OK
    assert output.splitlines() == [f"{doctor.description(finder)} none" for finder in all_finders()]
    assert all(len(doctor.description(finder)) > 10 for finder in all_finders())
    assert cloud.changes == []


def test_a_machine_left_on_hold_is_found_after_a_while_and_terminated_by_fix(cloud: Cloud) -> None:
    machine_id = create_machine(cloud, LAUNCH)
    assert run_doctor(cloud)[0] is Exit.OK, "its request may still be in progress"
    cloud.clock.advance(HOLD_AGE + 60)
    changes_before = len(cloud.changes)
    code, output = run_doctor(cloud)
    assert code is Exit.FAILED
    assert f"machine {machine_id} of alice was left on HOLD" in output
    assert len(cloud.changes) == changes_before, "without --fix nothing is changed"
    code, output = run_doctor(cloud, fix=True)
    assert code is Exit.OK
    assert "done" in output
    cloud.wait(10)
    assert cloud.result(Session(cloud.backend, "alice").vm(machine_id)).state is VmState.DONE
    assert [call.user for call in cloud.changes[changes_before:]] == ["alice", "alice"], "the owner's session is used"
    assert run_doctor(cloud)[0] is Exit.OK


def test_a_machine_marked_as_discarded_that_still_runs_is_terminated(cloud: Cloud) -> None:
    machine_id = create_machine(cloud, f'{LAUNCH}{DISCARDED}="YES"', hold=False)
    cloud.wait(30)
    cloud.clock.advance(HOLD_AGE + 60)
    assert f"machine {machine_id} of alice was discarded" in run_doctor(cloud)[1]
    assert run_doctor(cloud, fix=True)[0] is Exit.OK
    cloud.wait(10)
    assert cloud.result(Session(cloud.backend, "alice").vm(machine_id)).state is VmState.DONE


def test_machines_that_econed_did_not_create_are_not_reported(cloud: Cloud) -> None:
    create_machine(cloud, 'DISK=[IMAGE_ID="0"]')
    cloud.clock.advance(HOLD_AGE + 60)
    assert run_doctor(cloud)[0] is Exit.OK


def test_a_failed_repair_is_reported_and_the_others_are_made(cloud: Cloud) -> None:
    locked, unlocked = create_machine(cloud, LAUNCH), create_machine(cloud, LAUNCH)
    cloud.clock.advance(HOLD_AGE + 60)
    cloud.as_user("alice", "one.vm.lock", locked, 1, False)
    code, output = run_doctor(cloud, fix=True)
    assert code is Exit.FAILED
    assert "failed: one.vm" in output
    cloud.wait(10)
    assert cloud.result(Session(cloud.backend, "alice").vm(unlocked)).state is VmState.DONE


def test_users_with_a_document_too_long_to_be_read_are_reported(cloud: Cloud) -> None:
    """They are not mistaken for deleted users. The document is found even if that of all users can be read."""
    bob = cloud.user("bob").id

    class LongUsers(SandboxBackend):
        """An oned whose reply with bob's document is too long, and perhaps that with the user pool."""

        is_pool_too_long = False

        async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
            """Make a call, or raise `OpenNebulaTooLarge` for these documents."""
            is_bob = method == "one.user.info" and args[0] == bob
            if is_bob or (method == "one.userpool.info" and self.is_pool_too_long):
                raise ReplyTooLarge(method, "the reply is too long")
            return await super().document(user, method, *args, **options)

    out = io.StringIO()
    oned = LongUsers(cloud.oned)
    assert cloud.result(doctor.run(oned, cloud.settings, cloud.clock, False, out)) is Exit.FAILED
    assert f"the document of user {bob} is too long or malformed" in out.getvalue()
    oned.is_pool_too_long = True
    rows = [row for row in cloud.result(rows_of(oned)) if row.subject == f"user {bob}"]
    assert [row.verdict for row in rows] == [Verdict.BAD]
    assert "    not repaired by econe-server: only an administrator can decide" in out.getvalue().splitlines()
    assert "->" not in out.getvalue(), "nothing speaks of repairs where there are none"


async def rows_of(oned: SandboxBackend) -> list[Row]:
    """Return the rows of `econe-server check`."""
    return [row async for row in check.cloud_rows(oned, loaded_configuration(), (), NOW)]
