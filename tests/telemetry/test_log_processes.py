"""The log of real processes: twistd's in the foreground and as a daemon, a .tac file, workers, and logrotate."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from econed.cli.process import accepts_connections
from tests.support.clients import boto, exchange
from tests.support.econed_process import Person
from tests.support.ports import free_port
from tests.support.processes import STARTING, STOPPING, Process, until
from tests.support.running import finished, twistd
from tests.support.tools import require_tool

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
SANDBOX = ("econe", "--sandbox", "--sandbox-user", "alice:secret", "--listen", "tcp:0:interface=127.0.0.1")
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[\S+( \d+)?\] .+|\t.+")
LOGROTATE = ROOT / "etc" / "logrotate.d" / "econed"


def environment(**changes: str) -> dict[str, str]:
    """Return this environment without what says where OpenNebula is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ONE_", "ECONE_"))}
    return {**kept, "PYTHONPATH": str(ROOT), **changes}


def text(path: Path) -> str:
    """Return what is in a log; nothing if there is none."""
    return path.read_text("utf-8") if path.exists() else ""


def await_line(path: Path, said: str) -> str:
    """Return the first line of a log with this, once it is there."""

    def found() -> str:
        return next((line for line in text(path).splitlines() if said in line), "")

    return until(found, f"{said!r} in {path.name}", STARTING)


def ask(path: Path) -> None:
    """Ask the econed on a sandbox whose log this is for something."""
    port = re.search(r"EC2Site starting on (\d+)", text(path))
    assert port is not None
    boto(Person("alice", 2, "secret", None), f"http://127.0.0.1:{port[1]}/").describe_regions()  # type: ignore[arg-type]


def has_ended(pid: int) -> bool:
    """Whether a process is gone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@dataclass(frozen=True)
class Daemon:
    """A daemon in the background, its process id and its log."""

    pid: int
    log: Path

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def stop(self) -> None:
        """End it and wait."""
        self.signal(signal.SIGTERM)
        until(lambda: has_ended(self.pid), "the daemon to end", STOPPING)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon on a sandbox, which logs where twistd is told to."""
    log, pid_file = tmp_path / "log" / "econe.log", tmp_path / "pid"
    log.parent.mkdir(mode=0o750)  # logrotate looks for one that others cannot write to
    argv = [require_tool("twistd"), f"--pidfile={pid_file}", f"--logfile={log}", *SANDBOX]
    done = finished(argv, tmp_path, environment())
    assert done.returncode == 0, done.stderr
    until(lambda: text(pid_file).strip(), "the process id", STARTING)
    made = Daemon(int(text(pid_file)), log)
    try:
        await_line(log, "EC2Site starting on")
        yield made
    finally:
        if not has_ended(made.pid):
            made.signal(signal.SIGKILL)


def test_a_daemon_logs_where_twistd_is_told_to_until_it_ends(daemon: Daemon) -> None:
    """What Twisted says too, and all of it in one form."""
    ask(daemon.log)
    line = await_line(daemon.log, "DescribeRegions")
    assert re.search(
        r"\[econed#info\] DescribeRegions by alice from 127\.0\.0\.1: 200 ok, \d+ bytes in \d+ ms, "
        r"\d+ oned calls in \d+ ms, id [0-9a-f-]{36}$",
        line,
    )
    daemon.stop()
    lines = text(daemon.log).splitlines()
    assert lines[-1].endswith("Server Shut Down.")
    assert [each for each in lines if not LINE.fullmatch(each)] == []


def test_a_request_that_is_refused_unread_gets_its_line_too(daemon: Daemon) -> None:
    """Neither its headers nor its query are in it."""
    port = re.search(r"EC2Site starting on (\d+)", text(daemon.log))
    assert port is not None
    query = b"Action=DescribeRegions&Signature=a-signature-of-somebody"
    (answer,) = exchange(int(port[1]), b"GET /?" + query + b" HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 70_000)
    line = await_line(daemon.log, answer.code)
    assert f"] - by - from 127.0.0.1: {answer.status} {answer.code}, " in line
    assert "a-signature-of" not in text(daemon.log)
    assert "yyyy" not in text(daemon.log)
    daemon.stop()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
def test_a_log_that_was_renamed_goes_on_in_a_new_file_after_a_signal(daemon: Daemon, number: signal.Signals) -> None:
    old = daemon.log.with_suffix(".1")
    ask(daemon.log)
    daemon.log.rename(old)
    ask(old)
    until(lambda: text(old).count("DescribeRegions") == 2, "the line in the old file", STARTING)
    daemon.signal(number)
    until(daemon.log.exists, "a new file", STARTING)
    ask(old)
    await_line(daemon.log, "DescribeRegions")
    assert text(old).count("DescribeRegions") == 2
    daemon.stop()


def test_a_directory_that_has_vanished_ends_nothing(daemon: Daemon) -> None:
    """It goes on in the file that is open, says so there, and takes the directory when it is there again."""
    gone = daemon.log.parent.rename(daemon.log.parent.with_name("gone"))
    daemon.signal(signal.SIGUSR1)
    await_line(gone / "econe.log", "the log cannot be opened: [Errno 2]")
    ask(gone / "econe.log")
    await_line(gone / "econe.log", "DescribeRegions")
    daemon.log.parent.mkdir()
    daemon.signal(signal.SIGUSR1)
    until(daemon.log.exists, "a new file", STARTING)
    daemon.stop()
    assert "Server Shut Down." in text(daemon.log)


def test_logrotate_takes_the_log_away_and_no_line_is_lost(daemon: Daemon, tmp_path: Path) -> None:
    """By the rules that are shipped, with the paths and the user of this test, and the signal in place of systemd's."""
    rules = LOGROTATE.read_text("utf-8")
    changed, logs = re.subn(r"^/var/log\S+", str(daemon.log), rules, flags=re.MULTILINE)
    changed = re.sub(r"^\s*(su|create) .*$", "", changed, flags=re.MULTILINE)
    told = f"postrotate\n        kill -USR1 {daemon.pid}\n    endscript"
    changed, scripts = re.subn(r"postrotate.*?endscript", told, changed, flags=re.DOTALL)
    assert (logs, scripts) == (1, 1), rules
    conf, state = tmp_path / "logrotate.conf", tmp_path / "state"
    conf.write_text(changed, "utf-8")
    conf.chmod(0o600)
    ask(daemon.log)
    before = text(daemon.log)
    command = [require_tool("logrotate"), "--force", "--state", str(state), str(conf)]
    rotated = subprocess.run(command, capture_output=True, text=True, check=False)
    assert rotated.returncode == 0, rotated.stderr
    until(daemon.log.exists, "a new file", STARTING)
    (old,) = (path for path in daemon.log.parent.iterdir() if path != daemon.log)
    assert text(old).startswith(before)
    ask(old)
    await_line(daemon.log, "DescribeRegions")
    daemon.stop()


# In the foreground


def test_json_is_for_all_that_twistd_says(tmp_path: Path) -> None:
    conf = tmp_path / "econe.conf"
    conf.write_text(":log_format: json\n:debug_level: 3\n", "utf-8")
    server = Process("econed", twistd("--logfile=-", *SANDBOX, "--config", str(conf)), tmp_path)
    server.await_output(r"EC2Site starting on (\d+)")
    ask(server.output)
    await_line(server.output, "DescribeRegions")
    server.stop()
    said = [json.loads(line) for line in server.text.splitlines()]
    assert all(each["time"].endswith("Z") and each["pid"] for each in said)
    assert said[-1]["message"] == "Server Shut Down."
    (request,) = [each for each in said if each.get("action") == "DescribeRegions"]
    assert (request["user"], request["source"], request["status"]) == ("alice", "127.0.0.1", 200)


def test_a_low_level_keeps_twistd_quiet_too(tmp_path: Path) -> None:
    conf, log, port = tmp_path / "econe.conf", tmp_path / "econe.log", free_port()
    conf.write_text(f":debug_level: 0\n:log_file: {log}\n", "utf-8")
    listen = ("--listen", f"tcp:{port}:interface=127.0.0.1")
    server = Process("econed", twistd("econe", "--sandbox", *listen, "--config", str(conf)), tmp_path)
    until(lambda: accepts_connections("127.0.0.1", port), "econed to listen", STARTING)
    server.stop()
    assert log.read_bytes() == b""
    assert not [line for line in server.text.splitlines() if not line.startswith("sandbox user: ")]


def test_in_the_journal_every_line_says_how_much_it_matters(tmp_path: Path) -> None:
    """By JOURNAL_STREAM systemd tells that standard output is the journal; here it is a file."""
    output = tmp_path / "journal"
    with output.open("wb") as journal:
        told = os.fstat(journal.fileno())
        process = subprocess.Popen(
            twistd(*SANDBOX),
            cwd=tmp_path,
            env=environment(JOURNAL_STREAM=f"{told.st_dev}:{told.st_ino}"),
            stdout=journal,
            stderr=subprocess.STDOUT,
        )
    try:
        await_line(output, "EC2Site starting on")
        ask(output)
        assert await_line(output, "DescribeRegions").startswith("<6>2")
    finally:
        process.terminate()
        process.wait(STOPPING)
    assert all(re.match(r"<[3467]>2", line) for line in text(output).splitlines())


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """The configuration of an econed whose oned is away."""
    auth = tmp_path / "server_auth"
    auth.write_text("serveradmin:password-of-serveradmin\n", "ascii")
    auth.chmod(0o600)
    written = tmp_path / "econe.conf"
    where = f":host: 127.0.0.1\n:port: {free_port()}\n:one_xmlrpc: http://127.0.0.1:9/RPC2\n"
    written.write_text(f"{where}:log_format: json\n:workers: 2\n", "utf-8")
    return written


def _said(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text(log).splitlines()]


def _all_serve(log: Path) -> bool:
    return {1, 2} <= {each.get("worker") for each in _said(log)} and text(log).count(' listens"') >= 2


@pytest.mark.parametrize("how", ["plugin", "tac"])
def test_supervisor_and_workers_log_to_the_one_file_of_twistd_and_all_reopen_it(
    how: str, conf: Path, tmp_path: Path
) -> None:
    """Also where it is a .tac file that twistd runs, which is not told its options."""
    log, old = tmp_path / "twistd's.log", tmp_path / "old"
    what = ["econe", "--config", str(conf)] if how == "plugin" else ["-y", str(ROOT / "econe.tac")]
    auth = {"ONE_CIPHER_AUTH": str(tmp_path / "server_auth"), "ECONE_CONF": str(conf)}
    server = Process("econed", twistd(f"--logfile={log}", *what), tmp_path, auth)
    try:
        until(lambda: _all_serve(log), "both workers to listen", STARTING)
        log.rename(old)
        os.kill(server.pid, signal.SIGUSR1)
        until(log.exists, "a new file", STARTING)
    finally:
        server.stop()
    assert server.text == ""
    assert len({each["pid"] for each in _said(old)}) == 3
    assert {None, 1, 2} <= {each.get("worker") for each in _said(log)}
    assert _said(log)[-1]["message"] == "Server Shut Down."


def test_workers_write_to_the_journal_as_the_supervisor_does(conf: Path, tmp_path: Path) -> None:
    """Their standard output is the supervisor's."""
    conf.write_text(conf.read_text("utf-8").replace("json", "text"), "utf-8")
    output = tmp_path / "journal"
    with output.open("wb") as journal:
        told = os.fstat(journal.fileno())
        stream = f"{told.st_dev}:{told.st_ino}"
        process = subprocess.Popen(
            twistd("econe", "--config", str(conf)),
            cwd=tmp_path,
            env=environment(JOURNAL_STREAM=stream, ONE_CIPHER_AUTH=str(tmp_path / "server_auth")),
            stdout=journal,
            stderr=subprocess.STDOUT,
        )
    try:
        await_line(output, "#info,worker 1] ")
        await_line(output, "#info,worker 2] ")
        until(lambda: text(output).count(" listens\n") == 2, "both workers to listen", STARTING)
    finally:
        process.terminate()
        process.wait(STOPPING)
    assert [line for line in text(output).splitlines() if not re.match(r"<[3467]>(2|\t)", line)] == []
