"""econed behind a proxy that serves it under a path of its own (`ssl_server`), as real clients sign for it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session
from twisted.internet.defer import maybeDeferred
from twisted.internet.threads import deferToThread
from twisted.web.proxy import ReverseProxyResource
from twisted.web.resource import Resource
from twisted.web.server import Site

from econed.config import Settings
from econed.sandbox.backend import SandboxBackend
from econed.sandbox.cloud import populate
from econed.sandbox.oned import Oned
from econed.tap import make_service

SECRET = "alice's secret"


class Behind:
    """A proxy that passes `/cloud/ec2/` on to econed as `/`, with a Host of its own."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._back = _free_port()
        root, cloud = Resource(), Resource()
        root.putChild(b"cloud", cloud)
        cloud.putChild(b"ec2", ReverseProxyResource("127.0.0.1", self._back, b""))
        self._proxy = reactor.listenTCP(0, Site(root), interface="127.0.0.1")
        self.url = f"http://127.0.0.1:{self._proxy.getHost().port}/cloud/ec2/"
        self._service: Any = None

    def serve(self, ssl_server: str | None) -> None:
        """Start econed, which was told this of the proxy."""
        oned = Oned(self._reactor)
        populate(oned, users=[("alice", SECRET)])
        settings = Settings(ssl_server=ssl_server)
        endpoint = f"tcp:{self._back}:interface=127.0.0.1"
        self._service = make_service(self._reactor, settings, SandboxBackend(oned), [endpoint])
        self._service.privilegedStartService()
        self._service.startService()

    async def images(self, version: str, secret: str = SECRET) -> list[str]:
        """Return the names of the AMIs, by botocore with signatures of this version."""

        def ask() -> list[str]:
            config = Config(signature_version=version, proxies={}, retries={"total_max_attempts": 1})
            client: Any = Session().create_client(
                "ec2",
                "default",
                endpoint_url=self.url,
                aws_access_key_id="alice",
                aws_secret_access_key=secret,
                config=config,
            )
            return [image["ImageId"] for image in client.describe_images()["Images"]]

        found: list[str] = await deferToThread(ask)
        return found

    async def end(self) -> None:
        """Stop both."""
        await maybeDeferred(self._service.stopService)
        await maybeDeferred(self._proxy.stopListening)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest_twisted.async_yield_fixture
async def behind() -> AsyncIterator[Behind]:
    """A proxy with nothing behind it yet."""
    from twisted.internet import reactor

    made = Behind(reactor)
    yield made
    await made.end()


@pytest.mark.parametrize("version", ["v2", "v4"])
@pytest_twisted.ensureDeferred
async def test_clients_are_let_in_who_signed_for_the_proxys_host_and_path(behind: Behind, version: str) -> None:
    behind.serve(behind.url)
    assert await behind.images(version) == ["ami-00000000"]
    with pytest.raises(ClientError, match=r"AuthFailure|SignatureDoesNotMatch"):
        await behind.images(version, "guessed")


@pytest.mark.parametrize("version", ["v2", "v4"])
@pytest_twisted.ensureDeferred
async def test_without_ssl_server_no_signature_for_the_proxy_is_taken(behind: Behind, version: str) -> None:
    behind.serve(None)
    with pytest.raises(ClientError, match=r"AuthFailure|SignatureDoesNotMatch"):
        await behind.images(version)
