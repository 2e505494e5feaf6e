"""`econe-server` in real processes, with a sandbox as oned; the fixtures stop every process by its pid."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from econed.cli.installation import Exit, Installation
from econed.cli.process import accepts_connections
from tests.cli.host import TIMEOUT, Host, has_exited
from tests.support import certificates, processes
from tests.support.ports import free_port

pytestmark = pytest.mark.slow


def test_the_paths_are_those_of_the_server_of_opennebula() -> None:
    no_options: dict[str, Path | None] = {"conf": None, "pid_file": None, "log_file": None}
    assert Installation.locate({}, **no_options) == Installation(
        Path("/etc/one/econe.conf"), Path("/var/run/one/econe-server.pid"), Path("/var/log/one/econe.log")
    )
    assert Installation.locate({"ONE_LOCATION": "/opt/one"}, **no_options) == Installation(
        Path("/opt/one/etc/econe.conf"), Path("/opt/one/var/econe-server.pid"), Path("/opt/one/var/econe.log")
    )


@pytest.mark.usefixtures("oned")
def test_start_status_restart_and_stop(host: Host) -> None:
    assert host.run("status").returncode == Exit.NOT_RUNNING
    started = host.run("start")
    assert started.returncode == Exit.OK, started.stderr
    first = host.pid
    assert f"started (pid {first}), listening on 127.0.0.1:{host.port}" in started.stdout
    assert accepts_connections("127.0.0.1", host.port)
    assert (host.location / "var/econe.log").exists()
    command = Path(f"/proc/{first}/cmdline").read_text("utf-8").split("\0")
    assert "-c" not in command, "the list of processes names what runs, not its code"
    assert ("econed.cli.twistd" in command, "econe" in command) == (True, True)

    status = host.run("status")
    assert (status.returncode, status.stdout) == (
        Exit.OK,
        f"econe-server is running (pid {first}), listening on 127.0.0.1:{host.port}\n",
    )
    again = host.run("start")
    assert (again.returncode, again.stdout) == (Exit.OK, f"econe-server is already running (pid {first})\n")

    assert host.run("restart").returncode == Exit.OK
    second = host.pid
    assert second != first
    assert has_exited(first)

    stopped = host.run("stop")
    assert (stopped.returncode, stopped.stdout) == (Exit.OK, "econe-server stopped\n")
    assert has_exited(second)
    assert not host.pid_file.exists()
    assert not accepts_connections("127.0.0.1", host.port)
    assert host.run("stop").returncode == Exit.OK, "stopping a stopped daemon is not an error"


@pytest.mark.usefixtures("oned")
def test_a_stale_pid_file_does_not_prevent_a_start(host: Host) -> None:
    """Not even if another process has the id by now."""
    assert host.run("start").returncode == Exit.OK
    dead_pid = host.pid
    os.kill(dead_pid, signal.SIGKILL)
    processes.until(lambda: host.holder is None, "the exit of the daemon", TIMEOUT)
    status = host.run("status")
    assert status.returncode == Exit.FAILED
    assert "the daemon has died" in status.stderr
    host.pid_file.write_text(str(os.getpid()), "ascii")
    started = host.run("start")
    assert started.returncode == Exit.OK, started.stderr
    assert "its process has died" in started.stdout
    assert host.pid not in (dead_pid, os.getpid())
    assert host.run("stop").returncode == Exit.OK


@pytest.mark.usefixtures("oned")
def test_the_group_may_read_a_log_that_is_opened_again(host: Host) -> None:
    """After a rotation, as after the start."""
    assert host.run("start").returncode == Exit.OK
    log = host.location / "var/econe.log"
    log.rename(log.with_suffix(".1"))
    assert host.run("reopen").returncode == Exit.OK
    processes.until(log.exists, "the log", TIMEOUT)
    assert stat.S_IMODE(log.stat().st_mode) == 0o640
    assert host.run("stop").returncode == Exit.OK


@pytest.fixture
def editor(host: Host) -> Iterator[subprocess.Popen[bytes]]:
    """An editor that has econe.conf open: a process with `econe` in its command line."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()", str(host.location / "etc/econe.conf")]
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


@pytest.mark.parametrize("fixture", ["editor", "shell"])
@pytest.mark.parametrize(
    ("command", "code"),
    [("stop", Exit.OK), ("reload", Exit.NOT_RUNNING), ("reopen", Exit.NOT_RUNNING), ("status", Exit.FAILED)],
)
def test_a_process_that_is_not_the_daemon_is_never_signalled(
    host: Host, request: pytest.FixtureRequest, fixture: str, command: str, code: Exit
) -> None:
    """Its id is in the pid file, and `econe` in its command line."""
    other: subprocess.Popen[bytes] = request.getfixturevalue(fixture)
    host.pid_file.write_text(f"{other.pid}\n", "ascii")
    completed = host.run(command)
    assert (completed.returncode, "econe-server is not running" in completed.stdout + completed.stderr) == (code, True)
    other.communicate(b"\n")
    assert other.returncode == 0, "it was not killed"


@pytest.mark.usefixtures("oned")
def test_the_daemon_is_stopped_even_if_its_pid_file_has_another_id(host: Host, editor: subprocess.Popen[bytes]) -> None:
    """The process is found by its lock on the file; no other process gets the signal."""
    assert host.run("start").returncode == Exit.OK
    daemon_pid = host.pid
    host.pid_file.write_text(f"{editor.pid}\n", "ascii")
    assert f"econe-server is running (pid {daemon_pid})" in host.run("status").stdout
    assert host.run("stop").stdout == "econe-server stopped\n"
    assert has_exited(daemon_pid)
    assert not host.pid_file.exists()
    editor.communicate()
    assert editor.returncode == 0


def test_an_invalid_configuration_is_reported_and_nothing_is_started_or_stopped(
    host: Host, oned: subprocess.Popen[bytes]
) -> None:
    assert oned.poll() is None
    assert host.run("start").returncode == Exit.OK
    running_pid = host.pid
    host.configure(":auth: none\n:one_calls: 0\n")
    for command in ("restart", "check", "doctor", "run"):
        refused = host.run(command)
        assert refused.returncode == Exit.BAD_CONFIGURATION, command
        assert "econe.conf:4: auth: " in refused.stderr
        assert "econe.conf:5: one_calls: " in refused.stderr
    assert host.pid == running_pid
    assert host.holder == running_pid
    assert host.run("stop").returncode == Exit.OK, "the daemon can be stopped nevertheless"
    assert host.run("start").returncode == Exit.BAD_CONFIGURATION


@pytest.mark.usefixtures("oned")
def test_a_new_configuration_is_loaded_without_a_restart(host: Host) -> None:
    """The same process then listens on the new port; an invalid configuration is rejected, without a signal."""
    assert host.run("reload").returncode == Exit.NOT_RUNNING
    assert host.run("start").returncode == Exit.OK
    running_pid = host.pid
    host.configure(":port: x\n:workers: 0\n")
    refused = host.run("reload")
    assert refused.returncode == Exit.BAD_CONFIGURATION
    assert "econe.conf:5: workers: " in refused.stderr
    old_port, host.port = host.port, free_port()
    host.configure()
    reloaded = host.run("reload")
    assert (reloaded.returncode, host.pid) == (Exit.OK, running_pid)
    assert f"(pid {running_pid}) is reloading its configuration" in reloaded.stdout
    processes.until(lambda: accepts_connections("127.0.0.1", host.port), "the new port", TIMEOUT)
    processes.until(lambda: not accepts_connections("127.0.0.1", old_port), "the old port to be closed", TIMEOUT)
    assert host.run("status").returncode == Exit.OK
    assert host.run("stop").returncode == Exit.OK


@pytest.mark.usefixtures("oned")
def test_start_and_status_check_the_port_for_tls_as_well(host: Host) -> None:
    cert, key = certificates.write_server_pair(host.location)
    port = free_port()
    host.configure(f":ssl_port: {port}\n:ssl_cert: {cert}\n:ssl_key: {key}\n")
    started = host.run("start")
    assert f"listening on 127.0.0.1:{host.port} and 127.0.0.1:{port} (TLS)" in started.stdout, started.stderr
    assert accepts_connections("127.0.0.1", port)
    assert host.run("status").returncode == Exit.OK
    assert host.run("stop").returncode == Exit.OK
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen(1)
        refused = host.run("start")
        assert refused.returncode == Exit.PORT_TAKEN
        assert f"another process listens on 127.0.0.1:{port}" in refused.stderr


def test_an_invalid_instance_type_file_prevents_a_start(host: Host) -> None:
    host.configure(":use_file_templates: true\n:instance_types:\n  :m1.small:\n    :template: m1.small.erb\n")
    directory = host.location / "etc/ec2query_templates"
    directory.mkdir()
    (directory / "m1.small.erb").write_text("CPU = 1\nMEMORY = <%= `id` %>\n")
    refused = host.run("start")
    assert refused.returncode == Exit.BAD_CONFIGURATION
    assert f"{directory}/m1.small.erb:2: m1.small: " in refused.stderr


@pytest.mark.usefixtures("oned")
def test_a_port_in_use_is_reported(host: Host) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", host.port))
        other.listen(1)
        for command in ("start", "run"):
            refused = host.run(command)
            assert refused.returncode == Exit.PORT_TAKEN
            assert f"another process listens on 127.0.0.1:{host.port}" in refused.stderr
        status = host.run("status")
        assert status.returncode == Exit.NOT_RUNNING
        assert "another process listens" in status.stdout


def test_while_oned_is_down_start_succeeds_with_a_warning_and_check_fails(host: Host) -> None:
    started = host.run("start")
    assert started.returncode == Exit.OK
    assert "does not reply" in started.stdout
    check = host.run("check")
    assert check.returncode == Exit.NO_REPLY
    assert re.match(r"BAD +oned +http://127\.0\.0\.1:\d+/RPC2: ", check.stdout)
    assert host.run("doctor").returncode == Exit.NO_REPLY
    assert host.run("stop").returncode == Exit.OK


@pytest.mark.usefixtures("oned")
def test_credentials_that_oned_rejects_prevent_a_start(host: Host) -> None:
    (host.location / "var/.one/ec2_auth").write_text("serveradmin:wrong\n", "ascii")
    for command in ("start", "check", "doctor"):
        refused = host.run(command)
        assert refused.returncode == Exit.REFUSED, command
        assert "wrong\n" not in refused.stderr
        assert command != "check" or "rejects the credentials of serveradmin\n" in refused.stdout
    assert not host.pid_file.exists()


@pytest.mark.usefixtures("oned")
def test_a_daemon_that_does_not_exit_in_time_is_reported(host: Host) -> None:
    assert host.run("start").returncode == Exit.OK
    pid = host.pid
    os.kill(pid, signal.SIGSTOP)
    refused = host.run("stop", "--timeout", "0.3")
    assert refused.returncode == Exit.FAILED
    assert f"(pid {pid}) is still running" in refused.stderr
    os.kill(pid, signal.SIGCONT)
    assert host.run("stop").returncode == Exit.OK


@pytest.mark.usefixtures("oned")
def test_run_replaces_its_process_by_the_daemon(host: Host) -> None:
    """A service manager's signals reach the daemon, and its exit is noticed."""
    command = host.command("run")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        notifications.bind(str(host.location / "notify"))
        notifications.settimeout(TIMEOUT)
        environ = {**host.environ, "NOTIFY_SOCKET": str(host.location / "notify")}
        process = subprocess.Popen(command, env=environ, cwd="/", stdout=subprocess.DEVNULL)
        try:
            while b"READY=1" not in notifications.recv(4096):
                assert process.poll() is None
            assert accepts_connections("127.0.0.1", host.port)
            assert not host.pid_file.exists()
        finally:
            process.terminate()
    assert process.wait(TIMEOUT) == 0


@pytest.mark.usefixtures("oned")
def test_check_and_doctor_find_nothing_in_a_correct_cloud(host: Host) -> None:
    check = host.run("check", "--group", "ec2")
    assert check.returncode == Exit.OK, check.stdout
    assert "ok    group ec2" in check.stdout
    assert host.run("doctor", "--fix").returncode == Exit.OK
    check = host.run("check", "--group", "nobody")
    assert check.returncode == Exit.FAILED
    assert "there is no such group" in check.stdout


def test_an_unknown_command_is_a_usage_error(host: Host) -> None:
    assert host.run("begin").returncode == Exit.USAGE
