"""Rows about UploadImage: its rate, and the memory that it needs."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.bench import Bench, Compared, Figures, Outcome
from benchmarks.client import TIMEOUT, Failed, Response
from benchmarks.memories import MB, recorded_memory
from benchmarks.oned import Refused
from benchmarks.series import Series
from econed.ids import IMAGE
from tests.attacks.victim import Signer
from tests.support.clients import upload_form
from tests.support.processes import Process

_CHUNK = 1 << 20


@dataclass(frozen=True)
class _Uploads:
    """The seconds of uploads, of copies and of receptions of as many bytes, and the growth of the worker (bytes).

    A reception is by `benchmarks.receiver`: no server can be faster with the same client.
    """

    seconds: Series
    copies: Series
    receptions: Series
    cpu: Series
    growth: int
    bytes: int

    def figures(self) -> Figures:
        """Return what econed did, for the results."""
        return {
            "bytes": self.bytes,
            "seconds": self.seconds.summary(),
            "cpu_seconds": self.cpu.summary(),
            "growth_mb": self.growth / MB,
        }


def upload_rate(bench: Bench) -> Outcome:
    """UploadImage, compared with a copy of the file."""
    uploads = _measured(bench)
    ratio = uploads.copies.median / uploads.seconds.median
    raw: Figures = {"copy_seconds": uploads.copies.summary(), "receiver_seconds": uploads.receptions.summary()}
    return Outcome(raw, uploads.figures(), Compared(ratio, "of a copy"))


def upload_memory(bench: Bench) -> Outcome:
    """The growth of the worker during UploadImage."""
    uploads = _measured(bench)
    return Outcome({}, uploads.figures(), Compared(uploads.growth / MB, "MB"))


def _measured(bench: Bench) -> _Uploads:
    size = bench.effort.upload_bytes
    source = bench.cloud.directory / "image"
    with source.open("wb") as file:
        for chunk in _chunks(size):
            file.write(chunk)
    seconds, copies, receptions, cpu, growth = list[float](), list[float](), list[float](), list[float](), 0
    with bench.econed(max_upload=2 * size) as econed:
        for _ in range(bench.effort.upload_rounds):
            copies.append(_copy_seconds(bench))
            receptions.append(_reception_seconds(bench))
            before = econed.cpu
            with recorded_memory(econed.workers[0]) as recorded:
                response = _upload(econed.url, bench, size)
            cpu.append(econed.cpu - before)
            growth = max(growth, recorded.peak - recorded.first)
            seconds.append(response.seconds)
            _remove(bench, response)
    source.unlink()
    return _Uploads(Series.of(seconds), Series.of(copies), Series.of(receptions), Series.of(cpu), growth, size)


def _copy_seconds(bench: Bench) -> float:
    source, copy = bench.cloud.directory / "image", bench.cloud.directory / "copy"
    start = time.perf_counter()
    with source.open("rb") as read, copy.open("wb") as written:
        shutil.copyfileobj(read, written, _CHUNK)
    seconds = time.perf_counter() - start
    copy.unlink()
    return seconds


def _reception_seconds(bench: Bench) -> float:
    copy = bench.cloud.directory / "copy"
    process = Process("receiver", ["-m", "benchmarks.receiver", str(copy)], bench.cloud.directory)
    try:
        port = int(process.await_output(r"listening on ([0-9]+)[.]"))
        start = time.perf_counter()
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
            for chunk in _chunks(bench.effort.upload_bytes):
                connection.sendall(chunk)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)
        seconds = time.perf_counter() - start
    finally:
        process.stop()
    copy.unlink()
    return seconds


def _chunks(size: int) -> Iterator[bytes]:
    chunk = os.urandom(min(size, _CHUNK))
    while size:
        yield chunk[:size]
        size -= min(size, _CHUNK)


def _upload(url: str, bench: Bench, size: int) -> Response:
    """Upload a file as the Ruby econe-upload does, without having it in memory."""
    user = bench.cloud.furniture.user
    content_type, form = upload_form(Signer(user.name, user.secret), url, b"")
    head, boundary, tail = form.rpartition(b"\r\n--")
    tail = boundary + tail

    def body() -> Iterator[bytes]:
        yield head
        yield from _chunks(size)
        yield tail

    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT)
    headers = {"Content-Type": content_type, "Content-Length": str(len(head) + size + len(tail))}
    start = time.perf_counter()
    try:
        connection.request("POST", urlsplit(url).path, body(), headers)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise Failed(f"UploadImage: {response.status} {content[:500]!r}")
    return Response(response.status, content, time.perf_counter() - start)


def _remove(bench: Bench, response: Response) -> None:
    """Delete the uploaded image; while oned still copies it, it refuses."""
    image = IMAGE.parse(response.texts("imageId")[0])
    extra = (False,) if int(bench.cloud.furniture.version.partition(".")[0]) >= 6 else ()
    for _ in range(50):
        with suppress(Refused):
            _ = bench.cloud.furniture.admin("one.image.delete", image, *extra).value
            return
        time.sleep(0.2)
    raise Failed(f"image {image} cannot be deleted")
