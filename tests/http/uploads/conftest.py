"""The server of the tests of uploads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.http.uploads.uploading import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    from tests.http.uploads.uploading import Server  # imports the reactor, which is installed after this file is read

    server = Server(tmp_path)
    yield server
    server.port.stopListening()
