"""twistd's options, for a .tac file: twistd passes them to its subcommands only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

from twisted.python.usage import UsageError
from twisted.scripts.twistd import ServerOptions  # type: ignore[attr-defined]


class _ReparsedOptions(ServerOptions):
    """twistd's options, parsed a second time without their side effects."""

    def opt_reactor(self, name: str) -> None:
        """Do nothing."""

    def opt_spew(self) -> None:
        """Do nothing."""

    def opt_debug(self) -> None:
        """Do nothing."""

    opt_r = opt_reactor
    opt_b = opt_debug


def twistd_options(arguments: Sequence[str]) -> Mapping[str, Any] | None:
    """Parse twistd's command line, whose options are not passed to a .tac file; None if it is not twistd's."""
    if not arguments or os.path.basename(arguments[0]) != "twistd":
        return None
    options = _ReparsedOptions()  # type: ignore[no-untyped-call]
    try:
        options.parseOptions(list(arguments[1:]))  # type: ignore[no-untyped-call]
    except UsageError:
        return None
    return cast(Mapping[str, Any], options)
