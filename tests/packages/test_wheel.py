"""Wheel and sdist: what is in them, and that they work where there is nothing else but what econed is pinned to."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.packages.serving import images, sandboxed, serving
from tests.support.packages import ROOT, built, copy_checkout, files, ran, source
from tests.support.ports import free_port

_QUIET = ("--quiet", "--disable-pip-version-check", "--no-deps")


def test_a_wheel_holds_every_module_and_every_file_that_they_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same files as the checkout; the mark of typed packages and the models of the wire are among them."""
    wheel, _ = built(tmp_path_factory)
    held = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    wanted = {path for path in files(source(tmp_path_factory), "econed") if path.suffix != ".md"}
    assert {path for path in held if path.parts[0] == "econed"} == wanted
    assert Path("econed/py.typed") in held
    assert any(path.match("econed/wire/models/*.json") for path in held)


def test_a_wheel_leaves_the_packages_of_twisted_to_twisted(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A plugin directory has no __init__.py: it would hide Twisted, or its plugins."""
    wheel, _ = built(tmp_path_factory)
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("twisted")}
    assert held == {"twisted/plugins/econe_plugin.py"}


def test_a_wheel_brings_the_tac_and_all_that_is_in_etc(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Who installs from an index has no checkout to copy configuration, units and scripts from."""
    wheel, _ = built(tmp_path_factory)
    marker = ".data/data/share/econed/"
    members = {info.filename: info for info in zipfile.ZipFile(wheel).infolist()}
    held = {Path(name.split(marker)[1]): info for name, info in members.items() if marker in name}
    etc = source(tmp_path_factory) / "etc"
    wanted = files(etc)
    assert held.keys() == {Path("econe.tac"), *wanted}
    executable = {path for path, info in held.items() if info.external_attr >> 16 & 0o111}
    assert executable == {path for path in wanted if (etc / path).stat().st_mode & 0o111}


def test_an_sdist_holds_the_whole_checkout(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its tests, its guide and what packages are built by, too."""
    _, sdist = built(tmp_path_factory)
    with tarfile.open(sdist) as archive:
        held = {Path(*Path(member.name).parts[1:]) for member in archive if member.isfile()}
    assert files(source(tmp_path_factory)) - held == set()


def test_the_copy_that_is_built_from_has_no_key_of_a_first_session(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The README saves a private key where the reader is, which may be the checkout."""
    left_behind = ROOT / "left-by-a-first-session.pem"
    left_behind.write_text("a private key", "utf-8")
    try:
        directory = tmp_path_factory.mktemp("copy")
        copy_checkout(directory)
    finally:
        left_behind.unlink()
    assert Path("setup.cfg") in files(directory)
    assert not list(directory.rglob("*.pem"))


def test_from_wheel_and_from_sdist_twistd_serves_in_an_environment_that_was_empty(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """A new virtual environment with what is pinned and no more; boto3 asks from outside of it."""
    venv = tmp_path / "venv"
    ran(sys.executable, "-m", "venv", venv)
    daemon, builders = ROOT / "requirements/daemon.txt", ROOT / "requirements/build.txt"
    ran(venv / "bin/pip", "install", *_QUIET, "-r", daemon, "-r", builders)
    for archive in built(tmp_path_factory):
        ran(venv / "bin/pip", "install", *_QUIET, "--no-build-isolation", "--force-reinstall", archive)
        assert "No broken requirements" in ran(venv / "bin/pip", "check", "--disable-pip-version-check")
        shown = ran(venv / "bin/twistd", "econe", "--help", cwd=tmp_path, PYTHONPATH="")
        assert "--sandbox" in shown
        port = free_port()
        with serving([venv / "bin/twistd", *sandboxed(port)], port, tmp_path):
            assert images(port)
        ran(venv / "bin/pip", "uninstall", "--quiet", "--yes", "econed")
