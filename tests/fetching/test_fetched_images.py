"""Images that econed fetches from users' URLs, and requests for images that it does not fetch."""

from __future__ import annotations

from pathlib import Path

import pytest_twisted
from twisted.logger import Logger

from econed.catalogue import all_chores
from econed.reconciler import Reconciler
from tests.fetching.fetching_server import CONTENT, NOT_FETCHED, Server, url_of
from tests.support.reactor_turns import wait_until
from tests.support.serving import connected
from tests.support.web_server import FakeInternet, WebServer, page, redirect


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


@pytest_twisted.ensureDeferred
async def test_a_fetched_image_that_oned_refuses_leaves_nothing(server: Server, web: WebServer) -> None:
    alice = server.cloud.user("alice").id
    server.cloud.oneadmin("one.user.quota", alice, 'DATASTORE=[ID="1",IMAGES="0",SIZE="1"]')
    assert await server.refusal(url_of(web)) == "ResourceLimitExceeded"


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
