"""Build a Debian package from a wheel, for the release and architecture of this machine.

Usage: `python deb/build.py WHEEL DIRECTORY`. econed needs newer libraries than Debian has. So the package includes them
as pinned in requirements/daemon.txt, in a virtual environment of the system's Python: processes that econed starts with
`sys.executable` find them too, and no other program is affected. debian/ is the input of debhelper. Needs no root.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from email.parser import HeaderParser
from email.utils import formatdate
from pathlib import Path
from tempfile import TemporaryDirectory

CHECKOUT = Path(__file__).resolve().parent.parent
SYSTEM_PYTHON = Path("/usr/bin/python3")
HOME = Path("/usr/lib/econed")
"""The path of the virtual environment on the installed system."""

COMMANDS = {"twistd": "twisted.scripts.twistd:run", "econe-server": "econed.cli.server:script"}
"""The commands in its bin directory, and the function that each calls."""

LAUNCHER = """\
#!{home}/bin/python3 -I
import sys

from {module} import {function}

sys.exit({function}())
"""

CHANGELOG = """\
econed ({version}) unstable; urgency=medium

  * econed {upstream}: see CHANGELOG.md in /usr/share/doc/econed.

 -- econed <econed@localhost>  {date}
"""


def run(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command and return its output; if it fails, exit and print the output."""
    completed = subprocess.run(command, cwd=cwd, env=env, text=True, capture_output=True, check=False)  # noqa: S603  our own
    if completed.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{completed.stdout}{completed.stderr}")
    return completed.stdout


def install(wheel: Path, environment: Path) -> None:
    """Create the virtual environment with econed and its pinned dependencies."""
    run(SYSTEM_PYTHON, "-m", "venv", "--without-pip", environment)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", environment / "bin/python3")
    pinned = CHECKOUT / "requirements/daemon.txt"
    run(*pip, "install", "--quiet", "--no-deps", "--no-compile", "--only-binary=:all:", "-r", pinned, wheel)


def trim(environment: Path, packages: Path) -> None:
    """Remove files that the package does not need: other commands, models of Amazon's other services, local records."""
    for path in (environment / "bin").iterdir():
        if not path.name.startswith("python"):
            path.unlink()
    for path in (packages / "botocore/data").iterdir():
        if path.is_dir() and path.name != "ec2":
            shutil.rmtree(path)
    shutil.rmtree(environment / "include", ignore_errors=True)
    shutil.rmtree(environment / "share")
    for name in ("RECORD", "direct_url.json"):
        for path in packages.glob(f"*.dist-info/{name}"):
            path.unlink()


def write_launchers(environment: Path) -> None:
    """Write the commands, and remove the build directory from the settings of the environment."""
    for name, target in COMMANDS.items():
        module, function = target.split(":")
        path = environment / "bin" / name
        path.write_text(LAUNCHER.format(home=HOME, module=module, function=function), "utf-8")
        path.chmod(0o755)
    settings = environment / "pyvenv.cfg"
    lines = [line for line in settings.read_text("utf-8").splitlines() if not line.startswith("command")]
    settings.write_text("\n".join((*lines, "")), "utf-8")


def compile_all(environment: Path, packages: Path, epoch: int) -> None:
    """Compile all modules and write the cache of plugins: the daemon cannot write there.

    The cache must be newer than the plugins, or Twisted would rebuild it at each start.
    """
    paths = ("-s", environment, "-p", HOME)
    options = ("-q", "-j", "0", "--invalidation-mode", "unchecked-hash")
    run(SYSTEM_PYTHON, "-m", "compileall", *options, *paths, packages)
    for path in packages.rglob("*.py*"):
        os.utime(path, (epoch - 60, epoch - 60))
    list_plugins = "from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))"
    run(environment / "bin/python3", "-I", "-c", list_plugins)
    cache = packages / "twisted/plugins/dropin.cache"
    cache.chmod(0o644)
    os.utime(cache, (epoch, epoch))


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


def copy_examples(etc: Path, target: Path) -> None:
    """Copy etc/ without files that are installed elsewhere: econe.conf, units, logrotate and tmpfiles."""
    shutil.copytree(etc, target)
    (target / "econe.conf").unlink()
    for name in ("logrotate.d", "tmpfiles.d"):
        shutil.rmtree(target / name)
    for path in (target / "systemd").glob("econe.*"):
        path.unlink()


def python_dependency() -> str:
    """Return the dependency on Python: the compiled modules work only with this minor version."""
    output = run(SYSTEM_PYTHON, "-c", "import sys; print(*sys.version_info[:2])")
    major, minor = map(int, output.split())
    return f"python3 (>= {major}.{minor}~), python3 (<< {major}.{minor + 1}~)"


def debian_version(upstream: str) -> str:
    """Return the version of the package, which contains the system's release, so that a later release is newer."""
    system = platform.freedesktop_os_release()
    return f"{upstream}+{system['ID']}{system.get('VERSION_ID', '')}"


def lay_out(root: Path, wheel: Path, epoch: int) -> None:
    """Create the directory from which debhelper builds the package."""
    upstream = wheel.name.split("-")[1]
    shutil.copytree(CHECKOUT / "deb/debian", root / "debian")
    environment = root / HOME.relative_to("/")
    install(wheel, environment)
    (packages,) = environment.glob("lib/python3*/site-packages")
    trim(environment, packages)
    write_launchers(environment)
    (environment / "libexec").mkdir()
    shutil.copy(CHECKOUT / "deb/background-daemon", environment / "libexec")
    compile_all(environment, packages, epoch)
    etc = CHECKOUT / "etc"
    copy_examples(etc, root / "examples")
    for name, path in (("logrotate", "logrotate.d/econed"), ("tmpfiles", "tmpfiles.d/econed.conf")):
        rules = (etc / path).read_text("utf-8")
        (root / f"debian/econed.{name}").write_text(rules.replace("/opt/econed/", f"{HOME}/"), "utf-8")
    for name in ("econe.service", "econe.socket"):
        unit = (etc / "systemd" / name).read_text("utf-8")
        (root / f"debian/econed.{name}").write_text(unit.replace("/opt/econed/", f"{HOME}/"), "utf-8")
    share = root / "usr/share/econed"
    share.mkdir(parents=True)
    shutil.copy(etc / "econe.conf", share)
    shutil.copytree(CHECKOUT / "docs", root / "docs")
    for name in ("README.md", "CHANGELOG.md"):
        shutil.copy(CHECKOUT / name, root)
    with (root / "debian/copyright").open("a", encoding="utf-8") as copyright_file:
        copyright_file.write(bundled_licences(packages) + "\n")
    (root / "python-depends").write_text(python_dependency(), "utf-8")
    changelog = CHANGELOG.format(version=debian_version(upstream), upstream=upstream, date=formatdate(epoch))
    (root / "debian/changelog").write_text(changelog, "utf-8")


def build(wheel: Path, target: Path) -> Path:
    """Build the package in a directory and return its path."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    with TemporaryDirectory() as directory:
        root = Path(directory, "econed")
        lay_out(root, wheel, epoch)
        # Debian's tools need Debian's Python and Perl, not those of a virtual environment.
        environ = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SOURCE_DATE_EPOCH": str(epoch)}
        # Build dependencies are not checked: they would always include compilers, which are not needed.
        run("dpkg-buildpackage", "--build=binary", "--no-sign", "--no-check-builddeps", cwd=root, env=environ)
        (package,) = Path(directory).glob("*.deb")
        target.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(package, target))


def main(arguments: Sequence[str]) -> None:
    """Build the package and print its path."""
    parser = argparse.ArgumentParser(description="Build the Debian package of econed.")
    parser.add_argument("wheel", type=Path, help="a wheel of econed")
    parser.add_argument("directory", type=Path, help="directory for the package")
    options = parser.parse_args(arguments)
    print(build(options.wheel.resolve(), options.directory))  # noqa: T201  it is a command


if __name__ == "__main__":
    main(sys.argv[1:])
