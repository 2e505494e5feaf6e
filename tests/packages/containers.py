"""podman in namespaces of its own: its network has only the loopback interface, and its processes end with it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.packages.booted import require_namespaces
from tests.support.packages import DEBIAN_PATH, LONG, ROOT, ran
from tests.support.tools import require_tool

_KEEP = """
set -eu
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
mknod -m 666 /run/null c 1 3
mount --bind /run/null /dev/null
ip link set lo up
echo ready
exec cat
"""
"""crun needs one hierarchy of control groups, which not every machine has. podman has files in /run and /dev/shm.

crun gives /dev/null, which is the input of a container, to the user of the container.
"""


@dataclass(frozen=True)
class Podman:
    """The commands of podman, with a directory for its images; `pid` is the process that keeps the namespaces."""

    pid: int
    directory: Path

    def command(self, *arguments: str | Path) -> list[str]:
        """Return the command line of a command of podman."""
        podman = ("podman", f"--root={self.directory}", "--cgroup-manager=cgroupfs", "--log-level=fatal")
        return ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--", *podman, *map(str, arguments)]

    def run(self, *arguments: str | Path) -> str:
        """Run a command of podman, which must succeed, and return its output."""
        return ran(*self.command(*arguments), PATH=DEBIAN_PATH)

    def python(self, *arguments: str) -> list[str]:
        """Return the command line of this Python, with this machine's files, in the network of the containers."""
        return ["nsenter", f"--target={self.pid}", "--net", "--", sys.executable, *arguments]


@contextmanager
def podman(directory: Path) -> Iterator[Podman]:
    """Create the namespaces for the duration of the block; all processes in them are killed at the end.

    `directory` is created for the images, and removed.
    """
    for tool in ("podman", "crun", "ip"):
        require_tool(tool)
    require_namespaces()
    argv = ["unshare", "--mount", "--net", "--pid", "--mount-proc", "--fork", "--kill-child", "sh", "-c", _KEEP]
    keeper = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert keeper.stdout is not None
    try:
        line = keeper.stdout.readline()
        assert line == "ready\n", line
        children = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children").read_text("ascii").split()
        yield Podman(int(children[0]), directory)
    finally:
        keeper.kill()
        keeper.communicate(timeout=LONG)
        shutil.rmtree(directory, ignore_errors=True)


def sent(podman: Podman, port: int) -> str:
    """Send a signed request to a container and return the ids of the images in the response."""
    client = "from tests.packages.serving import images; import sys; print(*images(int(sys.argv[1])))"
    return ran(*podman.python("-c", client, str(port)), cwd=ROOT).strip()
