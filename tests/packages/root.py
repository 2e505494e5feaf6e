"""A root directory with a small Debian in it: `dpkg --root` installs packages there, chroot runs what is in them."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.packages import DEBIAN_PATH, debian_package, ran
from tests.support.shared_builds import built_once
from tests.support.tools import require_tool

_DEPENDENCIES = "python3,adduser,ucf"


def require_root() -> None:
    """Skip a test that wants to change the root directory, where that is not allowed; in CI it fails."""
    if os.geteuid() == 0:
        return
    reason = "to install a package into a root directory, and to run it there, one has to be root"
    if os.environ.get("ECONED_CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass(frozen=True)
class Root:
    """The directory."""

    path: Path

    def __truediv__(self, path: str) -> Path:
        """Return where a file of the system in it is."""
        return self.path / path.removeprefix("/")

    def dpkg(self, *arguments: str | Path) -> str:
        """Run dpkg on it, as nobody would answer its questions; return all that it says."""
        options = ("--root", self.path, "--log=/dev/null", "--force-unsafe-io")
        return ran("dpkg", *options, *arguments, PATH=DEBIAN_PATH, DEBIAN_FRONTEND="noninteractive", LC_ALL="C.UTF-8")

    def run(self, *command: str) -> str:
        """Run a command in it and return all that it says."""
        return ran(*self.command(*command), PATH=DEBIAN_PATH, LC_ALL="C.UTF-8")

    def command(self, *command: str, user: str = "root") -> list[str]:
        """Return the command line that runs a command in it."""
        return ["/usr/sbin/chroot", f"--userspec={user}:{user}", str(self.path), *command]

    def copy(self, to: Path) -> Root:
        """Return a copy of it. What is in /usr is shared: dpkg never writes into a file that is there already."""
        to.mkdir(exist_ok=True)
        for path in self.path.iterdir():
            ran("cp", "--archive", *(["--link"] if path.name == "usr" else []), path, to)
        return Root(to)


def _bare(directory: Path) -> None:
    """Fill it from where apt gets its packages on this machine, with what econed depends on and no more."""
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    options = ("--variant=essential", f"--include={_DEPENDENCIES}", "--dpkgopt=force-unsafe-io", "--quiet")
    ran(require_tool("mmdebstrap"), *options, codename, directory, PATH=DEBIAN_PATH)
    (directory / "etc/hosts").write_text("127.0.0.1 localhost\n", "utf-8")  # the installer of Debian writes it


def bare_root(factory: pytest.TempPathFactory) -> Root:
    """Return a root without econed. Not to be changed, only copied."""
    require_root()
    return Root(built_once(factory, "bare-root", _bare))


def root_with_econed(factory: pytest.TempPathFactory) -> Root:
    """Return a root with econed installed where there was neither it nor OpenNebula. Not to be changed, only copied."""
    bare, package = bare_root(factory), debian_package(factory)

    def make(directory: Path) -> None:
        bare.copy(directory).dpkg("--install", package)

    return Root(built_once(factory, "root-with-econed", make))
