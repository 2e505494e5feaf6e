"""The RPM: built, then installed, upgraded and removed on a booted system. Its dependencies are Debian's here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packages.booted import System, booted
from tests.packages.root import root_with_systemd
from tests.packages.service import CONF, REJECTED, SERVICE, SOCKET, configure, main_pid, start
from tests.support.packages import ROOT, ran, rpm_packages

COMMAND = "/usr/bin/econe-server"


@pytest.fixture
def system(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Iterator[System]:
    """A booted system without econed, for a single test."""
    root = root_with_systemd(tmp_path_factory).copy(tmp_path / "root")
    with booted(root) as system:
        yield system
    shutil.rmtree(root.path)


@pytest.fixture
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The package and a newer release."""
    return rpm_packages(tmp_path_factory)


def _install(system: System, package: Path) -> str:
    """Install or upgrade it as dnf does, except that Debian's packages cannot satisfy dependencies of an RPM."""
    ran("cp", package, system.root / "/root/econed.rpm")
    return system.run("rpm", "--upgrade", "--nodeps", "/root/econed.rpm")


def test_the_rpm_depends_on_the_python_that_it_was_built_for(packages: tuple[Path, Path]) -> None:
    """The compiled modules work only with one minor version. Its libraries are neither required nor provided."""
    required = ran("rpm", "--query", "--requires", "--package", packages[0]).split()
    assert os.path.realpath("/usr/bin/python3") in required
    assert not [name for name in required if ".so" in name]
    provided = ran("rpm", "--query", "--provides", "--package", packages[0]).splitlines()
    assert {line.split()[0].partition("(")[0] for line in provided} == {"econed"}


def test_the_files_of_opennebula_5_12_are_not_in_the_rpm(packages: tuple[Path, Path]) -> None:
    """Two packages cannot have the same file."""
    files = ran("rpm", "--query", "--list", "--package", packages[0]).splitlines()
    assert {"/usr/lib/econed/bin/twistd", "/usr/lib/systemd/system/econe.service"} <= set(files)
    assert {CONF, COMMAND} & set(files) == set()


def test_the_rpm_is_installed_upgraded_and_removed(system: System, packages: tuple[Path, Path]) -> None:
    """The installation starts nothing, during the upgrade no connection is refused, and the removal stops all."""
    _install(system, packages[0])
    assert (system.root / CONF).read_text("utf-8") == (ROOT / "etc/econe.conf").read_text("utf-8")
    assert system.run("stat", "-c", "%U %G %a", CONF) == "root oneadmin 640\n"
    assert system.run("stat", "-c", "%U %G %a", "/var/log/one") == "oneadmin oneadmin 750\n"
    assert "usage: econe-server" in system.run("econe-server", "--help")
    assert (system.state(SERVICE), system.state(SOCKET)) == ("inactive", "inactive")
    configure(system.root)
    start(system)
    pid_before = main_pid(system)
    with system.load() as outcomes:
        assert system.status() == REJECTED
        _install(system, packages[1])
        assert system.status() == REJECTED
    assert outcomes.keys() == {str(REJECTED)}
    assert main_pid(system) != pid_before
    assert "-2." in system.run("rpm", "--query", "econed")
    system.run("rpm", "--erase", "econed")
    assert system.status() is None
    assert {system.show(unit, "LoadState") for unit in (SERVICE, SOCKET)} == {"not-found"}
    assert ":failed_signatures: false" in (system.root / CONF).read_text("utf-8")
    assert not os.path.lexists(system.root / COMMAND)
    assert not (system.root / "/usr/lib/econed").exists()


def test_files_of_opennebula_are_kept_and_an_unchanged_configuration_is_removed(
    system: System, packages: tuple[Path, Path]
) -> None:
    """The command is then in /usr/lib/econed/bin."""
    (system.root / COMMAND).write_text("#!/bin/sh\n", "utf-8")
    _install(system, packages[0])
    assert system.run("/usr/lib/econed/bin/econe-server", "--version").startswith("econed ")
    system.run("rpm", "--erase", "econed")
    assert (system.root / COMMAND).read_text("utf-8") == "#!/bin/sh\n"
    assert not (system.root / CONF).exists()
    (system.root / CONF).write_text(":port: 4567  # as OpenNebula had it\n", "utf-8")
    _install(system, packages[0])
    system.run("rpm", "--erase", "econed")
    assert (system.root / CONF).read_text("utf-8") == ":port: 4567  # as OpenNebula had it\n"
