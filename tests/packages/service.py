"""The service of an installed package on a booted system."""

from __future__ import annotations

from tests.packages.booted import System
from tests.packages.root import Root

CONF = "/etc/one/econe.conf"
SERVICE, SOCKET = "econe.service", "econe.socket"
REJECTED = 403
"""The status of the response to an unsigned request."""


def configure(root: Root) -> None:
    """Write serveradmin's credentials, and let econe.conf permit any number of unsigned requests."""
    credentials = root / "/var/lib/one/.one/sunstone_auth"
    credentials.parent.mkdir(parents=True)
    credentials.write_text("serveradmin:secret\n", "utf-8")
    credentials.chmod(0o600)
    root.run("chown", "--recursive", "oneadmin:oneadmin", "/var/lib/one")
    conf = root / CONF
    conf.write_text(conf.read_text("utf-8").replace(":failed_signatures: 120", ":failed_signatures: false"), "utf-8")


def start(system: System) -> None:
    """Start the units as the guide says."""
    system.run("systemctl", "enable", "--now", SOCKET, SERVICE)


def main_pid(system: System) -> int:
    """Return the id of the main process of the service."""
    return int(system.show(SERVICE, "MainPID"))
