"""The paths of an installation of econed, and the exit codes of the commands for administrators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from econed.config import loading


class Exit(IntEnum):
    """Exit codes of `econe-server`. The first four are those of LSB init scripts, which systemd follows too."""

    OK = 0
    FAILED = 1
    """Another error, or `check` or `doctor` found a problem."""
    USAGE = 2
    NOT_RUNNING = 3
    BAD_CONFIGURATION = 4
    PORT_TAKEN = 5
    NO_REPLY = 6
    """oned does not reply."""
    REFUSED = 7
    """oned rejects serveradmin's credentials."""


class CommandFailed(Exception):
    """Ends a command: its exit code and a message for the administrator."""

    def __init__(self, code: Exit, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(frozen=True)
class Installation:
    """The paths of econe.conf, of the daemon's pid file and of its log."""

    conf: Path
    pid_file: Path
    log_file: Path

    @classmethod
    def locate(
        cls, environ: Mapping[str, str], *, conf: Path | None, pid_file: Path | None, log_file: Path | None
    ) -> Installation:
        """Return the paths given, and for those that are None the paths of OpenNebula's own server."""
        location = environ.get("ONE_LOCATION")
        run = Path(location, "var") if location else Path("/var/run/one")
        logs = Path(location, "var") if location else Path("/var/log/one")
        return cls(
            (conf or loading.default_path(environ)).absolute(),
            (pid_file or run / "econe-server.pid").absolute(),
            (log_file or logs / "econe.log").absolute(),
        )
