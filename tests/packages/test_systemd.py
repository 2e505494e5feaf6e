"""The installed package on a system that systemd has booted: start, reload, stop, upgrade and removal."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packages.booted import System, booted
from tests.packages.newer import extracted, newer_package
from tests.packages.root import Root, bootable_root
from tests.support.processes import STARTING, until

CONF = "/etc/one/econe.conf"
SERVICE, SOCKET = "econe.service", "econe.socket"
REJECTED = 403
"""The status of the response to an unsigned request."""


@pytest.fixture
def system(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Iterator[System]:
    """A booted system with econed and serveradmin's credentials, for a single test. No oned is running there."""
    root = bootable_root(tmp_path_factory).copy(tmp_path / "root")
    _write_credentials(root)
    conf = root / CONF
    text = conf.read_text("utf-8").replace(":failed_signatures: 120", ":failed_signatures: false")
    conf.write_text(text, "utf-8")  # the requests of the tests are not signed
    with booted(root) as system:
        yield system
    shutil.rmtree(root.path)


def _write_credentials(root: Root) -> None:
    credentials = root / "/var/lib/one/.one/sunstone_auth"
    credentials.parent.mkdir(parents=True)
    credentials.write_text("serveradmin:secret\n", "utf-8")
    credentials.chmod(0o600)
    root.run("chown", "--recursive", "oneadmin:oneadmin", "/var/lib/one")


@pytest.fixture
def newer(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A package of a later version."""
    return newer_package(extracted(tmp_path_factory), tmp_path / "newer")


def _start(system: System) -> None:
    """Start the units as the guide says."""
    system.run("systemctl", "enable", "--now", SOCKET, SERVICE)


def _main_pid(system: System) -> int:
    return int(system.show(SERVICE, "MainPID"))


# Without packages


def test_systemctl_starts_reloads_and_stops_econed(system: System) -> None:
    """A reload keeps the main process, and a stop of both units closes the port."""
    assert (system.state(SERVICE), system.state(SOCKET)) == ("inactive", "inactive")
    assert system.status() is None
    _start(system)
    assert system.status() == REJECTED
    main_pid = _main_pid(system)
    with system.load() as outcomes:
        system.run("systemctl", "reload", SERVICE)
        until(lambda: "the new configuration is in use" in _journal(system), "the reload", STARTING)
    assert outcomes.keys() == {str(REJECTED)}
    assert _main_pid(system) == main_pid
    system.run("systemctl", "stop", SOCKET, SERVICE)
    assert system.status() is None
    assert system.show(SERVICE, "Result") == "success"


def _journal(system: System) -> str:
    return system.run("journalctl", "--unit", SERVICE, "--output=cat")


# Packages


def test_an_upgrade_refuses_no_connection_and_closes_no_port(system: System, newer: Path) -> None:
    """Connections wait in the socket until the new version serves them."""
    _start(system)
    main_pid = _main_pid(system)
    with system.load() as outcomes:
        assert system.status() == REJECTED
        system.install(newer)
        assert system.status() == REJECTED
    assert outcomes.keys() == {str(REJECTED)}
    assert (system.state(SERVICE), system.state(SOCKET)) == ("active", "active")
    assert _main_pid(system) != main_pid


def test_an_upgrade_restarts_a_service_without_its_socket(system: System, newer: Path) -> None:
    """It does not start the socket unit, and the service listens on the port of econe.conf."""
    system.run("systemctl", "start", SERVICE)
    main_pid = _main_pid(system)
    system.install(newer)
    assert (system.state(SERVICE), system.state(SOCKET)) == ("active", "inactive")
    assert _main_pid(system) != main_pid
    assert system.status() == REJECTED


def test_an_upgrade_starts_nothing_that_is_stopped(system: System, newer: Path) -> None:
    system.install(newer)
    assert (system.state(SERVICE), system.state(SOCKET)) == ("inactive", "inactive")


def test_a_removal_stops_the_units_and_closes_the_port(system: System) -> None:
    """After a purge systemd knows neither of them."""
    _start(system)
    system.run("dpkg", "--remove", "econed")
    assert system.status() is None
    system.run("dpkg", "--purge", "econed")
    assert {system.show(unit, "LoadState") for unit in (SERVICE, SOCKET)} == {"not-found"}
    assert not list((system.root / "/etc/systemd").rglob("econe*"))
