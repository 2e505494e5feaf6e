"""Targets of the log: lines stay whole, renamed files are replaced, and write errors never raise."""

from __future__ import annotations

import errno
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from econed.telemetry.log_targets import AppendedFile, FallbackTarget, Stream, is_journal


class FakeTarget:
    """A target that records its lines, and fails if `is_failing` is set."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.is_failing = False

    def write(self, lines: bytes) -> None:
        self._check()
        self.lines.append(lines)

    def reopen(self) -> None:
        self._check()
        self.lines.append(b"reopened")

    def close(self) -> None:
        self._check()

    def _check(self) -> None:
        if self.is_failing:
            raise OSError(errno.ENOSPC, "No space left on device")


def error_line(message: str) -> bytes:
    """Return the line for an error of the log itself."""
    return f"! {message}\n".encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a log."""
    return tmp_path / "econe.log"


def test_lines_are_appended_to_an_existing_file(path: Path) -> None:
    path.write_bytes(b"before\n")
    file = AppendedFile(str(path))
    file.write(b"one\n")
    file.write(b"two\n")
    assert path.read_bytes() == b"before\none\ntwo\n"


def test_a_new_file_is_readable_by_owner_and_group_only(path: Path) -> None:
    umask = os.umask(0o022)
    try:
        AppendedFile(str(path)).write(b"one\n")
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_renamed_file_is_written_to_until_reopen(path: Path) -> None:
    """Lines logged during a rotation by logrotate are in the old file; none is lost."""
    file = AppendedFile(str(path))
    file.write(b"one\n")
    renamed = path.rename(path.with_suffix(".1"))
    file.write(b"two\n")
    file.reopen()
    file.write(b"three\n")
    assert renamed.read_bytes() == b"one\ntwo\n"
    assert path.read_bytes() == b"three\n"


def test_reopening_leaves_no_descriptor_open(path: Path) -> None:
    file = AppendedFile(str(path))
    file.write(b"one\n")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        file.reopen()
    assert len(os.listdir("/proc/self/fd")) == before
    file.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_a_closed_file_is_opened_again_by_the_next_write(path: Path) -> None:
    file = AppendedFile(str(path))
    file.write(b"one\n")
    file.close()
    file.write(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


def test_child_processes_do_not_inherit_the_descriptor(path: Path) -> None:
    file = AppendedFile(str(path))
    file.write(b"one\n")
    listing = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, close_fds=False, check=True)
    assert str(path) not in listing.stdout


def test_a_stream_writes_all_of_a_line_and_is_never_closed() -> None:
    reading, writing = os.pipe()
    stream = Stream(writing)
    stream.write(b"x" * 5000 + b"\n")
    stream.reopen()
    stream.close()
    stream.write(b"after\n")
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert pipe.read() == b"x" * 5000 + b"\nafter\n"


WRITER = """
import sys
from econed.telemetry.log_targets import AppendedFile
file, name = AppendedFile(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(2000):
    file.write(f"{name} {number} {name * (number % 700)}\\n".encode())
    if number % 100 == 0:
        file.reopen()
"""


def test_lines_of_several_processes_stay_whole(path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in "ab"
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:  # both at once
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    lines = path.read_text("ascii").splitlines()
    assert len(lines) == 4000
    assert not [line for line in lines if not re.fullmatch(r"(a|b) (\d+) \1*", line)]
    for name in "ab":
        numbers = [int(line.split(" ")[1]) for line in lines if line.startswith(name)]
        assert numbers == list(range(2000))


# Errors


def test_lines_that_cannot_be_written_go_to_the_fallback_after_one_error_line() -> None:
    target, fallback = FakeTarget(), FakeTarget()
    log = FallbackTarget(target, error_line, fallback)
    target.is_failing = True
    log.write(b"one\n")
    log.write(b"two\n")
    assert fallback.lines == [
        b"! the log cannot be written: [Errno 28] No space left on device\n",
        b"one\n",
        b"two\n",
    ]
    target.is_failing = False
    log.write(b"three\n")
    log.write(b"four\n")
    assert target.lines == [b"three\n", b"! the log can be written again; 2 events are not in it\n", b"four\n"]
    assert len(fallback.lines) == 3


def test_every_new_failure_is_reported() -> None:
    target, fallback = FakeTarget(), FakeTarget()
    log = FallbackTarget(target, error_line, fallback)
    for is_failing in (True, False, True):
        target.is_failing = is_failing
        log.write(b"x\n")
    assert [line[:1] for line in fallback.lines] == [b"!", b"x", b"!", b"x"]


def test_no_error_is_raised_if_the_fallback_fails_too() -> None:
    target, fallback = FakeTarget(), FakeTarget()
    target.is_failing = fallback.is_failing = True
    log = FallbackTarget(target, error_line, fallback)
    log.write(b"one\n")
    log.reopen()
    log.close()
    assert target.lines == fallback.lines == []


def test_the_old_file_stays_open_if_reopening_fails(path: Path) -> None:
    """The directory is gone; the error is reported in the old file and on the fallback."""
    directory = path.parent / "log"
    directory.mkdir()
    fallback = FakeTarget()
    log = FallbackTarget(AppendedFile(str(directory / "econe.log")), error_line, fallback)
    log.write(b"one\n")
    renamed = directory.rename(path.parent / "renamed")
    log.reopen()
    log.write(b"two\n")
    lines = (renamed / "econe.log").read_text("utf-8").splitlines()
    assert lines[0] == "one"
    assert lines[1].startswith("! the log cannot be opened: [Errno 2]")
    assert lines[2] == "two"
    assert len(fallback.lines) == 1
    directory.mkdir()
    log.reopen()
    log.write(b"three\n")
    assert (directory / "econe.log").read_bytes() == b"three\n"


def test_opening_the_file_is_tried_again_by_the_next_write(path: Path) -> None:
    directory = path.parent / "not-yet"
    fallback = FakeTarget()
    log = FallbackTarget(AppendedFile(str(directory / "econe.log")), error_line, fallback)
    log.write(b"one\n")
    directory.mkdir()
    log.write(b"two\n")
    assert fallback.lines[-1] == b"one\n"
    assert (directory / "econe.log").read_bytes() == b"two\n! the log can be written again; 1 events are not in it\n"


def test_after_a_line_truncated_by_a_full_disk_the_next_starts_on_a_new_line(path: Path) -> None:
    """RLIMIT_FSIZE truncates a write, as a full disk does."""
    code = f"""
import resource, signal
from econed.telemetry.log_targets import AppendedFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
file = AppendedFile({str(path)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (6, hard))
file.write(b"one\\n")
for line in (b"two\\n", b"three\\n"):
    try:
        file.write(line)
    except OSError as error:
        print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
file.write(b"four\\n")
"""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines() == ["only 2 of 4 bytes could be written", "[Errno 27] File too large"]
    assert path.read_bytes() == b"one\ntw\nfour\n"


# The journal


def test_the_journal_is_recognized_by_journal_stream(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("wb") as file, (tmp_path / "another").open("wb") as another:
        status = os.fstat(file.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert is_journal(file.fileno(), environ)
        assert not is_journal(another.fileno(), environ)
        assert not is_journal(file.fileno(), {})
        assert not is_journal(file.fileno(), {"JOURNAL_STREAM": "nonsense"})
    assert not is_journal(closed_descriptor(), environ)


def closed_descriptor() -> int:
    """Return a descriptor that has been closed."""
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    return reading
