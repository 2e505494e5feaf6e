"""Fixtures of the tests of actions."""

from __future__ import annotations

import pytest

from tests.support.cloud import Cloud


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """A new cloud of each form of oned."""
    return Cloud(request.param)
