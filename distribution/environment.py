"""The virtual environment with econed and its libraries, which the packages for Debian and for RPM systems contain.

econed needs newer libraries than these systems have. A package includes them as pinned in requirements/daemon.txt, in a
virtual environment of the system's Python: processes that econed starts with `sys.executable` find them too, and no
other program is affected.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from econed.services import SERVICES

CHECKOUT = Path(__file__).resolve().parent.parent
HOME = Path("/usr/lib/econed")
"""The path of the virtual environment on the installed system."""

PYTHONS = ("python3", "python3.13", "python3.12", "python3.11")
"""The system's Python, or another one that the system has beside it."""

COMMANDS = {"twistd": "twisted.scripts.twistd:run", "econe-server": "econed.cli.server:script"}
"""The commands in its bin directory, and the function that each calls."""

LAUNCHER = """\
#!{home}/bin/python3 -I
import sys

from {module} import {function}

sys.exit({function}())
"""


def run(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command and return its output; if it fails, exit and print the output."""
    completed = subprocess.run(command, cwd=cwd, env=env, text=True, capture_output=True, check=False)  # noqa: S603  our own
    if completed.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{completed.stdout}{completed.stderr}")
    return completed.stdout


@dataclass(frozen=True)
class SystemPython:
    """A Python of this system and its minor version: compiled modules work only with that one."""

    path: Path
    minor: int


def system_python() -> SystemPython:
    """Return the first of `PYTHONS` in /usr/bin that econed works with; exit if there is none."""
    for name in PYTHONS:
        path = Path("/usr/bin", name)
        if path.exists():
            minor = int(run(path, "-c", "import sys; print(sys.version_info.minor)"))
            if minor >= 11:
                return SystemPython(path, minor)
    raise SystemExit("econed needs Python 3.11 or newer in /usr/bin")


def create(root: Path, python: SystemPython, wheel: Path, epoch: int) -> Path:
    """Create the environment below a root directory, with files of the time `epoch`; return its site-packages."""
    environment = root / HOME.relative_to("/")
    install(python, wheel, environment)
    (packages,) = environment.glob("lib/python3*/site-packages")
    _trim(environment, packages)
    _write_launchers(environment)
    (environment / "libexec").mkdir()
    shutil.copy(CHECKOUT / "distribution/background-daemon", environment / "libexec")
    _compile_all(python, environment, packages, epoch)
    return packages


def install(python: SystemPython, wheel: Path, environment: Path) -> None:
    """Create the virtual environment with econed and its pinned dependencies."""
    run(python.path, "-m", "venv", "--without-pip", environment)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", environment / "bin/python3")
    pinned = CHECKOUT / "requirements/daemon.txt"
    run(*pip, "install", "--quiet", "--no-deps", "--no-compile", "--only-binary=:all:", "-r", pinned, wheel)


def _trim(environment: Path, packages: Path) -> None:
    """Remove files that the package does not need: other commands, models of Amazon's other services, local records."""
    for path in (environment / "bin").iterdir():
        if not path.name.startswith("python"):
            path.unlink()
    kept = {service.name for service in SERVICES}
    for path in (packages / "botocore/data").iterdir():
        if path.is_dir() and path.name not in kept:
            shutil.rmtree(path)
    shutil.rmtree(environment / "include", ignore_errors=True)
    shutil.rmtree(environment / "share")
    for name in ("RECORD", "direct_url.json"):
        for path in packages.glob(f"*.dist-info/{name}"):
            path.unlink()


def _write_launchers(environment: Path) -> None:
    """Write the commands, and remove the build directory from the settings of the environment."""
    for name, target in COMMANDS.items():
        module, function = target.split(":")
        path = environment / "bin" / name
        path.write_text(LAUNCHER.format(home=HOME, module=module, function=function), "utf-8")
        path.chmod(0o755)
    settings = environment / "pyvenv.cfg"
    lines = [line for line in settings.read_text("utf-8").splitlines() if not line.startswith("command")]
    settings.write_text("\n".join((*lines, "")), "utf-8")


def _compile_all(python: SystemPython, environment: Path, packages: Path, epoch: int) -> None:
    """Compile all modules and write the cache of plugins: the daemon cannot write there.

    The cache must be newer than the plugins, or Twisted would rebuild it at each start.
    """
    paths = ("-s", environment, "-p", HOME)
    options = ("-q", "-j", "0", "--invalidation-mode", "unchecked-hash")
    run(python.path, "-m", "compileall", *options, *paths, packages)
    for path in packages.rglob("*.py*"):
        os.utime(path, (epoch - 60, epoch - 60))
    list_plugins = "from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))"
    run(environment / "bin/python3", "-I", "-c", list_plugins)
    cache = packages / "twisted/plugins/dropin.cache"
    cache.chmod(0o644)
    os.utime(cache, (epoch, epoch))


def copy_system_file(name: str, target: Path) -> None:
    """Copy a unit or a rule of etc/ with the paths of an installed package."""
    text = (CHECKOUT / "etc" / name).read_text("utf-8")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text.replace("/opt/econed/", f"{HOME}/"), "utf-8")


def copy_documentation(target: Path) -> None:
    """Copy README, changes and guide, and as examples etc/ without the files that packages install elsewhere."""
    for name in ("README.md", "CHANGELOG.md"):
        shutil.copy(CHECKOUT / name, target)
    shutil.copytree(CHECKOUT / "docs", target / "docs")
    examples = target / "examples"
    shutil.copytree(CHECKOUT / "etc", examples)
    (examples / "econe.conf").unlink()
    for name in ("logrotate.d", "tmpfiles.d"):
        shutil.rmtree(examples / name)
    for path in (examples / "systemd").glob("econe.*"):
        path.unlink()


def bundled_licences(packages: Path) -> str:
    """Return the bundled libraries with their licences, from their metadata."""
    lines = []
    for path in sorted(packages.glob("*.dist-info/METADATA"), key=lambda path: path.parent.name.lower()):
        metadata = HeaderParser().parsestr(path.read_text("utf-8"))
        classifiers = [text for text in metadata.get_all("Classifier", []) if text.startswith("License")]
        names = ", ".join(text.split(" :: ")[-1] for text in classifiers)
        licence = metadata["License-Expression"] or names or (metadata["License"] or "").split("\n")[0]
        lines.append(f" {metadata['Name']} {metadata['Version']}: {licence}")
    return "\n".join(lines)
