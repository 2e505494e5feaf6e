"""Fixtures for the tests of the wire protocol."""

from __future__ import annotations

import pytest

from econed.services import EC2
from econed.wire.model import Model


@pytest.fixture(scope="session")
def model() -> Model:
    """Return Amazon's model, as the daemon loads it."""
    return Model.load(EC2)
