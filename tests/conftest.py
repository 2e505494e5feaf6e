"""Set-up for all tests."""

from __future__ import annotations

import signal


def pytest_sessionstart() -> None:
    """Let SIGINT interrupt the programs that tests start, also where the shell ignores it (`nohup make test &`).

    A program inherits ignored signals, and then neither Python nor Twisted handles them.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
