"""The Debian package: built, then installed, run, upgraded, removed and purged in a root directory of its own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.packages.root import Root, bare_root, root_with_econed
from tests.packages.serving import images, sandboxed, serving
from tests.packages.test_units import Unit
from tests.support.packages import ROOT, debian_package, ran
from tests.support.ports import free_port
from tests.support.shared_builds import built_once

CONF = "/etc/one/econe.conf"
COMMAND = "/usr/bin/econe-server"
TWISTD = "/usr/lib/econed/bin/twistd"
THEIRS = ":port: 4567  # as OpenNebula had it\n"


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Iterator[Root]:
    """A root with econed in it, for one test alone."""
    copy = root_with_econed(tmp_path_factory).copy(tmp_path / "root")
    yield copy
    shutil.rmtree(copy.path)


@pytest.fixture
def contents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in the package. Not to be changed."""
    package = debian_package(tmp_path_factory)
    return built_once(tmp_path_factory, "contents", lambda target: _extracted(package, target))


def _extracted(package: Path, target: Path) -> None:
    ran("dpkg-deb", "--raw-extract", package, target)


def _newer(contents: Path, directory: Path) -> Path:
    """Return a package of a later version, whose configuration file says something new."""
    ran("cp", "--archive", contents, directory)
    control = directory / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: ", "Version: 1:", control.read_text("utf-8")), "utf-8")
    with (directory / "usr/share/econed/econe.conf").open("a", encoding="utf-8") as conf:
        conf.write("\n# new in this version\n")
    target = directory.with_suffix(".deb")
    ran("dpkg-deb", "--build", "-Znone", "--root-owner-group", directory, target)
    return target


def _package_of_opennebula(directory: Path) -> Path:
    """Return a package that has what OpenNebula 5.12 had of the same names: a configuration file and a command."""
    for path, text, mode in ((CONF, THEIRS, 0o640), (COMMAND, "#!/bin/sh\n", 0o755)):
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
    """Return account, group and mode of a file, by the names that the root has for them."""
    account, group, mode = root.run("stat", "-c", "%U %G %a", path).split()
    return account, group, mode


# What is in it


def test_the_package_wants_the_python_that_it_was_built_for(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The modules inside that are compiled work with one minor version."""
    said = ran("dpkg-deb", "--field", debian_package(tmp_path_factory))
    fields = HeaderParser().parsestr(said)
    minor = int(ran("/usr/bin/python3", "-c", "import sys; print(sys.version_info.minor)"))
    wanted = {each.strip() for each in fields["Depends"].split(",")}
    assert {f"python3 (>= 3.{minor}~)", f"python3 (<< 3.{minor + 1}~)", "adduser", "ucf"} <= wanted
    assert any(each.startswith("libc6 ") for each in wanted)
    assert fields["Architecture"] == ran("dpkg", "--print-architecture").strip()


def test_the_package_says_under_which_licence_each_library_is(contents: Path) -> None:
    """By the names that the libraries give themselves."""
    said = (contents / "usr/share/doc/econed/copyright").read_text("utf-8")
    inside = contents.glob("usr/lib/econed/lib/python3*/site-packages/*.dist-info")
    stated = dict(re.findall(r"(?m)^ (\S+) \S+: (.*)$", said))
    assert {canonicalize_name(path.name.split("-")[0]) for path in inside} == set(map(canonicalize_name, stated))
    assert all(stated.values())


def test_the_units_of_the_package_start_what_is_in_it(contents: Path) -> None:
    """They are those of the checkout, but for the path."""
    for name in ("econe.service", "econe.socket"):
        ours = (ROOT / "etc/systemd" / name).read_text("utf-8")
        held = (contents / "lib/systemd/system" / name).read_text("utf-8")
        assert held == ours.replace("/opt/econed/bin/twistd", TWISTD)
    assert os.access(contents / TWISTD.removeprefix("/"), os.X_OK)


def test_the_rules_for_logrotate_call_what_is_in_the_package(contents: Path) -> None:
    """By its path: another econe-server may be found by the name alone."""
    (program,) = re.findall(r"(/\S+/econe-server) ", (contents / "etc/logrotate.d/econed").read_text("utf-8"))
    assert os.access(contents / program.removeprefix("/"), os.X_OK)


# Where there was nothing


def test_installed_it_has_an_account_a_configuration_and_a_place_for_its_log(root: Root) -> None:
    """The account and the directories are those that OpenNebula's packages would have made."""
    account = root.run("getent", "passwd", "oneadmin").split(":")
    assert account[5:] == ["/var/lib/one", "/usr/sbin/nologin\n"]
    assert int(account[2]) < 1000
    assert _owned(root, CONF) == ("root", "oneadmin", "640")
    assert (root / CONF).read_text("utf-8") == (ROOT / "etc/econe.conf").read_text("utf-8")
    assert _owned(root, "/var/log/one") == ("oneadmin", "oneadmin", "750")


def test_installed_it_is_not_started_before_the_administrator_says_so(root: Root) -> None:
    """Nothing is enabled."""
    assert list((root / "/etc/systemd").rglob("econe*")) == []


def test_installed_it_answers_as_oneadmin_and_nothing_of_it_is_rebuilt_at_start(root: Root, tmp_path: Path) -> None:
    """The real daemon, in the root, with nothing but what is in the package and what that depends on."""
    port = free_port()
    with serving(root.command(TWISTD, *sandboxed(port), user="oneadmin"), port, tmp_path) as server:
        assert images(port)
        server.process.terminate()
        said = server.process.communicate()[0]
    assert server.process.returncode == 0
    assert "plugin cache" not in said
    assert "Traceback" not in said


def test_the_command_of_the_unit_serves_with_the_configuration_as_it_is_installed(root: Root, tmp_path: Path) -> None:
    """With supervisor and worker, and while oned is away: clients are told to come again."""
    port = free_port()
    conf = root / CONF
    conf.write_text(conf.read_text("utf-8").replace(":port: 4567", f":port: {port}"), "utf-8")
    credentials = root / "/var/lib/one/.one/sunstone_auth"
    credentials.parent.mkdir(parents=True)
    credentials.write_text("serveradmin:secret\n", "utf-8")
    ran("chown", "--recursive", "--reference", root / "/var/log/one", root / "/var/lib/one")
    credentials.chmod(0o600)
    argv = shlex.split(Unit(root / "/lib/systemd/system/econe.service")["Service"]["ExecStart"])
    nobody = f"http://127.0.0.1:{free_port()}/RPC2"
    with serving(root.command(*argv, user="oneadmin"), port, tmp_path, ONE_XMLRPC=nobody) as server:
        with pytest.raises(Exception, match=r"\(Unavailable\)"):
            images(port)
        server.process.terminate()
        said = server.process.communicate()[0]
    assert server.process.returncode == 0, said


def test_econe_server_is_on_the_path(root: Root) -> None:
    """By the library of the package, whatever Python modules are on the path of whoever calls it."""
    assert "usage: econe-server" in root.run("econe-server", "--help")


def test_an_upgrade_keeps_what_the_administrator_changed_and_brings_what_is_new_where_he_changed_nothing(
    root: Root, contents: Path, tmp_path: Path
) -> None:
    """As dpkg does with configuration files, without asking where nobody is there to answer."""
    newer = _newer(contents, tmp_path / "newer")
    untouched = root.copy(tmp_path / "untouched")
    untouched.dpkg("--install", newer)
    assert "# new in this version" in (untouched / CONF).read_text("utf-8")
    assert _owned(untouched, CONF) == ("root", "oneadmin", "640")
    (root / CONF).write_text(":port: 4242\n", "utf-8")
    root.dpkg("--install", newer)
    assert (root / CONF).read_text("utf-8") == ":port: 4242\n"


def test_installed_again_over_itself_nothing_changes(root: Root, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Neither the account nor a file that was changed, nor one that was taken away."""
    before = root.run("getent", "passwd", "oneadmin")
    (root / CONF).write_text(":port: 4242\n", "utf-8")
    root.dpkg("--install", debian_package(tmp_path_factory))
    assert (root / CONF).read_text("utf-8") == ":port: 4242\n"
    assert root.run("getent", "passwd", "oneadmin") == before
    (root / CONF).unlink()
    root.dpkg("--install", debian_package(tmp_path_factory))
    assert not (root / CONF).exists()


def test_removed_it_leaves_the_configuration_and_purged_only_what_is_opennebulas(root: Root) -> None:
    """/var/lib/one above all, with the credentials in it, and the account that it belongs to."""
    credentials = root / "/var/lib/one/.one/one_auth"
    credentials.parent.mkdir(parents=True)
    credentials.write_text("oneadmin:secret\n", "utf-8")
    (root / "/var/log/one/econe.log").write_text("a line\n", "utf-8")
    (root / "/var/log/one/oned.log").write_text("a line\n", "utf-8")
    (root / CONF).write_text(":port: 4242\n", "utf-8")
    root.dpkg("--remove", "econed")
    assert (root / CONF).read_text("utf-8") == ":port: 4242\n"
    assert not (root / "/usr/lib/econed").exists()
    assert not (root / COMMAND).is_symlink()
    root.dpkg("--purge", "econed")
    left = sorted(
        str(path.relative_to(root.path))
        for place in ("/etc", "/usr", "/var", "/lib")
        for path in (root / place).rglob("*econe*")
        if "/doc/" not in str(path)
    )
    assert left == []
    assert credentials.read_text("utf-8") == "oneadmin:secret\n"
    assert (root / "/var/log/one/oned.log").exists()
    assert "oneadmin" in root.run("getent", "passwd", "oneadmin")


# Where OpenNebula is


def test_beside_the_old_server_its_files_are_left_to_it_and_are_there_again_at_the_end(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """OpenNebula 5.12 has a configuration file and a command of the same names, and an account with a shell."""
    root = bare_root(tmp_path_factory).copy(tmp_path / "root")
    root.run("useradd", "--system", "--user-group", "--home-dir", "/var/lib/one", "--shell", "/bin/bash", "oneadmin")
    root.dpkg("--install", _package_of_opennebula(tmp_path / "opennebula"))
    said = root.dpkg("--install", debian_package(tmp_path_factory))
    assert f"{CONF} is not changed" in said
    assert (root / CONF).read_text("utf-8") == THEIRS
    assert root.run("getent", "passwd", "oneadmin").endswith(":/bin/bash\n")
    assert "usage: econe-server" in root.run("econe-server", "--help")
    root.dpkg("--purge", "econed")
    assert (root / CONF).read_text("utf-8") == THEIRS
    assert (root / COMMAND).read_text("utf-8") == "#!/bin/sh\n"
    assert root.run("dpkg", "--verify", "opennebula") == ""


def test_a_configuration_that_somebody_left_there_is_kept_to_the_end(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """OpenNebula's package may be gone, and its file still be the administrator's."""
    root = bare_root(tmp_path_factory).copy(tmp_path / "root")
    (root / CONF).parent.mkdir(parents=True)
    (root / CONF).write_text(THEIRS, "utf-8")
    root.dpkg("--install", debian_package(tmp_path_factory))
    root.dpkg("--install", debian_package(tmp_path_factory))
    assert (root / CONF).read_text("utf-8") == THEIRS
    root.dpkg("--purge", "econed")
    assert (root / CONF).read_text("utf-8") == THEIRS
