"""Rotation of the log of a running econed by the real logrotate."""

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
    """The path of the log, in a directory that takes the place of /var/log/one."""
    (tmp_path / "log").mkdir(mode=0o750)
    return tmp_path / "log/econe.log"


@pytest.fixture
def econed(log: Path, tmp_path: Path) -> Iterator[tuple[Running, int]]:
    """A running econed that writes this log, and its port."""
    port = free_port()
    conf = tmp_path / "econe.conf"
    conf.write_text(f":log_file: {log}\n", "utf-8")
    pid_file = f"--pidfile={tmp_path}/econe-server.pid"
    argv = [require_tool("twistd"), *sandboxed(port), "--config", str(conf)]
    argv[argv.index("--pidfile=")] = pid_file
    with serving(argv, port, tmp_path, PYTHONPATH=str(ROOT)) as server:
        yield server, port


def _rotate(directory: Path, systemctl: str) -> None:
    """Rotate the log with the installed rules, with other paths; `systemctl` is the script of a replacement for it."""
    me, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    text = (ROOT / "etc/logrotate.d/econed").read_text("utf-8")
    for path, replacement in (
        (LOGS, str(directory / "log")),
        (PIDS, str(directory)),
        ("/opt/econed/bin", str(directory / "bin")),
        ("oneadmin oneadmin", f"{me} {group}"),
    ):
        assert path in text
        text = text.replace(path, replacement)
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
    output = ran(tool, *options, PATH=f"{commands}:{DEBIAN_PATH}", PYTHONPATH=str(ROOT))
    assert "error" not in output, output


def _lines(directory: Path) -> int:
    """Return the number of requests in the logs of a directory."""
    return sum(path.read_text("utf-8").count("DescribeImages") for path in directory.iterdir())


def _send_until_logged(log: Path, port: int) -> int:
    """Send requests until one is logged; return how many were sent."""
    sent = 0

    def is_logged() -> bool:
        nonlocal sent
        sent += 1
        assert images(port)
        return "DescribeImages" in log.read_text("utf-8")

    until(is_logged, f"a line in {log}", STARTING)
    return sent


def test_the_service_continues_in_a_new_file_without_losing_a_line(
    log: Path, econed: tuple[Running, int], tmp_path: Path
) -> None:
    """A replacement for systemctl sends the signal."""
    server, port = econed
    sent = _send_until_logged(log, port)
    expected_arguments = "kill --kill-whom=main --signal=SIGUSR1 econe.service"
    _rotate(tmp_path, f'[ "$*" = "{expected_arguments}" ] && kill -USR1 {server.process.pid}')
    sent += _send_until_logged(log, port)
    assert len(list(log.parent.iterdir())) == 2
    until(lambda: _lines(log.parent) == sent, f"{sent} lines in both files", STARTING)


def test_an_econed_started_by_econe_server_is_signalled_through_its_pid_file(
    log: Path, econed: tuple[Running, int], tmp_path: Path
) -> None:
    """There is no such service then, which is not an error."""
    _, port = econed
    sent = _send_until_logged(log, port)
    _rotate(tmp_path, "exit 5")
    sent += _send_until_logged(log, port)
    until(lambda: _lines(log.parent) == sent, f"{sent} lines in both files", STARTING)


def test_a_process_that_reuses_the_id_of_a_dead_econed_gets_no_signal(log: Path, tmp_path: Path) -> None:
    """SIGUSR1 would kill it, even though its command line contains `econe`."""
    log.write_text("a line\n", "utf-8")
    with subprocess.Popen(["sh", "-c", "read line; : econe", "econe"], stdin=subprocess.PIPE) as other:
        (tmp_path / "econe-server.pid").write_text(f"{other.pid}\n", "utf-8")
        _rotate(tmp_path, "exit 5")
        other.communicate(b"\n")
    assert other.returncode == 0
    assert log.read_text("utf-8") == ""
