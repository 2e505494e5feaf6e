"""The two versions of oned that the sandbox can behave as, and the delays of its drivers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Version:
    """A version of oned; `reported` is the value of `one.system.version`."""

    reported: str
    is_v7: bool

    @classmethod
    def of(cls, text: str) -> Version:
        """Return the version of `text`: "5.12", "7.4", or a full version number of either."""
        major, _, minor_and_patch = text.partition(".")
        minor = minor_and_patch.partition(".")[0]
        if (major, minor) == ("5", "12"):
            return cls("5.12.0.5" if text == "5.12" else text, is_v7=False)
        if (major, minor) == ("7", "4"):
            return cls("7.4.0" if text == "7.4" else text, is_v7=True)
        raise ValueError(f"the sandbox supports oned 5.12 and 7.4, not {text!r}")


@dataclass(frozen=True)
class Delays:
    """The delays of the sandbox, in seconds.

    `queue` passes before oned's life cycle thread begins an accepted action, `network` until a network of 7.x is READY,
    `removal` until a deleted image no longer exists.
    """

    schedule: float = 0.2
    prolog: float = 0.1
    boot: float = 0.2
    shutdown: float = 0.2
    epilog: float = 0.1
    hotplug: float = 0.15
    queue: float = 0.02
    image: float = 0.15
    removal: float = 0.5
    network: float = 0.2
    monitor: float = 0.2
