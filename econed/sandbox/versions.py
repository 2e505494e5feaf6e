"""The two forms of oned that the sandbox can take, and how long its drivers take for things."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Version:
    """A version of oned; `answer` is what `one.system.version` says."""

    answer: str
    modern: bool

    @classmethod
    def of(cls, text: str) -> Version:
        """Return the version that `text` names: "5.12", "7.4" or a full number of one of them."""
        major, _, rest = text.partition(".")
        minor = rest.partition(".")[0]
        if (major, minor) == ("5", "12"):
            return cls("5.12.0.5" if text == "5.12" else text, modern=False)
        if (major, minor) == ("7", "4"):
            return cls("7.4.0" if text == "7.4" else text, modern=True)
        raise ValueError(f"the sandbox knows oned 5.12 and 7.4, not {text!r}")


@dataclass(frozen=True)
class Delays:
    """How long things take, in seconds.

    `queue` is how long an accepted action waits for oned's life cycle thread; `delete` the same for clearing away a
    machine that failed. `network` passes until a network of 7.x is READY, `removal` until a deleted image is gone.
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
