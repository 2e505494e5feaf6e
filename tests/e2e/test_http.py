"""Misbehaving clients: every response is EC2's XML with a 4xx, and other clients are served."""

from __future__ import annotations

import http.client
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.waiting import wait
from tests.support.clients import (
    TIMEOUT,
    VERSION,
    EC2Response,
    boto,
    ec2_error,
    exchange,
    send,
    v2,
    v2_form,
)
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import MAX_WAIT, FurnishedCloud
from tests.support.processes import until

FORM = b"application/x-www-form-urlencoded"
TOO_MUCH = 2 << 20


@pytest.fixture(autouse=True)
def _econed_is_unaffected(econed: Econed, alice: Person) -> Iterator[None]:
    """Check after each test that econed serves, and has logged no unexpected exception."""
    yield
    assert v2(alice, econed.url, "DescribeKeyPairs").status == 200
    assert "Traceback" not in econed.process.text
    assert "Unhandled" not in econed.process.text


def _refused(response: EC2Response) -> str:
    assert 400 <= response.status < 500, (response.status, response.body)
    return ec2_error(response)


def _post(econed: Econed, body: bytes, headers: bytes = b"Content-Type: " + FORM) -> EC2Response:
    head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s\r\nContent-Length: %d\r\n\r\n" % (
        econed.port,
        headers,
        len(body),
    )
    (response,) = exchange(econed.port, head + body)
    return response


@pytest.mark.parametrize(
    "query",
    [
        b"",
        b"%",
        b"%zz=1",
        b"Action=Describe%C3%28Images",
        b"Action=%FF%FE",
        b"Action=%00",
        b"Action",
        b"=",
        b"&&&&",
        b"====&=;=",
        b"Action=DescribeImages;Action=TerminateInstances",
        b"Action=DescribeImages&Action=TerminateInstances",
        b"Action=" + b"A" * 5000,
        b"Action=DescribeImages&Version=2016-11-15",
        b"Action=DescribeImages&AWSAccessKeyId=x",
        b"Action=DescribeImages&AWSAccessKeyId=x&Signature=y&SignatureVersion=2&SignatureMethod=HmacMD5",
        b"Action=DescribeImages&AWSAccessKeyId=x&Signature=y&SignatureVersion=1",
        b"Action=DescribeImages&AWSAccessKeyId=x:y%0A&Signature=%FF&SignatureVersion=2&SignatureMethod=HmacSHA1"
        b"&Timestamp=2026-01-01T00:00:00Z",
        b"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a/b/c/d/e&X-Amz-Date=20261301T000000Z&X-Amz-Expires=1e9"
        b"&X-Amz-SignedHeaders=host&X-Amz-Signature=00",
        b"X-Amz-Algorithm=AWS4-HMAC-SHA256",
        b"X-Amz-Credential=%F0%9F%9A%80",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unsigned_or_mangled_request_is_refused(econed: Econed, query: bytes, method: str) -> None:
    """No action is called."""
    if method == "GET":
        (response,) = exchange(econed.port, b"GET /?%s HTTP/1.1\r\nHost: x\r\n\r\n" % query)
    else:
        response = _post(econed, query)
    assert _refused(response)


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"Action": ""}, "MissingAction"),
        ({"Action": "DescribeEverything"}, "InvalidAction"),
        ({"Action": "describeInstances"}, "InvalidAction"),
        ({"Action": "__class__"}, "InvalidAction"),
        ({"Action": "Describe" + "🚀" * 50}, "InvalidAction"),
        ({"Action": "DescribeImages", "Version": ""}, "MissingParameter"),
        ({"Action": "DescribeImages", "Version": '"><x'}, "NoSuchVersion"),
        ({"Action": "DescribeImages", "Version": "2016-11-15\n"}, "NoSuchVersion"),
        ({"Action": "DescribeImages", "NoSuchThing": "1"}, "UnknownParameter"),
        ({"Action": "DescribeInstances", "MaxResults": "many"}, "InvalidParameterValue"),
        ({"Action": "DescribeInstances", "MaxResults": "9" * 400}, "InvalidParameterValue"),
        ({"Action": "DescribeInstances", "MaxResults": "-5"}, "InvalidParameterValue"),
        ({"Action": "DescribeInstances", "NextToken": "AAAA"}, "InvalidNextToken"),
        ({"Action": "DescribeInstances", "NextToken": "WyJpbnN0YW5jZXMiLCAxZTk5OV0="}, "InvalidNextToken"),
        (
            {"Action": "DescribeInstances", "Filter.1.Name": "no-such-filter", "Filter.1.Value.1": "x"},
            "InvalidParameterValue",
        ),
        ({"Action": "DescribeInstances", "InstanceId.1": "i-0000000٣"}, "InvalidInstanceID.Malformed"),
        ({"Action": "DescribeInstances", "InstanceId.1": "i-99999999999"}, "InvalidInstanceID.Malformed"),
        ({"Action": "DescribeInstances", "InstanceId.1": "i-00000001,i-00000002"}, "InvalidInstanceID.Malformed"),
        ({"Action": "DescribeInstances", "InstanceId.99999999999999999999": "i-1"}, None),
        ({"Action": "DescribeInstances", "InstanceId.-1": "i-1"}, None),
        ({"Action": "DescribeInstances", "InstanceId.1.2.3.4": "i-1"}, None),
        ({"Action": "DescribeInstances", "DryRun": "perhaps"}, "InvalidParameterValue"),
        ({"Action": "TerminateInstances"}, "InvalidParameterCombination"),
        ({"Action": "TerminateInstances", "InstanceId.1": ""}, None),
        ({"Action": "RunInstances", "ImageId": "ami-1", "MinCount": "0", "MaxCount": "0"}, "InvalidParameterValue"),
        (
            {"Action": "RunInstances", "ImageId": "ami-1", "MinCount": "1", "MaxCount": "100000000"},
            "InstanceLimitExceeded",
        ),
        ({"Action": "RunInstances", "ImageId": "ami-1", "MinCount": "1", "MaxCount": "1", "UserData": "%%%"}, None),
        ({"Action": "ImportKeyPair", "KeyName": "k", "PublicKeyMaterial": "bm90IGEga2V5"}, "InvalidKey.Format"),
        ({"Action": "ImportKeyPair", "KeyName": "k", "PublicKeyMaterial": "*"}, None),
        ({"Action": "CreateTags", "ResourceId.1": "junk", "Tag.1.Key": "a", "Tag.1.Value": "b"}, "InvalidID"),
        ({"Action": "CreateTags", "ResourceId.1": "i-1", "Tag.1.Key": "", "Tag.1.Value": "b"}, None),
        ({"Action": "CreateTags", "ResourceId.1": "vol-1", "Tag.1.Key": "a"}, "InvalidVolume.NotFound"),
    ],
)
def test_a_signed_but_invalid_request_is_refused(
    econed: Econed, alice: Person, parameters: dict[str, Any], code: str | None
) -> None:
    """The error has EC2's code if EC2 has one."""
    form = v2_form(alice, econed.url, parameters)
    refused = _refused(send(econed.url, "GET", form))
    assert code is None or refused == code


def test_a_semicolon_does_not_separate_parameters(econed: Econed, alice: Person) -> None:
    """A value therefore cannot contain a second parameter."""
    form = v2_form(alice, econed.url, {"Action": "DescribeKeyPairs", "KeyName.1": "x"}).replace(
        "KeyName.1=x", "KeyName.1=x;KeyName.2=y"
    )
    assert _refused(send(econed.url, "GET", form)) == "AuthFailure"
    response = v2(alice, econed.url, "DescribeKeyPairs", {"KeyName.1": "x;Action=DescribeImages"})
    assert _refused(response) == "InvalidKeyPair.NotFound"


def test_a_request_with_two_actions_is_refused(econed: Econed, alice: Person) -> None:
    """One is in the query and one in the form; the signature covers only the form."""
    form = v2_form(alice, econed.url, {"Action": "DescribeImages"}, method="POST").encode()
    head = b"POST /?Action=TerminateInstances HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % econed.port
    headers = b"Content-Type: %s\r\nContent-Length: %d\r\n\r\n" % (FORM, len(form))
    (response,) = exchange(econed.port, head + headers + form)
    assert _refused(response)


@pytest.mark.parametrize("content_type", [b"application/json", b"text/xml", b""])
def test_a_body_that_is_not_a_form_is_refused(econed: Econed, content_type: bytes) -> None:
    """Parameters are sent as a form; with a file, as a multipart form."""
    response = _post(econed, b"Action=DescribeImages", b"Content-Type: " + content_type)
    assert response.status == 415
    assert _refused(response) == "UnsupportedMediaType"


def test_a_multipart_form_without_parts_is_refused(econed: Econed) -> None:
    """Its content type is valid; its body is not."""
    response = _post(econed, b"Action=DescribeImages", b"Content-Type: multipart/form-data; boundary=x")
    assert response.status == 400
    assert _refused(response)


@pytest.mark.parametrize("boundary", [b'"a\nb"', b'"a\\nb"', b"%0a", b'"\x00"', b'"a "', b"\xff", b'"x\\"y"', b'";"'])
def test_an_invalid_boundary_is_refused(econed: Econed, boundary: bytes) -> None:
    """The error is one of the client (400), not of the server."""
    response = _post(econed, b"Action=UploadImage", b"Content-Type: multipart/form-data; boundary=" + boundary)
    assert response.status == 400
    assert _refused(response) == "InvalidRequest"


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"])
def test_other_methods_are_refused(econed: Econed, method: str) -> None:
    """The status is 405 with the allowed methods (RFC 9110, 15.5.6); a response to HEAD has no body."""
    (response,) = exchange(econed.port, b"%s / HTTP/1.1\r\nHost: x\r\n\r\n" % method.encode(), methods=[method])
    assert response.status == 405
    assert response.headers["allow"] == "GET, POST"
    if method != "HEAD":
        assert _refused(response)


def test_a_body_that_is_too_large_is_refused(econed: Econed) -> None:
    """It is not kept in memory."""
    response = _post(econed, b"A=" + b"x" * TOO_MUCH)
    assert (response.status, _refused(response)) == (413, "RequestEntityTooLarge")


def test_the_size_limit_also_applies_to_a_chunked_body(econed: Econed) -> None:
    """A chunked body has no Content-Length."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % FORM
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    (response,) = exchange(econed.port, head + chunk * 32 + b"0\r\n\r\n")
    assert _refused(response) == "RequestEntityTooLarge"


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
    ids=["negative length", "two lengths", "nonsense", "HTTP/9.9", "long path", "many headers", "TLS"],
)
def test_input_that_is_not_http_gets_400_or_is_closed(econed: Econed, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", econed.port), TIMEOUT) as connection:
        connection.settimeout(TIMEOUT)
        try:
            connection.sendall(head)
            connection.shutdown(socket.SHUT_WR)
            received = connection.recv(65536)
        except TimeoutError:
            raise
        except OSError:  # the server closed it before all was sent
            received = b""
    assert received == b"" or received.startswith(b"HTTP/1.1 4"), received
    assert b"Traceback" not in received


@pytest.mark.parametrize(
    ("count", "code"),
    [(1_000, "InvalidInstanceID.NotFound"), (2_400, "InvalidParameterValue"), (2_500, "InvalidQueryParameter")],
)
def test_thousands_of_parameters_are_read(econed: Econed, alice: Person, count: int, code: str) -> None:
    """A long list of ids is looked up; a list beyond the limit is refused."""
    parameters = {f"InstanceId.{index}": f"i-{index + 500_000}" for index in range(count)}
    assert _refused(v2(alice, econed.url, "DescribeInstances", parameters, method="POST")) == code


def test_an_http_1_0_request_gets_a_response_with_and_without_a_host(econed: Econed, alice: Person) -> None:
    """Without a Host header it gets an EC2 error, since a signature covers the host; with the header it succeeds."""
    (response,) = exchange(econed.port, b"GET /?Action=DescribeRegions&Version=2016-11-15 HTTP/1.0\r\n\r\n")
    assert _refused(response)
    form = v2_form(alice, econed.url, {"Action": "DescribeRegions"}).encode()
    (response,) = exchange(econed.port, b"GET /?%s HTTP/1.0\r\nHost: 127.0.0.1:%d\r\n\r\n" % (form, econed.port))
    assert response.status == 200


def test_pipelined_requests_are_answered_in_order(econed: Econed, alice: Person) -> None:
    """Each response is complete."""
    actions = ["DescribeInstances", "DescribeKeyPairs", "NoSuchAction", "DescribeRegions"]
    requests = b"".join(
        b"GET /?%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n"
        % (v2_form(alice, econed.url, {"Action": action}).encode(), econed.port)
        for action in actions
    )
    responses = exchange(econed.port, requests, responses=len(actions))
    assert [response.status for response in responses] == [200, 200, 400, 200]
    assert [response.xml.tag.rpartition("}")[2] for response in responses] == [
        "DescribeInstancesResponse",
        "DescribeKeyPairsResponse",
        "Response",
        "DescribeRegionsResponse",
    ]


def test_a_slow_reader_gets_a_complete_long_response(cloud: FurnishedCloud, econed: Econed, alice: Person) -> None:
    """It is sent as fast as the client reads; other clients are served at the same time."""
    names = [{"Key": f"key {index}", "Value": "v" * 250} for index in range(45)]
    ec2 = boto(alice, econed.url)
    reservation = ec2.run_instances(
        ImageId=f"ami-{cloud.ami:08d}",
        InstanceType=cloud.instance_type,
        MinCount=8,
        MaxCount=8,
        TagSpecifications=[{"ResourceType": "instance", "Tags": names}],
    )
    ids = [instance["InstanceId"] for instance in reservation["Instances"]]
    try:
        parameters = {
            "Action": "DescribeInstances",
            **{f"InstanceId.{index}": instance_id for index, instance_id in enumerate(ids)},
        }
        form = v2_form(alice, econed.url, parameters)
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(TIMEOUT)
            connection.connect(("127.0.0.1", econed.port))
            connection.sendall(f"GET /?{form} HTTP/1.1\r\nHost: 127.0.0.1:{econed.port}\r\n\r\n".encode())
            connection.recv(1, socket.MSG_PEEK)
            assert v2(alice, econed.url, "DescribeKeyPairs").status == 200, "other clients do not have to wait"
            response = http.client.HTTPResponse(connection)
            response.begin()
            body = response.read()
        assert response.headers["transfer-encoding"] == "chunked"
        assert len(body) > 1 << 16
        ec2_response = EC2Response(response.status, {}, body)
        assert ec2_response.texts("instancesSet", "item", "instanceId") == ids
    finally:
        ec2.terminate_instances(InstanceIds=ids)


def test_a_launch_is_finished_when_its_client_disconnects(cloud: FurnishedCloud, econed: Econed, alice: Person) -> None:
    """All instances are launched and running, with their launch indexes."""
    token = f"gone {uuid.uuid4()}"
    parameters = {
        "Action": "RunInstances",
        "ImageId": f"ami-{cloud.ami:08d}",
        "InstanceType": cloud.instance_type,
        "MinCount": "4",
        "MaxCount": "4",
        "ClientToken": token,
    }
    before = set(cloud.vm_ids(alice))
    form = v2_form(alice, econed.url, parameters)
    connection = socket.create_connection(("127.0.0.1", econed.port), TIMEOUT)
    connection.sendall(f"GET /?{form} HTTP/1.1\r\nHost: 127.0.0.1:{econed.port}\r\n\r\n".encode())
    until(lambda: set(cloud.vm_ids(alice)) - before, "the first machine", MAX_WAIT)
    connection.close()
    ec2 = boto(alice, econed.url)

    def instances() -> list[str]:
        reservations = ec2.describe_instances(Filters=[{"Name": "client-token", "Values": [token]}])["Reservations"]
        return [instance["InstanceId"] for reservation in reservations for instance in reservation["Instances"]]

    until(lambda: len(instances()) == 4, "four machines", MAX_WAIT)
    ids = instances()
    try:
        wait(ec2, "instance_running", ids)
        (reservation,) = ec2.describe_instances(InstanceIds=ids)["Reservations"]
        assert sorted(instance["AmiLaunchIndex"] for instance in reservation["Instances"]) == [0, 1, 2, 3]
    finally:
        ec2.terminate_instances(InstanceIds=ids)


def test_idle_connections_do_not_prevent_requests_from_being_served(econed: Econed, alice: Person) -> None:
    """There are a hundred connections; half of them send a part of a request."""
    connections = [socket.create_connection(("127.0.0.1", econed.port), TIMEOUT) for _ in range(100)]
    try:
        for connection in connections[::2]:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Le")
        assert v2(alice, econed.url, "DescribeKeyPairs").status == 200
    finally:
        for connection in connections:
            connection.close()


def test_markup_is_escaped_in_an_error(econed: Econed, alice: Person) -> None:
    """The message contains the text that the client sent."""
    response = v2(alice, econed.url, "<script>]]>&amp;\"'")
    assert _refused(response) == "InvalidAction"
    assert "<script>]]>&amp;\"'" in (response.xml.findtext("Errors/Error/Message") or "")
    response = v2(alice, econed.url, "bell\x07\x00end", {"Version": VERSION})
    assert _refused(response) == "InvalidAction"


def test_a_response_names_the_server_as_amazon_does_and_no_version(econed: Econed, alice: Person) -> None:
    for response in (v2(alice, econed.url, "DescribeKeyPairs"), send(econed.url, "GET", "Action=Nothing")):
        assert response.headers["server"] == "AmazonEC2"
