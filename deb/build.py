"""Build the Debian package of a wheel, for the machine that this runs on: `python deb/build.py WHEEL DIRECTORY`.

econed wants newer libraries than Debian has. So the package brings its own, as pinned in requirements/daemon.txt, in a
virtual environment of the system's Python: whatever econed starts by `sys.executable` finds them too, and nothing else
does. debian/ has the rest, for debhelper. Wants no root.
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
"""Where the virtual environment will be."""

COMMANDS = {"twistd": "twisted.scripts.twistd:run", "econe-server": "econed.cli.server:script"}
"""What its bin has, by the function that each calls."""

LAUNCHER = """\
#!{home}/bin/python3 -I
import sys

from {module} import {function}

sys.exit({function}())
"""

CHANGELOG = """\
econed ({version}) unstable; urgency=medium

  * econed {upstream}: CHANGELOG.md in /usr/share/doc/econed says what is new.

 -- econed <econed@localhost>  {date}
"""


def run(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it prints; ends the build with all that it said if it fails."""
    done = subprocess.run(command, cwd=cwd, env=env, text=True, capture_output=True, check=False)  # noqa: S603  our own
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def install(wheel: Path, environment: Path) -> None:
    """Make the virtual environment, with econed and what is pinned for it."""
    run(SYSTEM_PYTHON, "-m", "venv", "--without-pip", environment)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", environment / "bin/python3")
    pinned = CHECKOUT / "requirements/daemon.txt"
    run(*pip, "install", "--quiet", "--no-deps", "--no-compile", "--only-binary=:all:", "-r", pinned, wheel)


def trim(environment: Path, packages: Path) -> None:
    """Leave out what only this machine or nobody needs: other commands, and the models of Amazon's other services."""
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


def launchers(environment: Path) -> None:
    """Write the commands, and say of the environment where it will be, not where it was built."""
    for name, target in COMMANDS.items():
        module, function = target.split(":")
        path = environment / "bin" / name
        path.write_text(LAUNCHER.format(home=HOME, module=module, function=function), "utf-8")
        path.chmod(0o755)
    settings = environment / "pyvenv.cfg"
    kept = [line for line in settings.read_text("utf-8").splitlines() if not line.startswith("command")]
    settings.write_text("\n".join((*kept, "")), "utf-8")


def compiled(environment: Path, packages: Path, epoch: int) -> None:
    """Compile all of it and list the plugins: those who run econed may not write there.

    The list of the plugins has to be younger than they are, or Twisted would make it anew at each start.
    """
    strip = ("-s", environment, "-p", HOME)
    how = ("-q", "-j", "0", "--invalidation-mode", "unchecked-hash")
    run(SYSTEM_PYTHON, "-m", "compileall", *how, *strip, packages)
    for path in packages.rglob("*.py*"):
        os.utime(path, (epoch - 60, epoch - 60))
    listing = "from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))"
    run(environment / "bin/python3", "-I", "-c", listing)
    cache = packages / "twisted/plugins/dropin.cache"
    cache.chmod(0o644)
    os.utime(cache, (epoch, epoch))


def bundled(packages: Path) -> str:
    """Return what is inside and under which licence, as its own metadata say."""
    lines = []
    for path in sorted(packages.glob("*.dist-info/METADATA"), key=lambda path: path.parent.name.lower()):
        about = HeaderParser().parsestr(path.read_text("utf-8"))
        terms = [each.split(" :: ")[-1] for each in about.get_all("Classifier", []) if each.startswith("License")]
        licence = about["License-Expression"] or ", ".join(terms) or (about["License"] or "").split("\n")[0]
        lines.append(f" {about['Name']} {about['Version']}: {licence}")
    return "\n".join(lines)


def examples(etc: Path, target: Path) -> None:
    """Copy what of etc/ is not installed where it works: econe.conf, units, logrotate and tmpfiles are."""
    shutil.copytree(etc, target)
    (target / "econe.conf").unlink()
    for name in ("logrotate.d", "tmpfiles.d"):
        shutil.rmtree(target / name)
    for path in (target / "systemd").glob("econe.*"):
        path.unlink()


def dependencies() -> str:
    """Return what of Python the compiled modules inside can be used with: this minor version and no other."""
    said = run(SYSTEM_PYTHON, "-c", "import sys; print(*sys.version_info[:2])")
    major, minor = map(int, said.split())
    return f"python3 (>= {major}.{minor}~), python3 (<< {major}.{minor + 1}~)"


def debian_version(upstream: str) -> str:
    """Return the version of the package: one built for the next release of the system is newer."""
    system = platform.freedesktop_os_release()
    return f"{upstream}+{system['ID']}{system.get('VERSION_ID', '')}"


def source(root: Path, wheel: Path, epoch: int) -> None:
    """Lay out all that debhelper packs."""
    upstream = wheel.name.split("-")[1]
    shutil.copytree(CHECKOUT / "deb/debian", root / "debian")
    environment = root / HOME.relative_to("/")
    install(wheel, environment)
    (packages,) = environment.glob("lib/python3*/site-packages")
    trim(environment, packages)
    launchers(environment)
    compiled(environment, packages, epoch)
    etc = CHECKOUT / "etc"
    examples(etc, root / "examples")
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
        copyright_file.write(bundled(packages) + "\n")
    (root / "python-depends").write_text(dependencies(), "utf-8")
    said = CHANGELOG.format(version=debian_version(upstream), upstream=upstream, date=formatdate(epoch))
    (root / "debian/changelog").write_text(said, "utf-8")


def build(wheel: Path, target: Path) -> Path:
    """Build the package of a wheel into a directory and return where it is."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    with TemporaryDirectory() as directory:
        root = Path(directory, "econed")
        source(root, wheel, epoch)
        # Debian's tools run on Debian's Python and Perl, not on those of a virtual environment.
        environ = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SOURCE_DATE_EPOCH": str(epoch)}
        # Unchecked, because nothing is compiled: what is checked for would always include compilers.
        run("dpkg-buildpackage", "--build=binary", "--no-sign", "--no-check-builddeps", cwd=root, env=environ)
        (package,) = Path(directory).glob("*.deb")
        target.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(package, target))


def main(arguments: Sequence[str]) -> None:
    """Build as the command line says, and say where the package is."""
    parser = argparse.ArgumentParser(description="Build the Debian package of econed.")
    parser.add_argument("wheel", type=Path, help="a wheel of econed")
    parser.add_argument("directory", type=Path, help="where the package goes")
    options = parser.parse_args(arguments)
    print(build(options.wheel.resolve(), options.directory))  # noqa: T201  it is a command


if __name__ == "__main__":
    main(sys.argv[1:])
