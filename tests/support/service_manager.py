"""A stand-in for systemd's notification socket."""

from __future__ import annotations

from dataclasses import dataclass, field

from econed.process.systemd import Notifier


@dataclass(frozen=True)
class RecordingNotifier(Notifier):
    """Records the lines of the notifications in `lines` instead of sending them."""

    lines: list[str] = field(default_factory=list)

    def _send(self, *lines: str) -> None:
        self.lines.extend(lines)
