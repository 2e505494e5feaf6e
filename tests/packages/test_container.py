"""The container image: built without a network from packages of Debian and PyPI, and run with all restrictions."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from distribution.environment import system_python
from tests.packages.containers import Podman, podman, sent
from tests.packages.root import root_with_venv
from tests.packages.serving import ACCESS_KEY, SECRET_KEY
from tests.support.packages import ROOT, copy_checkout, ran
from tests.support.processes import STARTING, until
from tests.support.running import running, twistd

IMAGE, BASE = "localhost/econed", "localhost/base"
OFFLINE = ("BASE=" + BASE, "PIP_NO_INDEX=1", "PIP_FIND_LINKS=wheels")
ONED_PORT, PORT = 2633, 4567
SERVERADMIN = "serveradmin:pw"
ONEADMIN = 9869
"""The user id of oneadmin in OpenNebula's packages, which may read the credentials."""

INSIDE = """
import os
print(os.getresuid(), os.getresgid(), sep="\\n")
print([path for path, *_ in os.walk("/usr/lib/econed") if os.access(path, os.W_OK)])
"""

HERE = ("--cgroups=disabled", "--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096", "--health-interval=disable")
"""For machines on which root may not create control groups and raise limits, or without systemd, podman's timer."""


def _build(podman: Podman, factory: pytest.TempPathFactory, directory: Path) -> None:
    base = directory / "base.tar"
    ran("tar", "--create", "--file", base, "--directory", root_with_venv(factory).path, ".")
    podman.run("import", "--quiet", base, BASE)
    base.unlink()
    context = directory / "context"
    copy_checkout(context)
    required = ("--requirement", ROOT / "requirements/daemon.txt", "--requirement", ROOT / "requirements/build.txt")
    only = ("--no-deps", "--only-binary=:all:", f"--python-version=3.{system_python().minor}")
    ran(sys.executable, "-m", "pip", "download", "--quiet", *only, *required, "--dest", context / "wheels")
    arguments = [f"--build-arg={argument}" for argument in OFFLINE]
    # Isolation by chroot needs neither control groups nor a network of the builder.
    options = ("--isolation=chroot", "--pull=never", "--format=docker", f"--tag={IMAGE}")
    podman.run("build", *options, *arguments, f"--file={context / 'Containerfile'}", context)


def _options(directory: Path) -> list[str]:
    """Return the restrictions of compose.yaml as options of podman, and the configuration."""
    service = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]["econed"]
    restrictions = [f"--cap-drop={name}" for name in service["cap_drop"]]
    restrictions += [f"--security-opt={name}" for name in service["security_opt"]]
    if service["read_only"]:
        restrictions += ["--read-only", "--read-only-tmpfs=false"]  # podman alone has temporary directories then
    variables = {**service["environment"], "ECONE_ONE_XMLRPC": f"http://127.0.0.1:{ONED_PORT}/RPC2"}
    credentials = directory / "credentials"
    credentials.write_text(f"{SERVERADMIN}\n", "ascii")
    credentials.chmod(0o400)
    shutil.chown(credentials, ONEADMIN, ONEADMIN)
    uploads = directory / "uploads"
    uploads.mkdir()
    shutil.chown(uploads, ONEADMIN, ONEADMIN)
    return [
        *restrictions,
        *(f"--env={name}={value}" for name, value in variables.items()),
        f"--volume={credentials}:{variables['ONE_CIPHER_AUTH']}:ro",
        f"--volume={uploads}:/var/tmp",
        *("--network=host", "--pull=never", *HERE, IMAGE),
    ]


@contextmanager
def _oned(podman: Podman, directory: Path) -> Iterator[None]:
    """Run an oned in memory in the network of the containers."""
    options = ("--port", str(ONED_PORT), "--serveradmin", SERVERADMIN, "--user", f"{ACCESS_KEY}:{SECRET_KEY}")
    program, *arguments = twistd("econe-sandbox", *options)
    with running(podman.python(program, *arguments), directory) as server:
        server.lines_until(f"starting on {ONED_PORT}")
        yield


def test_an_image_is_built_and_serves_signed_requests_without_rights_or_writable_files(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """It is checked as the guide says, has no root, is healthy, logs to standard output, and stops with exit code 0."""
    owner = os.stat(os.devnull).st_uid
    with podman(tmp_path / "podman") as tool, _oned(tool, tmp_path):
        _build(tool, tmp_path_factory, tmp_path)
        options = _options(tmp_path)
        assert "BAD" not in tool.run("run", "--rm", *options, "check")
        container = tool.run("run", "--detach", *options).strip()
        until(lambda: "listens" in tool.run("logs", container), "a worker to listen", STARTING, every=0.5)
        assert sent(tool, PORT).startswith("ami-")
        tool.run("healthcheck", "run", container)
        assert f"DescribeImages by {ACCESS_KEY}" in tool.run("logs", container)
        in_it = ("exec", container, "/usr/lib/econed/bin/python3", "-I", "-c", INSIDE)
        assert tool.run(*in_it).splitlines() == [str((ONEADMIN,) * 3), str((ONEADMIN,) * 3), "[]"]
        tool.run("stop", "--time=60", container)
        assert "Server Shut Down." in tool.run("logs", container)
        assert tool.run("inspect", "--format={{.State.ExitCode}}", container) == "0\n"
    assert os.stat(os.devnull).st_uid == owner, "nothing of this machine was changed"
