"""A service manager that keeps what it is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from econed.process.systemd import Notifier


@dataclass(frozen=True)
class RecordingNotifier(Notifier):
    """The daemon's end of it; `said` are the lines."""

    said: list[str] = field(default_factory=list)

    def _tell(self, *lines: str) -> None:
        self.said.extend(lines)
