"""Where an installation of econed has its files, and what the commands for administrators exit with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from econed.config import loading


class Exit(IntEnum):
    """What `econe-server` exits with. The first four are those of LSB init scripts, as systemd reads them too."""

    OK = 0
    FAILED = 1
    """Something else went wrong, or `check` or `doctor` found something."""
    USAGE = 2
    NOT_RUNNING = 3
    BAD_CONFIGURATION = 4
    PORT_TAKEN = 5
    NO_ANSWER = 6
    """oned does not answer."""
    REFUSED = 7
    """oned refuses serveradmin's credentials."""


@dataclass(frozen=True)
class Installation:
    """econe.conf, the file with the daemon's process id, and its log."""

    conf: Path
    pid_file: Path
    log_file: Path

    @classmethod
    def found(
        cls, environ: Mapping[str, str], *, conf: Path | None, pid_file: Path | None, log_file: Path | None
    ) -> Installation:
        """Return what was asked for, and for what was not, where OpenNebula's own server had it."""
        location = environ.get("ONE_LOCATION")
        run = Path(location, "var") if location else Path("/var/run/one")
        logs = Path(location, "var") if location else Path("/var/log/one")
        return cls(
            (conf or loading.default_path(environ)).absolute(),
            (pid_file or run / "econe-server.pid").absolute(),
            (log_file or logs / "econe-server.log").absolute(),
        )
