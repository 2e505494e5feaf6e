"""A deployment for measurements: an oned in memory, and econed's supervisor and workers, each a process."""

from __future__ import annotations

import time
import urllib.request
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from econed.opennebula.tokens import CipherForm, PasswordKey, session_token
from tests.support.ports import free_port
from tests.support.processes import Process, until

SECRET = "a secret of the deployment's"
"""The secret key of every user."""

_PASSWORD = "pw"
_TWISTD = ("-c", "from twisted.scripts.twistd import run; run()", "--nodaemon", "--pidfile=")


@dataclass(frozen=True)
class Deployment:
    """A running econed: its URL, the process id of its supervisor, and the URL of its oned."""

    url: str
    supervisor: int
    oned: str

    def call(self, user: str, method: str, *args: object) -> object:
        """Make a call to oned as a user, and return the value of the reply."""
        session = session_token("serveradmin", PasswordKey(_PASSWORD), user, time.time(), CipherForm.KEY_IV)
        succeeded, value, *_ = getattr(xmlrpc.client.ServerProxy(self.oned), method)(session, *args)
        assert succeeded, value
        return value


@contextmanager
def deployed(
    directory: Path, users: Sequence[str], settings: Mapping[str, object], *, machines: int = 0
) -> Iterator[Deployment]:
    """Run an oned in memory with these users, and with `machines` of the first of them, and econed in front of it.

    `settings` go into econe.conf beside the addresses of the two. With `ssl_cert` econed serves HTTPS.
    """
    oned, port, admin = free_port(), free_port(), free_port()
    user_options = [argument for user in users for argument in ("--user", f"{user}:{SECRET}")]
    arguments = [
        "--port",
        str(oned),
        "--serveradmin",
        f"serveradmin:{_PASSWORD}",
        "--vms",
        str(machines),
        *user_options,
    ]
    (directory / "ec2_auth").write_text(f"serveradmin:{_PASSWORD}\n", "ascii")
    (directory / "ec2_auth").chmod(0o600)
    oned_url = f"http://127.0.0.1:{oned}/RPC2"
    conf = {
        "host": "127.0.0.1",
        "port": port,
        "admin_port": admin,
        "one_xmlrpc": oned_url,
        "elasticips_vnet_id": 1,
        "tmpdir": directory,
        **settings,
    }
    (directory / "econe.conf").write_text("".join(f":{name}: {value}\n" for name, value in conf.items()), "utf-8")
    with ExitStack() as ends:
        sandbox = Process("oned", [*_TWISTD, "econe-sandbox", *arguments], directory)
        ends.callback(sandbox.stop)
        sandbox.await_output(r"Site starting on (\d+)")
        command = [*_TWISTD, "econe", "--config", str(directory / "econe.conf")]
        econed = Process("econed", command, directory, {"ONE_CIPHER_AUTH": str(directory / "ec2_auth")})
        ends.callback(econed.stop)
        until(lambda: _is_ready(admin), "econed to be ready", 60)
        yield Deployment(f"{'https' if 'ssl_cert' in conf else 'http'}://127.0.0.1:{port}/", econed.pid, oned_url)


def _is_ready(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as response:
        return bool(response.status == 200)
    return False
