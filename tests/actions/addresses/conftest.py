"""Fixtures of the tests of elastic IPs."""

from __future__ import annotations

import pytest

from tests.support.addresses import AddressCloud


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> AddressCloud:
    """A new cloud with elastic IPs, of each form of oned."""
    return AddressCloud(request.param)
