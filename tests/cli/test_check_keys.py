"""The rows of `econe-server check` on access keys."""

from __future__ import annotations

import pytest

from econed.cli.check_keys import MAX_ROWS
from econed.cli.survey import Row, Verdict
from econed.credentials.revocations import key_revocation_text
from econed.opennebula.session import Session
from econed.opennebula.template import template, vector
from tests.actions.iam.support import create, document
from tests.cli.test_check import loaded_configuration, rows
from tests.support.cloud import NOW, Cloud

DAY = 86_400


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """A new cloud of each form of oned, whose time is long before that of the checks."""
    cloud = Cloud(request.param)
    cloud.clock.rightNow = NOW - 91 * DAY
    return cloud


def key_rows(cloud: Cloud, max_age: int | None = None) -> list[Row]:
    """Return the rows on access keys."""
    found = rows(cloud, loaded_configuration(max_key_age=max_age))
    return [row for row in found if "key" in row.subject]


def test_without_access_keys_there_is_no_row(cloud: Cloud) -> None:
    assert key_rows(cloud, 1) == []


def test_keys_older_than_max_key_age_are_named_with_their_age(cloud: Cloud) -> None:
    old = create(cloud)["AccessKeyId"]
    cloud.clock.advance(DAY)
    create(cloud, "bob")
    summary = Row(Verdict.GOOD, "access keys", "2 keys of 2 users")
    text = f"{old} is 91 days old, max_key_age is 90: its user should replace it"
    assert key_rows(cloud, 90) == [Row(Verdict.NOTE, "key of alice", text), summary]
    assert key_rows(cloud, 91) == [summary]
    assert key_rows(cloud) == [summary]


def test_old_keys_that_are_inactive_or_disabled_are_not_named(cloud: Cloud) -> None:
    inactive, disabled = create(cloud)["AccessKeyId"], create(cloud)["AccessKeyId"]
    cloud.run("alice", "UpdateAccessKey", AccessKeyId=inactive, Status="Inactive")
    admin = Session(cloud.backend, None)
    cloud.result(admin.user_update(cloud.result(admin.current_user()).id, key_revocation_text(disabled)))
    assert [row.verdict for row in key_rows(cloud, 1)] == [Verdict.GOOD]


def test_keys_that_no_sealing_key_opens_are_named(cloud: Cloud) -> None:
    key_id = create(cloud, "bob")["AccessKeyId"]
    text = vector(f"EC2_ACCESS_KEY_{key_id}", {"ID": key_id, "SEALED": "x"})
    cloud.result(cloud.call_as("alice").session.user_update(document(cloud).id, text))
    note, summary = key_rows(cloud)
    assert (note.verdict, note.subject) == (Verdict.NOTE, "key of alice"), "a user alone cannot make a check fail"
    assert note.text.startswith(f"{key_id} cannot be opened with any sealing key")
    assert summary.text == "2 keys of 2 users"


def test_of_many_keys_only_some_are_named(cloud: Cloud) -> None:
    for user in ("alice", "bob"):
        ids = [f"AKIA{letter * 16}" for letter in "ABCDEFGHIJKLMNO"]
        texts = [vector(f"EC2_ACCESS_KEY_{key_id}", {"ID": key_id, "SEALED": "x"}) for key_id in ids]
        cloud.result(cloud.call_as(user).session.user_update(document(cloud, user).id, template(*texts)))
    *notes, more, summary = key_rows(cloud)
    assert len(notes) == MAX_ROWS
    assert more == Row(Verdict.NOTE, "keys", f"{30 - MAX_ROWS} others are like these: econe-server keys list")
    assert summary.text == "30 keys of 2 users"


def test_users_are_read_once_for_all_checks(cloud: Cloud) -> None:
    create(cloud)
    before = len(cloud.oned.calls)
    key_rows(cloud, 90)
    methods = [call.method for call in list(cloud.oned.calls)[before:]]
    assert (methods.count("one.userpool.info"), methods.count("one.user.info")) == (1, 1)
