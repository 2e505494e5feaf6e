"""econed behind the real lighttpd, nginx and HAProxy, with the configurations that are documented (etc/proxies)."""

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
"""An address of loopback that is no proxy's."""

PATIENCE = 60.0
INSTANCES = 100
LARGE = 1 << 17
"""More bytes than any of the proxies has buffers for, as they are configured."""

LONG = 55_000
"""Bytes of a query that is nearly as long as econed takes first line and headers (max_headers)."""

IMAGE = 1 << 23
CAROL = r"/O=ONE\20cloud/CN=carol"

AWKWARD = "a b+c/d~e%2Fé=&;"
"""A value of which each character is written differently by somebody."""


class Other:
    """Stands in for an econed that breaks a connection off when it is asked for `/?drop`, and says that it is ready."""

    def __init__(self) -> None:
        self.dropped = 0
        self.is_ready = True
        other = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                """EC2Response, or do not."""
                if self.path == "/?drop":
                    other.dropped += 1
                    self.close_connection = True
                    return
                self.send_response(200 if other.is_ready or self.path != "/readyz" else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        Thread(target=self._server.serve_forever, daemon=True).start()

    def end(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


class ProxiedDeployment:
    """A cloud, econeds that serve it, and each of the proxies in front of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.cloud = SandboxCloud("7.4", directory)
        self._proxies: dict[tuple[str, str], Proxy] = {}

    def furnish(self) -> None:
        """Start everything: each proxy at the root, at a path of its own, and asking for certificates."""
        self.cloud.furnish()
        self.authority, self.strangers = Authority(), Authority("Somebody Else")
        self.files = _files(self._directory, self.authority)
        ways = [(kind, name) for kind in ("root", "path", "x509") for name in NAMES]
        ways += [("host", "nginx"), ("unnamed", "nginx")]
        ports = {way: free_port() for way in ways}
        trusting: dict[str, object] = {"trusted_proxies": ["127.0.0.1"]}
        wanted = {"root": trusting, "x509": {**trusting, "auth": "x509"}}
        named = {name: ports["path", name] for name in NAMES} | {"host": ports["host", "nginx"]}
        wanted |= {name: {**trusting, "ssl_server": f"https://localhost:{port}{PATH}"} for name, port in named.items()}
        with ThreadPoolExecutor() as starting:
            found = starting.map(
                lambda settings: self.cloud.econed(settings=settings, records_elements=False), wanted.values()
            )
            self._econeds = dict(zip(wanted, found, strict=True))
        for kind, name in ways:
            way = ProxyAddresses(
                ports[kind, name],
                "/" if kind in ("root", "x509") else PATH,
                self.econed(kind, name).port,
                with_certificates=kind == "x509",
                host="econed.internal" if kind in ("host", "unnamed") else None,
            )
            self._proxies[kind, name] = self._proxy(kind, name, way)
        for proxy in self._proxies.values():
            proxy.await_listening()

    def before(self, other: Other, name: str) -> str:
        """Put a proxy in front of something else than econed, and return where clients reach that."""
        way = ProxyAddresses(free_port(), "/", other.port, admin=other.port if name == "haproxy" else None)
        kind = f"other-{len(self._proxies)}"
        proxy = self._proxies[kind, name] = self._proxy(kind, name, way)
        proxy.await_listening()
        return proxy.url

    def _proxy(self, kind: str, name: str, way: ProxyAddresses) -> Proxy:
        return Proxy(name, way, self.files, self._directory / f"{name}-{kind}")

    def url(self, kind: str, name: str) -> str:
        """Return where clients reach econed through a proxy."""
        return self._proxies[kind, name].url

    def econed(self, kind: str, name: str) -> Econed:
        """Return the econed behind a proxy."""
        return self._econeds[{"path": name, "unnamed": "root"}.get(kind, kind)]

    def tls(self, client: Issued | None = None) -> ssl.SSLContext:
        """Return what a client trusts, and the certificate that it brings."""
        context = ssl.create_default_context(cafile=self.files.clients)
        if client is not None:
            made = client.write(self._directory, f"client-{uuid.uuid4().hex}")
            context.load_cert_chain(made.cert, made.key)
        return context

    def remove(self) -> None:
        """Stop everything."""
        for proxy in self._proxies.values():
            proxy.process.stop()
        self.cloud.remove()

    def access_line(self, econed: Econed, answer: EC2Response) -> str:
        """Return what the log says of the request that was answered so."""
        number = answer.headers["x-amzn-requestid"]

        def said() -> str:
            return next((line for line in econed.process.text.splitlines() if number in line), "")

        return until(said, "the line of the request", PATIENCE)

    def uploading(self) -> int:
        """Return how many bytes of images are on their way in."""
        return sum(each.stat().st_size for each in self.cloud.uploads.iterdir())


def _files(directory: Path, authority: Authority) -> Files:
    """Write what the proxies need; their authority and that of their clients is the same."""
    issued = authority.server("localhost").write(directory, "proxy")
    cert, key = Path(issued.cert), Path(issued.key)
    both, clients = directory / "both.pem", directory / "authority.pem"
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    clients.write_bytes(authority.pem)
    return Files(cert, key, both, clients)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedDeployment]:
    """All of it, once."""
    for name in NAMES:
        require_tool(name)
    made = ProxiedDeployment(tmp_path_factory.mktemp("proxies"))
    try:
        made.furnish()
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """Each of the proxies."""
    return str(request.param)


@pytest.fixture(scope="module")
def alice(deployment: ProxiedDeployment) -> Person:
    """A user who signs."""
    return deployment.cloud.alice


def _client(deployment: ProxiedDeployment, person: Person, kind: str, name: str, **config: Any) -> Any:
    return boto(person, deployment.url(kind, name), authority=deployment.files.clients, **config)


def _ask(
    deployment: ProxiedDeployment, kind: str, name: str, query: str, client: Issued | None = None, **headers: str
) -> EC2Response:
    """Send a query through a proxy, from an address that is no proxy's."""
    named = {key.replace("__", "-"): value for key, value in headers.items()}
    return send(deployment.url(kind, name), "GET", query, named, tls=deployment.tls(client), source=CLIENT)


# Signatures

WAYS = pytest.mark.parametrize("kind", ["root", "path"])


@WAYS
@pytest.mark.parametrize("version", ["v2", "v4"])
def test_signed_forms_hold(deployment: ProxiedDeployment, alice: Person, name: str, kind: str, version: str) -> None:
    """Whatever is in them; and another secret does not."""
    ec2 = _client(deployment, alice, kind, name, signature_version=version)
    key = ec2.create_key_pair(KeyName=f"{AWKWARD} {kind} {version} {name}")["KeyName"]
    filters = [{"Name": "key-name", "Values": [key]}]
    assert [each["KeyName"] for each in ec2.describe_key_pairs(Filters=filters)["KeyPairs"]] == [key]
    wrong = replace(alice, secret="guessed")
    with pytest.raises(ClientError) as raised:
        _client(deployment, wrong, kind, name, signature_version=version).describe_key_pairs()
    assert refusal(raised.value) == ("AuthFailure", 401)


@WAYS
def test_signed_queries_hold(deployment: ProxiedDeployment, alice: Person, name: str, kind: str) -> None:
    """Of Version 2 and presigned ones of Version 4; lighttpd writes some of their characters in another way."""
    asked = {"Action": "DescribeTags", "Filter.1.Name": "key", "Filter.1.Value.1": AWKWARD}
    assert _ask(deployment, kind, name, v2_form(alice, deployment.url(kind, name), asked)).status == 200
    presigned = _client(deployment, alice, kind, name).generate_presigned_url(
        "describe_tags", Params={"Filters": [{"Name": "key", "Values": [AWKWARD]}]}, HttpMethod="GET"
    )
    query = urlsplit(presigned).query
    assert _ask(deployment, kind, name, query).status == 200
    for changed in (query.replace("DescribeTags", "DescribeVolumes"), query.replace("a%20b", "a%20c")):
        assert changed != query
        assert ec2_error(_ask(deployment, kind, name, changed)) == "AuthFailure"


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_a_proxy_may_send_a_host_of_its_own_where_ssl_server_names_the_clients(
    deployment: ProxiedDeployment, alice: Person, version: str
) -> None:
    """And take the path away; without ssl_server no signature for what the client was given is taken."""
    assert _client(deployment, alice, "host", "nginx", signature_version=version).describe_images()["Images"]
    for kind, secret in (("host", "guessed"), ("unnamed", alice.secret)):
        ec2 = _client(deployment, replace(alice, secret=secret), kind, "nginx", signature_version=version)
        with pytest.raises(ClientError) as raised:
            ec2.describe_images()
        assert refusal(raised.value) == ("AuthFailure", 401)


# What goes through


def test_an_answer_larger_than_a_proxys_buffers_comes_whole(
    deployment: ProxiedDeployment, alice: Person, name: str
) -> None:
    ec2 = _client(deployment, alice, "root", name)
    if not deployment.cloud.vm_ids(alice):
        asked = {"ImageId": f"ami-{deployment.cloud.ami:08d}", "InstanceType": deployment.cloud.instance_type}
        ec2.run_instances(MinCount=INSTANCES, MaxCount=INSTANCES, **asked)
    answer = _ask(
        deployment, "root", name, v2_form(alice, deployment.url("root", name), {"Action": "DescribeInstances"})
    )
    assert len(answer.texts("instanceId")) == INSTANCES
    assert len(answer.body) > LARGE


def test_a_query_may_be_as_long_as_econed_takes_it(deployment: ProxiedDeployment, alice: Person, name: str) -> None:
    """All that a form may hold, a query may, too: user data, policies, many ids."""
    values = {f"Filter.1.Value.{number}": f"{number:03}" * 85 for number in range(1, 201)}
    form = v2_form(alice, deployment.url("root", name), {"Action": "DescribeTags", "Filter.1.Name": "key", **values})
    assert len(form) > LONG
    assert _ask(deployment, "root", name, form).status == 200


@WAYS
def test_an_image_streams_through(deployment: ProxiedDeployment, alice: Person, name: str, kind: str) -> None:
    """Its beginning has arrived before its end is sent: nothing on the way waits for the whole."""
    url, image = deployment.url(kind, name), os.urandom(IMAGE)
    content_type, body = upload_form(alice, url, image)
    connection = connected(url, deployment.tls(), CLIENT)
    connection.putrequest("POST", urlsplit(url).path)
    connection.putheader("Content-Type", content_type)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[: IMAGE // 2])
    until(lambda: deployment.uploading() > IMAGE // 4, "the beginning of the image to arrive", PATIENCE)
    connection.send(body[IMAGE // 2 :])
    answer = received(connection.getresponse())
    connection.close()
    assert answer.status == 200, answer.body
    assert answer.texts("imageId")


def test_an_image_of_someone_else_is_refused_before_it_has_come(
    deployment: ProxiedDeployment, alice: Person, name: str
) -> None:
    """The answer comes through while the proxy still has the rest of the body to send.

    What is sent of it fits into buffers: lighttpd closes the connection with the answer, also on one who still writes.
    """
    url = deployment.url("root", name)
    content_type, body = upload_form(replace(alice, secret="guessed"), url, os.urandom(IMAGE))
    connection = connected(url, deployment.tls(), CLIENT)
    connection.putrequest("POST", "/")
    connection.putheader("Content-Type", content_type)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[: 1 << 16])
    answer = received(connection.getresponse())
    connection.close()
    assert (answer.status, ec2_error(answer)) == (401, "AuthFailure")


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_connections_to_econed_are_kept_and_used_again(deployment: ProxiedDeployment, alice: Person, name: str) -> None:
    """By the proxies that do such a thing; lighttpd asks for each to be closed."""
    url, port = deployment.url("path", name), deployment.econed("path", name).port
    connection = connected(url, deployment.tls())
    kept = []
    for _ in range(3):
        connection.request("GET", f"{PATH}?{v2_form(alice, url, {'Action': 'DescribeKeyPairs'})}")
        assert received(connection.getresponse()).status == 200
        kept.append(_connected_to(port))
    connection.close()
    assert kept[2]
    assert kept[2] <= kept[1] <= kept[0]


def _connected_to(port: int) -> set[str]:
    """Return the local ends of the connections that are open to a port of 127.0.0.1 (Linux's /proc/net/tcp)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return {line[1] for line in lines if line[2] == f"0100007F:{port:04X}" and line[3] == "01"}


@pytest.fixture
def other() -> Iterator[Other]:
    """Something in econed's place."""
    made = Other()
    yield made
    made.end()


def test_no_request_is_sent_a_second_time(deployment: ProxiedDeployment, name: str, other: Other) -> None:
    """It may have been carried out when its connection broke: a GET, too, can run instances."""
    url = deployment.before(other, name)
    connection = connected(url, deployment.tls())
    for _ in range(2):
        connection.request("GET", "/")
        assert received(connection.getresponse()).status == 200
    with contextlib.suppress(ConnectionError):
        connection.request("GET", "/?drop")
        assert received(connection.getresponse()).status >= 500
    connection.close()
    assert other.dropped == 1


def test_haproxy_asks_the_admin_port_whether_econed_is_ready(deployment: ProxiedDeployment, other: Other) -> None:
    """One that is not gets no more requests, and again when it is."""
    url = deployment.before(other, "haproxy")

    def answers(status: int) -> bool:
        return send(url, "GET", "", tls=deployment.tls()).status == status

    assert answers(200)
    other.is_ready = False
    until(lambda: answers(503), "HAProxy to notice", PATIENCE)
    other.is_ready = True
    until(lambda: answers(200), "HAProxy to notice", PATIENCE)


# Who is behind the proxy


def test_the_log_names_the_client_and_not_the_proxy(deployment: ProxiedDeployment, alice: Person, name: str) -> None:
    """Nor whom the client says to be."""
    form = v2_form(alice, deployment.url("root", name), {"Action": "DescribeKeyPairs"})
    answer = _ask(deployment, "root", name, form, X__Forwarded__For="198.51.100.7")
    assert answer.status == 200
    line = deployment.access_line(deployment.econed("root", name), answer)
    assert CLIENT in line
    assert "198.51.100.7" not in line


@pytest.mark.parametrize("forwarded", ["http", "https"])
def test_clients_are_sent_on_to_the_url_that_they_use(
    deployment: ProxiedDeployment, alice: Person, name: str, forwarded: str
) -> None:
    """DescribeRegions gives it; the scheme is what the proxy says and not what the client does."""
    for kind in ("root", "path"):
        form = v2_form(alice, deployment.url(kind, name), {"Action": "DescribeRegions"})
        answer = _ask(deployment, kind, name, form, X__Forwarded__Proto=forwarded)
        (endpoint,) = answer.texts("regionEndpoint")
        assert endpoint.rstrip("/") == deployment.url(kind, name).rstrip("/")


def test_a_client_that_comes_directly_is_believed_nothing(deployment: ProxiedDeployment, alice: Person) -> None:
    """On the plain port, from an address that is no proxy's."""
    econed = deployment.econed("root", "nginx")
    headers = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}
    form = v2_form(alice, econed.url, {"Action": "DescribeRegions"})
    answer = send(econed.url, "GET", form, headers, source=CLIENT)
    assert answer.texts("regionEndpoint") == [econed.url.rstrip("/")]
    line = deployment.access_line(econed, answer)
    assert CLIENT in line
    assert "198.51.100.7" not in line


# Certificates of clients


@pytest.fixture(scope="module")
def carol(deployment: ProxiedDeployment) -> Issued:
    """The certificate of a user of the driver x509."""
    deployment.cloud.admin.make("one.user.allocate", "carol", CAROL, "x509", [deployment.cloud.group])
    return deployment.authority.client("carol")


ASKED = f"Action=DescribeKeyPairs&Version={VERSION}"


def test_a_user_comes_by_his_certificate(deployment: ProxiedDeployment, name: str, carol: Issued) -> None:
    """Which the proxy has verified; nothing is signed. What he says himself to be his certificate has no effect."""
    other = deployment.authority.client("dave")
    for headers in ({}, {"SSL_CLIENT_CERT": _one_line(other)}):
        answer = _ask(deployment, "x509", name, ASKED, carol, **headers)
        assert answer.status == 200
        assert "carol" in deployment.access_line(deployment.econed("x509", name), answer)


def test_a_certificate_that_is_nobodys_lets_nobody_in(deployment: ProxiedDeployment, name: str) -> None:
    assert ec2_error(_ask(deployment, "x509", name, ASKED, deployment.authority.client("dave"))) == "AuthFailure"


@pytest.mark.parametrize("header", ["SSL_CLIENT_CERT", "ssl_client_cert", "SSL__Client__Cert", "X__SSL__Client__Cert"])
def test_a_certificate_that_is_only_said_is_none(
    deployment: ProxiedDeployment, name: str, header: str, carol: Issued
) -> None:
    """Anybody has the certificate of anybody: it is public. Under names that look like it, too."""
    for written in (_one_line(carol), quote(carol.pem.decode()), base64.b64encode(carol.der).decode()):
        answer = _ask(deployment, "x509", name, ASKED, None, **{header: written})
        assert ec2_error(answer) == "MissingAuthenticationToken"


def test_a_certificate_of_another_authority_is_none(deployment: ProxiedDeployment, name: str, carol: Issued) -> None:
    """With the same name in it. nginx and HAProxy let no request through with one."""
    forged = deployment.strangers.client("carol")
    try:
        answer = _ask(deployment, "x509", name, ASKED, forged, SSL_CLIENT_CERT=_one_line(carol))
    except (ssl.SSLError, ConnectionError):
        assert name == "haproxy"
    else:
        assert answer.status in (400, 403)
        assert name == "nginx" or ec2_error(answer) == "MissingAuthenticationToken"


def test_a_certificate_counts_only_from_a_trusted_proxy(deployment: ProxiedDeployment, carol: Issued) -> None:
    """On the plain port anybody can write the header."""
    url = deployment.econed("x509", "nginx").url
    answer = send(url, "GET", ASKED, {"SSL_CLIENT_CERT": _one_line(carol)}, source=CLIENT)
    assert ec2_error(answer) == "MissingAuthenticationToken"


def _one_line(issued: Issued) -> str:
    return issued.pem.decode().strip().replace("\n", " ")
