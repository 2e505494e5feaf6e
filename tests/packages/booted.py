"""A root directory in which systemd runs as process 1, in namespaces of its own: only its files are this machine's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.packages.root import Root, require_root
from tests.support.packages import DEBIAN_PATH, LONG, ROOT, ran
from tests.support.processes import until
from tests.support.tools import cannot_run, require_tool

_BOOTING, _HALTING = 180.0, 60.0
"""Seconds after which a boot, or the end of all processes, is taken to hang; either takes less than a second."""

_NAMESPACES = ("--cgroup", "--mount", "--pid", "--net", "--uts", "--ipc")

_ENTER_GROUP = """
set -eu
mount -t cgroup2 cgroup2 /mnt
mkdir "/mnt/econed-test-$$"
echo $$ >"/mnt/econed-test-$$/cgroup.procs"
exec unshare {namespaces} --fork --kill-child sh -c "$1" sh "$2"
"""
"""Moves itself into a control group of its own, then starts the script $1 in new namespaces for the root $2."""

_BOOT = """
set -eu
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty; do : >dev/$name; mount --bind /dev/$name dev/$name; done
ln -s /proc/self/fd dev/fd
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
hostname booted
pivot_root . mnt
umount --lazy mnt
exec env -i container=other /lib/systemd/systemd systemd.unified_cgroup_hierarchy=1
"""
"""Mounts what a container has, and replaces itself by systemd. Only the kernel's settings of the network can change.

Without pts and shm in /dev systemd starts no service with PrivateDevices.
"""

_REMOVE_GROUP = """
mount -t cgroup2 cgroup2 /mnt
find "/mnt/econed-test-$1" -depth -type d -exec rmdir {} +
"""

_TRIAL = (
    "mount -t proc proc /proc && mount -t cgroup2 cgroup2 /mnt && mkdir /mnt/econed-trial && rmdir /mnt/econed-trial"
)


def require_namespaces() -> None:
    """Skip a test that boots a system where this process may not create namespaces or control groups; fail it in CI."""
    require_root()
    argv = [require_tool("unshare"), *_NAMESPACES, "--fork", "sh", "-c", _TRIAL]
    trial = subprocess.run(argv, capture_output=True, text=True, timeout=LONG, check=False)
    if trial.returncode != 0:
        cannot_run(f"booting systemd requires namespaces and control groups: {trial.stderr.strip()}")


@dataclass(frozen=True)
class System:
    """A booted root; `pid` is this machine's id of its process 1."""

    root: Root
    pid: int

    def command(self, *command: str) -> list[str]:
        """Return the command line that runs a command in it."""
        return ["nsenter", f"--target={self.pid}", "--all", "--root", "--wd", "--", *command]

    def run(self, *command: str) -> str:
        """Run a command in it, which must succeed, and return its output."""
        return ran(*self.command(*command), PATH=DEBIAN_PATH, LC_ALL="C.UTF-8", DEBIAN_FRONTEND="noninteractive")

    def tried(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, which may fail."""
        return subprocess.run(
            self.command(*command),
            env={"PATH": DEBIAN_PATH, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONG,
            check=False,
        )

    def install(self, package: Path) -> str:
        """Install a package as apt does, and return the output of dpkg."""
        ran("cp", package, self.root / "/root/econed.deb")
        return self.run("dpkg", "--install", "--force-unsafe-io", "/root/econed.deb")

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def state(self, unit: str) -> str:
        """Return whether a unit is active, inactive, failed, …."""
        return self.show(unit, "ActiveState")

    def status(self, port: int = 4567) -> int | None:
        """Send an unsigned request and return the status of its response; None if the connection is refused."""
        client = "from tests.packages.load import outcome; import sys; print(outcome(int(sys.argv[1])))"
        outcome = ran(*self._in_its_network(), "-c", client, str(port), cwd=ROOT).strip()
        return None if outcome == "ConnectionRefusedError" else int(outcome)

    @contextmanager
    def load(self, port: int = 4567) -> Iterator[dict[str, int]]:
        """Send requests from several clients during the block, and fill in how many ended in which way after it."""
        counted: dict[str, int] = {}
        argv = [*self._in_its_network(), "-m", "tests.packages.load", str(port)]
        process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield counted
            output, _ = process.communicate(timeout=LONG)
        finally:
            process.kill()
            process.wait()
        counted.update(json.loads(output))

    def _in_its_network(self) -> list[str]:
        """Return the command line of this Python, with this machine's files, in the network of the system."""
        return [*in_network_of(self.pid), sys.executable]


def in_network_of(pid: int) -> list[str]:
    """Return the words that run a command of this machine in the network of a process."""
    return ["nsenter", f"--target={pid}", "--net", "--"]


@contextmanager
def booted(root: Root) -> Iterator[System]:
    """Boot a root for the duration of the block; all its processes are killed at the end."""
    require_namespaces()
    script = _ENTER_GROUP.format(namespaces=" ".join(_NAMESPACES))
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", _BOOT, str(root.path)]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        pid = until(lambda: _process_1(process), "a process 1", _BOOTING)
        assert pid is not None
        system = System(root, pid)
        until(lambda: _is_up(system, process), "systemd to have started all units", _BOOTING)
        yield system
    finally:
        process.kill()
        process.communicate()
        until(lambda: _is_group_removed(process.pid), "the end of all processes", _HALTING)


def _is_group_removed(pid: int) -> bool:
    """Remove the control group, unless processes are left in it."""
    argv = ["unshare", "--mount", "sh", "-c", _REMOVE_GROUP, "sh", str(pid)]
    return subprocess.run(argv, capture_output=True, timeout=LONG, check=False).returncode == 0


def _process_1(launcher: subprocess.Popen[bytes]) -> int | None:
    """Return the id of process 1 of the new namespaces, None before its start; fails if the launcher has exited."""
    if launcher.poll() is not None:
        raise AssertionError(f"booting failed:\n{launcher.communicate()[0].decode()}")
    process = Path(f"/proc/{launcher.pid}")
    if process.joinpath("comm").read_text("ascii") != "unshare\n":  # the shell before it has other children
        return None
    children = process.joinpath(f"task/{launcher.pid}/children").read_text("ascii").split()
    return int(children[0]) if children else None


def _is_up(system: System, process: subprocess.Popen[bytes]) -> bool:
    """Whether all units of the boot have started, or failed."""
    _process_1(process)
    return system.tried("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")
