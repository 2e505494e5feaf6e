"""The proxies of Debian in front of econed, with the configurations of etc/proxies, on loopback, without root rights.

Only ports, file paths and the path of the URL are replaced in the configurations, so the documented ones are tested.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

from tests.support.processes import STARTING, Process, until
from tests.support.tools import require_tool

CONFIGURATIONS = Path(__file__).parents[2] / "etc/proxies"
FOR_CERTIFICATES, WITHOUT_CERTIFICATES = "#x509 ", "# remove for x509"
"""Prefix of the lines that `auth: x509` needs, and suffix of the lines that it must not have."""

FOR_HEALTH = "#readyz "
"""Prefix of the lines that check readiness at the admin port."""


@dataclass(frozen=True)
class Files:
    """The PEM files of a proxy: its certificate, the private key, both in one; and the authority of the clients."""

    cert: Path
    key: Path
    both: Path
    clients: Path


@dataclass(frozen=True)
class ProxyAddresses:
    """The addresses around a proxy: its own port and path, econed's port, and econed's admin port for health checks.

    `host` is the Host header that it sends; None for that of the client. Only nginx can be configured so here.
    """

    port: int
    path: str
    econed: int
    with_certificates: bool = False
    admin: int | None = None
    host: str | None = None


class Proxy:
    """A running proxy; `url` is that of econed through it."""

    def __init__(self, name: str, addresses: ProxyAddresses, files: Files, directory: Path) -> None:
        directory.mkdir()
        arguments = _KINDS[name](addresses, files, directory)
        self.name = name
        self.addresses = addresses
        self.process = Process(name, arguments, directory, program=require_tool(name))
        self.url = f"https://localhost:{addresses.port}{addresses.path}"

    def await_listening(self) -> None:
        """Wait until it accepts connections; fails if it exits."""

        def is_listening() -> bool:
            assert self.process.is_running, f"{self.name} has exited:\n{self.process.text}"
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.addresses.port)) == 0

        until(is_listening, f"{self.name} to listen", STARTING)


def documented(name: str, addresses: ProxyAddresses, replaced: Mapping[str, str]) -> str:
    """Return a documented configuration with some texts replaced; fails if one of them is not in it."""
    text = (CONFIGURATIONS / name).read_text(encoding="utf-8")
    if addresses.with_certificates:
        lines = [line for line in text.splitlines(True) if not line.rstrip().endswith(WITHOUT_CERTIFICATES)]
        text = "".join(lines).replace(FOR_CERTIFICATES, "")
    if addresses.admin is not None:
        replaced = {**replaced, FOR_HEALTH: "", " check port 4569 ": f" check port {addresses.admin} "}
    for old, new in replaced.items():
        assert old in text, f"{name} does not have {old!r}"
        text = text.replace(old, new)
    return text


def _nginx(addresses: ProxyAddresses, files: Files, directory: Path) -> list[str]:
    replaced = {
        "listen 443 ": f"listen 127.0.0.1:{addresses.port} ",
        "127.0.0.1:4567": f"127.0.0.1:{addresses.econed}",
        "location / {": f"location {addresses.path} {{",
        "/etc/one/econe/cert.pem": str(files.cert),
        "/etc/one/econe/key.pem": str(files.key),
        "/etc/one/econe/clients-ca.pem": str(files.clients),
    }
    if addresses.host is not None:
        replaced["$http_host"] = addresses.host
    _write(directory / "econed.conf", documented("nginx.conf", addresses, replaced))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)
    main = _write(
        directory / "nginx.conf",
        f"daemon off; master_process off; pid {directory}/pid; error_log stderr;\n"
        f"events {{}}\nhttp {{ access_log off; {temporary} include {directory}/econed.conf; }}\n",
    )
    return ["-p", str(directory), "-e", "stderr", "-c", str(main)]


def _haproxy(addresses: ProxyAddresses, files: Files, directory: Path) -> list[str]:
    replaced = {
        "bind :443 ": f"bind 127.0.0.1:{addresses.port} ",
        "127.0.0.1:4567": f"127.0.0.1:{addresses.econed}",
        "path_beg / ": f"path_beg {addresses.path} ",
        "replace-path /(": f"replace-path {addresses.path}(",
        "/etc/one/econe/both.pem": str(files.both),
        "/etc/one/econe/clients-ca.pem": str(files.clients),
    }
    text = documented("haproxy.cfg", addresses, replaced)
    return ["-db", "-f", str(_write(directory / "haproxy.cfg", text))]


def _lighttpd(addresses: ProxyAddresses, files: Files, directory: Path) -> list[str]:
    replaced = {
        '== ":443"': f'== "127.0.0.1:{addresses.port}"',
        '"port" => 4567': f'"port" => {addresses.econed}',
        '=^ "/"': f'=^ "{addresses.path}"',
        '"/" => "/"': f'"{addresses.path}" => "/"',
        "/etc/one/econe/cert.pem": str(files.cert),
        "/etc/one/econe/key.pem": str(files.key),
        "/etc/one/econe/clients-ca.pem": str(files.clients),
        "/etc/lighttpd/econed-client-certificate.lua": str(CONFIGURATIONS / "lighttpd-client-certificate.lua"),
    }
    _write(directory / "econed.conf", documented("lighttpd.conf", addresses, replaced))
    main = _write(
        directory / "lighttpd.conf",
        f'server.document-root = "{directory}"\nserver.upload-dirs = ( "{directory}" )\n'
        f'server.bind = "{directory}/unused"\n{_DEBIANS_PARSING}include "{directory}/econed.conf"\n',
    )
    return ["-D", "-f", str(main)]


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


_DEBIANS_PARSING = """server.http-parseopts = (
  "header-strict" => "enable",
  "host-strict" => "enable",
  "host-normalize" => "enable",
  "url-normalize-unreserved" => "enable",
  "url-normalize-required" => "enable",
  "url-ctrls-reject" => "enable",
  "url-path-2f-decode" => "enable",
  "url-path-dotseg-remove" => "enable",
)
"""
"""How Debian's own lighttpd.conf normalizes URLs."""

_ConfigurationWriter: TypeAlias = Callable[[ProxyAddresses, Files, Path], list[str]]
"""Writes a configuration into a directory and returns the arguments to run the proxy with it, in the foreground."""

_KINDS: Final[Mapping[str, _ConfigurationWriter]] = MappingProxyType(
    {"lighttpd": _lighttpd, "nginx": _nginx, "haproxy": _haproxy}
)
NAMES: Final = tuple(_KINDS)
