"""Fixtures of the tests of fetching images.

They import the servers themselves, since these import the reactor, which is installed after this file is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.fetching.fetching_server import Server
    from tests.support.web_server import FakeInternet, WebServer


@pytest.fixture
def web() -> Iterator[WebServer]:
    from tests.fetching.fetching_server import CONTENT
    from tests.support.web_server import WebServer, page

    web = WebServer()
    web.pages["/disk.img"] = page(CONTENT)
    yield web
    web.port.stopListening()


@pytest.fixture
def fake_internet() -> FakeInternet:
    from tests.support.web_server import INTERNET, FakeInternet

    return FakeInternet({"images.example": [INTERNET]})


@pytest.fixture
def server(tmp_path: Path, fake_internet: FakeInternet) -> Iterator[Server]:
    from tests.fetching.fetching_server import Server

    server = Server(tmp_path, fake_internet)
    yield server
    server.port.stopListening()
