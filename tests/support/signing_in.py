"""Credentials as clients have them, and the senders as whom an econed with a sandbox authenticates them."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from lxml import etree
from twisted.logger import Logger

from econed.auth.authenticator import SignatureAuthenticator
from econed.auth.kinds import all_signers
from econed.auth.users import UserDirectory
from econed.credentials.revocations import RevocationList
from econed.opennebula.session import Session
from econed.user import Sender
from econed.wire.signed_request import SignedRequest
from tests.support.cloud import Cloud

_HOST = "cloud.example:4567"


@dataclass(frozen=True)
class Keys:
    """An access key, its secret, and the session token of temporary credentials."""

    access_key: str
    secret: str
    token: str | None = None

    @classmethod
    def of(cls, credentials: Mapping[str, Any]) -> Keys:
        """Return the keys in the result of an action of STS."""
        return cls(credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])


def signed_query(host: str, now: float, keys: Keys, parameters: Mapping[str, str], *, method: str = "GET") -> str:
    """Return a query with Signature Version 2, as Amazon describes it, for the path / of a host."""
    fields = {
        **parameters,
        "SignatureVersion": "2",
        "SignatureMethod": "HmacSHA256",
        "AWSAccessKeyId": keys.access_key,
        "Timestamp": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **({} if keys.token is None else {"SecurityToken": keys.token}),
    }
    query = "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(fields.items())
    )
    digest = hmac.digest(keys.secret.encode(), f"{method}\n{host}\n/\n{query}".encode(), "sha256")
    return f"{query}&Signature={quote(base64.b64encode(digest), safe='')}"


class Process:
    """A process of econed that serves a cloud: with the users as it has read them."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        backend, clock = cloud.backend, cloud.clock
        self.users = UserDirectory(backend, clock, log=Logger(namespace="econed"))
        kinds = all_signers(self.users, cloud.sealer, RevocationList(Session(backend, None), clock))
        self._authenticator = SignatureAuthenticator(kinds, clock)

    def sender(self, keys: Keys) -> Sender:
        """Return who signs with these keys; raises the `EC2Error` that a client gets."""
        query = signed_query(_HOST, self._cloud.clock.seconds(), keys, {"Action": "DescribeRegions"})
        headers = (("host", _HOST.encode()),)
        request = SignedRequest("GET", b"/", query.encode(), headers, b"")
        return self._cloud.result(self._authenticator.authenticate(request))


def login_tokens(cloud: Cloud, name: str) -> Sequence[tuple[str, int]]:
    """Return the login tokens of a user in oned: their texts and groups, -1 for all groups."""
    document = etree.fromstring(cloud.oneadmin("one.user.info", cloud.user(name).id, False))
    return [
        (str(login.findtext("TOKEN")), int(str(login.findtext("EGID")))) for login in document.findall("LOGIN_TOKEN")
    ]
