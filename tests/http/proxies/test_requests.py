"""Requests and responses that the real proxies pass on: long, streamed, and never repeated."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.http.proxies.proxied_deployment import (
    CLIENT,
    IMAGE,
    KINDS,
    PATH,
    TIMEOUT,
    DroppingServer,
    ProxiedDeployment,
    client_of,
    send_through,
)
from tests.support.clients import connected, ec2_error, received, send, upload_form, v2_form
from tests.support.econed_process import Person
from tests.support.processes import until

pytestmark = pytest.mark.slow

INSTANCES = 100
LARGE = 1 << 17
"""More bytes than the buffers of any of the proxies have, as they are configured."""

LONG = 55_000
"""Bytes of a query that is nearly as long as the request line and headers may be (max_headers)."""


def test_an_response_larger_than_a_proxys_buffers_comes_whole(
    deployment: ProxiedDeployment, alice: Person, name: str
) -> None:
    ec2 = client_of(deployment, alice, "root", name)
    if not deployment.cloud.vm_ids(alice):
        parameters = {"ImageId": f"ami-{deployment.cloud.ami:08d}", "InstanceType": deployment.cloud.instance_type}
        ec2.run_instances(MinCount=INSTANCES, MaxCount=INSTANCES, **parameters)
    response = send_through(
        deployment, "root", name, v2_form(alice, deployment.url("root", name), {"Action": "DescribeInstances"})
    )
    assert len(response.texts("instanceId")) == INSTANCES
    assert len(response.body) > LARGE


def test_a_query_may_be_as_long_as_econed_accepts(deployment: ProxiedDeployment, alice: Person, name: str) -> None:
    """A query may have everything that a form may have, such as user data and many ids."""
    values = {f"Filter.1.Value.{number}": f"{number:03}" * 85 for number in range(1, 201)}
    form = v2_form(alice, deployment.url("root", name), {"Action": "DescribeTags", "Filter.1.Name": "key", **values})
    assert len(form) > LONG
    assert send_through(deployment, "root", name, form).status == 200


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
    until(lambda: deployment.uploaded_bytes() > IMAGE // 4, "the beginning of the image to arrive", TIMEOUT)
    connection.send(body[IMAGE // 2 :])
    response = received(connection.getresponse())
    connection.close()
    assert response.status == 200, response.body
    assert response.texts("imageId")


def test_an_upload_with_a_wrong_signature_is_refused_before_it_is_complete(
    deployment: ProxiedDeployment, alice: Person, name: str
) -> None:
    """The client gets the response while the proxy still expects the rest of the body.

    The part that is sent is one TLS record: lighttpd closes the connection with the response, even if the client still
    writes.
    """
    url = deployment.url("root", name)
    content_type, body = upload_form(replace(alice, secret="guessed"), url, os.urandom(IMAGE))
    connection = connected(url, deployment.tls(), CLIENT)
    connection.putrequest("POST", "/")
    connection.putheader("Content-Type", content_type)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[: 1 << 13])
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
    until(lambda: responds_with(503), "HAProxy to notice", TIMEOUT)
    other.is_ready = True
    until(lambda: responds_with(200), "HAProxy to notice", TIMEOUT)
