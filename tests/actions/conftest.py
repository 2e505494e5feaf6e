"""What the tests of actions share."""

from __future__ import annotations

import pytest

from tests.support.cloud import Cloud


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """A fresh cloud of each form of oned."""
    return Cloud(request.param)
