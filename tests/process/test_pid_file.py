"""Who holds the pid file: proved by the kernel, of real processes, whatever the file says."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from econed.process.pid_file import PidFile, PidFileError
from tests.support.processes import STARTING, until

ROOT = Path(__file__).parents[2]

_HOLDS = """
import os, sys
from pathlib import Path
from econed.process.pid_file import PidFile
path = Path(sys.argv[1])
path.write_text(str(os.getpid()), "ascii")
PidFile(path).hold()
print("holds", flush=True)
sys.stdin.read()
"""

_READS = """
import fcntl, sys
file = open(sys.argv[1])
fcntl.lockf(file, fcntl.LOCK_SH)
print("holds", flush=True)
sys.stdin.read()
"""


_HOLDS_WHAT_A_READER_HAS_LOCKED = _HOLDS.replace(
    "PidFile(path).hold()",
    """
import fcntl
if not (reader := os.fork()):
    file = path.open()
    fcntl.lockf(file, fcntl.LOCK_SH)
    os.kill(os.getpid(), 19)
os.waitpid(reader, os.WUNTRACED)
try:
    PidFile(path).hold()
finally:
    os.kill(reader, 9)
    os.waitpid(reader, 0)
""",
)
"""The reader stops itself with its lock, and is ended when the daemon has another file."""


@pytest.fixture
def file(tmp_path: Path) -> PidFile:
    """A pid file that is not there yet."""
    return PidFile(tmp_path / "daemon.pid")


@contextmanager
def process(script: str, file: PidFile) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that does something with the file, until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(file.path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"holds\n"
        yield started
        started.communicate()


def test_the_holder_is_the_process_that_lives(file: PidFile) -> None:
    with process(_HOLDS, file) as daemon:
        assert file.holder() == daemon.pid
        with file.daemon() as found:
            assert found is not None
            assert found.pid == daemon.pid
            assert not found.wait(0)
            found.send(signal.SIGTERM)
            assert found.wait(30)
            assert daemon.wait() == -signal.SIGTERM
            found.send(signal.SIGTERM)  # to a process that has ended, which is no error
    assert file.holder() is None
    assert file.path.read_text("ascii") == str(daemon.pid), "the file has stayed"


def test_a_number_in_the_file_is_nobody(file: PidFile) -> None:
    """Of a process that lives, or nonsense."""
    for text in (str(os.getppid()), str(os.getpid()), "0", "-1", "1" * 5000, "", "x"):
        file.path.write_text(text, "ascii")
        assert file.holder() is None
        with file.daemon() as found:
            assert found is None


def test_without_a_file_nobody_runs(file: PidFile) -> None:
    assert file.holder() is None
    assert not file.is_there
    file.remove()


def test_the_lock_of_a_mere_reader_says_nothing(file: PidFile) -> None:
    """Whoever may read the file can have one; they are neither the daemon, nor the way to a signal."""
    file.path.write_text("1", "ascii")
    with process(_READS, file):
        assert file.holder() is None
        with file.daemon() as found:
            assert found is None


def test_a_reader_who_is_quicker_does_not_keep_the_daemon_from_holding_its_file(file: PidFile) -> None:
    """Any user of the machine who may read the file may lock it against writers, just after it was written."""
    file.path.touch(0o640)
    with process(_HOLDS_WHAT_A_READER_HAS_LOCKED, file) as daemon:
        assert file.holder() == daemon.pid
        assert file.path.read_text("ascii") == str(daemon.pid)
        assert file.path.stat().st_mode & 0o777 == 0o640
        assert [each.name for each in file.path.parent.iterdir()] == [file.path.name]
    assert file.holder() is None


def test_a_link_is_not_followed_to_what_somebody_else_holds(file: PidFile, tmp_path: Path) -> None:
    """Root stops what oneadmin's file names: it must not lead to a lock of root's own."""
    other = PidFile(tmp_path / "other")
    file.path.symlink_to(other.path)
    with process(_HOLDS, other) as holder:
        for look in (file.holder, file.remove, file.hold):
            with pytest.raises(PidFileError, match="symbolic link"):
                look()
        assert holder.poll() is None
    assert file.is_there
    assert other.is_there


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_plain_file_is_refused_and_blocks_nobody(file: PidFile, make: object) -> None:
    assert callable(make)
    make(file.path)
    with pytest.raises(PidFileError, match=r"is no plain file|cannot be opened"):
        file.holder()


def test_only_a_file_that_nobody_holds_is_removed(file: PidFile) -> None:
    with process(_HOLDS, file) as daemon:
        file.remove()
        assert file.holder() == daemon.pid
    file.remove()
    assert not file.is_there


def test_a_file_that_is_not_its_own_is_not_held(file: PidFile) -> None:
    """It was removed or replaced between twistd's writing and the daemon's lock, or another process has it."""
    with pytest.raises(PidFileError, match="has been removed"):
        file.hold()
    file.path.write_text(str(os.getppid()), "ascii")
    with pytest.raises(PidFileError, match="another process's"):
        file.hold()
    with process(_HOLDS, file) as daemon, pytest.raises(PidFileError, match=f"held by process {daemon.pid}"):
        file.hold()


def test_where_a_process_cannot_be_signalled_safely_it_is_not_signalled(
    file: PidFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a kernel without pidfd_open(2)."""

    def missing(pid: int) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", missing)
    with process(_HOLDS, file) as daemon:
        with pytest.raises(PidFileError, match=f"process {daemon.pid} cannot be signalled safely"), file.daemon():
            pass
        assert daemon.poll() is None


def test_a_process_that_ends_before_it_can_be_signalled_is_nobody(
    file: PidFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the question who holds the file and the descriptor of that process its number may go to another."""
    opened = os.pidfd_open
    with process(_HOLDS, file) as daemon, process("print('holds', flush=True)\ninput()", file) as other:

        def late(pid: int) -> int:
            daemon.kill()
            until(lambda: file.holder() is None, "its end", STARTING)
            return opened(other.pid)

        monkeypatch.setattr(os, "pidfd_open", late)
        with file.daemon() as found:
            assert found is None
        other.communicate(b"\n")
        assert other.returncode == 0
