"""The main module of a worker's process, which only the supervisor starts."""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.stdio import StandardIO
from twisted.logger import Logger

from econed.actions.instances.file_types import configured_file_types
from econed.clock import use_monotonic_timers
from econed.config import credentials, sealing_keys
from econed.config.loading import ConfigError, Source
from econed.daemon import make_process
from econed.process.generations import worker_share
from econed.process.lifecycle import Signals
from econed.process.listening import Listener, adopt
from econed.process.messages import Begin, PassedSocket
from econed.process.spawning import COMMANDS, REPORTS
from econed.process.worker import CannotStart, WorkerParts, WorkerProtocol
from econed.telemetry import logs
from econed.xmlrpc_backend import XMLRPCBackend


async def make_worker(reactor: Any, environ: Mapping[str, str], begin: Begin) -> WorkerParts:
    """Set up a worker according to the supervisor's first command; raises `CannotStart`."""
    source = Source(Path(begin.path), begin.text)
    try:
        # The supervisor has logged the warnings.
        daemon_settings, server, _ = credentials.load_with_settings(source, environ)
        sealer = sealing_keys.load(daemon_settings, server)[0].sealer()
        settings = worker_share(daemon_settings, begin.index, begin.of)
        twistd_target = logs.TwistdLogTarget(**dict(begin.log))  # type: ignore[arg-type]
        reopen_log = logs.begin(settings, twistd_target, begin.index + 1)
        backend = XMLRPCBackend.configured(reactor, settings, server, Logger(namespace="econed"))
        file_types = configured_file_types(source.path, settings)
        listeners = [_listener(reactor, passed) for passed in begin.sockets]
        serving = make_process(reactor, settings, backend, listeners, Logger, sealer, file_types=file_types)
    except (ConfigError, ValueError, OSError) as error:
        raise CannotStart(str(error)) from error
    # What exists now lives as long as the process. Each full collection of garbage would look at it for 16 ms.
    gc.freeze()

    def reopen_logs() -> None:
        reopen_log()
        if serving.audit_log is not None:
            serving.audit_log.reopen()

    return WorkerParts(serving.process, serving.metrics.snapshot, reopen_logs)


def _listener(reactor: Any, passed: PassedSocket) -> Listener:
    os.set_inheritable(passed.descriptor, False)
    return adopt(reactor, socket.socket(fileno=passed.descriptor), passed.is_tls, passed.where)


def main() -> None:
    """Run a worker on the descriptors that the supervisor has passed to this process."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    use_monotonic_timers(reactor)
    exit_code = 0

    def stop_reactor(code: int) -> None:
        nonlocal exit_code
        exit_code = code
        if reactor.running:
            reactor.stop()

    for descriptor in (COMMANDS, REPORTS):
        os.set_inheritable(descriptor, False)
    set_up = partial(make_worker, reactor, os.environ)
    protocol = WorkerProtocol(set_up, Signals(reactor), reactor, stop_reactor, Logger(namespace="econed.worker"))
    StandardIO(protocol, COMMANDS, REPORTS, reactor)  # type: ignore[call-arg]  # the signature for POSIX
    reactor.run()
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
