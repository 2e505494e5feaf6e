"""Rotation of the log by the real logrotate, of the file that a running econed writes."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packages.serving import images, sandboxed, serving
from tests.support.packages import DEBIAN_PATH, ROOT, ran
from tests.support.ports import free_port
from tests.support.processes import STARTING, until
from tests.support.running import Running
from tests.support.tools import require_tool

LOGS = "/var/log/one"
PIDS = "/run/one"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The file of the log, in a directory that stands in for /var/log/one."""
    (tmp_path / "log").mkdir(mode=0o750)
    return tmp_path / "log/econe.log"


@pytest.fixture
def econed(log: Path, tmp_path: Path) -> Iterator[tuple[Running, int]]:
    """An econed that writes there, and its port."""
    port = free_port()
    conf = tmp_path / "econe.conf"
    conf.write_text(f":log_file: {log}\n", "utf-8")
    pid_file = f"--pidfile={tmp_path}/econe-server.pid"
    argv = [require_tool("twistd"), *sandboxed(port), "--config", str(conf)]
    argv[argv.index("--pidfile=")] = pid_file
    with serving(argv, port, tmp_path, PYTHONPATH=str(ROOT)) as server:
        yield server, port


def _rotate(directory: Path, systemctl: str) -> None:
    """Rotate at once by the file as it is, but for where it is; `systemctl` is a script to run in place of that."""
    me, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    text = (ROOT / "etc/logrotate.d/econed").read_text("utf-8")
    for is_there, stands_in in (
        (LOGS, str(directory / "log")),
        (PIDS, str(directory)),
        ("/opt/econed/bin", str(directory / "bin")),
        ("oneadmin oneadmin", f"{me} {group}"),
    ):
        assert is_there in text
        text = text.replace(is_there, stands_in)
    (directory / "rotation.conf").write_text(text, "utf-8")
    (directory / "rotation.conf").chmod(0o644)
    commands = directory / "bin"
    commands.mkdir()
    (commands / "econe-server").write_text(f'#!/bin/sh\nexec {sys.executable} -m econed.cli.server "$@"\n', "utf-8")
    (commands / "econe-server").chmod(0o755)
    (commands / "systemctl").write_text(f"#!/bin/sh\n{systemctl}\n", "utf-8")
    (commands / "systemctl").chmod(0o755)
    tool = shutil.which("logrotate", path=DEBIAN_PATH) or require_tool("logrotate")
    options = ("--force", "--state", directory / "state", directory / "rotation.conf")
    said = ran(tool, *options, PATH=f"{commands}:{DEBIAN_PATH}", PYTHONPATH=str(ROOT))
    assert "error" not in said, said


def _lines(directory: Path) -> int:
    """Return how many requests the logs in a directory have lines of."""
    return sum(path.read_text("utf-8").count("DescribeImages") for path in directory.iterdir())


def _asked_until_in(log: Path, port: int) -> int:
    """Make requests until the log has the line of one; return how many were made."""
    made = 0

    def is_there() -> bool:
        nonlocal made
        made += 1
        assert images(port)
        return "DescribeImages" in log.read_text("utf-8")

    until(is_there, f"a line in {log}", STARTING)
    return made


def test_the_service_goes_on_in_a_new_file_and_no_line_is_lost(
    log: Path, econed: tuple[Running, int], tmp_path: Path
) -> None:
    """What systemctl is told to do is done here in its place."""
    server, port = econed
    made = _asked_until_in(log, port)
    asked_for = "kill --kill-whom=main --signal=SIGUSR1 econe.service"
    _rotate(tmp_path, f'[ "$*" = "{asked_for}" ] && kill -USR1 {server.process.pid}')
    made += _asked_until_in(log, port)
    assert len(list(log.parent.iterdir())) == 2
    until(lambda: _lines(log.parent) == made, f"{made} lines in both files", STARTING)


def test_one_that_econe_server_started_is_told_by_its_process_id(
    log: Path, econed: tuple[Running, int], tmp_path: Path
) -> None:
    """There is no such service then, which is no error."""
    _, port = econed
    made = _asked_until_in(log, port)
    _rotate(tmp_path, "exit 5")
    made += _asked_until_in(log, port)
    until(lambda: _lines(log.parent) == made, f"{made} lines in both files", STARTING)


def test_a_process_that_has_got_the_number_of_an_econed_that_died_gets_no_signal(log: Path, tmp_path: Path) -> None:
    """SIGUSR1 would end most; also one that has `econe` in its command line."""
    log.write_text("a line\n", "utf-8")
    with subprocess.Popen(["sh", "-c", "read line; : econe", "econe"], stdin=subprocess.PIPE) as other:
        (tmp_path / "econe-server.pid").write_text(f"{other.pid}\n", "utf-8")
        _rotate(tmp_path, "exit 5")
        other.communicate(b"\n")
    assert other.returncode == 0
    assert log.read_text("utf-8") == ""
