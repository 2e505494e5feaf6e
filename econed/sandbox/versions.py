"""The versions of oned that the sandbox can behave as, and the delays of its drivers."""

from __future__ import annotations

from dataclasses import dataclass

FORMS = ("5.12", "6.4", "7.4")
"""5.12 and 7.4 behave as recorded. 6.4 stands for the versions between: as 7.4, without the calls that came later."""

_AFTER_6_4 = frozenset(
    {f"one.vmgroup.role{change}" for change in ("add", "update", "delete")}
    | {f"one.vm.{change}" for change in ("updatenic", "vmgroupadd", "vmgroupdel")}
)
_AFTER_5_12 = _AFTER_6_4 | {"one.user.enable", "one.vm.attachsg", "one.vm.detachsg"}


@dataclass(frozen=True)
class Version:
    """A version of oned: the value of `one.system.version`, and the methods that other versions have."""

    reported: str
    is_v7: bool
    unknown_methods: frozenset[str] = frozenset()

    @classmethod
    def of(cls, text: str) -> Version:
        """Return the version of `text`: one of `FORMS`, or a full version number of one."""
        form = ".".join(text.split(".")[:2])
        if form == "5.12":
            return cls("5.12.0.5" if text == form else text, is_v7=False, unknown_methods=_AFTER_5_12)
        if form == "6.4":
            return cls("6.4.0" if text == form else text, is_v7=True, unknown_methods=_AFTER_6_4)
        if form == "7.4":
            return cls("7.4.0" if text == form else text, is_v7=True)
        raise ValueError(f"the sandbox supports oned {', '.join(FORMS)}, not {text!r}")


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
