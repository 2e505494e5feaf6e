"""A root directory with a minimal Debian: `dpkg --root` installs packages in it, chroot runs their programs."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.packages import DEBIAN_PATH, debian_package, ran
from tests.support.shared_builds import built_once
from tests.support.tools import cannot_run, require_tool

_DEPENDENCIES = ("python3", "adduser", "procps", "ucf")


def require_root() -> None:
    """Skip a test that needs chroot if this process is not root; fail it in CI."""
    if os.geteuid() != 0:
        cannot_run("installing a package in a root directory and running it there requires root")


@dataclass(frozen=True)
class Root:
    """A root directory."""

    path: Path

    def __truediv__(self, path: str) -> Path:
        """Return the path of a file in it, given its absolute path in the root."""
        return self.path / path.removeprefix("/")

    def dpkg(self, *arguments: str | Path) -> str:
        """Run dpkg on it, non-interactively; return its output."""
        options = ("--root", self.path, "--log=/dev/null", "--force-unsafe-io")
        return ran("dpkg", *options, *arguments, PATH=DEBIAN_PATH, DEBIAN_FRONTEND="noninteractive", LC_ALL="C.UTF-8")

    def run(self, *command: str) -> str:
        """Run a command in it and return its output."""
        return ran(*self.command(*command), PATH=DEBIAN_PATH, LC_ALL="C.UTF-8")

    def command(self, *command: str, user: str = "root") -> list[str]:
        """Return the command line that runs a command in it."""
        return ["/usr/sbin/chroot", f"--userspec={user}:{user}", str(self.path), *command]

    def copy(self, to: Path) -> Root:
        """Return a copy. Files in /usr are hard links: dpkg never modifies an existing file."""
        to.mkdir(exist_ok=True)
        for path in self.path.iterdir():
            ran("cp", "--archive", *(["--link"] if path.name == "usr" else []), path, to)
        return Root(to)


def _create(directory: Path, *packages: str) -> None:
    """Install a minimal system, the dependencies of econed and other packages, from this machine's apt sources."""
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    included = f"--include={','.join((*_DEPENDENCIES, *packages))}"
    options = ("--variant=essential", included, "--dpkgopt=force-unsafe-io", "--quiet")
    ran(require_tool("mmdebstrap"), *options, codename, directory, PATH=DEBIAN_PATH)
    (directory / "etc/hosts").write_text("127.0.0.1 localhost\n", "utf-8")  # as the Debian installer writes it


def bare_root(factory: pytest.TempPathFactory) -> Root:
    """Return a root without econed. Copy it, do not change it."""
    require_root()
    return Root(built_once(factory, "bare-root", _create))


def root_with_econed(factory: pytest.TempPathFactory) -> Root:
    """Return a root without OpenNebula in which econed is installed. Copy it, do not change it."""
    return _with_econed(factory, "root-with-econed", bare_root(factory))


def root_with_systemd(factory: pytest.TempPathFactory) -> Root:
    """Return a root with systemd, RPM, sudo and nftables, without econed. Copy it, do not change it."""
    require_root()
    packages = ("nftables", "rpm", "sudo", "systemd")
    return Root(built_once(factory, "root-with-systemd", lambda target: _create(target, *packages)))


def root_with_venv(factory: pytest.TempPathFactory) -> Root:
    """Return a root in which Python can create virtual environments, without econed. Do not change it."""
    require_root()
    return Root(built_once(factory, "root-with-venv", lambda target: _create(target, "python3-venv")))


def bootable_root(factory: pytest.TempPathFactory) -> Root:
    """Return a root with systemd in which the Debian package is installed. Copy it, do not change it."""
    return _with_econed(factory, "bootable-root", root_with_systemd(factory))


def _with_econed(factory: pytest.TempPathFactory, name: str, root: Root) -> Root:
    package = debian_package(factory)

    def install(directory: Path) -> None:
        root.copy(directory).dpkg("--install", package)

    return Root(built_once(factory, name, install))
