"""Images that econed fetches from users' URLs, over real connections on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from lxml import etree
from twisted.internet.defer import Deferred
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure

from econed.catalogue import all_chores
from econed.config.settings import Settings
from econed.errors import EC2Error
from econed.fetching.fetcher import MAX_FETCHES, MAX_REDIRECTS, RESPONSE_TIMEOUT, ImageFetcher, public_internet
from econed.fetching.pinned_agent import MAX_HEADERS_SIZE
from econed.hosts import is_global
from econed.image_urls import ImageURL, forbidden_host
from econed.opennebula.documents import Image
from econed.reconciler import Reconciler
from tests.support import serving
from tests.support.certificates import Authority
from tests.support.reactor_turns import wait_until
from tests.support.serving import Client, connected, get, send_request, signed
from tests.support.web_server import INTERNET, FakeInternet, WebServer, page, redirect

CONTENT = b"the bytes of a disk image " * 40_000
MAX_UPLOAD = 1 << 23


class Server(serving.Server):
    """A daemon that fetches images into a directory, resolving names in a `FakeInternet`."""

    def __init__(
        self, directory: Path, fake_internet: FakeInternet, *, can_oned_read: bool = True, **settings: Any
    ) -> None:
        all_settings = {"tmpdir": str(directory), "max_upload": MAX_UPLOAD, **settings}
        super().__init__(Settings(**all_settings), can_oned_read=can_oned_read, internet=fake_internet.internet)
        self.directory = directory

    @property
    def files(self) -> list[Path]:
        return sorted(self.directory.iterdir())

    @property
    def images(self) -> list[Image]:
        pool = etree.fromstring(self.cloud.oneadmin("one.imagepool.info", -2, -1, -1))
        return [image for element in pool if (image := Image(element)).uname == "alice"]

    def request(self, url: str, user: str = "alice", **more: str) -> bytes:
        secret = f"{user}pw"
        return get(self, signed(self, user, secret, Action="RegisterImage", ImageLocation=url, **more))

    async def register(self, url: str, user: str = "alice", **more: str) -> Client:
        """Register an image from a URL and return the connection with the response."""
        return await send_request(self, self.request(url, user, **more))

    async def refusal(self, url: str) -> str:
        """Return the error code for an image from a URL; no file and no image must be left."""
        client = await self.register(url)
        assert self.files == []
        assert self.images == []
        return client.code

    async def begin(self, url: str, web: WebServer, user: str = "alice", **more: str) -> Client:
        """Send a request for an image from a URL, and return when the web server has received its request."""
        before = len(web.requests)
        client = await connected(self)
        client.send(self.request(url, user, **more))
        await wait_until(lambda: len(web.requests) > before)
        return client


@pytest.fixture
def web() -> Iterator[WebServer]:
    web = WebServer()
    web.pages["/disk.img"] = page(CONTENT)
    yield web
    web.port.stopListening()


@pytest.fixture
def fake_internet() -> FakeInternet:
    return FakeInternet({"images.example": [INTERNET]})


@pytest.fixture
def server(tmp_path: Path, fake_internet: FakeInternet) -> Iterator[Server]:
    server = Server(tmp_path, fake_internet)
    yield server
    server.port.stopListening()


def url_of(web: WebServer, path: str = "/disk.img", host: str = "images.example") -> str:
    return f"http://{host}:{web.number}{path}"


NOT_FETCHED = "InvalidParameterValue"


@pytest_twisted.ensureDeferred
async def test_an_image_is_fetched_before_the_response_and_becomes_an_ami(
    server: Server, web: WebServer, fake_internet: FakeInternet
) -> None:
    parameters = {"Name": "noble", "Description": "from a URL", "Architecture": "arm64"}
    client = await server.register(url_of(web), **parameters)
    assert client.status == 200
    (image,), (file,) = server.images, server.files
    assert file.read_bytes() == CONTENT
    assert (image.path, image.name, image.datastore_id) == (str(file), "noble", 1)
    assert f"<imageId>ami-{image.id:08d}</imageId>".encode() in client.received
    ami = server.cloud.run("alice", "DescribeImages", Owners=["self"])["Images"][0]
    assert (ami["Name"], ami["Description"], ami["Architecture"]) == ("noble", "from a URL", "arm64")
    assert fake_internet.lookups == ["images.example"]


@pytest_twisted.ensureDeferred
async def test_the_fetched_file_is_removed_when_oned_has_copied_it(server: Server, web: WebServer) -> None:
    await server.register(url_of(web))
    server.cloud.wait(10)
    server.cloud.result(
        Reconciler(server.cloud.backend, server.cloud.clock, all_chores(server.uploads), Logger("test")).round()
    )
    assert server.files == []
    assert [image.state.name for image in server.images] == ["READY"]


@pytest_twisted.ensureDeferred
async def test_a_web_server_gets_no_more_than_the_url_and_the_host(server: Server, web: WebServer) -> None:
    """Nothing about the user."""
    web.pages["/disk.img?key=a%2Fb&v=1"] = redirect("/disk.img")
    await server.register(url_of(web, "/disk.img?key=a%2Fb&v=1"))
    lines = [line.lower() for line in web.requests[1].split("\r\n")]
    assert web.requests[0].startswith("GET /disk.img?key=a%2Fb&v=1 HTTP/1.1\r\n")
    assert lines[0] == "get /disk.img http/1.1"
    assert sorted(lines[1:]) == [
        "accept-encoding: identity",
        "connection: close",
        f"host: images.example:{web.number}",
        "user-agent: econed",
    ]


# Hosts


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/x",
        "http://LOCALHOST./x",
        "http://ip6-localhost/x",
        "http://x.localhost/x",
        "http://localhost.localdomain/x",
        "http://oned/x",
        "http://127.0.0.1:2633/RPC2",
        "http://127.1/x",
        "http://0177.0.0.1/x",
        "http://2130706433/x",
        "http://0x7f000001/x",
        "http://0x7f.1/x",
        "http://0/x",
        "http://127.0.0.1./x",
        "http://127%2e0%2e0%2e1/x",
        "http://%6cocalhost/x",
        "http://１２７.0.0.1/x",
        "http://ｌocalhost/x",
        "http://xn--/x",
        "http://[::1]/x",
        "http://[::127.0.0.1]/x",
        "http://[::ffff:127.0.0.1]/x",
        "http://[::ffff:7f00:1]/x",
        "http://[64:ff9b::a9fe:a9fe]/x",
        "http://[2002:7f00:1::]/x",
        "http://[2001:0:a9fe:a9fe::1]/x",
        "http://[fe80::1%25eth0]/x",
        "http://[fd00::1]/x",
        "http://[fec0::1]/x",
        "http://10.0.0.1/x",
        "http://172.31.0.1/x",
        "http://192.168.0.1/x",
        "http://100.64.0.1/x",
        "http://169.254.169.254/latest/meta-data",
        "http://0.0.0.0/x",
        "http://224.0.0.1/x",
        "http://8.8.8.8@127.0.0.1/x",
        "http://images.example:80@127.0.0.1/x",
        "http://127.0.0.1\\@images.example/x",
        "http://127.0.0.1#@images.example/x",
        "http://inside.example/x",
        "http://mapped.example/x",
        "http://both.example/x",
        "http://nat64.example/x",
        "http://scoped.example/x",
        "http://nowhere.example/x",
        "http://images.example:22/x",
        "http://images.example:0/x",
        "http://images.example:99999/x",
        "ftp://images.example/x",
        "file:///etc/passwd",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_url_of_an_internal_host_is_refused_in_every_notation(tmp_path: Path, url: str) -> None:
    """By the rule for the real internet; no connection is made."""
    fake_internet = FakeInternet(
        {
            "localhost.localdomain": ["127.0.0.1"],
            "inside.example": ["10.0.0.1"],
            "mapped.example": ["::ffff:127.0.0.1"],
            "both.example": ["8.8.8.8", "10.0.0.1"],
            "nat64.example": ["64:ff9b::a00:1"],
            "scoped.example": ["fe80::1%lo"],
            "images.example": ["8.8.8.8"],
        },
        is_global,
    )
    server = Server(tmp_path, fake_internet)
    assert await server.refusal(url) == NOT_FETCHED
    assert server.outgoing.addresses == []
    await server.port.stopListening()


def test_addresses_of_this_machine_are_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if they are global: a service on them may trust local clients."""
    is_allowed = public_internet().is_allowed
    assert is_allowed(ip_address("8.8.8.8"))
    monkeypatch.setattr("econed.fetching.fetcher.is_own_address", lambda address: address == "8.8.8.8")
    assert not is_allowed(ip_address("8.8.8.8"))


@pytest_twisted.ensureDeferred
async def test_a_name_is_looked_up_once_and_connected_to_at_that_address(
    server: Server, web: WebServer, fake_internet: FakeInternet
) -> None:
    """Otherwise a second lookup could return an internal address."""
    replies = iter([[INTERNET], ["10.0.0.1"]])
    fake_internet.names["rebinds.example"] = ChangingAddresses(replies)
    assert (await server.register(url_of(web, host="rebinds.example"))).status == 200
    assert fake_internet.lookups == ["rebinds.example"]
    assert len(web.requests) == 1


class ChangingAddresses(list[str]):
    """Addresses that change each time they are read."""

    def __init__(self, replies: Iterator[list[str]]) -> None:
        super().__init__()
        self._replies = replies

    def __iter__(self) -> Iterator[str]:
        return iter(next(self._replies))


@pytest_twisted.ensureDeferred
async def test_the_next_address_is_tried_if_the_connection_is_refused(tmp_path: Path, web: WebServer) -> None:
    allowed = {"127.0.0.2", INTERNET}
    fake_internet = FakeInternet({"images.example": ["127.0.0.2", INTERNET]}, lambda address: str(address) in allowed)
    server = Server(tmp_path, fake_internet)
    assert (await server.register(url_of(web))).status == 200
    assert fake_internet.lookups == ["images.example"]
    await server.port.stopListening()


class SlowNames:
    """A name service that replies when a test calls `fail_first`; until then each lookup keeps a thread."""

    def __init__(self) -> None:
        self.pending: list[Deferred[Any]] = []

    def in_thread(self, work: Callable[[], Any]) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        self.pending.append(waiting)
        return waiting

    def fail_first(self) -> None:
        self.pending.pop(0).errback(Failure(forbidden_host()))


def test_one_name_at_a_time_is_looked_up_for_a_user_until_its_thread_ends(
    server: Server, fake_internet: FakeInternet
) -> None:
    """Slow lookups of one user do not block others, even if that user cancels them and starts more."""
    names, clock = SlowNames(), Clock()
    fetcher = ImageFetcher(None, clock, server.uploads, Settings(), names.in_thread, Logger(), fake_internet.internet)
    failed: list[int] = []

    def fetch(owner: int) -> None:
        fetching = Deferred.fromCoroutine(fetcher.fetch(ImageURL.parse("http://slow.example/x"), owner))
        fetching.addErrback(lambda failure: failed.append(owner))

    for owner in (2, 2, 2, 3):
        fetch(owner)
    assert len(names.pending) == 2
    names.fail_first()
    assert (failed, len(names.pending)) == ([2], 2)
    clock.advance(RESPONSE_TIMEOUT)
    assert failed == [2, 2, 2, 3]
    fetch(2)
    assert len(names.pending) == 2
    names.fail_first()
    names.fail_first()
    assert len(names.pending) == 1


@pytest.mark.parametrize("host", ["a_b.example", "r1---b.example"])
@pytest_twisted.ensureDeferred
async def test_a_name_that_is_invalid_in_idna_is_fetched_from_by_http_only(
    server: Server, web: WebServer, fake_internet: FakeInternet, host: str
) -> None:
    fake_internet.names[host] = [INTERNET]
    assert await server.refusal(url_of(web, host=host).replace("http:", "https:")) == NOT_FETCHED
    assert (await server.register(url_of(web, host=host))).status == 200


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="a machine without IPv6")
@pytest_twisted.ensureDeferred
async def test_an_image_is_fetched_from_an_ipv6_address(tmp_path: Path) -> None:
    fake_internet, web = FakeInternet({}, lambda address: str(address) == "::1"), WebServer(address="::1")
    server = Server(tmp_path, fake_internet)
    web.pages["/disk.img"] = page(CONTENT)
    assert (await server.register(url_of(web, host="[::1]"))).status == 200
    assert f"Host: [::1]:{web.number}" in web.requests[0]
    await web.port.stopListening()
    await server.port.stopListening()


# Redirects


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest_twisted.ensureDeferred
async def test_a_redirect_is_followed_and_its_host_is_looked_up(
    server: Server, web: WebServer, fake_internet: FakeInternet, status: str
) -> None:
    fake_internet.names["mirror.example"] = [INTERNET]
    web.pages["/moved"] = redirect(url_of(web, "/relative?a=b!c", "mirror.example"), status)
    web.pages["/relative?a=b!c"] = redirect("disk.img#part", status)
    assert (await server.register(url_of(web, "/moved"))).status == 200
    assert [request.split(" ")[1] for request in web.requests] == ["/moved", "/relative?a=b!c", "/disk.img"]
    assert fake_internet.lookups == ["images.example", "mirror.example", "mirror.example"]
    assert [file.read_bytes() for file in server.files] == [CONTENT]


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
        "//169.254.169.254/latest/meta-data",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[::ffff:169.254.169.254]/",
        "http://2852039166/",
        "http://metadata.example/",
        "http://localhost:{port}/disk.img",
        "http://127.0.0.2:{port}/disk.img",
        "http://user:password@images.example:{port}/disk.img",
        "http://images.example:25/",
        "file:///etc/passwd",
        "gopher://images.example/",
        "http://[",
        "\\\\169.254.169.254\\x",
        "",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_redirect_to_an_internal_host_is_not_followed(
    server: Server, web: WebServer, fake_internet: FakeInternet, location: str
) -> None:
    """Such as the address of the instance metadata in other clouds."""
    fake_internet.names["metadata.example"] = ["169.254.169.254"]
    web.pages["/moved"] = redirect(location.replace("{port}", str(web.number)))
    assert await server.refusal(url_of(web, "/moved")) == NOT_FETCHED
    assert [request.split(" ")[1] for request in web.requests] == ["/moved"] * len(web.requests)
    assert server.outgoing.addresses == [INTERNET] * len(web.requests)


@pytest_twisted.ensureDeferred
async def test_endless_redirects_are_aborted(server: Server, web: WebServer) -> None:
    web.pages["/a"], web.pages["/b"] = redirect("/b"), redirect("/a")
    assert await server.refusal(url_of(web, "/a")) == NOT_FETCHED
    assert len(web.requests) == MAX_REDIRECTS + 1
    await wait_until(lambda: all(connection.is_lost for connection in web.connections))


def test_a_redirect_from_https_to_http_is_refused() -> None:
    with pytest.raises(EC2Error):
        ImageURL.parse("https://images.example/x").redirected("http://images.example/x")
    assert ImageURL.parse("http://images.example/x").redirected("https://images.example/x").scheme == "https"


# TLS


@pytest_twisted.ensureDeferred
async def test_a_certificate_is_verified_against_the_name_in_the_url(tmp_path: Path) -> None:
    authority = Authority()
    web = WebServer(authority.server("images.example"))
    web.pages["/disk.img"] = page(CONTENT)
    trust_root = trustRootFromCertificates([Certificate.loadPEM(authority.pem)])
    names = {"images.example": [INTERNET], "other.example": [INTERNET]}
    server = Server(tmp_path, FakeInternet(names, trust_root=trust_root))
    https = url_of(web).replace("http:", "https:")
    assert await server.refusal(https.replace("images.", "other.")) == NOT_FETCHED
    assert (await server.register(https)).status == 200
    assert len(web.requests) == 1
    without_authority = Server(tmp_path, FakeInternet(names))
    assert (await without_authority.register(https)).code == NOT_FETCHED
    for listener in (web, server, without_authority):
        await listener.port.stopListening()


# Responses


@pytest.mark.parametrize(
    "response",
    [
        page(b"", status="404 Not Found"),
        page(CONTENT, status="206 Partial Content"),
        page(b"", status="302 Found"),
        page(CONTENT, "Content-Encoding: gzip"),
        b"HTTP/1.0 200 OK\r\n\r\n" + CONTENT,
        page(CONTENT, length=len(CONTENT) + 1),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nhello",
        page(b"hello", length=-5),
        page(b"hello").replace(b": 5", b": " + b"9" * 5000),
        b"220 mail.example ESMTP\r\n\r\n",
        b"",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_response_that_is_not_a_complete_image_leaves_nothing(
    server: Server, web: WebServer, response: bytes
) -> None:
    """An error, a range, a compressed body, a truncated body or one that may be."""
    web.pages["/broken"] = response
    client = await server.begin(url_of(web, "/broken"), web)
    web.connections[0].close()
    await wait_until(lambda: client.has_response)
    assert client.code == NOT_FETCHED
    assert server.files == []
    assert server.images == []


@pytest_twisted.ensureDeferred
async def test_an_image_in_chunks_is_accepted(server: Server, web: WebServer) -> None:
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(CONTENT), CONTENT)
    web.pages["/chunks"] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    assert (await server.register(url_of(web, "/chunks"))).status == 200
    assert [file.read_bytes() for file in server.files] == [CONTENT]


@pytest.mark.parametrize("has_length", [True, False])
@pytest_twisted.ensureDeferred
async def test_the_fetch_of_too_large_an_image_is_aborted(server: Server, web: WebServer, has_length: bool) -> None:
    web.pages["/large"] = page(b"x", length=MAX_UPLOAD + 1)
    if not has_length:
        headers = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        web.pages["/large"] = headers + b"%x\r\n" % (MAX_UPLOAD + 1) + b"x" * (MAX_UPLOAD + 1)
    assert await server.refusal(url_of(web, "/large")) == "RequestEntityTooLarge"
    await wait_until(lambda: web.connections[0].is_lost)


@pytest_twisted.ensureDeferred
async def test_a_response_with_endless_headers_is_aborted(server: Server, web: WebServer) -> None:
    web.pages["/endless"] = b"HTTP/1.1 200 OK\r\n" + b"X-More: and more\r\n" * (MAX_HEADERS_SIZE // 10)
    assert await server.refusal(url_of(web, "/endless")) == NOT_FETCHED
    await wait_until(lambda: web.connections[0].is_lost)


@pytest_twisted.ensureDeferred
async def test_a_web_server_that_does_not_respond_times_out(server: Server, web: WebServer) -> None:
    client = await server.begin(url_of(web, "/silent"), web)
    server.cloud.clock.advance(RESPONSE_TIMEOUT - 1)
    assert not client.received
    server.cloud.clock.advance(1)
    await wait_until(lambda: client.has_response and web.connections[0].is_lost)
    assert client.code == NOT_FETCHED
    assert server.files == []


@pytest_twisted.ensureDeferred
async def test_an_image_that_arrives_below_the_minimum_rate_is_aborted(server: Server, web: WebServer) -> None:
    """The minimum rate is that of uploads."""
    web.pages["/slow"] = page(b"x", length=MAX_UPLOAD)
    client = await server.begin(url_of(web, "/slow"), web)
    await wait_until(lambda: server.files)
    for _ in range(8):
        received = server.outgoing.received
        web.connections[0].send(b"x" * 10)
        await wait_until(lambda: server.outgoing.received == received + 10)  # noqa: B023 - called at once
        server.cloud.clock.advance(10)
    await wait_until(lambda: client.has_response and web.connections[0].is_lost)
    assert (client.status, client.code) == (408, "RequestTimeout")
    assert server.files == []


@pytest_twisted.ensureDeferred
async def test_a_fetch_counts_against_the_upload_limit_of_its_user(
    tmp_path: Path, web: WebServer, fake_internet: FakeInternet
) -> None:
    server = Server(tmp_path, fake_internet, upload_share=3 << 20)
    web.pages["/slow"] = page(b"x", length=2 << 20)
    client = await server.begin(url_of(web, "/slow"), web)
    await wait_until(lambda: server.files)
    web.pages["/other"] = page(b"x" * (1 << 20) + b"x")
    assert (await server.register(url_of(web, "/other"))).code == "ResourceLimitExceeded"
    assert (await server.register(url_of(web, "/other"), "bob")).status == 200
    web.connections[0].send(b"x" * ((2 << 20) - 1))
    await wait_until(lambda: client.has_response)
    assert client.status == 200
    await server.port.stopListening()


@pytest_twisted.ensureDeferred
async def test_the_fetches_of_a_user_are_limited(server: Server, web: WebServer) -> None:
    for number in range(MAX_FETCHES):
        await server.begin(url_of(web, f"/{number}"), web)
    client = await server.register(url_of(web))
    assert (client.status, client.code) == (503, "RequestLimitExceeded")
    assert (await server.register(url_of(web), "bob")).status == 200
    web.connections[0].close()
    await wait_until(lambda: web.connections[0].is_lost)
    assert (await server.register(url_of(web))).status == 200


@pytest_twisted.ensureDeferred
async def test_a_fetched_image_that_oned_refuses_leaves_nothing(server: Server, web: WebServer) -> None:
    alice = server.cloud.user("alice").id
    server.cloud.oneadmin("one.user.quota", alice, 'DATASTORE=[ID="1",IMAGES="0",SIZE="1"]')
    assert await server.refusal(url_of(web)) == "ResourceLimitExceeded"


# Repeated requests


@pytest_twisted.ensureDeferred
async def test_a_request_repeated_during_the_fetch_returns_the_same_image(server: Server, web: WebServer) -> None:
    """SDKs repeat a request after a minute without a response, with or without closing the first connection."""
    first = await server.begin(url_of(web, "/late"), web, Name="late")
    second = await connected(server)
    second.send(server.request(url_of(web, "/late"), Name="late"))
    bobs = await server.begin(url_of(web, "/late"), web, "bob", Name="late")
    first.close()
    await first.closed
    for connection in web.connections:
        connection.send(page(CONTENT))
    await wait_until(lambda: second.has_response and bobs.has_response)
    (image,) = server.images
    assert f"<imageId>ami-{image.id:08d}</imageId>".encode() in second.received
    assert bobs.status == 200
    assert len(web.requests) == 2
    duplicate = await server.register(url_of(web, "/late"), Name="late")
    assert duplicate.code == "InvalidAMIName.Duplicate"


# Refusals and dry runs


@pytest_twisted.ensureDeferred
async def test_if_oned_is_on_another_machine_only_image_url_hosts_are_allowed(
    tmp_path: Path, web: WebServer, fake_internet: FakeInternet
) -> None:
    server = Server(tmp_path, fake_internet, can_oned_read=False, image_url_hosts=("images.example",))
    assert (await server.register("http://other.example/x")).code == "UnsupportedOperation"
    assert (await server.register(url_of(web))).status == 200
    assert [image.path for image in server.images] == [url_of(web)]
    assert (web.requests, fake_internet.lookups, server.files) == ([], [], [])
    await server.port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_dry_run_connects_to_no_server(server: Server, web: WebServer, fake_internet: FakeInternet) -> None:
    client = await server.register(url_of(web), DryRun="true")
    assert (client.status, client.code) == (412, "DryRunOperation")
    assert (await server.register("http://10.0.0.1/x", DryRun="true")).code == NOT_FETCHED
    assert (web.requests, fake_internet.lookups, server.files) == ([], [], [])
