"""Fixtures of the tests of VPCs that users create."""

from __future__ import annotations

import pytest

from tests.actions.networks.networks import without_rule
from tests.actions.vpcs.vpcs import with_template
from tests.support.cloud import Cloud


@pytest.fixture
def cloud(cloud: Cloud) -> Cloud:
    """A new cloud of each form of oned with a template for VPCs, in which networks are private."""
    return with_template(without_rule(cloud))
