"""Certificates that are loaded again when their files change."""

from __future__ import annotations

import gc
import os
from datetime import timedelta
from pathlib import Path

import pytest

from econed.process.certificates import TLSFiles
from econed.process.tls import CHECK_INTERVAL
from tests.process.tls.serving_tls import issued, reload
from tests.support.certificates import Issued, ec_key, key_pem, replace_file
from tests.support.handshakes import Server


def test_a_reload_applies_to_later_connections(server: Server, tmp_path: Path) -> None:
    """Existing connections keep their certificate."""
    before = server.connected()
    half_way = server.connection()
    new = issued()
    new.write(tmp_path, "own")
    reload(server)
    gc.collect()
    assert server.connected().certificate == new.certificate
    assert before.ask() == b"hello"
    assert half_way.shake_hands().certificate == before.certificate
    assert server.lines("info")[-1].startswith("new certificates are in use; ssl_cert expires at 20")


def test_changed_files_are_loaded_at_the_next_check(server: Server, tmp_path: Path) -> None:
    """Every ten seconds, and not in between."""
    server.tls.startService()
    new = issued()
    new.write(tmp_path, "own")
    server.clock.advance(CHECK_INTERVAL - 0.1)
    assert server.connected().certificate != new.certificate
    server.clock.advance(0.1)
    assert server.connected().certificate == new.certificate


def test_unchanged_files_are_not_read_again(server: Server) -> None:
    """A check only reads their modification times."""
    server.tls.startService()
    before = server.reads
    for _ in range(5):
        server.clock.advance(CHECK_INTERVAL)
    assert server.reads == before + 5
    assert server.lines("info", "warn", "error") == []


def test_checks_end_when_the_service_is_stopped(server: Server) -> None:
    """No delayed call is left."""
    server.tls.startService()
    server.tls.stopService()
    assert server.clock.getDelayedCalls() == []


def test_a_replaced_file_of_the_same_size_and_modification_time_is_loaded(server: Server, tmp_path: Path) -> None:
    """Its inode differs."""
    server.tls.startService()
    path = Path(server.files.own.cert)
    before = path.stat()
    content = path.read_bytes()
    replace_file(path, content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    server.clock.advance(CHECK_INTERVAL)
    assert len(server.lines("info")) == 1


def test_a_new_certificate_is_used_when_its_key_is_written_too(server: Server, tmp_path: Path) -> None:
    """Until then the error is logged once, and the old pair is used."""
    server.tls.startService()
    old, new = server.connected().certificate, issued()
    replace_file(Path(server.files.own.cert), new.pem)
    for _ in range(6):
        server.clock.advance(CHECK_INTERVAL)
        assert server.connected().certificate == old
    (error,) = server.lines("error")
    assert error.startswith("new certificates refused, keeping the old ones: ")
    assert "own-cert.pem: ssl_cert: is not the certificate of the key in " in error
    replace_file(Path(server.files.own.key), key_pem(new.key))
    server.clock.advance(CHECK_INTERVAL)
    assert server.connected().certificate == new.certificate
    assert len(server.lines("error")) == 1


@pytest.mark.parametrize("what", ["gone", "empty", "cut off", "encrypted"])
def test_a_failed_reload_keeps_the_old_certificates(server: Server, what: str) -> None:
    """The error is logged, without any part of the key."""
    old = server.connected().certificate
    key = Path(server.files.own.key)
    content = key.read_bytes()
    if what == "gone":
        key.unlink()
    else:
        key.write_bytes({"empty": b"", "cut off": content[:-60], "encrypted": key_pem(ec_key(), b"secret")}[what])
    reload(server)
    assert server.connected().certificate == old
    (error,) = server.lines("error")
    assert "own-key.pem: ssl_key: " in error
    assert not [line for line in content.decode().splitlines()[1:-1] if line in error]
    reload(server)
    assert len(server.lines("error")) == 2, "a reload on request logs the error again"


def test_one_invalid_certificate_of_several_keeps_all_old_ones(many: tuple[Server, list[Issued]]) -> None:
    """Also those that are valid."""
    server, certificates = many
    own = issued()
    replace_file(Path(server.files.own.cert), own.pem)
    replace_file(Path(server.files.own.key), key_pem(own.key))
    Path(server.files.others[1].cert).write_text("nonsense")
    reload(server)
    assert server.connected().certificate == certificates[0].certificate
    (error,) = server.lines("error")
    assert "certificate-2-cert.pem: ssl_sni: expected a certificate in PEM" in error


def test_a_certificate_that_expires_soon_is_logged_as_a_warning_every_day(tmp_path: Path) -> None:
    """Also if it was not close to its expiry when the server started."""
    server = Server(TLSFiles(issued(days=15.5).write(tmp_path, "own")))
    server.tls.startService()
    assert server.lines("warn") == []
    for day in range(1, 5):
        for _ in range(int(timedelta(days=1).total_seconds() / CHECK_INTERVAL)):
            server.clock.advance(CHECK_INTERVAL)
        assert len(server.lines("warn")) == max(day - 1, 0)
    assert "own-cert.pem: ssl_cert: expires soon, at 20" in server.lines("warn")[0]
