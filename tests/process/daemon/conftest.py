"""Fixtures of the tests of the daemon's processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cloud_forms import furnished_cloud
from tests.support.furnished_cloud import FurnishedCloud
from tests.support.ports import free_port


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FurnishedCloud]:
    """An oned with a user account."""
    with furnished_cloud("7.4", tmp_path_factory.mktemp("cloud")) as furnished:
        yield furnished


@pytest.fixture
def port() -> int:
    """The port on which the daemon listens."""
    return free_port()
