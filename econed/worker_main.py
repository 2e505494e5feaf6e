"""A worker as a process: started by the supervisor, never by a person."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.stdio import StandardIO
from twisted.logger import Logger

from econed import credentials, logs, tap
from econed.clock import steady
from econed.config import ConfigError, Source
from econed.control import Begin, Handed
from econed.daemon import make_process
from econed.lifecycle import Signals
from econed.listening import Listening, adopted
from econed.spawning import COMMANDS, REPORTS
from econed.worker import CannotStart, Made, WorkerProtocol
from econed.workers import share


async def made(reactor: Any, environ: Mapping[str, str], begin: Begin) -> Made:
    """Put a worker together, as the supervisor says; raises `CannotStart`."""
    source = Source(Path(begin.path), begin.text)
    try:
        whole, server, _ = credentials.load_with_settings(source, environ)  # the supervisor has told of its findings
        settings = share(whole, begin.index, begin.of)
        reopen_log = logs.begin(settings, logs.LogPlace(**dict(begin.log)), begin.index + 1)  # type: ignore[arg-type]
        one = tap.backend(reactor, settings, server)
        types = tap.read_types(source.path, settings)
        serving = make_process(reactor, settings, one, [_place(reactor, each) for each in begin.sockets], types=types)
    except (ConfigError, ValueError, OSError) as error:
        raise CannotStart(str(error)) from error
    return Made(serving.process, serving.counted, reopen_log)


def _place(reactor: Any, handed: Handed) -> Listening:
    os.set_inheritable(handed.descriptor, False)
    return adopted(reactor, socket.socket(fileno=handed.descriptor), handed.is_tls, handed.where)


def script() -> None:
    """Run as the process of a worker; its descriptors are those that the supervisor gave it."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    steady(reactor)
    code = 0

    def ended(said: int) -> None:
        nonlocal code
        code = said
        if reactor.running:
            reactor.stop()

    for descriptor in (COMMANDS, REPORTS):
        os.set_inheritable(descriptor, False)
    make = partial(made, reactor, os.environ)
    protocol = WorkerProtocol(make, Signals(reactor), reactor, ended, Logger(namespace="econed.worker"))
    StandardIO(protocol, COMMANDS, REPORTS, reactor)  # type: ignore[call-arg]  # that of POSIX
    reactor.run()
    sys.exit(code)
