"""A cloud with econeds behind lighttpd, nginx and HAProxy, with the documented configurations (etc/proxies)."""

from __future__ import annotations

import ssl
import uuid
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.support.certificates import Authority, Issued
from tests.support.clients import EC2Response, boto, send
from tests.support.cloud_forms import SandboxCloud
from tests.support.econed_process import Econed, Person
from tests.support.ports import free_port
from tests.support.processes import until
from tests.support.proxies import NAMES, Files, Proxy, ProxyAddresses

PATH = "/cloud/ec2/"
CLIENT = "127.0.0.9"
"""A loopback address that is not a proxy's."""

TIMEOUT = 60.0
AWKWARD = "a b+c/d~e%2Fé=&;"
"""A value whose characters are encoded differently by clients and proxies."""

IMAGE = 1 << 23
KINDS = pytest.mark.parametrize("kind", ["root", "path"])


class DroppingServer:
    """An HTTP server in place of econed that closes the connection on a request for `/?drop`; it has a `/readyz`."""

    def __init__(self) -> None:
        self.dropped = 0
        self.is_ready = True
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                """Respond with 200, or close the connection."""
                if self.path == "/?drop":
                    server.dropped += 1
                    self.close_connection = True
                    return
                self.send_response(200 if server.is_ready or self.path != "/readyz" else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()


class ProxiedDeployment:
    """A cloud, econeds for it, and each of the proxies in front of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.cloud = SandboxCloud("7.4", directory)
        self._proxies: dict[tuple[str, str], Proxy] = {}

    def furnish(self) -> None:
        """Start everything: each proxy at the root, at a path, and requesting client certificates."""
        self.cloud.furnish()
        self.authority, self.other_authority = Authority(), Authority("Somebody Else")
        self.files = _files(self._directory, self.authority)
        instances = [(kind, name) for kind in ("root", "path", "x509") for name in NAMES]
        instances += [("host", "nginx"), ("unnamed", "nginx")]
        ports = {instance: free_port() for instance in instances}
        trusting: dict[str, object] = {"trusted_proxies": ["127.0.0.1"]}
        settings_by_name = {"root": trusting, "x509": {**trusting, "auth": "x509"}}
        ports_by_name = {name: ports["path", name] for name in NAMES} | {"host": ports["host", "nginx"]}
        settings_by_name |= {
            name: {**trusting, "ssl_server": f"https://localhost:{port}{PATH}"} for name, port in ports_by_name.items()
        }
        with ThreadPoolExecutor() as executor:
            econeds = executor.map(
                lambda settings: self.cloud.econed(settings=settings, records_elements=False), settings_by_name.values()
            )
            self._econeds = dict(zip(settings_by_name, econeds, strict=True))
        for kind, name in instances:
            addresses = ProxyAddresses(
                ports[kind, name],
                "/" if kind in ("root", "x509") else PATH,
                self.econed(kind, name).port,
                with_certificates=kind == "x509",
                host="econed.internal" if kind in ("host", "unnamed") else None,
            )
            self._proxies[kind, name] = self._proxy(kind, name, addresses)
        for proxy in self._proxies.values():
            proxy.await_listening()

    def in_front_of(self, other: DroppingServer, name: str) -> str:
        """Start a proxy in front of another server, and return its URL for clients."""
        addresses = ProxyAddresses(free_port(), "/", other.port, admin=other.port if name == "haproxy" else None)
        kind = f"other-{len(self._proxies)}"
        proxy = self._proxies[kind, name] = self._proxy(kind, name, addresses)
        proxy.await_listening()
        return proxy.url

    def _proxy(self, kind: str, name: str, addresses: ProxyAddresses) -> Proxy:
        return Proxy(name, addresses, self.files, self._directory / f"{name}-{kind}")

    def url(self, kind: str, name: str) -> str:
        """Return the URL of econed for clients of a proxy."""
        return self._proxies[kind, name].url

    def econed(self, kind: str, name: str) -> Econed:
        """Return the econed behind a proxy."""
        return self._econeds[{"path": name, "unnamed": "root"}.get(kind, kind)]

    def tls(self, client: Issued | None = None) -> ssl.SSLContext:
        """Return the TLS context of a client, with its certificate if it has one."""
        context = ssl.create_default_context(cafile=self.files.clients)
        if client is not None:
            files = client.write(self._directory, f"client-{uuid.uuid4().hex}")
            context.load_cert_chain(files.cert, files.key)
        return context

    def remove(self) -> None:
        """Stop everything."""
        for proxy in self._proxies.values():
            proxy.process.stop()
        self.cloud.remove()

    def access_line(self, econed: Econed, response: EC2Response) -> str:
        """Return the line in the access log for the request with this response."""
        request_id = response.headers["x-amzn-requestid"]

        def logged_line() -> str:
            return next((line for line in econed.process.text.splitlines() if request_id in line), "")

        return until(logged_line, "the line of the request", TIMEOUT)

    def uploaded_bytes(self) -> int:
        """Return the bytes of images that are being received."""
        return sum(file.stat().st_size for file in self.cloud.uploads.iterdir())


def _files(directory: Path, authority: Authority) -> Files:
    """Write the files of the proxies; one authority signs their certificates and those of clients."""
    issued = authority.server("localhost").write(directory, "proxy")
    cert, key = Path(issued.cert), Path(issued.key)
    both, clients = directory / "both.pem", directory / "authority.pem"
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    clients.write_bytes(authority.pem)
    return Files(cert, key, both, clients)


def client_of(deployment: ProxiedDeployment, person: Person, kind: str, name: str, **config: Any) -> Any:
    return boto(person, deployment.url(kind, name), authority=deployment.files.clients, **config)


def send_through(
    deployment: ProxiedDeployment, kind: str, name: str, query: str, client: Issued | None = None, **headers: str
) -> EC2Response:
    """Send a query through a proxy, from an address that is not a proxy's."""
    by_name = {key.replace("__", "-"): value for key, value in headers.items()}
    return send(deployment.url(kind, name), "GET", query, by_name, tls=deployment.tls(client), source=CLIENT)
