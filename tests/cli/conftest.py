"""Fixtures of the tests of `econe-server`, which stop every process by its pid."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from econed.cli.process import accepts_connections
from econed.process.pid_file import PidFile
from tests.cli.host import TIMEOUT, Host
from tests.support.ports import free_port


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """An installation without a running daemon; a daemon left running is killed."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "var/.one").mkdir(parents=True)
    auth = tmp_path / "var/.one/ec2_auth"
    auth.write_text("serveradmin:serverpassword\n", "ascii")
    auth.chmod(0o600)
    host = Host(tmp_path, free_port(), free_port())
    host.configure()
    yield host
    with PidFile(host.pid_file).daemon() as running:
        if running is not None:
            running.send(signal.SIGKILL)


@pytest.fixture
def oned(host: Host) -> Iterator[subprocess.Popen[bytes]]:
    """A sandbox that serves as the host's oned."""
    command = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"
    options = ["--nodaemon", "--pidfile=", "econe-sandbox", f"--port={host.oned_port}", "--user=alice:alicepw"]
    process = subprocess.Popen(
        [sys.executable, "-c", command, *options],
        env=host.environ,
        cwd=host.location,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + TIMEOUT
    while not accepts_connections("127.0.0.1", host.oned_port):
        assert process.poll() is None, "the sandbox did not start"
        assert time.monotonic() < deadline, "the sandbox does not listen"
    yield process
    process.terminate()
    process.wait(TIMEOUT)
