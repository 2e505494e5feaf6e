"""No command of `econe-server` stops or reloads a daemon that would then not serve; `configtest` says why before."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from econed.cli.account import become
from econed.cli.installation import Exit
from econed.cli.options import parse
from econed.cli.process import accepts_connections
from econed.cli.running import ServiceState, parse_state
from econed.process.pid_file import PidFile
from tests.cli.host import Host
from tests.support.certificates import Authority, key_pem, rsa_key, write_server_pair
from tests.support.tools import cannot_run

NOBODY = "nobody"


@pytest.mark.slow
@pytest.mark.usefixtures("oned")
def test_what_runs_is_neither_stopped_nor_reloaded_if_it_could_not_start(host: Host, tmp_path: Path) -> None:
    """Each command answers with an exit code and the reason; the daemon stays the same process, and serves."""
    cert, key = write_server_pair(tmp_path)
    (tmp_path / "garbage.pem").write_text("garbage", "ascii")
    (tmp_path / "locked.pem").write_bytes(key_pem(rsa_key(), b"secret"))
    (tmp_path / "other.pem").write_bytes(key_pem(rsa_key()))
    assert host.run("start").returncode == Exit.OK
    running_pid = host.pid
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        taken_text = f"another process listens on 127.0.0.1:{taken}"
        refused = {
            f":ssl_cert: {tmp_path}/garbage.pem\n:ssl_key: {key}\n": (4, "expected a certificate in PEM"),
            f":ssl_cert: {cert}\n:ssl_key: {tmp_path}/locked.pem\n": (4, "has a passphrase"),
            f":ssl_cert: {cert}\n:ssl_key: {tmp_path}/other.pem\n": (4, "is not the certificate of the key in"),
            f":admin_port: {taken}\n": (5, taken_text),
            f":ssl_cert: {cert}\n:ssl_key: {key}\n:ssl_port: {taken}\n": (5, taken_text),
            f":log_file: {tmp_path}/nowhere/econe.log\n": (4, "the log cannot be opened: "),
        }
        for text, (code, reason) in refused.items():
            host.configure(text)
            for command in ("configtest", "restart", "reload"):
                completed = host.run(command)
                assert (completed.returncode, reason in completed.stderr) == (code, True), (command, completed.stderr)
            assert host.holder == running_pid
        service = host.run("configtest", "--service", MAINPID=str(running_pid))
        assert (service.returncode, "the log cannot be opened" in service.stderr) == (4, True)
    host.configure()
    for options, variables in ((("configtest",), {}), (("configtest", "--service"), {"MAINPID": str(running_pid)})):
        completed = host.run(*options, **variables)
        assert completed.returncode == Exit.OK, completed.stderr
        assert "nothing would keep econed from starting" in completed.stdout
    assert accepts_connections("127.0.0.1", host.port)
    assert host.pid == running_pid


@pytest.mark.slow
@pytest.mark.usefixtures("oned")
def test_a_restart_is_refused_before_the_stop_if_oned_rejects_the_credentials(host: Host) -> None:
    assert host.run("start").returncode == Exit.OK
    running_pid = host.pid
    (host.location / "var/.one/ec2_auth").write_text("serveradmin:wrong\n", "ascii")
    assert host.run("restart").returncode == Exit.REFUSED
    assert host.holder == running_pid


@pytest.mark.slow
def test_configtest_needs_neither_oned_nor_a_daemon(host: Host, tmp_path: Path) -> None:
    """A certificate that expires soon is a warning. For a unit, systemd may hold the ports."""
    issued = Authority().server("127.0.0.1", days=5).write(tmp_path, "own")
    host.configure(f":ssl_cert: {issued.cert}\n:ssl_key: {issued.key}\n")
    completed = host.run("configtest")
    assert completed.returncode == Exit.OK, completed.stderr
    assert "warning: " in completed.stdout
    assert "expires soon" in completed.stdout
    with socket.create_server(("127.0.0.1", host.port)):
        assert host.run("configtest").returncode == Exit.PORT_TAKEN
        service = host.run("configtest", "--service")
        assert (service.returncode, "the ports are tested when econed binds them" in service.stdout) == (Exit.OK, True)


@pytest.mark.slow
@pytest.mark.usefixtures("oned")
def test_check_has_rows_for_warnings_and_ports(host: Host, tmp_path: Path) -> None:
    issued = Authority().server("127.0.0.1", days=5).write(tmp_path, "own")
    host.configure(f":ssl_cert: {issued.cert}\n:ssl_key: {issued.key}\n")
    with socket.create_server(("127.0.0.1", host.port)):
        completed = host.run("check", "--group", "ec2")
    assert completed.returncode == Exit.FAILED
    assert f"another process listens on 127.0.0.1:{host.port}" in completed.stdout
    assert "expires soon" in completed.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("oned")
def test_no_file_is_needed_if_the_environment_has_the_keys(host: Host) -> None:
    """The workers have them from the supervisor's environment."""
    (host.location / "etc/econe.conf").unlink()
    assert host.run("start").returncode == Exit.BAD_CONFIGURATION
    variables = {
        "ECONE_HOST": "127.0.0.1",
        "ECONE_PORT": str(host.port),
        "ECONE_ONE_XMLRPC": f"http://127.0.0.1:{host.oned_port}/RPC2",
    }
    started = host.run("start", **variables)
    assert started.returncode == Exit.OK, started.stderr
    assert accepts_connections("127.0.0.1", host.port)
    assert host.run("check", "--group", "ec2", **variables).returncode == Exit.OK
    assert host.run("stop").returncode == Exit.OK


@pytest.mark.slow
@pytest.mark.usefixtures("oned")
def test_the_status_of_a_daemon_with_an_invalid_configuration_is_unknown(host: Host) -> None:
    """The exit code is LSB's for that, and not 0."""
    assert host.run("start").returncode == Exit.OK
    host.configure(":port: x\n")
    completed = host.run("status")
    assert completed.returncode == Exit.BAD_CONFIGURATION
    assert f"is running (pid {host.pid})" in completed.stderr
    assert host.run("stop").returncode == Exit.OK
    assert host.run("status").returncode == Exit.NOT_RUNNING


def _python_of_all() -> str:
    """Return a Python of this version that every account can run: that of the tests may be in root's directory."""
    python = next(filter(_runs_as_nobody, (sys.executable, "/usr/bin/python3")), None)
    return python or cannot_run(f"no Python {sys.version_info[0]}.{sys.version_info[1]} that {NOBODY} can run")


def _runs_as_nobody(python: str) -> bool:
    code = f"import encodings.idna, sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    with suppress(PermissionError):
        return subprocess.run([python, "-c", code], cwd="/", user=NOBODY, check=False).returncode == 0
    return False


@pytest.fixture
def of_nobody(host: Host) -> Iterator[Host]:
    """A copy of the installation that belongs to another account than root, and that this account can reach."""
    if os.geteuid() != 0:
        cannot_run("only root can give up its rights")
    account = pwd.getpwnam(NOBODY)
    with tempfile.TemporaryDirectory(prefix="econed-test-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        shutil.copytree(host.location, directory / "one")
        for path in (directory / "one", *(directory / "one").rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid)
        moved = Host(directory / "one", host.port, host.oned_port, NOBODY, _python_of_all())
        yield moved
        with PidFile(moved.pid_file).daemon() as running:
            if running is not None:
                running.send(signal.SIGKILL)
                running.wait(10)


@pytest.mark.slow
def test_root_starts_the_daemon_as_the_account_of_opennebula(of_nobody: Host) -> None:
    """No file is left that the account could not write, and root can stop the daemon."""
    account = pwd.getpwnam(NOBODY)
    started = of_nobody.run("start")
    assert started.returncode == Exit.OK, started.stderr
    status = Path(f"/proc/{of_nobody.pid}/status").read_text("ascii")
    assert f"Uid:\t{account.pw_uid}\t{account.pw_uid}\t{account.pw_uid}\t{account.pw_uid}" in status
    assert {path.stat().st_uid for path in of_nobody.location.rglob("*")} == {account.pw_uid}
    assert of_nobody.run("stop").returncode == Exit.OK


@pytest.mark.slow
def test_root_runs_the_daemon_in_the_foreground_from_a_directory_of_their_own(of_nobody: Host, tmp_path: Path) -> None:
    """The account of the daemon has no access to it, as to /root."""
    tmp_path.chmod(0o700)
    process = subprocess.Popen(
        of_nobody.command("run"),
        env=of_nobody.environ,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert any(" listens" in line for line in iter(process.stdout.readline, ""))
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.slow
def test_a_log_that_root_has_left_behind_is_reported(of_nobody: Host) -> None:
    log = of_nobody.location / "var/econe.log"
    log.touch(0o640)
    refused = of_nobody.run("start")
    assert refused.returncode == Exit.BAD_CONFIGURATION
    assert f"{log}: the log cannot be opened: Permission denied for {NOBODY}, it belongs to root" in refused.stderr
    assert of_nobody.holder is None


@pytest.mark.slow
def test_the_sockets_of_systemd_are_passed_on_to_the_daemon_that_root_runs(of_nobody: Host) -> None:
    """As in a unit without `User=`."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        script = f'LISTEN_PID=$$ exec "$@" 3<&{held.fileno()}'
        process = subprocess.Popen(
            ["bash", "-c", script, "bash", *of_nobody.command("run")],
            env=of_nobody.environ | {"LISTEN_FDS": "1"},
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=[held.fileno()],
        )
        assert process.stdout is not None
        try:
            lines = iter(process.stdout.readline, "")
            started = next((line for line in lines if " listens" in line or "EC2Site starting" in line), "")
            assert f"EC2Site starting on {port}" in started
            assert Path(f"/proc/{process.pid}").stat().st_uid == pwd.getpwnam(NOBODY).pw_uid
        finally:
            process.terminate()
            process.communicate(timeout=60)


def test_an_account_that_does_not_exist_is_refused(host: Host) -> None:
    host.user = "no-such-account"
    for command in ("start", "configtest", "check"):
        refused = host.run(command)
        assert refused.returncode == Exit.FAILED
        assert "there is no account no-such-account" in refused.stderr


def test_the_account_of_the_tests_keeps_its_environment() -> None:
    environ = {"HOME": "/somewhere"}
    assert become(pwd.getpwuid(os.geteuid()).pw_name, environ) is environ


def test_options_may_come_before_and_after_the_command() -> None:
    for arguments in (["--config", "a.conf", "status"], ["status", "--config", "a.conf"], ["status", "-c", "a.conf"]):
        options = parse(arguments)
        assert (options.command, options.config, options.pidfile) == ("status", Path("a.conf"), None)
    options = parse(["--pidfile", "a.pid", "stop", "--timeout", "3", "--logfile", "a.log"])
    assert (options.pidfile, options.logfile, options.timeout) == (Path("a.pid"), Path("a.log"), 3.0)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    from econed import __version__

    with pytest.raises(SystemExit) as caught:
        parse(["--version"])
    assert (caught.value.code, capsys.readouterr().out) == (0, f"econed {__version__}\n")


def test_a_service_counts_only_if_it_runs_with_the_same_configuration(tmp_path: Path) -> None:
    conf = tmp_path / "econe.conf"
    argv = [sys.executable, "-c", "print(flush=True); input()", "--config", str(conf)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()  # before a process runs, its command line may be empty
        state = ServiceState(process.pid)
        assert state.pid_with(conf) == process.pid
        assert state.pid_with(tmp_path / "other.conf") is None
        process.stdin.write(b"\n")
    assert state.pid_with(conf) is None
    assert ServiceState().pid_with(conf) is None


def test_the_state_of_the_units_is_read_from_systemctl() -> None:
    """As systemd 252 prints it, without the lines of sockets that are not TCP."""
    sockets = ("127.0.0.1:4567 (Stream)", "[::]:443 (Stream)", "/run/5 (Stream)", "[::]:53 (Datagram)")
    lines = "".join(f"Listen={name}\n" for name in sockets)
    answer = f"MainPID={{}}\nActiveState=active\n\n{lines}ActiveState={{}}\n"
    assert parse_state(answer.format(12, "active")) == ServiceState(12, frozenset({4567, 443}))
    assert parse_state(answer.format(0, "inactive")) == ServiceState(None, None)
    assert parse_state("") == ServiceState()


def test_the_commands_run_without_a_service_manager() -> None:
    """Systemctl is missing in containers."""
    code = "from econed.cli.running import ServiceState, service_state; print(service_state() == ServiceState())"
    completed = subprocess.run(
        [sys.executable, "-c", code], env={"PATH": "/nowhere"}, capture_output=True, text=True, check=True
    )
    assert completed.stdout == "True\n"
