"""What holds for all tests."""

from __future__ import annotations

import signal


def pytest_sessionstart() -> None:
    """Let SIGINT interrupt what the tests start, also where a shell has it ignored (`nohup make test &`).

    An ignored signal stays ignored in every program that is started, and neither Python nor Twisted then handles it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
