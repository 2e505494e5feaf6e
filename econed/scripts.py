"""The administrator's scripts that lead elastic IPs to instances: `IScripts` by Twisted's ProcessProtocol.

A script is run by its argv, never by a shell: `SCRIPT elastic_ip private_ip vnet_template_base64`. It gets an
environment of PATH and LANG, an empty standard input, and a session of its own, so that it and all it starts can be
ended together: TERM when its time is over, KILL a little later. What it prints goes to the log and nowhere else.
Addresses come here as addresses, and are written out only here: no text of a user's can become an argument.
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

MOST_OUTPUT = 1 << 10
"""Bytes that are kept of the beginning of a script's output, and as many of its end; the middle is dropped."""

GRACE = 2.0
"""Seconds from TERM to KILL."""

_LINGER = 1.0
"""Seconds for which output is still read when a script has ended: something that it started may keep the pipe open."""

ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
)
"""All that a script finds in its environment."""

# Neither Twisted nor posix_spawn makes a session. Python ignores SIGPIPE, which would be handed down to the script.
_LEADER = (
    "import os, signal, sys; os.setsid(); signal.signal(signal.SIGPIPE, signal.SIG_DFL); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


@implementer(IScripts)
class Scripts:
    """The scripts of one process, one at a time for each elastic IP.

    `associate` and `disassociate` are argvs, None where there is no such script and nothing is to be run; `timeout` is
    in seconds. `ended` is told of every run: which of the two it was, how it ended (ok, failed, broken_off,
    cancelled), and the seconds that it took.
    """

    def __init__(
        self,
        reactor: Any,
        associate: Sequence[str] | None,
        disassociate: Sequence[str] | None,
        timeout: float,
        log: Logger | None = None,
        ended: Callable[[str, str, float], None] | None = None,
    ) -> None:
        self._reactor = reactor
        self._associate = associate
        self._disassociate = disassociate
        self._timeout = timeout
        self._log = log or Logger(namespace="econed.scripts")
        self._ended = ended
        self._turns: dict[IPv4Address, DeferredLock] = {}

    @property
    def has_any(self) -> bool:
        """Whether there is a script at all (`IScripts`)."""
        return self._associate is not None or self._disassociate is not None

    async def associate(self, elastic_ip: IPv4Address, private_ip: IPv4Address, network: str, most: float) -> None:
        """Lead an elastic IP to a private address (`IScripts`)."""
        await self._run_in_turn("associate", self._associate, elastic_ip, private_ip, network, most)

    async def disassociate(
        self, elastic_ip: IPv4Address, private_ip: IPv4Address | None, network: str, most: float
    ) -> None:
        """Undo that (`IScripts`)."""
        await self._run_in_turn("disassociate", self._disassociate, elastic_ip, private_ip, network, most)

    async def _run_in_turn(
        self,
        name: str,
        script: Sequence[str] | None,
        elastic_ip: IPv4Address,
        private_ip: IPv4Address | None,
        network: str,
        most: float,
    ) -> None:
        if script is None:
            return
        argv = (*script, _argument(elastic_ip), _argument(private_ip), network)
        turns = self._turns.setdefault(elastic_ip, DeferredLock())
        await turns.acquire()
        try:
            await self._counted(name, argv, elastic_ip, min(self._timeout, most))
        finally:
            turns.release()
            if not turns.locked and self._turns.get(elastic_ip) is turns:
                del self._turns[elastic_ip]

    async def _counted(self, name: str, argv: Sequence[str], elastic_ip: IPv4Address, seconds: float) -> None:
        outcome, began = "cancelled", self._reactor.seconds()
        try:
            await self._run(argv, elastic_ip, seconds)
            outcome = "ok"
        except ScriptFailed as error:
            outcome = "broken_off" if error.broken_off else "failed"
            raise
        finally:
            if self._ended is not None:
                self._ended(name, outcome, self._reactor.seconds() - began)

    async def _run(self, argv: Sequence[str], elastic_ip: IPv4Address, seconds: float) -> None:
        """Run a script to its end; raises `ScriptFailed`."""
        running = _Running(self._reactor)
        leader = (sys.executable, "-I", "-S", "-c", _LEADER, *argv)
        try:
            self._reactor.spawnProcess(running, leader[0], leader, env=dict(ENVIRONMENT), path="/")
        except OSError as error:
            self._log.warn(
                "{script} for {ip} could not be started: {error}", script=argv[0], ip=elastic_ip, error=error
            )
            raise ScriptFailed("could not be started", broken_off=False) from None
        running.end_after(seconds)
        try:
            ended = await running.ended
        except CancelledError:
            running.end()
            raise
        how = "was ended, its time was over" if running.was_ended else _in_words(ended)
        say = self._log.info if ended is None and not running.was_ended else self._log.warn
        say("{script} for {ip} {how}; output: {output}", script=argv[0], ip=elastic_ip, how=how, output=running.output)
        if ended is not None or running.was_ended:
            by_signal = ended is not None and ended.signal is not None
            raise ScriptFailed(how, broken_off=running.was_ended or by_signal)


class _Running(ProcessProtocol):
    """A script while it runs. `ended` comes to None where it succeeded, and to how it ended otherwise."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._beginning = bytearray()
        self._end = bytearray()
        self._is_cut = False
        self._later: list[IDelayedCall] = []
        self._pid: int | None = None
        self.ended: Deferred[ProcessTerminated | None] = Deferred()
        self.was_ended = False

    @property
    def output(self) -> str:
        """What it printed, as one line, without what is in the middle where it is long."""
        between = b" ... " if self._is_cut else b""
        return ascii((self._beginning + between + self._end).decode("utf-8", "replace").strip())

    def end_after(self, seconds: float) -> None:
        """Have it ended when so many seconds are over."""
        self._schedule(seconds, self.end)

    def end(self) -> None:
        """End it and all that it started."""
        self.was_ended = True
        self._signal(signal.SIGTERM)
        self._schedule(GRACE, self._signal, signal.SIGKILL)

    def connectionMade(self) -> None:
        """Let it find nothing on its standard input."""
        assert self.transport is not None  # noqa: S101 - Twisted has just set it
        self._pid = self.transport.pid
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """Keep the beginning and the end of what it prints."""
        room = MOST_OUTPUT - len(self._beginning)
        self._beginning += data[:room]
        self._end += data[room:]
        if len(self._end) > MOST_OUTPUT:
            self._is_cut = True
            del self._end[:-MOST_OUTPUT]

    errReceived = outReceived

    def processExited(self, reason: Failure) -> None:
        """Wait no longer than a moment for the rest of its output."""
        assert self.transport is not None  # noqa: S101
        self._cancel()
        if self.was_ended:
            self._signal(signal.SIGKILL)
        self._schedule(_LINGER, self.transport.loseConnection)

    def processEnded(self, reason: Failure) -> None:
        """Say how it ended."""
        self._cancel()
        if not self.ended.called:
            ended = reason.value
            self.ended.callback(ended if isinstance(ended, ProcessTerminated) else None)

    def _signal(self, number: signal.Signals) -> None:
        assert self._pid is not None  # noqa: S101
        try:
            os.killpg(self._pid, number)
        except (ProcessLookupError, PermissionError):  # not yet the leader of its group, or all of it gone
            with suppress(ProcessExitedAlready, OSError):
                self.transport.signalProcess(int(number))  # type: ignore[union-attr]

    def _schedule(self, seconds: float, what: Any, *args: object) -> None:
        self._later.append(self._reactor.callLater(seconds, what, *args))

    def _cancel(self) -> None:
        for each in self._later:
            if each.active():
                each.cancel()
        self._later.clear()


def _argument(address: IPv4Address | None) -> str:
    """Return an address as scripts are given it; what is no address has no such form."""
    return "" if address is None else address.exploded


def _in_words(ended: ProcessTerminated | None) -> str:
    if ended is None:
        return "succeeded"
    if ended.signal is not None:
        return f"was ended by signal {ended.signal}"
    return f"failed with exit status {ended.exitCode}"
