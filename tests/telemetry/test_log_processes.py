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
    """Return this process's environment without OpenNebula's variables."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("ONE_", "ECONE_"))}
    return {**others, "PYTHONPATH": str(ROOT), **changes}


def text(path: Path) -> str:
    """Return the text of a log; empty if it does not exist."""
    return path.read_text("utf-8") if path.exists() else ""


def await_line(path: Path, part: str) -> str:
    """Wait for a line of a log that contains `part`, and return the first."""

    def first_line() -> str:
        return next((line for line in text(path).splitlines() if part in line), "")

    return until(first_line, f"{part!r} in {path.name}", STARTING)


def send_request(path: Path) -> None:
    """Send a request to the sandbox with this log."""
    port = re.search(r"EC2Site starting on (\d+)", text(path))
    assert port is not None
    boto(Person("alice", 2, "secret", None), f"http://127.0.0.1:{port[1]}/").describe_regions()  # type: ignore[arg-type]


def has_exited(pid: int) -> bool:
    """Whether a process has exited."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@dataclass(frozen=True)
class Daemon:
    """A daemon in the background: its process id and its log."""

    pid: int
    log: Path

    def signal(self, signum: signal.Signals) -> None:
        """Send a signal to the daemon."""
        os.kill(self.pid, signum)

    def stop(self) -> None:
        """Stop the daemon and wait for it to exit."""
        self.signal(signal.SIGTERM)
        until(lambda: has_exited(self.pid), "the daemon to exit", STOPPING)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A sandbox as a daemon, with twistd's option --logfile."""
    log, pid_file = tmp_path / "log" / "econe.log", tmp_path / "pid"
    log.parent.mkdir(mode=0o750)  # logrotate refuses a directory that others can write to
    argv = [require_tool("twistd"), f"--pidfile={pid_file}", f"--logfile={log}", *SANDBOX]
    started = finished(argv, tmp_path, environment())
    assert started.returncode == 0, started.stderr
    until(lambda: text(pid_file).strip(), "the process id", STARTING)
    running = Daemon(int(text(pid_file)), log)
    try:
        await_line(log, "EC2Site starting on")
        yield running
    finally:
        if not has_exited(running.pid):
            running.signal(signal.SIGKILL)


def test_a_daemon_logs_to_the_file_of_twistd_until_it_exits(daemon: Daemon) -> None:
    """Events of Twisted are in the same file and format."""
    send_request(daemon.log)
    line = await_line(daemon.log, "DescribeRegions")
    assert re.search(
        r"\[econed#info\] DescribeRegions by alice from 127\.0\.0\.1: 200 ok, \d+ bytes in \d+ ms, "
        r"\d+ oned calls in \d+ ms, id [0-9a-f-]{36}$",
        line,
    )
    daemon.stop()
    lines = text(daemon.log).splitlines()
    assert lines[-1].endswith("Server Shut Down.")
    assert [line for line in lines if not LINE.fullmatch(line)] == []


def test_a_request_that_is_refused_before_it_is_read_is_logged(daemon: Daemon) -> None:
    """Its headers and its query are not logged."""
    port = re.search(r"EC2Site starting on (\d+)", text(daemon.log))
    assert port is not None
    query = b"Action=DescribeRegions&Signature=a-signature-of-somebody"
    (response,) = exchange(int(port[1]), b"GET /?" + query + b" HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 70_000)
    line = await_line(daemon.log, response.code)
    assert f"] - by - from 127.0.0.1: {response.status} {response.code}, " in line
    assert "a-signature-of" not in text(daemon.log)
    assert "yyyy" not in text(daemon.log)
    daemon.stop()


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGHUP])
def test_after_a_signal_a_renamed_log_is_continued_in_a_new_file(daemon: Daemon, signum: signal.Signals) -> None:
    renamed = daemon.log.with_suffix(".1")
    send_request(daemon.log)
    daemon.log.rename(renamed)
    send_request(renamed)
    until(lambda: text(renamed).count("DescribeRegions") == 2, "the line in the old file", STARTING)
    daemon.signal(signum)
    until(daemon.log.exists, "a new file", STARTING)
    send_request(renamed)
    await_line(daemon.log, "DescribeRegions")
    assert text(renamed).count("DescribeRegions") == 2
    daemon.stop()


def test_a_daemon_keeps_running_when_the_directory_of_its_log_is_gone(daemon: Daemon) -> None:
    """It reports the error in the open file, and uses the directory when it is there again."""
    send_request(daemon.log)  # its signal handlers are installed when it answers
    renamed = daemon.log.parent.rename(daemon.log.parent.with_name("renamed"))
    daemon.signal(signal.SIGUSR1)
    await_line(renamed / "econe.log", "the log cannot be opened: [Errno 2]")
    send_request(renamed / "econe.log")
    until(lambda: text(renamed / "econe.log").count("DescribeRegions") == 2, "the line in the open file", STARTING)
    daemon.log.parent.mkdir()
    daemon.signal(signal.SIGUSR1)
    until(daemon.log.exists, "a new file", STARTING)
    daemon.stop()
    assert "Server Shut Down." in text(daemon.log)


def test_no_line_is_lost_when_logrotate_renames_the_log(daemon: Daemon, tmp_path: Path) -> None:
    """The rules are the shipped ones, with the path and user of this test, and kill instead of systemctl."""
    rules = LOGROTATE.read_text("utf-8")
    changed, logs = re.subn(r"^/var/log\S+", str(daemon.log), rules, flags=re.MULTILINE)
    changed = re.sub(r"^\s*(su|create) .*$", "", changed, flags=re.MULTILINE)
    script = f"postrotate\n        kill -USR1 {daemon.pid}\n    endscript"
    changed, scripts = re.subn(r"postrotate.*?endscript", script, changed, flags=re.DOTALL)
    assert (logs, scripts) == (1, 1), rules
    conf, state = tmp_path / "logrotate.conf", tmp_path / "state"
    conf.write_text(changed, "utf-8")
    conf.chmod(0o600)
    send_request(daemon.log)
    text_before = text(daemon.log)
    command = [require_tool("logrotate"), "--force", "--state", str(state), str(conf)]
    rotated = subprocess.run(command, capture_output=True, text=True, check=False)
    assert rotated.returncode == 0, rotated.stderr
    until(daemon.log.exists, "a new file", STARTING)
    (renamed,) = (path for path in daemon.log.parent.iterdir() if path != daemon.log)
    assert text(renamed).startswith(text_before)
    send_request(renamed)
    await_line(daemon.log, "DescribeRegions")
    daemon.stop()


# In the foreground


def test_events_of_twistd_are_logged_as_json(tmp_path: Path) -> None:
    conf = tmp_path / "econe.conf"
    conf.write_text(":log_format: json\n:debug_level: 3\n", "utf-8")
    server = Process("econed", twistd("--logfile=-", *SANDBOX, "--config", str(conf)), tmp_path)
    server.await_output(r"EC2Site starting on (\d+)")
    send_request(server.output)
    await_line(server.output, "DescribeRegions")
    server.stop()
    events = [json.loads(line) for line in server.text.splitlines()]
    assert all(event["time"].endswith("Z") and event["pid"] for event in events)
    assert events[-1]["message"] == "Server Shut Down."
    (request,) = [event for event in events if event.get("action") == "DescribeRegions"]
    assert (request["user"], request["source"], request["status"]) == ("alice", "127.0.0.1", 200)


def test_a_low_level_applies_to_events_of_twistd(tmp_path: Path) -> None:
    conf, log, port = tmp_path / "econe.conf", tmp_path / "econe.log", free_port()
    conf.write_text(f":debug_level: 0\n:log_file: {log}\n", "utf-8")
    listen = ("--listen", f"tcp:{port}:interface=127.0.0.1")
    server = Process("econed", twistd("econe", "--sandbox", *listen, "--config", str(conf)), tmp_path)
    until(lambda: accepts_connections("127.0.0.1", port), "econed to listen", STARTING)
    server.stop()
    assert log.read_bytes() == b""
    assert not [line for line in server.text.splitlines() if not line.startswith("sandbox user: ")]


def test_in_the_journal_every_line_has_its_priority_and_no_time(tmp_path: Path) -> None:
    """The journal has the time. The variable JOURNAL_STREAM says that standard output is the journal, here a file."""
    output = tmp_path / "journal"
    with output.open("wb") as journal:
        status = os.fstat(journal.fileno())
        process = subprocess.Popen(
            twistd(*SANDBOX),
            cwd=tmp_path,
            env=environment(JOURNAL_STREAM=f"{status.st_dev}:{status.st_ino}"),
            stdout=journal,
            stderr=subprocess.STDOUT,
        )
    try:
        await_line(output, "EC2Site starting on")
        send_request(output)
        assert await_line(output, "DescribeRegions").startswith("<6>[econed#info] DescribeRegions by ")
    finally:
        process.terminate()
        process.wait(STOPPING)
    assert all(re.match(r"<[3467]>\[", line) for line in text(output).splitlines())
    assert "Starting factory" not in text(output)
    assert " object at 0x" not in text(output)


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """The configuration of an econed whose oned does not run."""
    auth = tmp_path / "server_auth"
    auth.write_text("serveradmin:password-of-serveradmin\n", "ascii")
    auth.chmod(0o600)
    path = tmp_path / "econe.conf"
    addresses = f":host: 127.0.0.1\n:port: {free_port()}\n:one_xmlrpc: http://127.0.0.1:9/RPC2\n"
    path.write_text(f"{addresses}:log_format: json\n:workers: 2\n", "utf-8")
    return path


def _events(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text(log).splitlines()]


def _both_workers_listen(log: Path) -> bool:
    return {1, 2} <= {event.get("worker") for event in _events(log)} and text(log).count(' listens"') >= 2


@pytest.mark.parametrize("how", ["plugin", "tac"])
def test_supervisor_and_workers_log_to_the_file_of_twistd_and_reopen_it(how: str, conf: Path, tmp_path: Path) -> None:
    """This also holds for a .tac file, to which twistd does not pass its options."""
    log, renamed = tmp_path / "twistd's.log", tmp_path / "old"
    arguments = ["econe", "--config", str(conf)] if how == "plugin" else ["-y", str(ROOT / "econe.tac")]
    variables = {"ONE_CIPHER_AUTH": str(tmp_path / "server_auth"), "ECONE_CONF": str(conf)}
    server = Process("econed", twistd(f"--logfile={log}", *arguments), tmp_path, variables)
    try:
        until(lambda: _both_workers_listen(log), "both workers to listen", STARTING)
        log.rename(renamed)
        os.kill(server.pid, signal.SIGUSR1)
        until(log.exists, "a new file", STARTING)
    finally:
        server.stop()
    assert server.text == ""
    assert len({event["pid"] for event in _events(renamed)}) == 3
    assert {event["pid"] for event in _events(renamed) if "worker" not in event} == {server.pid}
    assert all(event.get("worker") in (None, 1, 2) for event in _events(renamed) + _events(log))
    assert {None, 1, 2} <= {event.get("worker") for event in _events(log)}
    assert _events(log)[-1]["message"] == "Server Shut Down."


def test_workers_and_supervisor_write_to_the_journal(conf: Path, tmp_path: Path) -> None:
    """Workers inherit the supervisor's standard output."""
    conf.write_text(conf.read_text("utf-8").replace("json", "text"), "utf-8")
    output = tmp_path / "journal"
    with output.open("wb") as journal:
        status = os.fstat(journal.fileno())
        stream = f"{status.st_dev}:{status.st_ino}"
        process = subprocess.Popen(
            twistd("econe", "--config", str(conf)),
            cwd=tmp_path,
            env=environment(JOURNAL_STREAM=stream, ONE_CIPHER_AUTH=str(tmp_path / "server_auth")),
            stdout=journal,
            stderr=subprocess.STDOUT,
        )
    try:
        await_line(output, "[-,worker 1] EC2Site starting")
        await_line(output, "[-,worker 2] EC2Site starting")
        until(lambda: text(output).count(" listens\n") == 2, "both workers to listen", STARTING)
    finally:
        process.terminate()
        process.wait(STOPPING)
    assert [line for line in text(output).splitlines() if not re.match(r"<[3467]>(\[|\t)", line)] == []
