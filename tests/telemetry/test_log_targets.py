"""Lines stay whole, a file that was renamed is let go, and a log that cannot be written ends nothing."""

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


class Told:
    """A target that keeps what it is given, and fails when it is told to."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.fails = False

    def write(self, lines: bytes) -> None:
        self._check()
        self.lines.append(lines)

    def reopen(self) -> None:
        self._check()
        self.lines.append(b"reopened")

    def close(self) -> None:
        self._check()

    def _check(self) -> None:
        if self.fails:
            raise OSError(errno.ENOSPC, "No space left on device")


def complaint(said: str) -> bytes:
    """Return a complaint as a line."""
    return f"! {said}\n".encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a log may be."""
    return tmp_path / "econe.log"


def test_a_file_is_appended_to(path: Path) -> None:
    path.write_bytes(b"before\n")
    file = AppendedFile(str(path))
    file.write(b"one\n")
    file.write(b"two\n")
    assert path.read_bytes() == b"before\none\ntwo\n"


def test_a_new_file_is_for_its_owner_and_group(path: Path) -> None:
    before = os.umask(0o022)
    try:
        AppendedFile(str(path)).write(b"one\n")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_file_that_was_renamed_is_written_to_until_it_is_reopened(path: Path) -> None:
    """As logrotate wants it: what is written in between is in the old file, and nothing is lost."""
    file = AppendedFile(str(path))
    file.write(b"one\n")
    old = path.rename(path.with_suffix(".1"))
    file.write(b"two\n")
    file.reopen()
    file.write(b"three\n")
    assert old.read_bytes() == b"one\ntwo\n"
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


def test_a_file_that_was_closed_is_opened_again_by_the_next_line(path: Path) -> None:
    file = AppendedFile(str(path))
    file.write(b"one\n")
    file.close()
    file.write(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


def test_no_other_program_inherits_the_file(path: Path) -> None:
    file = AppendedFile(str(path))
    file.write(b"one\n")
    listing = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, close_fds=False, check=True)
    assert str(path) not in listing.stdout


def test_a_stream_takes_all_of_a_line() -> None:
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


# When it cannot be written


def test_what_cannot_be_written_goes_elsewhere_after_one_complaint() -> None:
    target, elsewhere = Told(), Told()
    log = FallbackTarget(target, complaint, elsewhere)
    target.fails = True
    log.write(b"one\n")
    log.write(b"two\n")
    assert elsewhere.lines == [
        b"! the log cannot be written: [Errno 28] No space left on device\n",
        b"one\n",
        b"two\n",
    ]
    target.fails = False
    log.write(b"three\n")
    log.write(b"four\n")
    assert target.lines == [b"three\n", b"! the log can be written again; 2 events are not in it\n", b"four\n"]
    assert len(elsewhere.lines) == 3


def test_it_complains_anew_when_it_fails_anew() -> None:
    target, elsewhere = Told(), Told()
    log = FallbackTarget(target, complaint, elsewhere)
    for fails in (True, False, True):
        target.fails = fails
        log.write(b"x\n")
    assert [line[:1] for line in elsewhere.lines] == [b"!", b"x", b"!", b"x"]


def test_it_does_not_fail_where_nothing_can_be_written_at_all() -> None:
    target, elsewhere = Told(), Told()
    target.fails = elsewhere.fails = True
    log = FallbackTarget(target, complaint, elsewhere)
    log.write(b"one\n")
    log.reopen()
    log.close()
    assert target.lines == elsewhere.lines == []


def test_a_file_that_cannot_be_opened_anew_is_the_old_one_still(path: Path) -> None:
    """A directory that is gone: both the old file and standard error say so."""
    directory = path.parent / "log"
    directory.mkdir()
    elsewhere = Told()
    log = FallbackTarget(AppendedFile(str(directory / "econe.log")), complaint, elsewhere)
    log.write(b"one\n")
    moved = directory.rename(path.parent / "gone")
    log.reopen()
    log.write(b"two\n")
    said = (moved / "econe.log").read_text("utf-8").splitlines()
    assert said[0] == "one"
    assert said[1].startswith("! the log cannot be opened: [Errno 2]")
    assert said[2] == "two"
    assert len(elsewhere.lines) == 1
    directory.mkdir()
    log.reopen()
    log.write(b"three\n")
    assert (directory / "econe.log").read_bytes() == b"three\n"


def test_a_file_that_could_not_be_opened_is_tried_again(path: Path) -> None:
    directory = path.parent / "not-yet"
    elsewhere = Told()
    log = FallbackTarget(AppendedFile(str(directory / "econe.log")), complaint, elsewhere)
    log.write(b"one\n")
    directory.mkdir()
    log.write(b"two\n")
    assert elsewhere.lines[-1] == b"one\n"
    assert (directory / "econe.log").read_bytes() == b"two\n! the log can be written again; 1 events are not in it\n"


def test_on_a_full_disk_the_line_that_was_cut_off_does_not_run_into_the_next(path: Path) -> None:
    """A file may not grow beyond RLIMIT_FSIZE, which cuts a write off as a full disk does."""
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
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["only 2 of 4 bytes could be written", "[Errno 27] File too large"]
    assert path.read_bytes() == b"one\ntw\nfour\n"


# The journal


def test_the_journal_is_known_by_what_systemd_says_of_it(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("wb") as file, (tmp_path / "another").open("wb") as another:
        told = os.fstat(file.fileno())
        environ = {"JOURNAL_STREAM": f"{told.st_dev}:{told.st_ino}"}
        assert is_journal(file.fileno(), environ)
        assert not is_journal(another.fileno(), environ)
        assert not is_journal(file.fileno(), {})
        assert not is_journal(file.fileno(), {"JOURNAL_STREAM": "nonsense"})
    assert not is_journal(file_closed(), environ)


def file_closed() -> int:
    """Return a descriptor that is not open."""
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    return reading
