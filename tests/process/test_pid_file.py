"""The holder of the pid file, as the kernel identifies it: with real processes, whatever the file contains."""

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
"""The reader stops itself while it has a lock, and is killed when the daemon has replaced the file."""


@pytest.fixture
def file(tmp_path: Path) -> PidFile:
    """A pid file that does not exist yet."""
    return PidFile(tmp_path / "daemon.pid")


@contextmanager
def process(script: str, file: PidFile) -> Iterator[subprocess.Popen[bytes]]:
    """Run a script on the file until its input is closed."""
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


def test_the_holder_is_the_process_with_the_lock(file: PidFile) -> None:
    with process(_HOLDS, file) as daemon:
        assert file.holder() == daemon.pid
        with file.daemon() as holder:
            assert holder is not None
            assert holder.pid == daemon.pid
            assert not holder.wait(0)
            holder.send(signal.SIGTERM)
            assert holder.wait(30)
            assert daemon.wait() == -signal.SIGTERM
            holder.send(signal.SIGTERM)  # the process has exited, which is not an error
    assert file.holder() is None
    assert file.path.read_text("ascii") == str(daemon.pid), "the file was not removed"


def test_a_pid_in_the_file_without_a_lock_is_ignored(file: PidFile) -> None:
    """Also that of a running process."""
    for text in (str(os.getppid()), str(os.getpid()), "0", "-1", "1" * 5000, "", "x"):
        file.path.write_text(text, "ascii")
        assert file.holder() is None
        with file.daemon() as holder:
            assert holder is None


def test_without_a_file_there_is_no_daemon(file: PidFile) -> None:
    assert file.holder() is None
    assert not file.exists
    file.remove()


def test_a_process_with_a_read_lock_is_not_the_daemon(file: PidFile) -> None:
    """Any reader of the file can acquire one, and must not be sent signals."""
    file.path.write_text("1", "ascii")
    with process(_READS, file):
        assert file.holder() is None
        with file.daemon() as holder:
            assert holder is None


def test_a_read_lock_does_not_prevent_the_daemon_from_holding_its_file(file: PidFile) -> None:
    """Any user who may read the file may lock it against writers, just after it was written."""
    file.path.touch(0o640)
    with process(_HOLDS_WHAT_A_READER_HAS_LOCKED, file) as daemon:
        assert file.holder() == daemon.pid
        assert file.path.read_text("ascii") == str(daemon.pid)
        assert file.path.stat().st_mode & 0o777 == 0o640
        assert [path.name for path in file.path.parent.iterdir()] == [file.path.name]
    assert file.holder() is None


def test_a_symbolic_link_is_refused(file: PidFile, tmp_path: Path) -> None:
    """If root stops the daemon, a link of oneadmin's must not refer to a file that a process of root has locked."""
    other = PidFile(tmp_path / "other")
    file.path.symlink_to(other.path)
    with process(_HOLDS, other) as holder:
        for method in (file.holder, file.remove, file.hold):
            with pytest.raises(PidFileError, match="symbolic link"):
                method()
        assert holder.poll() is None
    assert file.exists
    assert other.exists


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_fifo_or_directory_is_refused_without_blocking(file: PidFile, make: object) -> None:
    assert callable(make)
    make(file.path)
    with pytest.raises(PidFileError, match=r"is not a regular file|cannot be opened"):
        file.holder()


def test_a_file_is_removed_only_if_no_process_holds_it(file: PidFile) -> None:
    with process(_HOLDS, file) as daemon:
        file.remove()
        assert file.holder() == daemon.pid
    file.remove()
    assert not file.exists


def test_a_file_of_another_process_is_not_held(file: PidFile) -> None:
    """It was removed or replaced after twistd wrote it and before the daemon locked it, or another process holds it."""
    with pytest.raises(PidFileError, match="has been removed"):
        file.hold()
    file.path.write_text(str(os.getppid()), "ascii")
    with pytest.raises(PidFileError, match="belongs to another process"):
        file.hold()
    with process(_HOLDS, file) as daemon, pytest.raises(PidFileError, match=f"held by process {daemon.pid}"):
        file.hold()


def test_without_pidfd_open_no_signal_is_sent(file: PidFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an old kernel: the pid could be reused before the signal is sent."""

    def missing(pid: int) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", missing)
    with process(_HOLDS, file) as daemon:
        with pytest.raises(PidFileError, match=f"process {daemon.pid} cannot be signalled safely"), file.daemon():
            pass
        assert daemon.poll() is None


def test_a_pid_that_is_reused_before_the_process_is_opened_is_not_the_daemon(
    file: PidFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder exits after its pid was read and before pidfd_open(2)."""
    pidfd_open = os.pidfd_open
    with process(_HOLDS, file) as daemon, process("print('holds', flush=True)\ninput()", file) as other:

        def open_other_process(pid: int) -> int:
            daemon.kill()
            until(lambda: file.holder() is None, "its exit", STARTING)
            return pidfd_open(other.pid)

        monkeypatch.setattr(os, "pidfd_open", open_other_process)
        with file.daemon() as holder:
            assert holder is None
        other.communicate(b"\n")
        assert other.returncode == 0
