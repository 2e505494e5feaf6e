"""Fixtures for the tests of the user directory."""

from __future__ import annotations

import pytest

from tests.auth.directory import ANNA, POOL, SUBJECT, FakeCloud, find_by_subject
from tests.auth.support import ALICE


@pytest.fixture
def cloud() -> FakeCloud:
    """Return a cloud with alice and bob, and an empty directory."""
    return FakeCloud()


@pytest.fixture
def filled(cloud: FakeCloud) -> FakeCloud:
    """Return a cloud whose users have just been read."""
    assert cloud.find("alice") == ALICE
    assert cloud.advance(0) == [POOL]
    return cloud


@pytest.fixture
def certified(cloud: FakeCloud) -> FakeCloud:
    """Return a cloud with anna, of the driver x509, just read."""
    cloud.one.users.append(ANNA)
    assert find_by_subject(cloud, *SUBJECT) == (ANNA,)
    assert cloud.advance(0) == [POOL]
    return cloud
