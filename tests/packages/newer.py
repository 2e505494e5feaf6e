"""A later version of the Debian package, for upgrades."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.packages import debian_package, ran
from tests.support.shared_builds import built_once


def extracted(factory: pytest.TempPathFactory) -> Path:
    """Return the files of the package. Do not change them."""
    package = debian_package(factory)
    return built_once(factory, "contents", lambda target: _extract(package, target))


def _extract(package: Path, target: Path) -> None:
    ran("dpkg-deb", "--raw-extract", package, target)


def newer_package(contents: Path, directory: Path) -> Path:
    """Return a package of a later version with a different configuration file."""
    ran("cp", "--archive", contents, directory)
    control = directory / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: ", "Version: 1:", control.read_text("utf-8")), "utf-8")
    with (directory / "usr/share/econed/econe.conf").open("a", encoding="utf-8") as conf:
        conf.write("\n# new in this version\n")
    target = directory.with_suffix(".deb")
    ran("dpkg-deb", "--build", "-Znone", "--root-owner-group", directory, target)
    return target
