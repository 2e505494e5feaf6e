"""An OpenNebula installation on which `econe-server` is run."""

from __future__ import annotations

import os
import pwd
import site
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from econed.process.pid_file import DaemonProcess, PidFile

TIMEOUT = 30.0


@dataclass
class Host:
    """An OpenNebula installation in a directory, with `econe-server`."""

    location: Path
    port: int
    oned_port: int
    user: str = field(default_factory=lambda: pwd.getpwuid(os.geteuid()).pw_name)
    """The account that root's commands run as: root as well, unless a test names another."""
    python: str = sys.executable

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `econe-server` with these arguments and additional environment variables."""
        return subprocess.run(
            self.command(*arguments), env=self.environ | variables, cwd="/", capture_output=True, text=True, timeout=120
        )

    def command(self, *arguments: str) -> list[str]:
        """Return the command."""
        return [self.python, "-m", "econed.cli.server", "--user", self.user, *arguments]

    @property
    def environ(self) -> dict[str, str]:
        """The environment of the commands."""
        paths = os.pathsep.join((str(Path(__file__).parents[2]), *site.getsitepackages()))
        return {**os.environ, "ONE_LOCATION": str(self.location), "PYTHONPATH": paths}

    @property
    def pid_file(self) -> Path:
        """The path below ONE_LOCATION at which OpenNebula's own server had its pid file."""
        return self.location / "var/econe-server.pid"

    @property
    def pid(self) -> int:
        """The process id in the pid file."""
        return int(self.pid_file.read_text("ascii"))

    @property
    def holder(self) -> int | None:
        """The id of the process that holds the pid file."""
        return PidFile(self.pid_file).holder()

    def configure(self, more: str = "") -> None:
        """Write econe.conf, with additional lines."""
        text = f":host: 127.0.0.1\n:port: {self.port}\n:one_xmlrpc: http://127.0.0.1:{self.oned_port}/RPC2\n{more}"
        (self.location / "etc/econe.conf").write_text(text, "utf-8")


def has_exited(pid: int) -> bool:
    """Whether a process has exited, even if its parent has not waited for it."""
    try:
        return DaemonProcess(pid, os.pidfd_open(pid)).wait(0)
    except ProcessLookupError:
        return True
