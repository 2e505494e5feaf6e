"""Fixtures of the tests of subnets and VPCs."""

from __future__ import annotations

import pytest

from tests.actions.networks.networks import without_rule
from tests.support.cloud import Cloud


@pytest.fixture
def cloud(cloud: Cloud) -> Cloud:
    """A new cloud of each form of oned, in which users may USE only networks whose permissions say so."""
    return without_rule(cloud)
