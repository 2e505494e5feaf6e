"""The distributions of econed: wheel, sdist and Debian package, built from a copy of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distribution import rpm
from tests.support.shared_builds import built_once
from tests.support.tools import require_tool

ROOT = Path(__file__).parents[2]
DEBIAN_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
LONG = 600
"""Seconds after which a build is taken to hang."""

_LEFT_OUT = shutil.ignore_patterns(
    *(
        ".?*cache",
        ".venv",
        ".git",
        ".hypothesis",
        "__pycache__",
        "*.egg-info",
        "build",
        "dist",
        "dropin.cache",
        "_trial*",
    ),
    *("*.pem", "twistd.log", "twistd.pid"),
)


def ran(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Run a command with additional environment variables, and return its output; its exit code must be 0."""
    completed = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert completed.returncode == 0, f"{' '.join(map(str, command))}\n{completed.stdout}"
    return completed.stdout


def _tracked() -> set[Path] | None:
    """Return the files of the checkout that git tracks; None where there is no checkout, as in an unpacked sdist.

    Other files in it, such as the key that the README's first session saves, must not be distributed.
    """
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return None
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=False)
    return {Path(name) for name in listed.stdout.split("\0") if name} if listed.returncode == 0 else None


def copy_checkout(target: Path) -> None:
    """Copy the checkout, without generated files."""
    tracked = _tracked()
    if tracked is None:
        shutil.copytree(ROOT, target, ignore=_LEFT_OUT)
        return
    for path in tracked:
        if (ROOT / path).is_file():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, target / path)


def _built(directory: Path) -> None:
    source = directory / "source"
    copy_checkout(source)
    ran(sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, source)


def built(factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return wheel and sdist, as `make wheel` builds them."""
    directory = built_once(factory, "built", _built)
    (wheel,), (sdist,) = directory.glob("*.whl"), directory.glob("*.tar.gz")
    return wheel, sdist


def source(factory: pytest.TempPathFactory) -> Path:
    """Return the copy of the checkout that wheel and sdist were built from."""
    return built_once(factory, "built", _built) / "source"


def files(root: Path, *parts: str) -> set[Path]:
    """Return the relative paths of the files below a directory of a checkout, without generated files."""
    paths = set()
    for directory, names, file_names in os.walk(root.joinpath(*parts)):
        left_out = _LEFT_OUT(directory, [*names, *file_names])
        names[:] = [name for name in names if name not in left_out]
        paths |= {Path(directory, name).relative_to(root) for name in file_names if name not in left_out}
    return paths


def _package(wheel: Path, target: Path) -> None:
    ran(sys.executable, "-m", "distribution.deb", wheel, target, cwd=ROOT)


def debian_package(factory: pytest.TempPathFactory) -> Path:
    """Return the Debian package, as `make deb` builds it."""
    for tool in ("dpkg-buildpackage", "dh"):
        require_tool(tool)
    wheel, _ = built(factory)
    directory = built_once(factory, "deb", lambda target: _package(wheel, target))
    (package,) = directory.glob("*.deb")
    return package


def _rpms(wheel: Path, target: Path) -> None:
    root, epoch = target / "root", 1_700_000_000
    rpm.lay_out(root, wheel, epoch)
    for release in (1, 2):
        rpm.pack(root, wheel.name.split("-")[1], release, target, epoch)


def rpm_packages(factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the RPM, as `make rpm` builds it, and a newer release of it."""
    require_tool("rpmbuild")
    wheel, _ = built(factory)
    first, second = sorted(built_once(factory, "rpm", lambda target: _rpms(wheel, target)).glob("*.rpm"))
    return first, second
