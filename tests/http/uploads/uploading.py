"""A server that stores uploads in a directory, and the forms that clients send to it."""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from lxml import etree
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from econed.catalogue import all_chores
from econed.config.settings import Settings
from econed.opennebula.documents import Image
from econed.reconciler import Reconciler
from econed.sandbox.oned import LoggedCall
from tests.support import serving
from tests.support.cloud import NOW
from tests.support.reactor_turns import wait_until
from tests.support.serving import Client, connected

_T = TypeVar("_T")
SECRET = "alicepw"
MAX_UPLOAD = 1 << 23
BOUNDARY = b"----------------------------f00"
CONTENT = os.urandom(1 << 16) * 20 + b"\r\n--end"
BOB = {"AWSAccessKeyId": "bob", "secret": "bobpw"}


class Server(serving.Server):
    """A daemon that stores uploads in a directory."""

    def __init__(self, directory: Path, *, can_oned_read: bool = True, free: int = 1 << 30, **settings: Any) -> None:
        all_settings = {"tmpdir": str(directory), "max_upload": MAX_UPLOAD, **settings}
        super().__init__(Settings(**all_settings), can_oned_read=can_oned_read, free=lambda path: self.free)
        self.directory = directory
        self.free = free
        """Free bytes on the disk."""

    @property
    def files(self) -> list[Path]:
        return sorted(self.directory.iterdir())

    @property
    def images(self) -> list[Image]:
        """The images of users, newest first."""
        pool = etree.fromstring(self.cloud.oneadmin("one.imagepool.info", -2, -1, -1))
        return [image for element in pool if (image := Image(element)).uname == "alice"]

    def changes(self) -> list[LoggedCall]:
        return [call for call in self.cloud.changes if call.method != "one.user.update"]

    def reconcile(self) -> None:
        self.cloud.result(
            Reconciler(self.cloud.backend, self.cloud.clock, all_chores(self.uploads), Logger("test")).round()
        )


def fields_v2(host: str = "127.0.0.1", secret: str = SECRET, **more: str) -> dict[str, str]:
    """Return fields signed as by econe-upload: POST, the host without its port, the path `/`, without the file."""
    fields = {
        "Action": "UploadImage",
        "SignatureVersion": "2",
        "SignatureMethod": "HmacSHA256",
        "AWSAccessKeyId": "alice",
        "Version": "2008-12-01",
        "Timestamp": datetime.fromtimestamp(NOW, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **more,
    }
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(fields.items()))
    text = f"POST\n{host}\n/\n{query}"
    digest = fields["SignatureMethod"].removeprefix("Hmac").lower()
    signature = base64.b64encode(hmac.digest(secret.encode(), text.encode(), digest)).decode()
    return {**fields, "Signature": signature}


def form(fields: dict[str, str], file: bytes, after: bytes = b"") -> bytes:
    """Return a form as curl sends it."""
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    parts.append(
        b'Content-Disposition: form-data; name="file"; filename="disk.img"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + file
    )
    return (
        b"".join(b"--" + BOUNDARY + b"\r\n" + part + b"\r\n" for part in parts) + after + b"--" + BOUNDARY + b"--\r\n"
    )


def head(server: Server, *headers: str, length: int | None = None) -> bytes:
    lines = ["POST / HTTP/1.1", f"Host: {server.address}", *headers]
    lines.append(f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}")
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def post(server: Server, body: bytes, *headers: str) -> bytes:
    return head(server, *headers, length=len(body)) + body


def beginning(fields: dict[str, str]) -> bytes:
    """Return a form up to the first byte of its file."""
    return form(fields, b"THE-FILE").partition(b"THE-FILE")[0]


async def start_upload(server: Server, length: int, **who: str) -> Client:
    """Send an upload up to the first byte of its file, and return the connection when it was accepted."""
    before = len(server.files)
    client = await connected(server)
    client.send(head(server, length=length) + beginning(fields_v2(**who)))
    await wait_until(lambda: len(server.files) > before)
    return client


def pieces_of(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def at_once(work: Callable[[], _T]) -> Deferred[_T]:
    return succeed(work())
