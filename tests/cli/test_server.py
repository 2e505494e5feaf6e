"""`econe-server` as administrators run it: real processes, a sandbox for oned; all of them are ended by their pids."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from econed.cli.installation import Exit, Installation
from econed.cli.process import answers
from econed.process.pid_file import DaemonProcess, PidFile
from tests.support import certificates, processes
from tests.support.ports import free_port

PATIENCE = 30.0


@dataclass
class Machine:
    """An OpenNebula installation below a directory, with `econe-server` on it."""

    location: Path
    port: int
    oned_port: int

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `econe-server`."""
        command = [sys.executable, "-m", "econed.cli.server", *arguments]
        return subprocess.run(command, env=self.environ, cwd="/", capture_output=True, text=True, timeout=120)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of its commands."""
        root = str(Path(__file__).parents[2])
        return {**os.environ, "ONE_LOCATION": str(self.location), "PYTHONPATH": root}

    @property
    def pid_file(self) -> Path:
        """Where the old server had it below ONE_LOCATION."""
        return self.location / "var/econe-server.pid"

    @property
    def pid(self) -> int:
        """The process id in it."""
        return int(self.pid_file.read_text("ascii"))

    @property
    def holder(self) -> int | None:
        """The process that holds that file."""
        return PidFile(self.pid_file).holder()

    def configure(self, more: str = "") -> None:
        """Write econe.conf."""
        text = f":host: 127.0.0.1\n:port: {self.port}\n:one_xmlrpc: http://127.0.0.1:{self.oned_port}/RPC2\n{more}"
        (self.location / "etc/econe.conf").write_text(text, "utf-8")


def has_ended(pid: int) -> bool:
    """Whether a process has ended, even if nobody has asked how yet."""
    try:
        return DaemonProcess(pid, os.pidfd_open(pid)).wait(0)
    except ProcessLookupError:
        return True


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """An installation where nothing runs yet; what was started is ended."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "var/.one").mkdir(parents=True)
    auth = tmp_path / "var/.one/ec2_auth"
    auth.write_text("serveradmin:serverpassword\n", "ascii")
    auth.chmod(0o600)
    made = Machine(tmp_path, free_port(), free_port())
    made.configure()
    yield made
    with PidFile(made.pid_file).daemon() as running:
        if running is not None:
            running.send(signal.SIGKILL)


@pytest.fixture
def oned(machine: Machine) -> Iterator[subprocess.Popen[bytes]]:
    """A sandbox that serves as the machine's oned."""
    command = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"
    options = ["--nodaemon", "--pidfile=", "econe-sandbox", f"--port={machine.oned_port}", "--user=alice:alicepw"]
    process = subprocess.Popen(
        [sys.executable, "-c", command, *options],
        env=machine.environ,
        cwd=machine.location,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + PATIENCE
    while not answers("127.0.0.1", machine.oned_port):
        assert process.poll() is None, "the sandbox did not start"
        assert time.monotonic() < until, "the sandbox does not listen"
    yield process
    process.terminate()
    process.wait(PATIENCE)


def test_the_files_are_where_the_old_server_had_them() -> None:
    nothing: dict[str, Path | None] = {"conf": None, "pid_file": None, "log_file": None}
    assert Installation.found({}, **nothing) == Installation(
        Path("/etc/one/econe.conf"), Path("/var/run/one/econe-server.pid"), Path("/var/log/one/econe-server.log")
    )
    assert Installation.found({"ONE_LOCATION": "/opt/one"}, **nothing) == Installation(
        Path("/opt/one/etc/econe.conf"), Path("/opt/one/var/econe-server.pid"), Path("/opt/one/var/econe-server.log")
    )


@pytest.mark.usefixtures("oned")
def test_it_starts_says_how_it_is_restarts_and_stops(machine: Machine) -> None:
    assert machine.run("status").returncode == Exit.NOT_RUNNING
    started = machine.run("start")
    assert started.returncode == Exit.OK, started.stderr
    first = machine.pid
    assert f"started (pid {first}), listens on 127.0.0.1:{machine.port}" in started.stdout
    assert answers("127.0.0.1", machine.port)
    assert (machine.location / "var/econe-server.log").exists()

    status = machine.run("status")
    assert (status.returncode, status.stdout) == (
        Exit.OK,
        f"econe-server runs (pid {first}) and listens on 127.0.0.1:{machine.port}\n",
    )
    again = machine.run("start")
    assert (again.returncode, again.stdout) == (Exit.OK, f"econe-server runs already (pid {first})\n")

    assert machine.run("restart").returncode == Exit.OK
    second = machine.pid
    assert second != first
    assert has_ended(first)

    stopped = machine.run("stop")
    assert (stopped.returncode, stopped.stdout) == (Exit.OK, "econe-server stopped\n")
    assert has_ended(second)
    assert not machine.pid_file.exists()
    assert not answers("127.0.0.1", machine.port)
    assert machine.run("stop").returncode == Exit.OK, "it is stopped, which is what was wanted"


@pytest.mark.usefixtures("oned")
def test_after_a_death_the_pid_file_is_no_obstacle(machine: Machine) -> None:
    """Also when the number has gone to another process."""
    assert machine.run("start").returncode == Exit.OK
    dead = machine.pid
    os.kill(dead, signal.SIGKILL)
    processes.until(lambda: machine.holder is None, "its end", PATIENCE)
    status = machine.run("status")
    assert status.returncode == Exit.FAILED
    assert "it has died" in status.stderr
    machine.pid_file.write_text(str(os.getpid()), "ascii")
    started = machine.run("start")
    assert started.returncode == Exit.OK, started.stderr
    assert "from a process that has died: removed" in started.stdout
    assert machine.pid not in (dead, os.getpid())
    assert machine.run("stop").returncode == Exit.OK


@pytest.fixture
def editor(machine: Machine) -> Iterator[subprocess.Popen[bytes]]:
    """An editor with econe.conf open: a process with `econe` in its command line."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()", str(machine.location / "etc/econe.conf")]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        yield process
        process.communicate()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A shell in a checkout: a process with `econed` in its working directory and in its command line."""
    (tmp_path / "econed").mkdir()
    script = tmp_path / "econed/econe-server"
    script.write_text("read line\n", "ascii")
    with subprocess.Popen(["/bin/sh", str(script)], cwd=tmp_path / "econed", stdin=subprocess.PIPE) as process:
        yield process
        process.communicate()


@pytest.mark.parametrize("whose", ["editor", "shell"])
@pytest.mark.parametrize(
    ("command", "code"),
    [("stop", Exit.OK), ("reload", Exit.NOT_RUNNING), ("reopen", Exit.NOT_RUNNING), ("status", Exit.FAILED)],
)
def test_a_process_that_only_looks_like_the_daemon_is_never_signalled(
    machine: Machine, request: pytest.FixtureRequest, whose: str, command: str, code: Exit
) -> None:
    """Its number stands in the pid file, and `econe` in its command line."""
    other: subprocess.Popen[bytes] = request.getfixturevalue(whose)
    machine.pid_file.write_text(f"{other.pid}\n", "ascii")
    done = machine.run(command)
    assert (done.returncode, "econe-server does not run" in done.stdout + done.stderr) == (code, True)
    other.communicate(b"\n")
    assert other.returncode == 0, "it ended by itself"


@pytest.mark.usefixtures("oned")
def test_the_daemon_is_stopped_whatever_number_stands_in_its_pid_file(
    machine: Machine, editor: subprocess.Popen[bytes]
) -> None:
    """The kernel names it, and nobody else gets the signal."""
    assert machine.run("start").returncode == Exit.OK
    daemon = machine.pid
    machine.pid_file.write_text(f"{editor.pid}\n", "ascii")
    assert f"econe-server runs (pid {daemon})" in machine.run("status").stdout
    assert machine.run("stop").stdout == "econe-server stopped\n"
    assert has_ended(daemon)
    assert not machine.pid_file.exists()
    editor.communicate()
    assert editor.returncode == 0


def test_a_wrong_configuration_is_said_and_nothing_is_started_or_stopped(
    machine: Machine, oned: subprocess.Popen[bytes]
) -> None:
    assert oned.poll() is None
    assert machine.run("start").returncode == Exit.OK
    running = machine.pid
    machine.configure(":auth: none\n:one_calls: 0\n")
    for command in ("restart", "check", "doctor", "run"):
        refused = machine.run(command)
        assert refused.returncode == Exit.BAD_CONFIGURATION, command
        assert "econe.conf:4: auth: " in refused.stderr
        assert "econe.conf:5: one_calls: " in refused.stderr
    assert machine.pid == running
    assert machine.holder == running
    assert machine.run("stop").returncode == Exit.OK, "it can be stopped all the same"
    assert machine.run("start").returncode == Exit.BAD_CONFIGURATION


@pytest.mark.usefixtures("oned")
def test_a_new_configuration_is_read_without_a_restart(machine: Machine) -> None:
    """By the same process, which then listens where it now says; a wrong one is found before it is told."""
    assert machine.run("reload").returncode == Exit.NOT_RUNNING
    assert machine.run("start").returncode == Exit.OK
    running = machine.pid
    machine.configure(":port: x\n:workers: 0\n")
    refused = machine.run("reload")
    assert refused.returncode == Exit.BAD_CONFIGURATION
    assert "econe.conf:5: workers: " in refused.stderr
    before, machine.port = machine.port, free_port()
    machine.configure()
    told = machine.run("reload")
    assert (told.returncode, machine.pid) == (Exit.OK, running)
    assert f"(pid {running}) is told to read its configuration" in told.stdout
    processes.until(lambda: answers("127.0.0.1", machine.port), "the new port", PATIENCE)
    processes.until(lambda: not answers("127.0.0.1", before), "the end of the old port", PATIENCE)
    assert machine.run("status").returncode == Exit.OK
    assert machine.run("stop").returncode == Exit.OK


@pytest.mark.usefixtures("oned")
def test_both_ports_are_looked_at_where_there_is_one_for_tls(machine: Machine) -> None:
    """For start and status alike."""
    cert, key = certificates.write_server_pair(machine.location)
    port = free_port()
    machine.configure(f":ssl_port: {port}\n:ssl_cert: {cert}\n:ssl_key: {key}\n")
    started = machine.run("start")
    assert f"listens on 127.0.0.1:{machine.port} and 127.0.0.1:{port} (TLS)" in started.stdout, started.stderr
    assert answers("127.0.0.1", port)
    assert machine.run("status").returncode == Exit.OK
    assert machine.run("stop").returncode == Exit.OK
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen(1)
        refused = machine.run("start")
        assert refused.returncode == Exit.PORT_TAKEN
        assert f"another process listens on 127.0.0.1:{port}" in refused.stderr


def test_a_wrong_file_of_an_instance_type_keeps_it_from_starting(machine: Machine) -> None:
    machine.configure(":use_file_templates: true\n:instance_types:\n  :m1.small:\n    :template: m1.small.erb\n")
    directory = machine.location / "etc/ec2query_templates"
    directory.mkdir()
    (directory / "m1.small.erb").write_text("CPU = 1\nMEMORY = <%= `id` %>\n")
    refused = machine.run("start")
    assert refused.returncode == Exit.BAD_CONFIGURATION
    assert f"{directory}/m1.small.erb:2: m1.small: " in refused.stderr


@pytest.mark.usefixtures("oned")
def test_a_port_that_is_taken_is_said_to_be(machine: Machine) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", machine.port))
        other.listen(1)
        for command in ("start", "run"):
            refused = machine.run(command)
            assert refused.returncode == Exit.PORT_TAKEN
            assert f"another process listens on 127.0.0.1:{machine.port}" in refused.stderr
        status = machine.run("status")
        assert status.returncode == Exit.NOT_RUNNING
        assert "something else listens" in status.stdout


def test_it_starts_while_oned_is_down_with_a_warning_and_check_fails(machine: Machine) -> None:
    started = machine.run("start")
    assert started.returncode == Exit.OK
    assert "does not answer" in started.stdout
    checked = machine.run("check")
    assert checked.returncode == Exit.NO_ANSWER
    assert re.match(r"BAD +oned +http://127\.0\.0\.1:\d+/RPC2: ", checked.stdout)
    assert machine.run("doctor").returncode == Exit.NO_ANSWER
    assert machine.run("stop").returncode == Exit.OK


@pytest.mark.usefixtures("oned")
def test_credentials_that_oned_refuses_keep_it_from_starting(machine: Machine) -> None:
    (machine.location / "var/.one/ec2_auth").write_text("serveradmin:wrong\n", "ascii")
    for command in ("start", "check", "doctor"):
        refused = machine.run(command)
        assert refused.returncode == Exit.REFUSED, command
        assert "wrong\n" not in refused.stderr
    assert not machine.pid_file.exists()


@pytest.mark.usefixtures("oned")
def test_one_that_does_not_end_is_said_to_go_on(machine: Machine) -> None:
    assert machine.run("start").returncode == Exit.OK
    pid = machine.pid
    os.kill(pid, signal.SIGSTOP)
    refused = machine.run("stop", "--timeout", "0.3")
    assert refused.returncode == Exit.FAILED
    assert f"(pid {pid}) has not ended" in refused.stderr
    os.kill(pid, signal.SIGCONT)
    assert machine.run("stop").returncode == Exit.OK


@pytest.mark.usefixtures("oned")
def test_in_the_foreground_it_is_the_daemon_itself(machine: Machine) -> None:
    """So that a supervisor's signals reach it and its end is seen."""
    command = [sys.executable, "-m", "econed.cli.server", "run"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(machine.location / "notify"))
        manager.settimeout(PATIENCE)
        environ = {**machine.environ, "NOTIFY_SOCKET": str(machine.location / "notify")}
        process = subprocess.Popen(command, env=environ, cwd="/", stdout=subprocess.DEVNULL)
        try:
            while b"READY=1" not in manager.recv(4096):
                assert process.poll() is None
            assert answers("127.0.0.1", machine.port)
            assert not machine.pid_file.exists()
        finally:
            process.terminate()
    assert process.wait(PATIENCE) == 0


@pytest.mark.usefixtures("oned")
def test_check_and_doctor_are_content_with_a_cloud_that_is_in_order(machine: Machine) -> None:
    checked = machine.run("check", "--group", "ec2")
    assert checked.returncode == Exit.OK, checked.stdout
    assert "ok    group ec2" in checked.stdout
    assert machine.run("doctor", "--fix").returncode == Exit.OK
    unknown = machine.run("check", "--group", "nobody")
    assert unknown.returncode == Exit.FAILED
    assert "there is no such group" in unknown.stdout


def test_a_command_that_there_is_not_is_a_mistake_in_using_it(machine: Machine) -> None:
    assert machine.run("begin").returncode == Exit.USAGE
