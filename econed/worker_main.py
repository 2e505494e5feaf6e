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

from econed.actions.instances.types import configured_file_types
from econed.clock import steady
from econed.config import credentials
from econed.config.loading import ConfigError, Source
from econed.daemon import make_process
from econed.process.generations import share
from econed.process.lifecycle import Signals
from econed.process.listening import Listening, adopted
from econed.process.messages import Begin, Handed
from econed.process.spawning import COMMANDS, REPORTS
from econed.process.worker import CannotStart, Made, WorkerProtocol
from econed.telemetry import logs
from econed.xmlrpc_backend import XMLRPCBackend


async def made(reactor: Any, environ: Mapping[str, str], begin: Begin) -> Made:
    """Put a worker together, as the supervisor says; raises `CannotStart`."""
    source = Source(Path(begin.path), begin.text)
    try:
        whole, server, _ = credentials.load_with_settings(source, environ)  # the supervisor has told of its findings
        settings = share(whole, begin.index, begin.of)
        reopen_log = logs.begin(settings, logs.LogPlace(**dict(begin.log)), begin.index + 1)  # type: ignore[arg-type]
        backend = XMLRPCBackend.configured(reactor, settings, server)
        types = configured_file_types(source.path, settings)
        listening = [_listening(reactor, handed) for handed in begin.sockets]
        serving = make_process(reactor, settings, backend, listening, types=types)
    except (ConfigError, ValueError, OSError) as error:
        raise CannotStart(str(error)) from error
    return Made(serving.process, serving.counted, reopen_log)


def _listening(reactor: Any, handed: Handed) -> Listening:
    os.set_inheritable(handed.descriptor, False)
    return adopted(reactor, socket.socket(fileno=handed.descriptor), handed.is_tls, handed.where)


def main() -> None:
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


if __name__ == "__main__":
    main()
