"""Build an RPM from a wheel, for the release and architecture of this machine.

Usage: `python -m distribution.rpm WHEEL DIRECTORY`. econed.spec packs the files that are laid out here. Needs no root.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from distribution import manual
from distribution.command import make_file, source_date
from distribution.environment import (
    CHECKOUT,
    bundled_licences,
    copy_documentation,
    copy_system_file,
    create,
    run,
    system_python,
)

SPECIFICATION = CHECKOUT / "distribution/econed.spec"


def lay_out(root: Path, wheel: Path, epoch: int) -> None:
    """Create a directory with all files of the package, at their paths."""
    packages = create(root, system_python(), wheel, epoch)
    for name in ("econe.service", "econe.socket"):
        copy_system_file(f"systemd/{name}", root / "usr/lib/systemd/system" / name)
    copy_system_file("tmpfiles.d/econed.conf", root / "usr/lib/tmpfiles.d/econed.conf")
    copy_system_file("logrotate.d/econed", root / "etc/logrotate.d/econed")
    share, documentation = root / "usr/share/econed", root / "usr/share/doc/econed"
    share.mkdir(parents=True)
    shutil.copy(CHECKOUT / "etc/econe.conf", share)
    manual.write_pages(root / "usr/share/man")
    manual.write_completion(root / "usr/share/bash-completion/completions", root / "usr/share/zsh/site-functions")
    documentation.mkdir(parents=True)
    copy_documentation(documentation)
    (documentation / "bundled-libraries").write_text(bundled_licences(packages) + "\n", "utf-8")


def pack(root: Path, version: str, release: int, target: Path, epoch: int) -> Path:
    """Pack a directory that `lay_out` has created; return the path of the package."""
    definitions = {
        "upstream": version,
        "package_release": str(release),
        "python": str(system_python().path.resolve()),
        "laid_out": str(root),
        "_topdir": str(target / "rpmbuild"),
        "_rpmdir": str(target),
        "_rpmfilename": "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm",
    }
    options = [option for name, value in definitions.items() for option in ("--define", f"{name} {value}")]
    target.mkdir(parents=True, exist_ok=True)
    environ = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    run("rpmbuild", "-bb", "--quiet", "--target", os.uname().machine, *options, SPECIFICATION, env=environ)
    shutil.rmtree(target / "rpmbuild")
    (package,) = target.glob(f"econed-{version}-{release}*.rpm")
    return package


def build(wheel: Path, target: Path) -> Path:
    """Build the package in a directory and return its path."""
    epoch = source_date()
    with TemporaryDirectory() as directory:
        root = Path(directory, "root")
        lay_out(root, wheel, epoch)
        package = pack(root, wheel.name.split("-")[1], 1, Path(directory), epoch)
        return Path(shutil.copy(package, target))


if __name__ == "__main__":
    make_file("Build the RPM of econed.", build)
