"""Wheel and sdist: their contents, and their installation in an environment with only the pinned dependencies."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.packages.serving import images, sandboxed, serving
from tests.support.packages import ROOT, built, copy_checkout, files, ran, source
from tests.support.ports import free_port

_PIP_OPTIONS = ("--quiet", "--disable-pip-version-check", "--no-deps")


def test_a_wheel_contains_every_module_and_every_data_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    """It has the same files as the checkout, including py.typed and the models of EC2."""
    wheel, _ = built(tmp_path_factory)
    in_wheel = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    in_checkout = {path for path in files(source(tmp_path_factory), "econed") if path.suffix != ".md"}
    assert {path for path in in_wheel if path.parts[0] == "econed"} == in_checkout
    assert Path("econed/py.typed") in in_wheel
    assert any(path.match("econed/wire/models/*.json") for path in in_wheel)


def test_a_wheel_contains_only_the_plugin_of_the_package_twisted(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An __init__.py in the plugin directory would hide Twisted or its plugins."""
    wheel, _ = built(tmp_path_factory)
    in_wheel = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("twisted")}
    assert in_wheel == {"twisted/plugins/econe_plugin.py"}


def test_a_wheel_contains_the_tac_and_all_files_of_etc(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An installation from an index has no checkout with configuration, units and scripts."""
    wheel, _ = built(tmp_path_factory)
    marker = ".data/data/share/econed/"
    members = {info.filename: info for info in zipfile.ZipFile(wheel).infolist()}
    in_wheel = {Path(name.split(marker)[1]): info for name, info in members.items() if marker in name}
    etc = source(tmp_path_factory) / "etc"
    in_etc = files(etc)
    assert in_wheel.keys() == {Path("econe.tac"), *in_etc}
    executable = {path for path, info in in_wheel.items() if info.external_attr >> 16 & 0o111}
    assert executable == {path for path in in_etc if (etc / path).stat().st_mode & 0o111}


def test_an_sdist_contains_the_whole_checkout(tmp_path_factory: pytest.TempPathFactory) -> None:
    """This includes tests, documentation and the build files of packages."""
    _, sdist = built(tmp_path_factory)
    with tarfile.open(sdist) as archive:
        in_sdist = {Path(*Path(member.name).parts[1:]) for member in archive if member.isfile()}
    assert files(source(tmp_path_factory)) - in_sdist == set()


def test_private_keys_in_the_checkout_are_not_copied_for_the_build(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The commands in the README save a private key in the current directory, which may be the checkout."""
    private_key = ROOT / "left-by-a-first-session.pem"
    private_key.write_text("a private key", "utf-8")
    try:
        directory = tmp_path_factory.mktemp("copy")
        copy_checkout(directory)
    finally:
        private_key.unlink()
    assert Path("setup.cfg") in files(directory)
    assert not list(directory.rglob("*.pem"))


def test_wheel_and_sdist_work_in_a_new_virtual_environment(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """It has only the pinned dependencies; boto3 runs outside of it."""
    venv = tmp_path / "venv"
    ran(sys.executable, "-m", "venv", venv)
    daemon, build = ROOT / "requirements/daemon.txt", ROOT / "requirements/build.txt"
    ran(venv / "bin/pip", "install", *_PIP_OPTIONS, "-r", daemon, "-r", build)
    for archive in built(tmp_path_factory):
        ran(venv / "bin/pip", "install", *_PIP_OPTIONS, "--no-build-isolation", "--force-reinstall", archive)
        assert "No broken requirements" in ran(venv / "bin/pip", "check", "--disable-pip-version-check")
        usage = ran(venv / "bin/twistd", "econe", "--help", cwd=tmp_path, PYTHONPATH="")
        assert "--sandbox" in usage
        port = free_port()
        with serving([venv / "bin/twistd", *sandboxed(port)], port, tmp_path):
            assert images(port)
        ran(venv / "bin/pip", "uninstall", "--quiet", "--yes", "econed")
