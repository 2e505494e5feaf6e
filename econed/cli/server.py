"""`econe-server`: start, stop and inspect the daemon (docs/econe-server.md)."""

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
from econed.cli.connection import LoadedConfiguration, client, is_wrong_credentials, load_configuration, run_in_reactor
from econed.cli.installation import Exit, Installation
from econed.cli.process import StartFailed, accepts_connections, start, twistd
from econed.config import loading
from econed.config.loading import ConfigError
from econed.config.settings import Settings
from econed.errors import OpenNebulaError
from econed.opennebula.session import Session
from econed.process import systemd
from econed.process.listening import CannotListen, bind_all, close_all, listen_addresses
from econed.process.pid_file import DaemonProcess, PidFile, PidFileError

START_TIMEOUT: Final = 30.0
"""Seconds until the daemon has to listen."""

STOP_TIMEOUT: Final = 30.0
"""Seconds that the daemon may take to exit, on top of its drain_timeout, in which it completes requests in progress."""


class CommandFailed(Exception):
    """Ends a command: its exit code and a message for the administrator."""

    def __init__(self, code: Exit, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(frozen=True)
class Server:
    """The commands of `econe-server` for one installation."""

    installation: Installation
    environ: Mapping[str, str]
    out: TextIO

    def start(self) -> Exit:
        """Start the daemon in the background and wait until it listens."""
        pid = self._pid_file.holder()
        if pid is not None:
            return self._print(f"econe-server is already running (pid {pid})")
        loaded = self._load_configuration()
        self._remove_stale_pid_file()
        self._check_ports(loaded.settings)
        self._check_directories()
        self._check_credentials(loaded)
        try:
            pid = start(self.installation, self._pid_file, self.environ, START_TIMEOUT)
        except StartFailed as error:
            raise CommandFailed(Exit.FAILED, f"econe-server did not start: {error}") from None
        log = loaded.settings.log_file or self.installation.log_file
        return self._print(f"econe-server started (pid {pid}), listening on {_addresses(loaded.settings)}, log {log}")

    def stop(self, timeout: float | None = None) -> Exit:
        """Stop the daemon and wait until it has exited, for `timeout` seconds; default: `_stop_timeout`."""
        if timeout is None:
            timeout = self._stop_timeout()
        with self._pid_file.daemon() as process:
            if process is None:
                self._remove_stale_pid_file()
                return self._print("econe-server is not running")
            self._signal(process, signal.SIGTERM)
            if not process.wait(timeout):
                raise CommandFailed(
                    Exit.FAILED,
                    f"econe-server (pid {process.pid}) is still running {timeout:g} s after the stop signal",
                )
        self._pid_file.remove()
        return self._print("econe-server stopped")

    def reload(self) -> Exit:
        """Have the daemon reload its configuration. A configuration with errors is reported, and no signal sent."""
        self._load_configuration()
        pid = self._signal_daemon(signal.SIGHUP)
        return self._print(f"econe-server (pid {pid}) is reloading its configuration; its log says when it is in use")

    def reopen(self) -> Exit:
        """Have the daemon reopen its log, after the file was renamed (logrotate)."""
        pid = self._signal_daemon(signal.SIGUSR1)
        return self._print(f"econe-server (pid {pid}) is reopening its log")

    def restart(self, timeout: float | None = None) -> Exit:
        """Stop and start the daemon. A configuration with errors is reported before the daemon is stopped."""
        self._load_configuration()
        self.stop(timeout)
        return self.start()

    def status(self) -> Exit:
        """Report whether the daemon runs, and whether it accepts connections."""
        settings = self._valid_settings()
        addresses = "" if settings is None else _addresses(settings)
        is_listening = settings is not None and all(
            accepts_connections(address.host, address.port) for address in listen_addresses(settings)
        )
        pid = self._pid_file.holder()
        if pid is not None and (is_listening or settings is None):
            listening = f", listening on {addresses}" if addresses else ""
            return self._print(f"econe-server is running (pid {pid}){listening}")
        if pid is not None:
            raise CommandFailed(Exit.FAILED, f"econe-server is running (pid {pid}), but not listening on {addresses}")
        if is_listening:
            self._print(f"another process listens on {addresses}")
        if self._pid_file.exists:
            text = f"econe-server is not running, but {self._pid_file.path} exists: the daemon has died"
            raise CommandFailed(Exit.FAILED, text)
        raise CommandFailed(Exit.NOT_RUNNING, "econe-server is not running")

    def run(self) -> Exit:
        """Replace this process by the daemon, in the foreground, with its log on standard output."""
        loaded = self._load_configuration()
        initial = systemd.initial_environment()
        socket_variables = {name: initial[name] for name in systemd.SOCKET_VARIABLES if name in initial}
        if not systemd.passed_descriptors(socket_variables, os.getpid()):  # else systemd has bound the ports
            self._check_ports(loaded.settings)
        command = twistd(self.installation, "--nodaemon", "--pidfile=", "--logfile=-")
        os.execve(command[0], command, {**self.environ, **socket_variables})  # noqa: S606  sys.executable, by its path

    def check(self, groups: Sequence[str]) -> Exit:
        """Check the configuration against the running oned."""
        loaded = self._load_configuration()

        async def run_check(reactor: Any) -> Exit:
            oned = client(reactor, loaded)
            return await check.run(oned, loaded, groups, self.out, await oned.statuses())

        return run_in_reactor(run_check)

    def doctor(self, fix: bool) -> Exit:
        """List inconsistencies in OpenNebula; with `fix`, repair them."""
        loaded = self._load_configuration()
        return run_in_reactor(
            lambda reactor: doctor.run(client(reactor, loaded), loaded.settings, reactor, fix, self.out)
        )

    def _signal_daemon(self, signal_number: signal.Signals) -> int:
        """Send the daemon a signal and return its process id."""
        with self._pid_file.daemon() as process:
            if process is None:
                raise CommandFailed(Exit.NOT_RUNNING, "econe-server is not running")
            self._signal(process, signal_number)
            return process.pid

    def _signal(self, process: DaemonProcess, signal_number: signal.Signals) -> None:
        try:
            process.send(signal_number)
        except PermissionError:
            raise CommandFailed(
                Exit.FAILED, f"econe-server (pid {process.pid}) belongs to another user: no signal sent"
            ) from None

    @property
    def _pid_file(self) -> PidFile:
        return PidFile(self.installation.pid_file)

    def _print(self, text: str) -> Exit:
        print(text, file=self.out, flush=True)
        return Exit.OK

    def _load_configuration(self) -> LoadedConfiguration:
        loaded = load_configuration(self.installation.conf, self.environ)
        for warning in loaded.warnings:
            self._print(f"warning: {warning}")
        return loaded

    def _valid_settings(self) -> Settings | None:
        try:
            return load_configuration(self.installation.conf, self.environ).settings
        except ConfigError as error:
            self._print(f"invalid configuration:\n{error}")
            return None

    def _remove_stale_pid_file(self) -> None:
        if self._pid_file.exists:
            self._pid_file.remove()
            self._print(f"removed {self._pid_file.path}: its process has died")

    def _check_ports(self, settings: Settings) -> None:
        try:
            close_all(bind_all(listen_addresses(settings)))
        except CannotListen as error:
            if error.in_use is not None:
                raise CommandFailed(Exit.PORT_TAKEN, f"another process listens on {error.in_use}") from None
            raise CommandFailed(Exit.BAD_CONFIGURATION, str(error)) from None

    def _stop_timeout(self) -> float:
        """Return the seconds that the daemon may take to exit; drain_timeout is unknown if econe.conf is invalid."""
        try:
            settings, _ = loading.load(self.installation.conf, self.environ)
        except ConfigError:
            return 2 * STOP_TIMEOUT
        return settings.drain_timeout + STOP_TIMEOUT

    def _check_directories(self) -> None:
        for path in (self.installation.pid_file, self.installation.log_file):
            if not os.access(path.parent, os.W_OK):
                raise CommandFailed(Exit.FAILED, f"{path.parent} does not exist or is not writable")

    def _check_credentials(self, loaded: LoadedConfiguration) -> None:
        """Log in to oned. Wrong credentials are an error, an unreachable oned only a warning: it may start later."""

        async def log_in(reactor: Any) -> OpenNebulaError | None:
            try:
                await Session(client(reactor, loaded), None).current_user()
            except OpenNebulaError as error:
                return error
            return None

        error = run_in_reactor(log_in)
        if error is None:
            return
        urls = ", ".join(loaded.settings.one_xmlrpc)
        if is_wrong_credentials(error):
            raise CommandFailed(Exit.REFUSED, f"oned at {urls} rejects serveradmin's credentials")
        self._print(f"warning: oned at {urls} does not reply ({error.reason}); requests fail until it does")


def _addresses(settings: Settings) -> str:
    return " and ".join(
        f"{address} (TLS)" if address.is_tls else str(address) for address in listen_addresses(settings)
    )


def _options(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(prog="econe-server", description="Manage the EC2 API daemon for OpenNebula.")
    parser.add_argument("--config", "-c", type=Path, metavar="FILE", help="path of econe.conf")
    parser.add_argument("--pidfile", type=Path, metavar="FILE", help="path of the daemon's pid file")
    parser.add_argument("--logfile", type=Path, metavar="FILE", help="path of the daemon's log")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("start", help="start in the background and wait until the daemon listens")
    for name, text in (("stop", "stop the daemon and wait until it has exited"), ("restart", "stop and start")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--timeout", type=float, metavar="SECONDS", help="how long to wait for the exit")
    commands.add_parser("reload", help="reload the configuration")
    commands.add_parser("reopen", help="reopen the log, for logrotate")
    commands.add_parser("status", help="report whether the daemon runs and listens")
    commands.add_parser("run", help="run in the foreground")
    check_parser = commands.add_parser("check", help="check the configuration against the running oned")
    check_parser.add_argument("--group", action="append", default=[], metavar="NAME", help="a group of EC2 users")
    doctor_parser = commands.add_parser("doctor", help="list inconsistencies in OpenNebula")
    doctor_parser.add_argument("--fix", action="store_true", help="repair them")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str], environ: Mapping[str, str], out: TextIO, err: TextIO) -> int:
    """Carry out a command and return its exit code."""
    options = _options(arguments)
    installation = Installation.locate(environ, conf=options.config, pid_file=options.pidfile, log_file=options.logfile)
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
    except CommandFailed as error:
        print(f"econe-server: {error.text}", file=err)
        return int(error.code)
    except PidFileError as error:
        print(f"econe-server: {error}", file=err)
        return int(Exit.FAILED)
    except ConfigError as error:
        print(f"econe-server: invalid configuration:\n{error}", file=err)
        return int(Exit.BAD_CONFIGURATION)


def script() -> None:
    """Entry point of the command `econe-server`."""
    sys.exit(main(sys.argv[1:], os.environ, sys.stdout, sys.stderr))


if __name__ == "__main__":
    script()
