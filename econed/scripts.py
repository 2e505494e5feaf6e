"""Runs the administrator's scripts that associate elastic IPs: `IScripts` with Twisted's ProcessProtocol.

A script is run by its argv, never by a shell: `SCRIPT elastic_ip private_ip vnet_template_base64`. It has an
environment of PATH and LANG, an empty standard input, and its own session, so that it can be killed together with its
child processes: by SIGTERM after its timeout, by SIGKILL shortly after. Its output goes only to the log. Addresses are
passed as address objects and formatted only here, so no text from a user can become an argument.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from zope.interface import implementer

from econed.errors import ScriptFailed
from econed.interfaces import IScripts

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

MAX_OUTPUT = 1 << 10
"""Bytes of the beginning of a script's output that are logged, and of its end; the middle is dropped."""

KILL_DELAY = 2.0
"""Seconds from SIGTERM to SIGKILL."""

_LINGER = 1.0
"""Seconds for which output is read after a script has exited: a child process may keep the pipe open."""

ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
)
"""The environment of a script."""

# Neither Twisted nor posix_spawn creates a session. Python ignores SIGPIPE, which the script would inherit.
_LEADER = (
    "import os, signal, sys; os.setsid(); signal.signal(signal.SIGPIPE, signal.SIG_DFL); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


@implementer(IScripts)
class Scripts:
    """Runs the scripts; within a process, one at a time for each elastic IP.

    `associate` and `disassociate` are argvs, None if no script is configured; `timeout` is in seconds. `on_exit` is
    called after every run with the name of the script, its outcome (ok, failed, broken_off, cancelled), and the seconds
    that it took.
    """

    def __init__(
        self,
        reactor: Any,
        associate: Sequence[str] | None,
        disassociate: Sequence[str] | None,
        timeout: float,
        log: Logger,
        on_exit: Callable[[str, str, float], None] = lambda script, outcome, seconds: None,
    ) -> None:
        self._reactor = reactor
        self._associate = associate
        self._disassociate = disassociate
        self._timeout = timeout
        self._log = log
        self._on_exit = on_exit
        self._locks: dict[IPv4Address, DeferredLock] = {}

    @property
    def has_any(self) -> bool:
        """Whether a script is configured (`IScripts`)."""
        return self._associate is not None or self._disassociate is not None

    async def associate(
        self, elastic_ip: IPv4Address, private_ip: IPv4Address, network: str, max_seconds: float
    ) -> None:
        """Associate an elastic IP with a private address (`IScripts`)."""
        await self._run_exclusively("associate", self._associate, elastic_ip, private_ip, network, max_seconds)

    async def disassociate(
        self, elastic_ip: IPv4Address, private_ip: IPv4Address | None, network: str, max_seconds: float
    ) -> None:
        """Disassociate an elastic IP (`IScripts`)."""
        await self._run_exclusively("disassociate", self._disassociate, elastic_ip, private_ip, network, max_seconds)

    async def _run_exclusively(
        self,
        name: str,
        script: Sequence[str] | None,
        elastic_ip: IPv4Address,
        private_ip: IPv4Address | None,
        network: str,
        max_seconds: float,
    ) -> None:
        """Run a script while no other runs for this elastic IP."""
        if script is None:
            return
        argv = (*script, _argument(elastic_ip), _argument(private_ip), network)
        lock = self._locks.setdefault(elastic_ip, DeferredLock())
        await lock.acquire()
        try:
            await self._run_measured(name, argv, elastic_ip, min(self._timeout, max_seconds))
        finally:
            lock.release()
            if not lock.locked and self._locks.get(elastic_ip) is lock:
                del self._locks[elastic_ip]

    async def _run_measured(self, name: str, argv: Sequence[str], elastic_ip: IPv4Address, timeout: float) -> None:
        outcome, started_at = "cancelled", self._reactor.seconds()
        try:
            await self._run(f"{name}_script", argv, elastic_ip, timeout)
            outcome = "ok"
        except ScriptFailed as error:
            outcome = "broken_off" if error.was_killed else "failed"
            raise
        finally:
            self._on_exit(name, outcome, self._reactor.seconds() - started_at)

    async def _run(self, key: str, argv: Sequence[str], elastic_ip: IPv4Address, timeout: float) -> None:
        """Run the script of a key of econe.conf until it exits; raises `ScriptFailed`.

        The log has the key: the command of both scripts may be sudo.
        """
        script = _ScriptProcess(self._reactor)
        leader = (sys.executable, "-I", "-S", "-c", _LEADER, *argv)
        try:
            self._reactor.spawnProcess(script, leader[0], leader, env=dict(ENVIRONMENT), path="/")
        except OSError as error:
            self._log.warn("starting {script} for {ip} failed: {error}", script=key, ip=elastic_ip, error=error)
            raise ScriptFailed("could not be started", was_killed=False) from None
        script.kill_after(timeout)
        try:
            failure = await script.exited
        except CancelledError:
            script.kill()
            raise
        how = "was killed after its timeout" if script.was_killed else _describe_exit(failure)
        log = self._log.info if failure is None and not script.was_killed else self._log.warn
        log("{script} for {ip} {how}; output: {output}", script=key, ip=elastic_ip, how=how, output=script.output)
        if failure is not None or script.was_killed:
            by_signal = failure is not None and failure.signal is not None
            raise ScriptFailed(how, was_killed=script.was_killed or by_signal)


class _ScriptProcess(ProcessProtocol):
    """The process of a script. `exited` fires with None after success, else with the reason of the failure."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._beginning = bytearray()
        self._end = bytearray()
        self._is_truncated = False
        self._delayed_calls: list[IDelayedCall] = []
        self._pid: int | None = None
        self.exited: Deferred[ProcessTerminated | None] = Deferred()
        self.was_killed = False

    @property
    def output(self) -> str:
        """Its output as one line, without the middle if it is long."""
        between = b" ... " if self._is_truncated else b""
        return ascii((self._beginning + between + self._end).decode("utf-8", "replace").strip())

    def kill_after(self, seconds: float) -> None:
        """Kill it after `seconds`."""
        self._schedule(seconds, self.kill)

    def kill(self) -> None:
        """Kill it and its child processes."""
        self.was_killed = True
        self._signal(signal.SIGTERM)
        self._schedule(KILL_DELAY, self._signal, signal.SIGKILL)

    def connectionMade(self) -> None:
        """Close its standard input."""
        assert self.transport is not None  # noqa: S101 - Twisted has just set it
        self._pid = self.transport.pid
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """Keep the beginning and the end of its output."""
        room = MAX_OUTPUT - len(self._beginning)
        self._beginning += data[:room]
        self._end += data[room:]
        if len(self._end) > MAX_OUTPUT:
            self._is_truncated = True
            del self._end[:-MAX_OUTPUT]

    errReceived = outReceived

    def processExited(self, reason: Failure) -> None:
        """Close the pipes after `_LINGER` seconds."""
        assert self.transport is not None  # noqa: S101
        self._cancel()
        if self.was_killed:
            self._signal(signal.SIGKILL)
        self._schedule(_LINGER, self.transport.loseConnection)

    def processEnded(self, reason: Failure) -> None:
        """Fire `exited`."""
        self._cancel()
        if not self.exited.called:
            error = reason.value
            self.exited.callback(error if isinstance(error, ProcessTerminated) else None)

    def _signal(self, number: signal.Signals) -> None:
        assert self._pid is not None  # noqa: S101
        try:
            os.killpg(self._pid, number)
        except (ProcessLookupError, PermissionError):  # it is not the leader of its group yet, or the group has exited
            with suppress(ProcessExitedAlready, OSError):
                self.transport.signalProcess(int(number))  # type: ignore[union-attr]

    def _schedule(self, seconds: float, function: Any, *args: object) -> None:
        self._delayed_calls.append(self._reactor.callLater(seconds, function, *args))

    def _cancel(self) -> None:
        for call in self._delayed_calls:
            if call.active():
                call.cancel()
        self._delayed_calls.clear()


def _argument(address: IPv4Address | None) -> str:
    """Return an address as an argument of a script; raises `AttributeError` for anything but an address."""
    return "" if address is None else address.exploded


def _describe_exit(failure: ProcessTerminated | None) -> str:
    if failure is None:
        return "succeeded"
    if failure.signal is not None:
        return f"was killed by signal {failure.signal}"
    return f"failed with exit status {failure.exitCode}"
