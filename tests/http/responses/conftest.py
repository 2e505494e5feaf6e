"""The cloud and the servers of the tests of long responses.

They import the servers themselves, since these import the reactor, which is installed after this file is read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from econed.config.settings import Settings
from tests.support.cloud import Cloud

if TYPE_CHECKING:
    from tests.support.serving import Server


@pytest.fixture(scope="module")
def cloud() -> Cloud:
    """A cloud with machines for four sets."""
    from tests.http.responses.reading import MACHINES

    return Cloud(vms=MACHINES)


@pytest.fixture
def server(cloud: Cloud, tmp_path: Path) -> Iterator[Server]:
    """A server for this cloud."""
    from tests.http.responses.reading import served

    yield from served(cloud, Settings(tmpdir=str(tmp_path), describe_with_terminated_instances=False))


@pytest.fixture
def server_at_wall_time(server: Server) -> Iterator[Server]:
    """The same server at the time of day, with which boto3 signs."""
    fake_time, server.cloud.clock.rightNow = server.cloud.clock.rightNow, time.time()
    yield server
    server.cloud.clock.rightNow = fake_time
