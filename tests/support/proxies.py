"""The proxies of Debian in front of econed, with the configurations of etc/proxies, on loopback and by any account.

Only ports, paths of files and the path of the URL are replaced in them, so what is tested is what is documented.
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
"""Stand before the lines that only `auth: x509` wants, and behind those that it does not."""

FOR_HEALTH = "#readyz "
"""Stands before the lines that ask the admin port whether econed is ready."""


@dataclass(frozen=True)
class Files:
    """The PEM files of a proxy: its certificate, the private key, both in one; and the authority of the clients."""

    cert: Path
    key: Path
    both: Path
    clients: Path


@dataclass(frozen=True)
class Way:
    """What lies before and behind a proxy: its own port and path, econed's port, and where it asks for its health.

    `host` is what it sends as Host, None for what the client sent; nginx alone can be told so here.
    """

    port: int
    path: str
    econed: int
    with_certificates: bool = False
    admin: int | None = None
    host: str | None = None


class Proxy:
    """A proxy that runs; `url` is where clients reach econed through it."""

    def __init__(self, name: str, way: Way, files: Files, directory: Path) -> None:
        directory.mkdir()
        arguments = _KINDS[name](way, files, directory)
        self.name = name
        self.way = way
        self.process = Process(name, arguments, directory, program=require_tool(name))
        self.url = f"https://localhost:{way.port}{way.path}"

    def await_listening(self) -> None:
        """Wait until it takes connections; fails if it ends, or does not."""

        def is_listening() -> bool:
            assert self.process.is_running, f"{self.name} has ended:\n{self.process.text}"
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.way.port)) == 0

        until(is_listening, f"{self.name} to listen", STARTING)


def documented(name: str, way: Way, replaced: Mapping[str, str]) -> str:
    """Return a documented configuration with some of its text replaced; fails where that text is not in it."""
    text = (CONFIGURATIONS / name).read_text(encoding="utf-8")
    if way.with_certificates:
        kept = [line for line in text.splitlines(True) if not line.rstrip().endswith(WITHOUT_CERTIFICATES)]
        text = "".join(kept).replace(FOR_CERTIFICATES, "")
    if way.admin is not None:
        replaced = {**replaced, FOR_HEALTH: "", " check port 4569 ": f" check port {way.admin} "}
    for old, new in replaced.items():
        assert old in text, f"{name} does not have {old!r}"
        text = text.replace(old, new)
    return text


def _nginx(way: Way, files: Files, directory: Path) -> list[str]:
    replaced = {
        "listen 443 ": f"listen 127.0.0.1:{way.port} ",
        "127.0.0.1:4567": f"127.0.0.1:{way.econed}",
        "location / {": f"location {way.path} {{",
        "/etc/one/econe/cert.pem": str(files.cert),
        "/etc/one/econe/key.pem": str(files.key),
        "/etc/one/econe/clients-ca.pem": str(files.clients),
    }
    if way.host is not None:
        replaced["$http_host"] = way.host
    _write(directory / "econed.conf", documented("nginx.conf", way, replaced))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)
    main = _write(
        directory / "nginx.conf",
        f"daemon off; master_process off; pid {directory}/pid; error_log stderr;\n"
        f"events {{}}\nhttp {{ access_log off; {temporary} include {directory}/econed.conf; }}\n",
    )
    return ["-p", str(directory), "-e", "stderr", "-c", str(main)]


def _haproxy(way: Way, files: Files, directory: Path) -> list[str]:
    replaced = {
        "bind :443 ": f"bind 127.0.0.1:{way.port} ",
        "127.0.0.1:4567": f"127.0.0.1:{way.econed}",
        "path_beg / ": f"path_beg {way.path} ",
        "replace-path /(": f"replace-path {way.path}(",
        "/etc/one/econe/both.pem": str(files.both),
        "/etc/one/econe/clients-ca.pem": str(files.clients),
    }
    text = documented("haproxy.cfg", way, replaced)
    return ["-db", "-f", str(_write(directory / "haproxy.cfg", text))]


def _lighttpd(way: Way, files: Files, directory: Path) -> list[str]:
    replaced = {
        '== ":443"': f'== "127.0.0.1:{way.port}"',
        '"port" => 4567': f'"port" => {way.econed}',
        '=^ "/"': f'=^ "{way.path}"',
        '"/" => "/"': f'"{way.path}" => "/"',
        "/etc/one/econe/cert.pem": str(files.cert),
        "/etc/one/econe/key.pem": str(files.key),
        "/etc/one/econe/clients-ca.pem": str(files.clients),
        "/etc/lighttpd/econed-client-certificate.lua": str(CONFIGURATIONS / "lighttpd-client-certificate.lua"),
    }
    _write(directory / "econed.conf", documented("lighttpd.conf", way, replaced))
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
"""What Debian's own lighttpd.conf does to URLs before they are passed on."""

_Written: TypeAlias = Callable[[Way, Files, Path], list[str]]
"""Writes a configuration into a directory and returns the arguments to run the proxy with it, in the foreground."""

_KINDS: Final[Mapping[str, _Written]] = MappingProxyType({"lighttpd": _lighttpd, "nginx": _nginx, "haproxy": _haproxy})
NAMES: Final = tuple(_KINDS)
