"""Which service a request is for, and what all three have in common: requests over HTTP, and their errors."""

from __future__ import annotations

import pytest
import pytest_twisted
from lxml import etree

from econed.config.settings import Settings
from econed.services import EC2, IAM, SERVICES, STS, AmazonService, service_of
from tests.support.cloud import VERSION
from tests.support.serving import Client, Server, get, send_request, signed


def error_in(client: Client) -> etree._Element:
    """Return the body of the response."""
    return etree.fromstring(client.received.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize(
    ("version", "service"),
    [("2011-06-15", STS), ("2010-05-08", IAM), (VERSION, EC2), ("2011-06-16", EC2), ("", EC2), ("2011-06-15 ", EC2)],
)
def test_the_version_tells_the_service(version: str, service: AmazonService) -> None:
    assert service_of([("Action", "x"), ("Version", version)]) is service


def test_a_request_without_a_version_is_for_ec2_and_of_two_versions_the_first_counts() -> None:
    """A request with two is refused when its parameters are read."""
    assert service_of([]) is EC2
    assert service_of([("Version", "2011-06-15"), ("Version", VERSION)]) is STS


@pytest.mark.parametrize("service", [STS, IAM])
@pytest_twisted.ensureDeferred
async def test_an_action_of_another_service_does_not_exist(service: AmazonService) -> None:
    server = Server(Settings())
    try:
        query = signed(server, Action="DescribeRegions", Version=str(service.version))
        client = await send_request(server, get(server, query))
    finally:
        server.close()
    names = {"e": f"https://{service.name}.amazonaws.com/doc/{service.version}/"}
    root = error_in(client)
    assert client.status == 400
    assert root.findtext("e:Error/e:Code", None, names) == "InvalidAction"
    message = f"Could not find operation DescribeRegions for version {service.version}"
    assert root.findtext("e:Error/e:Message", None, names) == message
    assert root.findtext("e:Error/e:Type", None, names) == "Sender"
    assert root.findtext("e:RequestId", None, names)


@pytest.mark.parametrize("service", SERVICES)
@pytest_twisted.ensureDeferred
async def test_the_error_for_a_wrong_secret_has_the_form_of_the_service(service: AmazonService) -> None:
    server = Server(Settings())
    try:
        query = signed(server, secret="wrong", Version=service.version or VERSION)
        client = await send_request(server, get(server, query))
    finally:
        server.close()
    code = "AuthFailure" if service is EC2 else "InvalidClientTokenId"
    assert client.status == (401 if service is EC2 else 403)
    assert [element.text for element in error_in(client).iter("{*}Code")] == [code]


@pytest.mark.parametrize("service", [*SERVICES, None])
@pytest_twisted.ensureDeferred
async def test_the_error_for_parameters_that_cannot_be_read_has_the_form_of_the_service_that_signs(
    service: AmazonService | None,
) -> None:
    """Without a signature of Version 4 that of EC2."""
    server = Server(Settings())
    scope = "alice" if service is None else f"alice/20150830/us-east-1/{service.name}/aws4_request"
    header = f"Authorization: AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
    try:
        client = await send_request(server, get(server, "Action=%", header))
    finally:
        server.close()
    root = error_in(client)
    form = "Response" if service in (EC2, None) else "ErrorResponse"
    assert (client.status, etree.QName(root).localname) == (400, form)
    assert [element.text for element in root.iter("{*}Code")] == ["MalformedQueryString"]
