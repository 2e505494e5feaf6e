"""The installed package on a system that systemd has booted: start, reload, stop, upgrade and removal."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packages.booted import System, booted
from tests.packages.newer import extracted, newer_package
from tests.packages.root import bootable_root
from tests.packages.service import CONF, REJECTED, SERVICE, SOCKET, configure, main_pid, start
from tests.support.certificates import Authority
from tests.support.processes import STARTING, until


@pytest.fixture
def system(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Iterator[System]:
    """A booted system with econed and serveradmin's credentials, for a single test. No oned is running there."""
    root = bootable_root(tmp_path_factory).copy(tmp_path / "root")
    configure(root)
    with booted(root) as system:
        yield system
    shutil.rmtree(root.path)


@pytest.fixture
def newer(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A package of a later version."""
    return newer_package(extracted(tmp_path_factory), tmp_path / "newer")


# Without packages


def test_systemctl_starts_reloads_and_stops_econed(system: System) -> None:
    """A reload keeps the main process, and a stop of both units closes the port."""
    assert (system.state(SERVICE), system.state(SOCKET)) == ("inactive", "inactive")
    assert system.status() is None
    start(system)
    assert system.status() == REJECTED
    pid_before = main_pid(system)
    with system.load() as outcomes:
        system.run("systemctl", "reload", SERVICE)
        until(lambda: "the new configuration is in use" in _journal(system), "the reload", STARTING)
    assert outcomes.keys() == {str(REJECTED)}
    assert main_pid(system) == pid_before
    system.run("systemctl", "stop", SOCKET, SERVICE)
    assert system.status() is None
    assert system.show(SERVICE, "Result") == "success"


@pytest.mark.parametrize("units", [(SERVICE,), (SOCKET, SERVICE)], ids=["without the socket", "with the socket"])
def test_a_reload_with_errors_fails_and_says_why(system: System, units: tuple[str, ...]) -> None:
    """By systemctl, and beforehand by configtest, which root runs; the daemon goes on."""
    system.run("systemctl", "start", *units)
    pid_before = main_pid(system)
    assert "nothing would keep econed from starting" in system.run("econe-server", "configtest")
    conf = system.root / CONF
    valid = conf.read_text("utf-8")
    for name in ("cert", "key"):
        (system.root / f"/etc/one/{name}.pem").write_text("garbage", "ascii")
    for text, reason in (
        (":workers: none\n", "workers: expected auto or a number"),
        (":ssl_cert: /etc/one/cert.pem\n:ssl_key: /etc/one/key.pem\n", "ssl_cert: expected a certificate in PEM"),
    ):
        conf.write_text(valid.replace(":workers: 1\n", "") + text, "utf-8")
        for command in (("systemctl", "reload", SERVICE), ("econe-server", "configtest")):
            assert system.tried(*command).returncode != 0, command
        assert reason in _journal(system, "--priority=warning")
        assert reason in system.tried("systemctl", "status", "--full", SERVICE).stdout
    conf.write_text(valid, "utf-8")
    system.run("systemctl", "reload", SERVICE)
    assert main_pid(system) == pid_before
    assert system.status() == REJECTED


def test_the_ports_of_the_socket_unit_are_changed_while_clients_connect(system: System) -> None:
    """By the commands of the guide. A connection to the old socket does not start the service in between."""
    start(system)
    drop_in = system.root / "/etc/systemd/system/econe.socket.d/override.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Socket]\nListenStream=\nListenStream=127.0.0.1:4567\nListenStream=0.0.0.0:443\n", "ascii")
    system.run("systemctl", "daemon-reload")
    with system.load():
        system.run("systemctl", "stop", SOCKET, SERVICE)
        system.run("systemctl", "start", SOCKET, SERVICE)
    assert (system.state(SERVICE), system.state(SOCKET)) == ("active", "active")
    assert (system.status(4567), system.status(443)) == (REJECTED, REJECTED)


def test_a_socket_unit_without_the_port_for_tls_is_reported_before_a_start(system: System) -> None:
    """By configtest; a start fails, and says why too."""
    Authority().server("localhost").write(system.root / "/etc/one", "server")
    system.run("chown", "oneadmin:oneadmin", "/etc/one/server-cert.pem", "/etc/one/server-key.pem")
    with (system.root / CONF).open("a", encoding="utf-8") as conf:
        conf.write(":ssl_cert: /etc/one/server-cert.pem\n:ssl_key: /etc/one/server-key.pem\n:ssl_port: 4568\n")
    assert system.tried("econe-server", "configtest").returncode == 0
    system.run("systemctl", "start", SOCKET)
    reason = "none of the sockets that systemd passes is on ssl_port (4568)"
    refused = system.tried("econe-server", "configtest")
    assert (refused.returncode, reason in refused.stderr) == (4, True)
    assert system.tried("systemctl", "start", SERVICE).returncode != 0
    assert "is on ssl_port (4568)" in _journal(system)


def test_the_service_runs_with_the_drop_in_for_servers_without_scripts(system: System) -> None:
    """The guide installs it with these commands; a reload works too. A log elsewhere is refused with the reason."""
    start(system)
    directory = "/etc/systemd/system/econe.service.d"
    system.run("mkdir", "-p", directory)
    system.run("cp", "/usr/share/doc/econed/examples/systemd/drop-ins/without-scripts.conf", directory)
    system.run("systemctl", "daemon-reload")
    system.run("systemctl", "restart", SERVICE)
    assert system.show(SERVICE, "NoNewPrivileges") == "yes"
    assert system.status() == REJECTED
    pid_before = main_pid(system)
    system.run("systemctl", "reload", SERVICE)
    until(lambda: "the new configuration is in use" in _journal(system), "the reload", STARTING)
    system.run("install", "-d", "-o", "oneadmin", "/srv/log")
    with (system.root / CONF).open("a", encoding="utf-8") as conf:
        conf.write(":log_file: /srv/log/econe.log\n")
    assert system.tried("systemctl", "reload", SERVICE).returncode != 0
    assert "/srv/log: Read-only file system" in _journal(system)
    assert main_pid(system) == pid_before
    assert system.status() == REJECTED


def test_the_command_names_the_service_if_it_runs(system: System) -> None:
    """`status` is 0; the commands for a daemon of `econe-server start` leave the service alone."""
    assert system.tried("econe-server", "status").returncode == 3
    start(system)
    pid_before = main_pid(system)
    expected = {"status": 0, "stop": 0, "start": 5, "restart": 5, "reload": 3, "reopen": 3}
    for command, code in expected.items():
        completed = system.tried("econe-server", command)
        assert completed.returncode == code, command
        assert f"as econe.service (pid {pid_before})" in completed.stdout + completed.stderr, command
    other = system.tried("econe-server", "status", "--config", "/etc/one/other.conf")
    assert (other.returncode, "econe.service" in other.stderr) == (3, False)
    assert main_pid(system) == pid_before
    assert system.status() == REJECTED


def _journal(system: System, *options: str) -> str:
    return system.run("journalctl", "--unit", SERVICE, "--output=cat", *options)


# Packages


def test_an_upgrade_refuses_no_connection_and_closes_no_port(system: System, newer: Path) -> None:
    """Connections wait in the socket until the new version serves them."""
    start(system)
    pid_before = main_pid(system)
    with system.load() as outcomes:
        assert system.status() == REJECTED
        system.install(newer)
        assert system.status() == REJECTED
    assert outcomes.keys() == {str(REJECTED)}
    assert (system.state(SERVICE), system.state(SOCKET)) == ("active", "active")
    assert main_pid(system) != pid_before


def test_an_upgrade_restarts_a_service_without_its_socket(system: System, newer: Path) -> None:
    """It does not start the socket unit, and the service listens on the port of econe.conf."""
    system.run("systemctl", "start", SERVICE)
    pid_before = main_pid(system)
    system.install(newer)
    assert (system.state(SERVICE), system.state(SOCKET)) == ("active", "inactive")
    assert main_pid(system) != pid_before
    assert system.status() == REJECTED


def test_an_upgrade_starts_nothing_that_is_stopped(system: System, newer: Path) -> None:
    system.install(newer)
    assert (system.state(SERVICE), system.state(SOCKET)) == ("inactive", "inactive")


def test_a_removal_stops_the_units_and_closes_the_port(system: System) -> None:
    """After a purge systemd knows neither of them."""
    start(system)
    system.run("dpkg", "--remove", "econed")
    assert system.status() is None
    system.run("dpkg", "--purge", "econed")
    assert {system.show(unit, "LoadState") for unit in (SERVICE, SOCKET)} == {"not-found"}
    assert not list((system.root / "/etc/systemd").rglob("econe*"))


# A daemon that systemd does not know


PID_FILE = "/run/one/econe-server.pid"
OTHER_PORT = 4599
OTHER_OPTIONS = ("--config", "/etc/one/other.conf", "--logfile", "/var/log/one/other.log")
ONED = "http://127.0.0.1:4999/RPC2"


def _start_in_the_background(system: System) -> None:
    """Start a daemon by `econe-server start`, with a configuration and a log of its own, for another oned."""
    (system.root / "/etc/one/other.conf").write_text(f":port: {OTHER_PORT}\n", "utf-8")
    environment = ("env", f"ONE_XMLRPC={ONED}")
    system.run("runuser", "-u", "oneadmin", "--", *environment, "econe-server", *OTHER_OPTIONS, "start")


def _background_pid(system: System) -> int:
    return int(system.run("cat", PID_FILE))


def test_an_upgrade_restarts_a_daemon_that_econe_server_started(system: System, newer: Path) -> None:
    """It keeps its options and the variables of OpenNebula, and its account."""
    _start_in_the_background(system)
    pid = _background_pid(system)
    system.install(newer)
    process = f"/proc/{_background_pid(system)}"
    assert process != f"/proc/{pid}"
    assert system.status(OTHER_PORT) == REJECTED
    arguments = system.run("cat", f"{process}/cmdline").split("\0")
    assert {"--config", "/etc/one/other.conf", "--logfile=/var/log/one/other.log"} <= set(arguments)
    assert f"ONE_XMLRPC={ONED}" in system.run("cat", f"{process}/environ").split("\0")
    assert system.run("stat", "-c", "%U", process) == "oneadmin\n"


def test_an_upgrade_keeps_a_daemon_that_could_not_start_again(system: System, newer: Path) -> None:
    """It goes on with the old version, and the output of apt says so."""
    _start_in_the_background(system)
    pid = _background_pid(system)
    (system.root / "/etc/one/other.conf").write_text(":port: none\n", "utf-8")
    output = system.install(newer)
    assert "/etc/one/other.conf:1: port:" in output
    assert "the old version runs until you restart it" in output
    assert _background_pid(system) == pid
    assert system.status(OTHER_PORT) == REJECTED


def test_an_upgrade_starts_no_daemon_that_has_died(system: System, newer: Path) -> None:
    """Its pid file may name another process by then."""
    system.run("runuser", "-u", "oneadmin", "--", "sh", "-c", f"echo 1 >{PID_FILE}")
    system.install(newer)
    assert system.status() is None


def test_a_removal_stops_a_daemon_that_econe_server_started(system: System) -> None:
    _start_in_the_background(system)
    pid = _background_pid(system)
    system.run("dpkg", "--remove", "econed")
    assert system.status(OTHER_PORT) is None
    assert system.tried("test", "-e", f"/proc/{pid}").returncode == 1
