"""Hosts that images may be fetched from: their names, addresses and certificates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure

from econed.config.settings import Settings
from econed.fetching.fetcher import RESPONSE_TIMEOUT, ImageFetcher, public_internet
from econed.hosts import is_global
from econed.image_urls import ImageURL, forbidden_host
from tests.fetching.fetching_server import CONTENT, NOT_FETCHED, Server, url_of
from tests.support.certificates import Authority
from tests.support.web_server import INTERNET, FakeInternet, WebServer, page


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
