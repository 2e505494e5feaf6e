"""Revocations, which are kept on serveradmin."""

from __future__ import annotations

from typing import Any

import pytest
from zope.interface import implementer

from econed.credentials.key_ids import new_key_id
from econed.credentials.revocations import (
    MAX_AGE,
    RevocationList,
    Revocations,
    key_reinstatement_text,
    key_revocation_text,
    user_revocation_text,
)
from econed.errors import OpenNebulaUnavailable
from econed.interfaces import IOpenNebula
from econed.opennebula.session import Session
from tests.support.cloud import Cloud

ALICE, BOB = 2, 3


@implementer(IOpenNebula)
class Silent:
    """An oned that does not reply."""

    async def call(self, user: object, method: str, *args: object) -> Any:
        raise OpenNebulaUnavailable(method, "no reply")

    async def document(self, user: object, method: str, *args: object, **options: Any) -> Any:
        raise OpenNebulaUnavailable(method, "no reply")


class Kept:
    """The revocations in a sandbox."""

    def __init__(self) -> None:
        self.cloud = Cloud()
        self.serveradmin = Session(self.cloud.backend, None)
        self.list = RevocationList(self.serveradmin, self.cloud.clock)

    def write(self, text: str) -> None:
        """Change serveradmin's attributes."""
        user = self.cloud.result(self.serveradmin.current_user())
        self.cloud.result(self.serveradmin.user_update(user.id, text))

    def current(self) -> Revocations:
        """Return the revocations as they are used now."""
        return self.cloud.result(self.list.current())


def test_without_revocations_everything_counts() -> None:
    assert not Kept().current().revokes("AKIA", ALICE, 0)


def test_a_revoked_key_counts_again_after_its_reinstatement() -> None:
    kept = Kept()
    key_id, other = (new_key_id(kept.cloud.sealer, ALICE) for _ in range(2))
    kept.write(key_revocation_text(key_id))
    revocations = kept.current()
    assert (revocations.revokes(key_id, ALICE, 1000), revocations.revokes(other, ALICE, 1000)) == (True, False)
    kept.write(key_reinstatement_text(key_id))
    kept.cloud.clock.advance(MAX_AGE)
    assert not kept.current().revokes(key_id, ALICE, 1000)


def test_all_that_a_user_has_made_up_to_a_moment_is_revoked() -> None:
    kept = Kept()
    kept.write(user_revocation_text(ALICE, 1000))
    revocations = kept.current()
    assert [revocations.revokes("key", ALICE, created) for created in (0, 999, 1000, 1001)] == [True, True, True, False]
    assert not revocations.revokes("key", BOB, 1000)


@pytest.mark.parametrize("text", ['EC2_REVOKED_BEFORE_2="x"', 'EC2_REVOKED_BEFORE_2=[TIME="soon"]'])
def test_a_time_that_is_none_revokes_everything_of_the_user(text: str) -> None:
    kept = Kept()
    kept.write(text)
    assert kept.current().revokes("key", ALICE, 2**40)
    assert not kept.current().revokes("key", BOB, 0)


@pytest.mark.parametrize("text", ['EC2_REVOKED_BEFORE_X=[TIME="1"]', 'EC2_REVOKED_BEFORE_=[TIME="1"]', 'OTHER="1"'])
def test_other_attributes_revoke_nothing(text: str) -> None:
    kept = Kept()
    kept.write(text)
    assert kept.current() == Revocations()


def test_revocations_are_read_again_after_some_seconds() -> None:
    kept = Kept()
    key_id = new_key_id(kept.cloud.sealer, ALICE)
    assert not kept.current().revokes(key_id, ALICE, 1000)
    kept.write(key_revocation_text(key_id))
    calls = len(kept.cloud.oned.calls)
    kept.current()
    assert len(kept.cloud.oned.calls) == calls
    kept.cloud.clock.advance(MAX_AGE)
    assert kept.current().revokes(key_id, ALICE, 1000)


def test_while_oned_does_not_reply_nothing_is_known() -> None:
    """A key that may be revoked is not accepted."""
    kept = Kept()

    kept.list = RevocationList(Session(Silent(), None), kept.cloud.clock)
    with pytest.raises(OpenNebulaUnavailable):
        kept.current()
