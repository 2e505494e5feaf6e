"""`econe-server`: start and stop the daemon, and look after it (docs/econe-server.md)."""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from econed.cli import check, doctor
from econed.cli.installation import Exit, Installation
from econed.cli.process import Gone, answers, start, twistd
from econed.cli.reaching import Prepared, client, in_reactor, is_wrong_credentials, prepared
from econed.config import loading
from econed.config.loading import ConfigError
from econed.config.settings import Settings
from econed.errors import OpenNebulaError
from econed.opennebula.session import Session
from econed.process import systemd
from econed.process.listening import CannotListen, bound, close, places
from econed.process.pid_file import DaemonProcess, PidFile, PidFileError

TO_START: Final = 30.0
"""Seconds that the daemon has to come to listen."""

TO_STOP: Final = 30.0
"""Seconds that it has to end beyond its drain_timeout, in which requests that are under way are finished."""


class Failure(Exception):
    """A command that ends here: what it exits with, and a word for the administrator."""

    def __init__(self, code: Exit, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(frozen=True)
class Server:
    """The commands, for one installation."""

    installation: Installation
    environ: Mapping[str, str]
    out: TextIO

    def start(self) -> Exit:
        """Start the daemon in the background and wait until it listens."""
        pid = self._pid_file.holder()
        if pid is not None:
            return self._say(f"econe-server runs already (pid {pid})")
        ready = self._prepared()
        self._forget_the_dead()
        self._demand_port(ready.settings)
        self._demand_directories()
        self._greet(ready)
        try:
            pid = start(self.installation, self._pid_file, self.environ, TO_START)
        except Gone as gone:
            raise Failure(Exit.FAILED, f"econe-server did not start: {gone}") from None
        log = ready.settings.log_file or self.installation.log_file
        return self._say(f"econe-server started (pid {pid}), listens on {_where(ready.settings)}, log {log}")

    def stop(self, patience: float | None = None) -> Exit:
        """Have the daemon end, and wait for it: `patience` seconds, else as long as it may take."""
        if patience is None:
            patience = self._patience()
        with self._pid_file.daemon() as process:
            if process is None:
                self._forget_the_dead()
                return self._say("econe-server does not run")
            self._signal(process, signal.SIGTERM)
            if not process.wait(patience):
                raise Failure(
                    Exit.FAILED, f"econe-server (pid {process.pid}) has not ended {patience:g} s after it was told to"
                )
        self._pid_file.remove()
        return self._say("econe-server stopped")

    def reload(self) -> Exit:
        """Have the daemon read its configuration anew. One that it would refuse is found before it is told."""
        self._prepared()
        pid = self._tell(signal.SIGHUP)
        return self._say(f"econe-server (pid {pid}) is told to read its configuration; its log says when it is in use")

    def reopen(self) -> Exit:
        """Have the daemon open its log anew, after the file was renamed (logrotate)."""
        pid = self._tell(signal.SIGUSR1)
        return self._say(f"econe-server (pid {pid}) is told to open its log anew")

    def restart(self, patience: float | None = None) -> Exit:
        """Stop and start. What would keep it from starting is found before it is stopped."""
        self._prepared()
        self.stop(patience)
        return self.start()

    def status(self) -> Exit:
        """Say whether the daemon runs, and whether it takes connections."""
        settings = self._settings_if_good()
        where = "" if settings is None else _where(settings)
        listens = settings is not None and all(answers(each.host, each.port) for each in places(settings))
        pid = self._pid_file.holder()
        if pid is not None and (listens or settings is None):
            return self._say(f"econe-server runs (pid {pid})" + (f" and listens on {where}" if where else ""))
        if pid is not None:
            raise Failure(Exit.FAILED, f"econe-server runs (pid {pid}), but does not listen on {where}")
        if listens:
            self._say(f"something else listens on {where}")
        if self._pid_file.is_there:
            raise Failure(Exit.FAILED, f"econe-server does not run, but {self._pid_file.path} is there: it has died")
        raise Failure(Exit.NOT_RUNNING, "econe-server does not run")

    def run(self) -> Exit:
        """Become the daemon, in the foreground, with its log on standard output."""
        ready = self._prepared()
        begun = systemd.initial()
        handed = {name: begun[name] for name in systemd.SOCKET_VARIABLES if name in begun}
        if not systemd.handed_over(handed, os.getpid()):  # else systemd has bound them
            self._demand_port(ready.settings)
        command = twistd(self.installation, "--nodaemon", "--pidfile=", "--logfile=-")
        os.execve(command[0], command, {**self.environ, **handed})  # noqa: S606  this very Python, by its path

    def check(self, groups: Sequence[str]) -> Exit:
        """Hold the configuration against the live oned."""
        ready = self._prepared()

        async def ask(reactor: Any) -> Exit:
            one = client(reactor, ready)
            return await check.run(one, ready, groups, self.out, await one.standings())

        return in_reactor(ask)

    def doctor(self, fix: bool) -> Exit:
        """Look for what is not as it should be, and mend it if told to."""
        ready = self._prepared()
        return in_reactor(lambda reactor: doctor.run(client(reactor, ready), ready.settings, reactor, fix, self.out))

    def _tell(self, number: signal.Signals) -> int:
        """Signal the daemon and return its process id."""
        with self._pid_file.daemon() as process:
            if process is None:
                raise Failure(Exit.NOT_RUNNING, "econe-server does not run")
            self._signal(process, number)
            return process.pid

    def _signal(self, process: DaemonProcess, number: signal.Signals) -> None:
        try:
            process.send(number)
        except PermissionError:
            raise Failure(
                Exit.FAILED, f"econe-server (pid {process.pid}) belongs to another user: no signal sent"
            ) from None

    @property
    def _pid_file(self) -> PidFile:
        return PidFile(self.installation.pid_file)

    def _say(self, text: str) -> Exit:
        print(text, file=self.out, flush=True)
        return Exit.OK

    def _prepared(self) -> Prepared:
        ready = prepared(self.installation.conf, self.environ)
        for finding in ready.findings:
            self._say(f"warning: {finding}")
        return ready

    def _settings_if_good(self) -> Settings | None:
        try:
            return prepared(self.installation.conf, self.environ).settings
        except ConfigError as error:
            self._say(f"the configuration cannot be used:\n{error}")
            return None

    def _forget_the_dead(self) -> None:
        if self._pid_file.is_there:
            self._say(f"{self._pid_file.path} is from a process that has died: removed")
            self._pid_file.remove()

    def _demand_port(self, settings: Settings) -> None:
        try:
            close(bound(places(settings)))
        except CannotListen as error:
            if error.taken is not None:
                raise Failure(Exit.PORT_TAKEN, f"another process listens on {error.taken}") from None
            raise Failure(Exit.BAD_CONFIGURATION, str(error)) from None

    def _patience(self) -> float:
        """Return the seconds in which the daemon has to end, as far as its configuration tells."""
        try:
            settings, _ = loading.load(self.installation.conf, self.environ)
        except ConfigError:
            return 2 * TO_STOP
        return settings.drain_timeout + TO_STOP

    def _demand_directories(self) -> None:
        for path in (self.installation.pid_file, self.installation.log_file):
            if not os.access(path.parent, os.W_OK):
                raise Failure(Exit.FAILED, f"{path.parent} is not there, or nothing can be written to it")

    def _greet(self, ready: Prepared) -> None:
        """Ask oned who this is. One that does not answer may come later; one that refuses will go on refusing."""

        async def ask(reactor: Any) -> OpenNebulaError | None:
            try:
                await Session(client(reactor, ready), None).current_user()
            except OpenNebulaError as error:
                return error
            return None

        error = in_reactor(ask)
        if error is None:
            return
        where = ", ".join(ready.settings.one_xmlrpc)
        if is_wrong_credentials(error):
            raise Failure(Exit.REFUSED, f"oned at {where} refuses serveradmin's credentials")
        self._say(f"warning: oned at {where} does not answer ({error.reason}); requests fail until it does")


def _where(settings: Settings) -> str:
    return " and ".join(f"{place} (TLS)" if place.is_tls else str(place) for place in places(settings))


def _options(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(prog="econe-server", description="The EC2 API for OpenNebula: the daemon and its upkeep.")
    parser.add_argument("--config", "-c", type=Path, metavar="FILE", help="econe.conf")
    parser.add_argument("--pidfile", type=Path, metavar="FILE", help="where the daemon's process id is")
    parser.add_argument("--logfile", type=Path, metavar="FILE", help="where the daemon writes its log")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("start", help="start in the background, and wait until it listens")
    for name, said in (("stop", "end, and wait for the end"), ("restart", "stop and start")):
        each = commands.add_parser(name, help=said)
        each.add_argument("--timeout", type=float, metavar="SECONDS", help="for how long to wait")
    commands.add_parser("reload", help="have it read its configuration anew")
    commands.add_parser("reopen", help="have it open its log anew, for logrotate")
    commands.add_parser("status", help="does it run, does it listen")
    commands.add_parser("run", help="run in the foreground")
    checking = commands.add_parser("check", help="hold the configuration against the live oned")
    checking.add_argument("--group", action="append", default=[], metavar="NAME", help="a group of EC2 users")
    doctoring = commands.add_parser("doctor", help="list what is not as it should be")
    doctoring.add_argument("--fix", action="store_true", help="and mend it")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str], environ: Mapping[str, str], out: TextIO, err: TextIO) -> int:
    """Carry out a command and return its exit code."""
    options = _options(arguments)
    installation = Installation.found(environ, conf=options.config, pid_file=options.pidfile, log_file=options.logfile)
    server = Server(installation, environ, out)
    try:
        match options.command:
            case "stop" | "restart" as name:
                return int(getattr(server, name)(options.timeout))
            case "check":
                return int(server.check(options.group))
            case "doctor":
                return int(server.doctor(options.fix))
            case name:
                return int(getattr(server, name)())
    except Failure as failure:
        print(f"econe-server: {failure.text}", file=err)
        return int(failure.code)
    except PidFileError as error:
        print(f"econe-server: {error}", file=err)
        return int(Exit.FAILED)
    except ConfigError as error:
        print(f"econe-server: the configuration cannot be used:\n{error}", file=err)
        return int(Exit.BAD_CONFIGURATION)


def script() -> None:
    """Run as the command `econe-server`."""
    sys.exit(main(sys.argv[1:], os.environ, sys.stdout, sys.stderr))


if __name__ == "__main__":
    script()
