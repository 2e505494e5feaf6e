"""`econe-server`: start, stop and inspect the daemon (docs/econe-server.md)."""

from __future__ import annotations

import os
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from econed import configtest
from econed.cli import check, doctor, sealing
from econed.cli.account import AccountError, become
from econed.cli.connection import client, is_wrong_credentials, run_in_reactor
from econed.cli.entry import exit_with
from econed.cli.installation import CommandFailed, Exit, Installation
from econed.cli.journal import Priority, write_text
from econed.cli.keys import Keys, reporting_errors
from econed.cli.options import parse
from econed.cli.process import StartFailed, accepts_connections, start, twistd
from econed.cli.running import Running, ServiceState, service_state
from econed.cli.survey import Row, Verdict
from econed.config import loading
from econed.config.loading import ConfigError
from econed.config.settings import Settings
from econed.configtest import LoadedConfiguration
from econed.errors import OpenNebulaError
from econed.opennebula.session import Session
from econed.process import systemd
from econed.process.listening import CannotListen, listen_addresses
from econed.process.pid_file import DaemonProcess, PidFile, PidFileError
from econed.process.ports import refused_ports

START_TIMEOUT: Final = 30.0
"""Seconds until the daemon has to listen."""

STOP_TIMEOUT: Final = 30.0
"""Seconds that the daemon may take to exit, on top of its drain_timeout, in which it completes requests in progress."""


_OF_ROOT: Final = ("stop", "status", "reopen")
"""The commands that read no secrets and start nothing: root may use them for a daemon of any account."""

_WITHOUT_SERVICE: Final = ("run", "doctor", "keys")
"""The commands that do not look at a daemon that systemd runs."""


@dataclass(frozen=True)
class Server:
    """The commands of `econe-server` for one installation. `service` is the state of systemd's units."""

    installation: Installation
    environ: Mapping[str, str]
    out: TextIO
    service: ServiceState

    def start(self) -> Exit:
        """Start the daemon in the background and wait until it listens."""
        pid = self._pid_file.holder()
        if pid is not None:
            return self._print(f"econe-server is already running (pid {pid})")
        return self._start(self._prepare(None))

    def stop(self, timeout: float | None = None) -> Exit:
        """Stop the daemon and wait until it has exited, for `timeout` seconds; default: `_stop_timeout`."""
        if timeout is None:
            timeout = self._stop_timeout()
        with self._pid_file.daemon() as process:
            if process is None:
                self._remove_stale_pid_file()
                return self._print(self._absence())
            self._signal(process, signal.SIGTERM)
            if not process.wait(timeout):
                raise CommandFailed(
                    Exit.FAILED,
                    f"econe-server (pid {process.pid}) is still running {timeout:g} s after the stop signal",
                )
        self._pid_file.remove()
        return self._print("econe-server stopped")

    def reload(self) -> Exit:
        """Have the daemon reload its configuration; send no signal if it could not use it, and report why."""
        pid = self._pid_file.holder()
        if pid is None:
            raise CommandFailed(Exit.NOT_RUNNING, self._absence())
        self._test(Running.of_daemon(pid), self.installation.log_file, is_reload=True)
        pid = self._signal_daemon(signal.SIGHUP)
        return self._print(f"econe-server (pid {pid}) is reloading its configuration; its log says when it is in use")

    def reopen(self) -> Exit:
        """Have the daemon reopen its log, after the file was renamed (logrotate)."""
        pid = self._signal_daemon(signal.SIGUSR1)
        return self._print(f"econe-server (pid {pid}) is reopening its log")

    def restart(self, timeout: float | None = None) -> Exit:
        """Stop and start the daemon; what would keep it from starting is reported before it is stopped."""
        loaded = self._prepare(self._pid_file.holder())
        self.stop(timeout)
        return self._start(loaded)

    def status(self) -> Exit:
        """Report whether the daemon runs, and whether it accepts connections; systemd monitors its service itself."""
        pid = self._pid_file.holder()
        if pid is None and (service_pid := self.service.pid_with(self.installation.conf)) is not None:
            return self._print(_service_text(service_pid))
        try:
            settings, _ = loading.load(self.installation.conf, self.environ)
        except ConfigError as error:
            if pid is None:
                raise self._not_running() from None
            text = f"econe-server is running (pid {pid}), on which port is unknown: invalid configuration:\n{error}"
            raise CommandFailed(Exit.BAD_CONFIGURATION, text) from None
        addresses = _addresses(settings)
        is_listening = all(accepts_connections(address.host, address.port) for address in listen_addresses(settings))
        if pid is not None and is_listening:
            return self._print(f"econe-server is running (pid {pid}), listening on {addresses}")
        if pid is not None:
            raise CommandFailed(Exit.FAILED, f"econe-server is running (pid {pid}), but not listening on {addresses}")
        if is_listening:
            self._print(f"another process listens on {addresses}")
        raise self._not_running()

    def configtest(self, is_for_service: bool) -> Exit:
        """Report everything that would keep the daemon from starting, without oned.

        For systemd's unit (`is_for_service`), the ports are compared with those of MAINPID, which is to be reloaded.
        Before a start they are not bound: systemd may hold them, and passes them only to the daemon.
        """
        if not is_for_service:
            running = self._running()
            self._test(running, None if running.is_service else self.installation.log_file)
        elif self.environ.get("MAINPID", "").isdecimal():
            self._test(Running.of_daemon(int(self.environ["MAINPID"])), None, is_reload=True)
        elif self.service.ports is not None:
            self._test(Running.of_service(self.service), None)
        else:
            self._load_configuration()
            configtest.dispatcher()
            return self._print(f"{self.installation.conf}: no errors; the ports are tested when econed binds them")
        return self._print(f"{self.installation.conf}: nothing would keep econed from starting")

    def run(self) -> Exit:
        """Replace this process by the daemon, in the foreground, with its log on standard output."""
        loaded = self._load_configuration()
        if not systemd.passed_descriptors(self.environ, os.getpid()):  # else systemd has bound the ports
            self._refuse_ports(refused_ports(loaded.settings))
        command = twistd(self.installation, "--nodaemon", "--pidfile=", "--logfile=-")
        os.execve(command[0], command, self.environ)  # noqa: S606  sys.executable, by its path

    def check(self, groups: Sequence[str]) -> Exit:
        """Check what `configtest` checks, and the configuration against the running oned."""
        running = self._running()
        log_file = None if running.is_service else self.installation.log_file
        loaded = configtest.load(self.installation.conf, self.environ, log_file)
        configtest.dispatcher()
        rows = [Row(Verdict.NOTE, "configuration", str(text)) for text in loaded.all_warnings(time.time())]
        rows += [Row(Verdict.BAD, "ports", _reason(refusal)) for refusal in running.refused_ports(loaded.settings)]

        async def run_check(reactor: Any) -> Exit:
            oned = client(reactor, loaded)
            return await check.run(oned, loaded, groups, self.out, await oned.statuses(), rows, now=time.time())

        return run_in_reactor(run_check)

    def doctor(self, fix: bool) -> Exit:
        """List inconsistencies in OpenNebula; with `fix`, repair them."""
        loaded = self._load_configuration()
        return run_in_reactor(
            lambda reactor: doctor.run(client(reactor, loaded), loaded.settings, reactor, fix, self.out)
        )

    def keys(self, options: Namespace) -> Exit:
        """Carry out a command for access keys or sealing keys."""
        loaded = self._load_configuration()
        if options.subcommand == "renew":
            return sealing.renew(self.installation.conf, loaded, options.file, self.out)

        async def run_command(reactor: Any) -> Exit:
            serveradmin, now = Session(client(reactor, loaded), None), int(reactor.seconds())
            sealer = loaded.sealing_keys.sealer()
            match options.subcommand:
                case "reseal":
                    return await sealing.reseal(serveradmin, sealer, self.out)
                case "retire":
                    return await sealing.retire(serveradmin, loaded, self.out)
                case "list":
                    return await Keys(serveradmin, sealer, now, self.out).list(options.of)
                case name:
                    command = getattr(Keys(serveradmin, sealer, now, self.out), name)
                    return Exit(await command(options.id, options.of))

        return run_in_reactor(lambda reactor: reporting_errors(run_command(reactor)))

    def _signal_daemon(self, signal_number: signal.Signals) -> int:
        """Send the daemon a signal and return its process id."""
        with self._pid_file.daemon() as process:
            if process is None:
                raise CommandFailed(Exit.NOT_RUNNING, self._absence())
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

    def _absence(self) -> str:
        """Say that no daemon of `econe-server start` runs, and whether the service does."""
        pid = self.service.pid_with(self.installation.conf)
        return "econe-server is not running" if pid is None else _service_text(pid)

    def _not_running(self) -> CommandFailed:
        if self._pid_file.exists:
            text = f"econe-server is not running, but {self._pid_file.path} exists: the daemon has died"
            return CommandFailed(Exit.FAILED, text)
        return CommandFailed(Exit.NOT_RUNNING, self._absence())

    def _load_configuration(self, log_file: Path | None = None) -> LoadedConfiguration:
        loaded = configtest.load(self.installation.conf, self.environ, log_file)
        for warning in loaded.all_warnings(time.time()):
            write_text(f"warning: {warning}", self.out, Priority.WARNING, self.environ)
        return loaded

    def _running(self) -> Running:
        """Return what a start would find: the daemon that runs, as a service or not."""
        pid = self._pid_file.holder()
        return Running.of_service(self.service) if pid is None else Running.of_daemon(pid)

    def _test(self, running: Running, log_file: Path | None, *, is_reload: bool = False) -> LoadedConfiguration:
        """Return the configuration; fail if no process could start with it, or none could use it after a reload."""
        loaded = self._load_configuration(log_file)
        configtest.dispatcher()
        self._refuse_ports(running.refused_ports(loaded.settings, is_reload=is_reload))
        return loaded

    def _refuse_ports(self, refused: Iterable[CannotListen]) -> None:
        errors = tuple(refused)
        if errors:
            are_taken = all(error.in_use is not None for error in errors)
            texts = "\n".join(_reason(error) for error in errors)
            raise CommandFailed(Exit.PORT_TAKEN if are_taken else Exit.BAD_CONFIGURATION, texts)

    def _prepare(self, pid: int | None) -> LoadedConfiguration:
        """Check everything that a start needs, in place of the daemon `pid`, if any; return the configuration."""
        if pid is None and (service_pid := self.service.pid_with(self.installation.conf)) is not None:
            raise CommandFailed(Exit.PORT_TAKEN, _service_text(service_pid))
        running = Running() if pid is None else Running.of_daemon(pid)
        loaded = self._test(running, self.installation.log_file)
        directory = self.installation.pid_file.parent
        if not os.access(directory, os.W_OK):
            raise CommandFailed(Exit.FAILED, f"{directory} does not exist or is not writable")
        self._check_credentials(loaded)
        return loaded

    def _start(self, loaded: LoadedConfiguration) -> Exit:
        self._remove_stale_pid_file()
        log = Path(loaded.settings.log_file or self.installation.log_file)
        try:
            pid = start(self.installation, self._pid_file, self.environ, START_TIMEOUT, log)
        except StartFailed as error:
            raise CommandFailed(Exit.FAILED, f"econe-server did not start: {error}") from None
        return self._print(f"econe-server started (pid {pid}), listening on {_addresses(loaded.settings)}, log {log}")

    def _remove_stale_pid_file(self) -> None:
        if self._pid_file.exists:
            self._pid_file.remove()
            self._print(f"removed {self._pid_file.path}: its process has died")

    def _stop_timeout(self) -> float:
        """Return the seconds that the daemon may take to exit; drain_timeout is unknown if econe.conf is invalid."""
        try:
            settings, _ = loading.load(self.installation.conf, self.environ)
        except ConfigError:
            return 2 * STOP_TIMEOUT
        return settings.drain_timeout + STOP_TIMEOUT

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


def _service_text(pid: int) -> str:
    return f"econed is running as econe.service (pid {pid}), which systemctl controls"


def _reason(error: CannotListen) -> str:
    return str(error) if error.in_use is None else f"another process listens on {error.in_use}"


def _addresses(settings: Settings) -> str:
    return " and ".join(
        f"{address} (TLS)" if address.is_tls else str(address) for address in listen_addresses(settings)
    )


def main(arguments: Sequence[str], environ: Mapping[str, str], out: TextIO, err: TextIO) -> int:
    """Carry out a command and return its exit code."""
    options = parse(arguments)
    installation = Installation.locate(environ, conf=options.config, pid_file=options.pidfile, log_file=options.logfile)
    try:
        # Before root's rights are given up: without D-Bus systemd answers only root, and then the variables of its
        # sockets, which Twisted has removed from the environment, can no longer be read.
        service = ServiceState() if options.command in _WITHOUT_SERVICE else service_state()
        environ = {**environ, **systemd.socket_variables(systemd.initial_environment())}
        if options.command not in _OF_ROOT:
            environ = become(options.user, environ)
        server = Server(installation, environ, out, service)
        match options.command:
            case "stop" | "restart" as name:
                return int(getattr(server, name)(options.timeout))
            case "configtest":
                return int(server.configtest(options.service))
            case "check":
                return int(server.check(options.group))
            case "doctor":
                return int(server.doctor(options.fix))
            case "keys":
                return int(server.keys(options))
            case name:
                return int(getattr(server, name)())
    except CommandFailed as error:
        write_text(f"econe-server: {error.text}", err, Priority.ERROR, environ)
        return int(error.code)
    except (PidFileError, AccountError) as error:
        write_text(f"econe-server: {error}", err, Priority.ERROR, environ)
        return int(Exit.FAILED)
    except ConfigError as error:
        write_text(f"econe-server: invalid configuration:\n{error}", err, Priority.ERROR, environ)
        return int(Exit.BAD_CONFIGURATION)


def script() -> None:
    """Entry point of the command `econe-server`."""
    exit_with(lambda: main(sys.argv[1:], os.environ, sys.stdout, sys.stderr))


if __name__ == "__main__":
    script()
