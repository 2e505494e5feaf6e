"""Redirects of web servers that images are fetched from."""

from __future__ import annotations

import pytest
import pytest_twisted

from econed.errors import EC2Error
from econed.fetching.fetcher import MAX_REDIRECTS
from econed.image_urls import ImageURL
from tests.fetching.fetching_server import CONTENT, NOT_FETCHED, Server, url_of
from tests.support.reactor_turns import wait_until
from tests.support.web_server import INTERNET, FakeInternet, WebServer, redirect


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
