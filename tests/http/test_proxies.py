"""econed behind the real lighttpd, nginx and HAProxy, with the documented configurations (etc/proxies)."""

from __future__ import annotations

import base64
import contextlib
import os
import ssl
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from botocore.exceptions import ClientError

from tests.support.certificates import Authority, Issued
from tests.support.clients import (
    VERSION,
    EC2Response,
    boto,
    connected,
    ec2_error,
    received,
    refusal,
    send,
    upload_form,
    v2_form,
)
from tests.support.cloud_forms import SandboxCloud
from tests.support.econed_process import Econed, Person
from tests.support.ports import free_port
from tests.support.processes import until
from tests.support.proxies import NAMES, Files, Proxy, ProxyAddresses
from tests.support.tools import require_tool

pytestmark = pytest.mark.slow

PATH = "/cloud/ec2/"
CLIENT = "127.0.0.9"
"""A loopback address that is not a proxy's."""

PATIENCE = 60.0
INSTANCES = 100
LARGE = 1 << 17
"""More bytes than the buffers of any of the proxies have, as they are configured."""

LONG = 55_000
"""Bytes of a query that is nearly as long as the request line and headers may be (max_headers)."""

IMAGE = 1 << 23
CAROL = r"/O=ONE\20cloud/CN=carol"

AWKWARD = "a b+c/d~e%2Fé=&;"
"""A value whose characters are encoded differently by clients and proxies."""


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

        return until(logged_line, "the line of the request", PATIENCE)

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


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedDeployment]:
    """All econeds and proxies, for all tests of the module."""
    for name in NAMES:
        require_tool(name)
    deployment = ProxiedDeployment(tmp_path_factory.mktemp("proxies"))
    try:
        deployment.furnish()
        yield deployment
    finally:
        deployment.remove()


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """The name of a proxy."""
    return str(request.param)


@pytest.fixture(scope="module")
def alice(deployment: ProxiedDeployment) -> Person:
    """A user who signs requests."""
    return deployment.cloud.alice


def _client(deployment: ProxiedDeployment, person: Person, kind: str, name: str, **config: Any) -> Any:
    return boto(person, deployment.url(kind, name), authority=deployment.files.clients, **config)


def _send(
    deployment: ProxiedDeployment, kind: str, name: str, query: str, client: Issued | None = None, **headers: str
) -> EC2Response:
    """Send a query through a proxy, from an address that is not a proxy's."""
    by_name = {key.replace("__", "-"): value for key, value in headers.items()}
    return send(deployment.url(kind, name), "GET", query, by_name, tls=deployment.tls(client), source=CLIENT)


# Signatures

KINDS = pytest.mark.parametrize("kind", ["root", "path"])


@KINDS
@pytest.mark.parametrize("version", ["v2", "v4"])
def test_signed_forms_are_authenticated(
    deployment: ProxiedDeployment, alice: Person, name: str, kind: str, version: str
) -> None:
    """With any characters in them; a wrong secret is refused."""
    ec2 = _client(deployment, alice, kind, name, signature_version=version)
    key = ec2.create_key_pair(KeyName=f"{AWKWARD} {kind} {version} {name}")["KeyName"]
    filters = [{"Name": "key-name", "Values": [key]}]
    assert [pair["KeyName"] for pair in ec2.describe_key_pairs(Filters=filters)["KeyPairs"]] == [key]
    wrong_secret = replace(alice, secret="guessed")
    with pytest.raises(ClientError) as raised:
        _client(deployment, wrong_secret, kind, name, signature_version=version).describe_key_pairs()
    assert refusal(raised.value) == ("AuthFailure", 401)


@KINDS
def test_signed_queries_are_authenticated(deployment: ProxiedDeployment, alice: Person, name: str, kind: str) -> None:
    """Of Version 2, and presigned by Version 4; lighttpd changes the encoding of some characters."""
    parameters = {"Action": "DescribeTags", "Filter.1.Name": "key", "Filter.1.Value.1": AWKWARD}
    assert _send(deployment, kind, name, v2_form(alice, deployment.url(kind, name), parameters)).status == 200
    presigned = _client(deployment, alice, kind, name).generate_presigned_url(
        "describe_tags", Params={"Filters": [{"Name": "key", "Values": [AWKWARD]}]}, HttpMethod="GET"
    )
    query = urlsplit(presigned).query
    assert _send(deployment, kind, name, query).status == 200
    for changed in (query.replace("DescribeTags", "DescribeVolumes"), query.replace("a%20b", "a%20c")):
        assert changed != query
        assert ec2_error(_send(deployment, kind, name, changed)) == "AuthFailure"


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_a_proxy_may_send_its_own_host_if_ssl_server_is_set(
    deployment: ProxiedDeployment, alice: Person, version: str
) -> None:
    """And remove the path; without ssl_server no signature for the client's URL is accepted."""
    assert _client(deployment, alice, "host", "nginx", signature_version=version).describe_images()["Images"]
    for kind, secret in (("host", "guessed"), ("unnamed", alice.secret)):
        ec2 = _client(deployment, replace(alice, secret=secret), kind, "nginx", signature_version=version)
        with pytest.raises(ClientError) as raised:
            ec2.describe_images()
        assert refusal(raised.value) == ("AuthFailure", 401)


# Requests and responses


def test_an_response_larger_than_a_proxys_buffers_comes_whole(
    deployment: ProxiedDeployment, alice: Person, name: str
) -> None:
    ec2 = _client(deployment, alice, "root", name)
    if not deployment.cloud.vm_ids(alice):
        parameters = {"ImageId": f"ami-{deployment.cloud.ami:08d}", "InstanceType": deployment.cloud.instance_type}
        ec2.run_instances(MinCount=INSTANCES, MaxCount=INSTANCES, **parameters)
    response = _send(
        deployment, "root", name, v2_form(alice, deployment.url("root", name), {"Action": "DescribeInstances"})
    )
    assert len(response.texts("instanceId")) == INSTANCES
    assert len(response.body) > LARGE


def test_a_query_may_be_as_long_as_econed_accepts(deployment: ProxiedDeployment, alice: Person, name: str) -> None:
    """A query may have everything that a form may have, such as user data and many ids."""
    values = {f"Filter.1.Value.{number}": f"{number:03}" * 85 for number in range(1, 201)}
    form = v2_form(alice, deployment.url("root", name), {"Action": "DescribeTags", "Filter.1.Name": "key", **values})
    assert len(form) > LONG
    assert _send(deployment, "root", name, form).status == 200


@KINDS
def test_an_upload_is_streamed_through(deployment: ProxiedDeployment, alice: Person, name: str, kind: str) -> None:
    """Its beginning arrives before its end is sent, so that no proxy buffers the whole body."""
    url, image = deployment.url(kind, name), os.urandom(IMAGE)
    content_type, body = upload_form(alice, url, image)
    connection = connected(url, deployment.tls(), CLIENT)
    connection.putrequest("POST", urlsplit(url).path)
    connection.putheader("Content-Type", content_type)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[: IMAGE // 2])
    until(lambda: deployment.uploaded_bytes() > IMAGE // 4, "the beginning of the image to arrive", PATIENCE)
    connection.send(body[IMAGE // 2 :])
    response = received(connection.getresponse())
    connection.close()
    assert response.status == 200, response.body
    assert response.texts("imageId")


def test_an_upload_with_a_wrong_signature_is_refused_before_it_is_complete(
    deployment: ProxiedDeployment, alice: Person, name: str
) -> None:
    """The client gets the response while the proxy still expects the rest of the body.

    The part that is sent fits into buffers: lighttpd closes the connection with the response, even if the client still
    writes.
    """
    url = deployment.url("root", name)
    content_type, body = upload_form(replace(alice, secret="guessed"), url, os.urandom(IMAGE))
    connection = connected(url, deployment.tls(), CLIENT)
    connection.putrequest("POST", "/")
    connection.putheader("Content-Type", content_type)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[: 1 << 16])
    response = received(connection.getresponse())
    connection.close()
    assert (response.status, ec2_error(response)) == (401, "AuthFailure")


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_connections_to_econed_are_reused(deployment: ProxiedDeployment, alice: Person, name: str) -> None:
    """By nginx and HAProxy; lighttpd sends `Connection: close` with each request."""
    url, port = deployment.url("path", name), deployment.econed("path", name).port
    connection = connected(url, deployment.tls())
    connections = []
    for _ in range(3):
        connection.request("GET", f"{PATH}?{v2_form(alice, url, {'Action': 'DescribeKeyPairs'})}")
        assert received(connection.getresponse()).status == 200
        connections.append(_open_connections(port))
    connection.close()
    assert connections[2]
    assert connections[2] <= connections[1] <= connections[0]


def _open_connections(port: int) -> set[str]:
    """Return the local ends of the connections that are open to a port of 127.0.0.1 (Linux's /proc/net/tcp)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return {line[1] for line in lines if line[2] == f"0100007F:{port:04X}" and line[3] == "01"}


@pytest.fixture
def other() -> Iterator[DroppingServer]:
    """Another server in place of econed."""
    server = DroppingServer()
    yield server
    server.stop()


def test_no_request_is_repeated(deployment: ProxiedDeployment, name: str, other: DroppingServer) -> None:
    """It may have been carried out before its connection broke; a GET can run instances, too."""
    url = deployment.in_front_of(other, name)
    connection = connected(url, deployment.tls())
    for _ in range(2):
        connection.request("GET", "/")
        assert received(connection.getresponse()).status == 200
    with contextlib.suppress(ConnectionError):
        connection.request("GET", "/?drop")
        assert received(connection.getresponse()).status >= 500
    connection.close()
    assert other.dropped == 1


def test_haproxy_checks_on_the_admin_port_whether_econed_is_ready(
    deployment: ProxiedDeployment, other: DroppingServer
) -> None:
    """An econed that is not ready gets no requests until it is ready again."""
    url = deployment.in_front_of(other, "haproxy")

    def responds_with(status: int) -> bool:
        return send(url, "GET", "", tls=deployment.tls()).status == status

    assert responds_with(200)
    other.is_ready = False
    until(lambda: responds_with(503), "HAProxy to notice", PATIENCE)
    other.is_ready = True
    until(lambda: responds_with(200), "HAProxy to notice", PATIENCE)


# The client of the proxy


def test_the_access_log_has_the_address_of_the_client(deployment: ProxiedDeployment, alice: Person, name: str) -> None:
    """Not that of the proxy, nor the one in the client's header."""
    form = v2_form(alice, deployment.url("root", name), {"Action": "DescribeKeyPairs"})
    response = _send(deployment, "root", name, form, X__Forwarded__For="198.51.100.7")
    assert response.status == 200
    line = deployment.access_line(deployment.econed("root", name), response)
    assert CLIENT in line
    assert "198.51.100.7" not in line


@pytest.mark.parametrize("forwarded", ["http", "https"])
def test_clients_get_the_url_that_they_use_as_endpoint(
    deployment: ProxiedDeployment, alice: Person, name: str, forwarded: str
) -> None:
    """In DescribeRegions; the scheme is that of the proxy's header, not of the client's."""
    for kind in ("root", "path"):
        form = v2_form(alice, deployment.url(kind, name), {"Action": "DescribeRegions"})
        response = _send(deployment, kind, name, form, X__Forwarded__Proto=forwarded)
        (endpoint,) = response.texts("regionEndpoint")
        assert endpoint.rstrip("/") == deployment.url(kind, name).rstrip("/")


def test_the_headers_of_a_direct_client_have_no_effect(deployment: ProxiedDeployment, alice: Person) -> None:
    """On the plain port, from an address that is not a proxy's."""
    econed = deployment.econed("root", "nginx")
    headers = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}
    form = v2_form(alice, econed.url, {"Action": "DescribeRegions"})
    response = send(econed.url, "GET", form, headers, source=CLIENT)
    assert response.texts("regionEndpoint") == [econed.url.rstrip("/")]
    line = deployment.access_line(econed, response)
    assert CLIENT in line
    assert "198.51.100.7" not in line


# Client certificates


@pytest.fixture(scope="module")
def carol(deployment: ProxiedDeployment) -> Issued:
    """The certificate of a user of the driver x509."""
    deployment.cloud.admin.make("one.user.allocate", "carol", CAROL, "x509", [deployment.cloud.group])
    return deployment.authority.client("carol")


QUERY = f"Action=DescribeKeyPairs&Version={VERSION}"


def test_a_user_is_authenticated_by_their_certificate(deployment: ProxiedDeployment, name: str, carol: Issued) -> None:
    """Which the proxy has verified, without a signature. A certificate in the client's own header has no effect."""
    other = deployment.authority.client("dave")
    for headers in ({}, {"SSL_CLIENT_CERT": _one_line(other)}):
        response = _send(deployment, "x509", name, QUERY, carol, **headers)
        assert response.status == 200
        assert "carol" in deployment.access_line(deployment.econed("x509", name), response)


def test_a_certificate_of_no_user_is_refused(deployment: ProxiedDeployment, name: str) -> None:
    assert ec2_error(_send(deployment, "x509", name, QUERY, deployment.authority.client("dave"))) == "AuthFailure"


@pytest.mark.parametrize("header", ["SSL_CLIENT_CERT", "ssl_client_cert", "SSL__Client__Cert", "X__SSL__Client__Cert"])
def test_a_certificate_in_a_header_of_the_client_is_ignored(
    deployment: ProxiedDeployment, name: str, header: str, carol: Issued
) -> None:
    """Certificates are public, so anybody could send one. Similar header names are ignored, too."""
    for value in (_one_line(carol), quote(carol.pem.decode()), base64.b64encode(carol.der).decode()):
        response = _send(deployment, "x509", name, QUERY, None, **{header: value})
        assert ec2_error(response) == "MissingAuthenticationToken"


def test_a_certificate_of_another_authority_is_refused(deployment: ProxiedDeployment, name: str, carol: Issued) -> None:
    """Although it has the same subject. nginx and HAProxy refuse the request themselves."""
    forged = deployment.other_authority.client("carol")
    try:
        response = _send(deployment, "x509", name, QUERY, forged, SSL_CLIENT_CERT=_one_line(carol))
    except (ssl.SSLError, ConnectionError):
        assert name == "haproxy"
    else:
        assert response.status in (400, 403)
        assert name == "nginx" or ec2_error(response) == "MissingAuthenticationToken"


def test_a_certificate_header_counts_only_from_a_trusted_proxy(deployment: ProxiedDeployment, carol: Issued) -> None:
    """On the plain port anybody can send the header."""
    url = deployment.econed("x509", "nginx").url
    response = send(url, "GET", QUERY, {"SSL_CLIENT_CERT": _one_line(carol)}, source=CLIENT)
    assert ec2_error(response) == "MissingAuthenticationToken"


def _one_line(issued: Issued) -> str:
    return issued.pem.decode().strip().replace("\n", " ")
