"""EC2 clients of every kind, pointed at an econed: boto3, the aws cli, libcloud, and requests signed as boto 2 did."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from lxml import etree

from tests.support.econed_process import Person
from tests.support.tools import require_tool

VERSION = "2016-11-15"
TIMEOUT = 120.0
"""Seconds that a response may take."""


@cache
def _boto_session() -> boto3.Session:
    """Return a session without keys, shared by all clients so that the API's model is read once."""
    return boto3.Session(region_name="us-east-1")


def boto(person: Person, url: str, *, authority: Path | None = None, service: str = "ec2", **config: Any) -> Any:
    """Return boto3's client of a service for a user, without retries.

    `authority` is the file of the certificates that it trusts.
    """
    return _boto_session().client(
        service,
        endpoint_url=url,
        verify=None if authority is None else str(authority),
        aws_access_key_id=person.name,
        aws_secret_access_key=person.secret,
        aws_session_token=person.session_token,
        config=Config(**{"retries": {"total_max_attempts": 1}, "read_timeout": TIMEOUT, **config}),
    )


def refusal(error: ClientError) -> tuple[str, int]:
    """Return EC2's code and the HTTP status of an error."""
    return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]


def aws(
    person: Person, url: str, *arguments: str, directory: Path, service: str = "ec2"
) -> subprocess.CompletedProcess[str]:
    """Run `aws ec2 …`, or another service, for a user, independently of what is configured on this machine."""
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(directory),
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        f"AWS_ENDPOINT_URL_{service.upper()}": url,
        "AWS_ACCESS_KEY_ID": person.name,
        "AWS_SECRET_ACCESS_KEY": person.secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_DEFAULT_OUTPUT": "json",
        "AWS_PAGER": "",
        "AWS_MAX_ATTEMPTS": "1",
        "LANG": "C.UTF-8",
        **({} if person.session_token is None else {"AWS_SESSION_TOKEN": person.session_token}),
    }
    return subprocess.run(
        [require_tool("aws"), service, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


@dataclass(frozen=True)
class EC2Response:
    """An HTTP response of econed."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def xml(self) -> etree._Element:
        """The body; it must be XML."""
        return etree.fromstring(self.body)

    @property
    def namespace(self) -> str:
        """The namespace of the body's root."""
        return etree.QName(self.xml).namespace or ""

    @property
    def code(self) -> str:
        """The EC2 code of an error response, empty for any other response."""
        return self.xml.findtext("Errors/Error/Code") or ""

    def texts(self, *names: str) -> list[str]:
        """Return the texts of the elements at this path below any element."""
        path = ".//" + "/".join(f"{{{self.namespace}}}{name}" for name in names)
        return [element.text or "" for element in self.xml.findall(path)]


def ec2_error(response: EC2Response) -> str:
    """Return the code of a response in the form of EC2's errors; fails for any other response."""
    root = response.xml
    assert root.tag == "Response", response.body
    assert [child.tag for child in root] == ["Errors", "RequestID"], response.body
    assert root.findtext("RequestID")
    assert root.findtext("Errors/Error/Message")
    assert b"Traceback" not in response.body
    assert response.headers["content-type"].startswith("text/xml")
    return response.code


class Signer(Protocol):
    """Anything with the keys of a user."""

    @property
    def name(self) -> str:
        """The access key."""

    @property
    def secret(self) -> str:
        """The secret key."""


def v2_form(
    person: Signer,
    url: str,
    parameters: Mapping[str, str],
    *,
    method: str = "GET",
    algorithm: str = "HmacSHA256",
    secret: str | None = None,
    host: str | None = None,
    session_token: str | None = None,
) -> str:
    """Return a query or form with Signature Version 2, computed as Amazon's documentation describes it."""
    signed = {
        "Version": VERSION,
        **parameters,
        "AWSAccessKeyId": person.name,
        "SignatureVersion": "2",
        "SignatureMethod": algorithm,
        "Timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **({} if session_token is None else {"SecurityToken": session_token}),
    }
    pairs = sorted((name.encode(), value.encode()) for name, value in signed.items())
    query = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)
    text = "\n".join((method, (host or urlsplit(url).netloc).lower(), urlsplit(url).path or "/", query))
    digest = {"HmacSHA256": hashlib.sha256, "HmacSHA1": hashlib.sha1}[algorithm]
    key = (person.secret if secret is None else secret).encode()
    signature = base64.b64encode(hmac.new(key, text.encode(), digest).digest()).decode()
    return f"{query}&Signature={quote(signature, safe='-_.~')}"


def v2(person: Person, url: str, action: str, parameters: Mapping[str, str] | None = None, **how: Any) -> EC2Response:
    """Make a call with Signature Version 2; `how` is as for `v2_form`."""
    method = how.get("method", "GET")
    form = v2_form(person, url, {"Action": action, **(parameters or {})}, session_token=person.session_token, **how)
    return send(url, method, form)


def upload(person: Person, url: str, file: bytes, **parameters: str) -> EC2Response:
    """Upload a file as the Ruby econe-upload does with curl: a form whose other fields have Signature Version 2."""
    content_type, body = upload_form(person, url, file, **parameters)
    return send(url, "POST", body, {"Content-Type": content_type})


def upload_form(person: Signer, url: str, file: bytes, **parameters: str) -> tuple[str, bytes]:
    """Return the content type and the body of such a form."""
    host = str(urlsplit(url).hostname)  # the Ruby tools sign the host without its port
    query = v2_form(person, url, {"Action": "UploadImage", **parameters}, method="POST", host=host)
    boundary = "------------------------d74496d66958873e"
    parts = [
        f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in parse_qsl(query)
    ]
    file_head = 'Content-Disposition: form-data; name="file"; filename="disk.img"\r\n'
    parts.append(f"{file_head}Content-Type: application/octet-stream\r\n\r\n".encode() + file)
    body = b"".join(b"--%s\r\n%s\r\n" % (boundary.encode(), part) for part in parts)
    return f"multipart/form-data; boundary={boundary}", body + f"--{boundary}--\r\n".encode()


def send(
    url: str,
    method: str,
    form: str | bytes,
    headers: Mapping[str, str] | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    source: str = "",
) -> EC2Response:
    """Send a query (GET; a text) or a form unchanged; with TLS if `tls` is given, from the address `source`."""
    connection, path = connected(url, tls, source), urlsplit(url).path or "/"
    try:
        if method == "GET":
            assert isinstance(form, str)
            connection.request("GET", f"{path}?{form}", headers=dict(headers or {}))
        else:
            content_type = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
            connection.request(
                method, path, form if isinstance(form, bytes) else form.encode(), {**content_type, **(headers or {})}
            )
        return received(connection.getresponse())
    finally:
        connection.close()


def connected(url: str, tls: ssl.SSLContext | None = None, source: str = "") -> http.client.HTTPConnection:
    """Return a connection to the server of a URL; it is opened by the first request."""
    where, address = urlsplit(url).netloc, (source, 0) if source else None
    if tls is None:
        return http.client.HTTPConnection(where, timeout=TIMEOUT, source_address=address)
    return http.client.HTTPSConnection(where, timeout=TIMEOUT, source_address=address, context=tls)


def received(response: http.client.HTTPResponse) -> EC2Response:
    """Read a response of http.client completely, and return it."""
    headers = {name.lower(): value for name, value in response.getheaders()}
    return EC2Response(response.status, headers, response.read())


def exchange(port: int, data: bytes, responses: int = 1, methods: Sequence[str] = ()) -> list[EC2Response]:
    """Send bytes unchanged and read `responses` responses from the same connection."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        connection.sendall(data)
        read = []
        # They share a buffered reader: a second reader would miss bytes that the first has read ahead.
        shared = _Shared(connection)
        for index in range(responses):
            method = methods[index] if index < len(methods) else "GET"
            response = http.client.HTTPResponse(shared, method=method)  # type: ignore[arg-type]
            response.begin()
            read.append(received(response))
        return read


class _Shared:
    """A connection that gives the same file to every response."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rb")

    def makefile(self, mode: str) -> Any:
        return _Unclosable(self._file)


class _Unclosable:
    """A file that stays open when a response closes it."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def close(self) -> None:
        """Do nothing."""
