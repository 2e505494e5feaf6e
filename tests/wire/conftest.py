"""What the tests of the wire share."""

from __future__ import annotations

import pytest

from econed.wire.model import Model


@pytest.fixture(scope="session")
def model() -> Model:
    """Amazon's model, as the daemon loads it."""
    return Model.load()
