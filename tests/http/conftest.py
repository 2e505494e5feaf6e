"""The server of the tests of requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.serving import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server whose clock stands still: paused work is resumed when the test advances the clock."""
    from econed.config.settings import Settings
    from tests.support.serving import Server  # imports the reactor, which is installed after this file is read

    server = Server(Settings(tmpdir=str(tmp_path)))
    yield server
    server.close()
    server.site.abort()
