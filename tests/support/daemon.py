"""`twistd -n econe` as systemd runs it: with a notification socket, and optionally with listening sockets."""

from __future__ import annotations

import http.client
import itertools
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import yaml

from tests.support.clients import connected, v2_form
from tests.support.econed_process import Person, twistd
from tests.support.furnished_cloud import FurnishedCloud
from tests.support.processes import PASSED_ON, STARTING, until

ROOT = Path(__file__).parents[2]

_ACTIVATED = """
import fcntl, os, sys
copies = [fcntl.fcntl(int(descriptor), fcntl.F_DUPFD, 64) for descriptor in sys.argv[1].split(",")]
for target, copy in enumerate(copies, 3):
    os.dup2(copy, target)
    os.close(copy)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
"""Does what systemd does between fork and exec: moves the sockets to descriptors from 3 on, and sets LISTEN_PID."""

_numbers = itertools.count()


class Daemon:
    """An econed with its workers, on a cloud; `notifications` are the lines that it has sent to the service manager."""

    def __init__(
        self,
        cloud: FurnishedCloud,
        settings: Mapping[str, object],
        *,
        sockets: Sequence[socket.socket] = (),
        options: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Start it; `sockets` are passed to it as systemd does."""
        self.name = f"daemon-{next(_numbers)}"
        self.directory = cloud.directory
        self.conf = self.directory / f"{self.name}.conf"
        self._base = {"host": "127.0.0.1", "one_xmlrpc": cloud.url, "tmpdir": str(cloud.directory)}
        self.configure(settings)
        self.notifications: list[str] = []
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.bind(f"\0econed-{os.getpid()}-{self.name}")
        self._manager.setblocking(False)
        environment = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "ONE_CIPHER_AUTH": str(cloud.auth_file),
            "NOTIFY_SOCKET": f"@econed-{os.getpid()}-{self.name}",
            **(environ or {}),
        }
        command = [twistd(), "-n", "--pidfile=", "econe", "--config", str(self.conf), *options]
        if sockets:
            environment |= {"LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": ":".join(["econe"] * len(sockets))}
            command = [
                "-c",
                _ACTIVATED,
                ",".join(str(listening_socket.fileno()) for listening_socket in sockets),
                *command,
            ]
        self._output = self.directory / f"{self.name}.log"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[listening_socket.fileno() for listening_socket in sockets],
            )

    def __enter__(self) -> Daemon:
        """Return it when it is ready."""
        self.await_notification("READY=1")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Kill it."""
        self.kill()

    def configure(self, settings: Mapping[str, object]) -> None:
        """Write its econe.conf."""
        self.conf.write_text(yaml.safe_dump({**self._base, **settings}), "utf-8")

    @property
    def text(self) -> str:
        """Its output so far."""
        return self._output.read_text("utf-8", "replace")

    @property
    def workers(self) -> list[int]:
        """The process ids of its workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text("ascii").split()]

    def read_notifications(self) -> list[str]:
        """Return all its notifications so far."""
        try:
            while True:
                self.notifications += self._manager.recv(65536).decode().split("\n")
        except BlockingIOError:
            return self.notifications

    def await_notification(self, line: str, times: int = 1) -> None:
        """Wait until it has sent a notification `times` times; fail if it exits before."""

        def has_come() -> bool:
            if self.read_notifications().count(line) >= times:
                return True
            assert self.process.poll() is None, f"it exited with {self.process.returncode}:\n{self.text}"
            return False

        until(has_come, f"{self.name} to notify {line} {times} times, in place of {self.notifications}", STARTING)

    def await_logged(self, text: str, times: int = 1) -> None:
        """Wait until its output contains this text `times` times."""
        until(lambda: self.text.count(text) >= times, f"{self.name} to log {text!r}", STARTING)

    def signal(self, signal_number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(signal_number)

    def wait(self, timeout: float = STARTING) -> int:
        """Wait until it exits, and return its exit code."""
        return self.process.wait(timeout)

    def kill(self) -> None:
        """Kill it, and wait until its workers have exited, too."""
        if self.process.poll() is None:
            workers = self.workers
            self.process.kill()
            self.process.wait()
            for pid in workers:
                until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), f"worker {pid} to exit", STARTING)  # type: ignore[misc]
        self._manager.close()


def signed_path(person: Person, url: str, action: str = "DescribeInstances") -> str:
    """Return the path of a request, signed now."""
    return "/?" + v2_form(person, url, {"Action": action})


class Load:
    """Clients that send requests without a pause on persistent connections, without retries."""

    def __init__(self, person: Person, url: str, clients: int = 4, tls: ssl.SSLContext | None = None) -> None:
        """Send requests as this user, with TLS if `tls` is given."""
        self._person = person
        self._url = url
        self._tls = tls
        self._is_over = False
        self.failures: list[str] = []
        self.response_count = 0
        self.closed = 0
        """Responses with `Connection: close`."""
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Load:
        """Start."""
        for thread in self._threads:
            thread.start()
        self.go_on(len(self._threads))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop."""
        self.end()

    def end(self) -> None:
        """Stop after the responses to requests in flight."""
        self._is_over = True
        for thread in self._threads:
            thread.join(STARTING)

    def go_on(self, responses: int) -> None:
        """Wait for `responses` more responses."""
        enough = self.response_count + responses
        until(lambda: self.response_count >= enough or self.failures, f"{responses} responses", STARTING)

    def _ask(self) -> None:
        connection = connected(self._url, self._tls)
        while not self._is_over:
            try:
                connection.request("GET", signed_path(self._person, self._url))
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as failure:
                self.failures.append(repr(failure))
                connection.close()
                continue
            self.closed += response.getheader("connection") == "close"
            if response.status == 200:
                self.response_count += 1
            else:
                self.failures.append(f"{response.status} {body!r}")
        connection.close()
