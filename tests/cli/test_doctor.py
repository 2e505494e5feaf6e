"""`econe-server doctor`: what it finds, what `--fix` does, and that the second look finds nothing."""

from __future__ import annotations

import io

import pytest
from lxml import etree

from econed.actions.instance_facts import DISCARDED, LAUNCH_INDEX
from econed.actions.launch import HOLD_AGE
from econed.catalogue import all_finders
from econed.cli import check, doctor
from econed.cli.installation import Exit
from econed.errors import ReplyTooLarge
from econed.opennebula.session import Session
from econed.opennebula.states import VmState
from econed.sandbox.backend import SandboxBackend
from tests.cli.test_check import prepared
from tests.support.cloud import Cloud

MADE = f'DISK=[IMAGE_ID="0"]\n{LAUNCH_INDEX}="0"\n'


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """A fresh cloud of each form of oned."""
    return Cloud(request.param)


def look(cloud: Cloud, *, fix: bool = False) -> tuple[Exit, str]:
    """Return the exit code and what was told."""
    out = io.StringIO()
    return cloud.result(doctor.run(cloud.one, cloud.settings, cloud.clock, fix, out)), out.getvalue()


def machine(cloud: Cloud, text: str, *, hold: bool = True) -> int:
    """Make a machine as RunInstances does, and nothing more; return its id."""
    return int(cloud.as_user("alice", "one.template.instantiate", 0, "", hold, text, False))


def test_where_all_is_in_order_nothing_is_found_and_every_finder_says_what_it_looked_for(cloud: Cloud) -> None:
    code, told = look(cloud, fix=True)
    assert code is Exit.OK
    assert told.splitlines() == [f"{doctor.description(finder)} none" for finder in all_finders()]
    assert all(len(doctor.description(finder)) > 10 for finder in all_finders())
    assert cloud.changes == []


def test_a_machine_left_on_hold_is_found_when_it_is_old_and_ended_on_demand(cloud: Cloud) -> None:
    left = machine(cloud, MADE)
    assert look(cloud)[0] is Exit.OK, "its request may still be under way"
    cloud.clock.advance(HOLD_AGE + 60)
    before = len(cloud.changes)
    code, told = look(cloud)
    assert code is Exit.FAILED
    assert f"machine {left} of alice was left on HOLD" in told
    assert len(cloud.changes) == before, "without --fix nothing is changed"
    code, told = look(cloud, fix=True)
    assert code is Exit.OK
    assert "done" in told
    cloud.wait(10)
    assert cloud.result(Session(cloud.one, "alice").vm(left)).state is VmState.DONE
    assert [call.user for call in cloud.changes[before:]] == ["alice", "alice"], "in the session of its owner"
    assert look(cloud)[0] is Exit.OK


def test_a_machine_that_was_taken_back_and_lives_is_ended(cloud: Cloud) -> None:
    alive = machine(cloud, f'{MADE}{DISCARDED}="YES"', hold=False)
    cloud.wait(30)
    cloud.clock.advance(HOLD_AGE + 60)
    assert f"machine {alive} of alice was taken back" in look(cloud)[1]
    assert look(cloud, fix=True)[0] is Exit.OK
    cloud.wait(10)
    assert cloud.result(Session(cloud.one, "alice").vm(alive)).state is VmState.DONE


def test_machines_that_econed_did_not_make_are_nobodys_business(cloud: Cloud) -> None:
    machine(cloud, 'DISK=[IMAGE_ID="0"]')
    cloud.clock.advance(HOLD_AGE + 60)
    assert look(cloud)[0] is Exit.OK


def test_what_cannot_be_mended_is_told_and_does_not_keep_the_rest(cloud: Cloud) -> None:
    locked, free = machine(cloud, MADE), machine(cloud, MADE)
    cloud.clock.advance(HOLD_AGE + 60)
    cloud.as_user("alice", "one.vm.lock", locked, 1, False)
    code, told = look(cloud, fix=True)
    assert code is Exit.FAILED
    assert "failed: one.vm" in told
    cloud.wait(10)
    assert cloud.result(Session(cloud.one, "alice").vm(free)).state is VmState.DONE


def test_users_whose_document_is_too_long_to_be_read_are_told(cloud: Cloud) -> None:
    """And nobody takes them for users who are gone."""
    bob = cloud.user("bob").id

    class LongUsers(SandboxBackend):
        """oned whose user pool is more than may come, as is bob's document."""

        async def document(self, user: str | None, method: str, *args: object) -> etree._Element:
            """Make a call, unless its response is too long."""
            if method == "one.userpool.info" or (method == "one.user.info" and args[0] == bob):
                raise ReplyTooLarge(method, "a response of too many bytes")
            return await super().document(user, method, *args)

    out = io.StringIO()
    one = LongUsers(cloud.oned)
    assert cloud.result(doctor.run(one, cloud.settings, cloud.clock, False, out)) is Exit.FAILED
    assert f"the document of user {bob} is too long to be read" in out.getvalue()
    rows = [row for row in cloud.result(rows_of(one)) if row.subject == f"user {bob}"]
    assert [row.verdict for row in rows] == [check.Verdict.BAD]


async def rows_of(one: SandboxBackend) -> list[check.Row]:
    """Return what `econe-server check` says."""
    return [row async for row in check.checked(one, prepared(), ())]
