"""econed fetching images from a web server on this machine, over real connections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lxml import etree

from econed.config.settings import Settings
from econed.opennebula.documents import Image
from tests.support import serving
from tests.support.reactor_turns import wait_until
from tests.support.serving import Client, connected, get, send_request, signed
from tests.support.web_server import FakeInternet, WebServer

CONTENT = b"the bytes of a disk image " * 40_000
MAX_UPLOAD = 1 << 23
NOT_FETCHED = "InvalidParameterValue"


class Server(serving.Server):
    """A daemon that fetches images into a directory, resolving names in a `FakeInternet`."""

    def __init__(
        self, directory: Path, fake_internet: FakeInternet, *, can_oned_read: bool = True, **settings: Any
    ) -> None:
        all_settings = {"tmpdir": str(directory), "max_upload": MAX_UPLOAD, **settings}
        super().__init__(Settings(**all_settings), can_oned_read=can_oned_read, internet=fake_internet.internet)
        self.directory = directory

    @property
    def files(self) -> list[Path]:
        return sorted(self.directory.iterdir())

    @property
    def images(self) -> list[Image]:
        pool = etree.fromstring(self.cloud.oneadmin("one.imagepool.info", -2, -1, -1))
        return [image for element in pool if (image := Image(element)).uname == "alice"]

    def request(self, url: str, user: str = "alice", **more: str) -> bytes:
        secret = f"{user}pw"
        return get(self, signed(self, user, secret, Action="RegisterImage", ImageLocation=url, **more))

    async def register(self, url: str, user: str = "alice", **more: str) -> Client:
        """Register an image from a URL and return the connection with the response."""
        return await send_request(self, self.request(url, user, **more))

    async def refusal(self, url: str) -> str:
        """Return the error code for an image from a URL; no file and no image must be left."""
        client = await self.register(url)
        assert self.files == []
        assert self.images == []
        return client.code

    async def begin(self, url: str, web: WebServer, user: str = "alice", **more: str) -> Client:
        """Send a request for an image from a URL, and return when the web server has received its request."""
        before = len(web.requests)
        client = await connected(self)
        client.send(self.request(url, user, **more))
        await wait_until(lambda: len(web.requests) > before)
        return client


def url_of(web: WebServer, path: str = "/disk.img", host: str = "images.example") -> str:
    return f"http://{host}:{web.number}{path}"
