"""Build a Debian package from a wheel, for the release and architecture of this machine.

Usage: `python -m distribution.deb WHEEL DIRECTORY`. debian/ is the input of debhelper. Needs no root.
"""

from __future__ import annotations

import os
import platform
import shutil
from email.utils import formatdate
from pathlib import Path
from tempfile import TemporaryDirectory

from distribution import manual
from distribution.command import make_file, source_date
from distribution.environment import (
    CHECKOUT,
    SystemPython,
    bundled_licences,
    copy_documentation,
    copy_system_file,
    create,
    run,
    system_python,
)

CHANGELOG = """\
econed ({version}) unstable; urgency=medium

  * econed {upstream}: see CHANGELOG.md in /usr/share/doc/econed.

 -- econed <econed@localhost>  {date}
"""


def python_dependency(python: SystemPython) -> str:
    """Return the dependency on Python: the compiled modules work only with this minor version."""
    if python.path.name != "python3":
        return python.path.name
    return f"python3 (>= 3.{python.minor}~), python3 (<< 3.{python.minor + 1}~)"


def debian_version(upstream: str) -> str:
    """Return the version of the package, which contains the system's release, so that a later release is newer."""
    system = platform.freedesktop_os_release()
    return f"{upstream}+{system['ID']}{system.get('VERSION_ID', '')}"


def lay_out(root: Path, wheel: Path, epoch: int) -> None:
    """Create the directory from which debhelper builds the package."""
    upstream = wheel.name.split("-")[1]
    python = system_python()
    shutil.copytree(CHECKOUT / "distribution/debian", root / "debian")
    packages = create(root, python, wheel, epoch)
    copy_documentation(root)
    copy_system_file("logrotate.d/econed", root / "debian/econed.logrotate")
    copy_system_file("tmpfiles.d/econed.conf", root / "debian/econed.tmpfiles")
    for name in ("econe.service", "econe.socket"):
        copy_system_file(f"systemd/{name}", root / f"debian/econed.{name}")
    share = root / "usr/share/econed"
    share.mkdir(parents=True)
    shutil.copy(CHECKOUT / "etc/econe.conf", share)
    manual.write_pages(root / "usr/share/man")
    manual.write_completion(root / "usr/share/bash-completion/completions", root / "usr/share/zsh/vendor-completions")
    with (root / "debian/copyright").open("a", encoding="utf-8") as copyright_file:
        copyright_file.write(bundled_licences(packages) + "\n")
    (root / "python-depends").write_text(python_dependency(python), "utf-8")
    changelog = CHANGELOG.format(version=debian_version(upstream), upstream=upstream, date=formatdate(epoch))
    (root / "debian/changelog").write_text(changelog, "utf-8")


def build(wheel: Path, target: Path) -> Path:
    """Build the package in a directory and return its path."""
    epoch = source_date()
    with TemporaryDirectory() as directory:
        root = Path(directory, "econed")
        lay_out(root, wheel, epoch)
        # Debian's tools need Debian's Python and Perl, not those of a virtual environment.
        environ = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SOURCE_DATE_EPOCH": str(epoch)}
        # Build dependencies are not checked: they would always include compilers, which are not needed.
        run("dpkg-buildpackage", "--build=binary", "--no-sign", "--no-check-builddeps", cwd=root, env=environ)
        (package,) = Path(directory).glob("*.deb")
        return Path(shutil.copy(package, target))


if __name__ == "__main__":
    make_file("Build the Debian package of econed.", build)
