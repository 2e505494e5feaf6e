"""The Debian package: built, then installed, run, upgraded, removed and purged in a separate root directory."""

from __future__ import annotations

import gzip
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.packages.newer import extracted, newer_package
from tests.packages.root import Root, bare_root, root_with_econed
from tests.packages.serving import images, sandboxed, serving
from tests.packages.test_units import Unit
from tests.support.packages import ROOT, debian_package, ran
from tests.support.ports import free_port

CONF = "/etc/one/econe.conf"
COMMAND = "/usr/bin/econe-server"
TWISTD = "/usr/lib/econed/bin/twistd"
CONF_OF_OPENNEBULA = ":port: 4567  # as OpenNebula had it\n"


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Iterator[Root]:
    """A root with econed installed, for a single test."""
    copy = root_with_econed(tmp_path_factory).copy(tmp_path / "root")
    yield copy
    shutil.rmtree(copy.path)


@pytest.fixture
def contents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extracted package. Do not change it."""
    return extracted(tmp_path_factory)


def _package_of_opennebula(directory: Path) -> Path:
    """Return a package with the files of OpenNebula 5.12 that have the same names: configuration and command."""
    for path, text, mode in ((CONF, CONF_OF_OPENNEBULA, 0o640), (COMMAND, "#!/bin/sh\n", 0o755)):
        file = directory / path.removeprefix("/")
        file.parent.mkdir(parents=True)
        file.write_text(text, "utf-8")
        file.chmod(mode)
    (directory / "DEBIAN").mkdir()
    control = "Package: opennebula\nVersion: 5.12.0.4\nArchitecture: all\nMaintainer: a <a@localhost>\nDescription: x\n"
    (directory / "DEBIAN/control").write_text(control, "utf-8")
    (directory / "DEBIAN/conffiles").write_text(f"{CONF}\n", "utf-8")
    target = directory.with_suffix(".deb")
    ran("dpkg-deb", "--build", "-Znone", "--root-owner-group", directory, target)
    return target


def _owned(root: Root, path: str) -> tuple[str, str, str]:
    """Return account, group and mode of a file, with the root's names."""
    account, group, mode = root.run("stat", "-c", "%U %G %a", path).split()
    return account, group, mode


# Contents


def test_the_package_depends_on_the_python_that_it_was_built_for(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The compiled modules work only with one minor version."""
    control = ran("dpkg-deb", "--field", debian_package(tmp_path_factory))
    fields = HeaderParser().parsestr(control)
    minor = int(ran("/usr/bin/python3", "-c", "import sys; print(sys.version_info.minor)"))
    dependencies = {dependency.strip() for dependency in fields["Depends"].split(",")}
    assert {f"python3 (>= 3.{minor}~)", f"python3 (<< 3.{minor + 1}~)", "adduser", "procps", "ucf"} <= dependencies
    assert any(dependency.startswith("libc6 ") for dependency in dependencies)
    assert fields["Architecture"] == ran("dpkg", "--print-architecture").strip()


def test_the_copyright_file_lists_every_library_with_its_licence(contents: Path) -> None:
    copyright_text = (contents / "usr/share/doc/econed/copyright").read_text("utf-8")
    metadata_directories = contents.glob("usr/lib/econed/lib/python3*/site-packages/*.dist-info")
    licences = dict(re.findall(r"(?m)^ (\S+) \S+: (.*)$", copyright_text))
    assert {canonicalize_name(path.name.split("-")[0]) for path in metadata_directories} == set(
        map(canonicalize_name, licences)
    )
    assert all(licences.values())


def test_the_units_of_the_package_start_the_programs_in_it(contents: Path) -> None:
    """Except for the path they are the units of the checkout."""
    for name in ("econe.service", "econe.socket"):
        in_checkout = (ROOT / "etc/systemd" / name).read_text("utf-8")
        in_package = (contents / "lib/systemd/system" / name).read_text("utf-8")
        assert in_package == in_checkout.replace("/opt/econed/bin/", f"{Path(TWISTD).parent}/")
    for program in (Path(TWISTD), Path(TWISTD).with_name("econe-server")):
        assert os.access(contents / str(program).removeprefix("/"), os.X_OK)


def test_the_logrotate_rules_call_the_econe_server_of_the_package(contents: Path) -> None:
    """They use its full path, because PATH may contain another econe-server."""
    (program,) = re.findall(r"(/\S+/econe-server) ", (contents / "etc/logrotate.d/econed").read_text("utf-8"))
    assert os.access(contents / program.removeprefix("/"), os.X_OK)


def test_the_changelog_names_a_file_of_the_package(contents: Path) -> None:
    directory = contents / "usr/share/doc/econed"
    entry = gzip.decompress((directory / "changelog.gz").read_bytes()).decode()
    assert entry.startswith("econed (")
    (name,) = re.findall(r"see (\S+) in /usr/share/doc/econed", entry)
    assert (directory / name).read_text("utf-8").startswith("# Changes of econed")


def test_the_package_has_manual_pages_and_completion(contents: Path) -> None:
    """At the paths where man, bash and zsh of Debian look for them."""
    share = contents / "usr/share"
    for path in ("man/man8/econe-server.8.gz", "man/man5/econe.conf.5.gz"):
        assert (share / path).stat().st_size > 1000
    for path in ("bash-completion/completions/econe-server", "zsh/vendor-completions/_econe-server"):
        assert "configtest" in (share / path).read_text("utf-8")


# Installation on a system without OpenNebula


def test_the_installation_creates_account_configuration_and_log_directory(root: Root) -> None:
    """Account and directories are the same that OpenNebula's packages create."""
    account = root.run("getent", "passwd", "oneadmin").split(":")
    assert account[5:] == ["/var/lib/one", "/usr/sbin/nologin\n"]
    assert int(account[2]) < 1000
    assert _owned(root, CONF) == ("root", "oneadmin", "640")
    assert (root / CONF).read_text("utf-8") == (ROOT / "etc/econe.conf").read_text("utf-8")
    assert _owned(root, "/var/log/one") == ("oneadmin", "oneadmin", "750")


def test_the_installation_enables_no_units(root: Root) -> None:
    assert list((root / "/etc/systemd").rglob("econe*")) == []


def test_the_installed_daemon_serves_requests_as_oneadmin_and_rebuilds_no_cache(root: Root, tmp_path: Path) -> None:
    """It runs in the root, with only the package and its dependencies."""
    port = free_port()
    with serving(root.command(TWISTD, *sandboxed(port), user="oneadmin"), port, tmp_path) as server:
        assert images(port)
        server.process.terminate()
        output = server.process.communicate()[0]
    assert server.process.returncode == 0
    assert "plugin cache" not in output
    assert "Traceback" not in output


def test_the_command_of_the_unit_serves_with_the_installed_configuration(root: Root, tmp_path: Path) -> None:
    """It runs a supervisor and a worker; while oned is down clients get ServiceUnavailable."""
    port = free_port()
    conf = root / CONF
    conf.write_text(conf.read_text("utf-8").replace(":port: 4567", f":port: {port}"), "utf-8")
    credentials = root / "/var/lib/one/.one/sunstone_auth"
    credentials.parent.mkdir(parents=True)
    credentials.write_text("serveradmin:secret\n", "utf-8")
    ran("chown", "--recursive", "--reference", root / "/var/log/one", root / "/var/lib/one")
    credentials.chmod(0o600)
    argv = shlex.split(Unit(root / "/lib/systemd/system/econe.service")["Service"]["ExecStart"])
    closed_url = f"http://127.0.0.1:{free_port()}/RPC2"
    with serving(root.command(*argv, user="oneadmin"), port, tmp_path, ONE_XMLRPC=closed_url) as server:
        with pytest.raises(Exception, match=r"\(ServiceUnavailable\)"):
            images(port)
        server.process.terminate()
        output = server.process.communicate()[0]
    assert server.process.returncode == 0, output


def test_econe_server_is_on_the_path(root: Root) -> None:
    """It uses the libraries of the package."""
    assert "usage: econe-server" in root.run("econe-server", "--help")


def test_an_upgrade_keeps_a_changed_configuration_and_replaces_an_unchanged_one(
    root: Root, contents: Path, tmp_path: Path
) -> None:
    """This is what dpkg does with conffiles in non-interactive mode."""
    newer = newer_package(contents, tmp_path / "newer")
    untouched = root.copy(tmp_path / "untouched")
    untouched.dpkg("--install", newer)
    assert "# new in this version" in (untouched / CONF).read_text("utf-8")
    assert _owned(untouched, CONF) == ("root", "oneadmin", "640")
    (root / CONF).write_text(":port: 4242\n", "utf-8")
    root.dpkg("--install", newer)
    assert (root / CONF).read_text("utf-8") == ":port: 4242\n"


def test_a_reinstallation_changes_nothing(root: Root, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Neither the account nor a changed configuration; a deleted configuration is not restored."""
    account = root.run("getent", "passwd", "oneadmin")
    (root / CONF).write_text(":port: 4242\n", "utf-8")
    root.dpkg("--install", debian_package(tmp_path_factory))
    assert (root / CONF).read_text("utf-8") == ":port: 4242\n"
    assert root.run("getent", "passwd", "oneadmin") == account
    (root / CONF).unlink()
    root.dpkg("--install", debian_package(tmp_path_factory))
    assert not (root / CONF).exists()


def test_a_removal_keeps_the_configuration_and_a_purge_keeps_only_files_of_opennebula(root: Root) -> None:
    """Most important are /var/lib/one, with the credentials, and its owner's account."""
    credentials = root / "/var/lib/one/.one/one_auth"
    credentials.parent.mkdir(parents=True)
    credentials.write_text("oneadmin:secret\n", "utf-8")
    for log in ("econe.log", "econe.log-20261128-1.gz", "econe-audit.log"):  # of root, if root started the daemon
        (root / "/var/log/one" / log).write_text("a line\n", "utf-8")
    (root / "/var/log/one/oned.log").write_text("a line\n", "utf-8")
    (root / CONF).write_text(":port: 4242\n", "utf-8")
    root.dpkg("--remove", "econed")
    assert (root / CONF).read_text("utf-8") == ":port: 4242\n"
    assert not (root / "/usr/lib/econed").exists()
    assert not (root / COMMAND).is_symlink()
    root.dpkg("--purge", "econed")
    remaining = sorted(
        str(path.relative_to(root.path))
        for directory in ("/etc", "/usr", "/var", "/lib")
        for path in (root / directory).rglob("*econe*")
        if "/doc/" not in str(path)
    )
    assert remaining == []
    assert credentials.read_text("utf-8") == "oneadmin:secret\n"
    assert (root / "/var/log/one/oned.log").exists()
    assert "oneadmin" in root.run("getent", "passwd", "oneadmin")


# Installation on a system with OpenNebula


def test_files_of_the_old_server_are_kept_and_its_command_is_restored_by_a_purge(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """OpenNebula 5.12 has a configuration file and a command of the same names, and an account with a shell."""
    root = bare_root(tmp_path_factory).copy(tmp_path / "root")
    root.run("useradd", "--system", "--user-group", "--home-dir", "/var/lib/one", "--shell", "/bin/bash", "oneadmin")
    root.dpkg("--install", _package_of_opennebula(tmp_path / "opennebula"))
    output = root.dpkg("--install", debian_package(tmp_path_factory))
    assert f"{CONF} is not changed" in output
    assert (root / CONF).read_text("utf-8") == CONF_OF_OPENNEBULA
    assert root.run("getent", "passwd", "oneadmin").endswith(":/bin/bash\n")
    assert "usage: econe-server" in root.run("econe-server", "--help")
    root.dpkg("--purge", "econed")
    assert (root / CONF).read_text("utf-8") == CONF_OF_OPENNEBULA
    assert (root / COMMAND).read_text("utf-8") == "#!/bin/sh\n"
    assert root.run("dpkg", "--verify", "opennebula") == ""


def test_an_existing_configuration_is_kept_even_by_a_purge(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """It may be left from a removed OpenNebula package."""
    root = bare_root(tmp_path_factory).copy(tmp_path / "root")
    (root / CONF).parent.mkdir(parents=True)
    (root / CONF).write_text(CONF_OF_OPENNEBULA, "utf-8")
    root.dpkg("--install", debian_package(tmp_path_factory))
    root.dpkg("--install", debian_package(tmp_path_factory))
    assert (root / CONF).read_text("utf-8") == CONF_OF_OPENNEBULA
    root.dpkg("--purge", "econed")
    assert (root / CONF).read_text("utf-8") == CONF_OF_OPENNEBULA
