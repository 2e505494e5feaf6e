"""Requests of EC2 clients, signed beforehand and complete with their headers."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

VERSION = "2016-11-15"
_FORM = "application/x-www-form-urlencoded; charset=utf-8"
_REGION, _SERVICE = "us-east-1", "ec2"
_SIGNED = "content-type;host;x-amz-date"


@dataclass(frozen=True)
class Keys:
    """The keys of a user."""

    access_key: str
    secret_key: str


@dataclass(frozen=True)
class Message:
    """A request: a GET with a query, or a POST with a form; `path` has the query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: str = ""

    def serialized(self, url: str) -> bytes:
        """Return it as sent over a connection that is kept open."""
        headers = {"Host": urlsplit(url).netloc, **self.headers, "Content-Length": str(len(self.body))}
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join((*lines, "", self.body)).encode()


def signed_v4(keys: Keys, url: str, parameters: Mapping[str, str], at: float) -> Message:
    """Return a form signed with Version 4 at a time (epoch seconds), as boto3 and the AWS CLI sign."""
    moment = datetime.fromtimestamp(at, UTC)
    stamp, day = f"{moment:%Y%m%dT%H%M%SZ}", f"{moment:%Y%m%d}"
    body = _encoded({"Version": VERSION, **parameters})
    canonical_headers = f"content-type:{_FORM}\nhost:{urlsplit(url).netloc}\nx-amz-date:{stamp}\n"
    canonical = "\n".join(("POST", "/", "", canonical_headers, _SIGNED, hashlib.sha256(body.encode()).hexdigest()))
    scope = f"{day}/{_REGION}/{_SERVICE}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{keys.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode(), "sha256").hex()
    credential = f"Credential={keys.access_key}/{scope}"
    authorization = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={_SIGNED}, Signature={signature}"
    return Message("POST", "/", {"Content-Type": _FORM, "X-Amz-Date": stamp, "Authorization": authorization}, body)


def signed_v2(keys: Keys, url: str, parameters: Mapping[str, str], at: float) -> Message:
    """Return a query signed with Version 2 at a time (epoch seconds), as boto 2 and euca2ools signed."""
    moment = datetime.fromtimestamp(at, UTC)
    query = _encoded(
        {
            "Version": VERSION,
            **parameters,
            "AWSAccessKeyId": keys.access_key,
            "SignatureVersion": "2",
            "SignatureMethod": "HmacSHA256",
            "Timestamp": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
        }
    )
    text = "\n".join(("GET", urlsplit(url).netloc.lower(), "/", query))
    signature = base64.b64encode(hmac.digest(keys.secret_key.encode(), text.encode(), "sha256")).decode()
    return Message("GET", f"/?{query}&Signature={quote(signature, safe='-_.~')}", {})


def _encoded(parameters: Mapping[str, str]) -> str:
    pairs = sorted((name.encode(), value.encode()) for name, value in parameters.items())
    return "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)
