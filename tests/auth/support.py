"""What the tests of this room share: users, a directory that answers from a list, requests that botocore signed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from botocore.auth import SigV2Auth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from econed.auth.authenticator import SignatureAuthenticator
from econed.errors import EC2Error
from econed.interfaces import IUserDirectory
from econed.user import User
from econed.wire.signed_request import SignedRequest

ALICE = User(id=2, name="alice", gid=100, groups=(100,), secret="6624974ea2baffac", driver="core", enabled=True)
FORM = "application/x-www-form-urlencoded; charset=utf-8"


@implementer(IUserDirectory)
@dataclass
class ListedUsers:
    """A directory that answers from a list, and from another when it is asked to look again."""

    users: tuple[User, ...] = (ALICE,)
    later: tuple[User, ...] | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    """What was asked that costs calls to oned, and for which name."""

    def cached(self, access_key: str) -> User | None:
        return _named(access_key, self.users)

    async def confirm(self, user: User) -> User | None:
        self.asked.append(("confirmed", user.name))
        return _named(user.name, self.users)

    async def refresh(self, access_key: str) -> None:
        self.asked.append(("look again", access_key))
        if self.later is not None:
            self.users = self.later

    async def find_by_subject(self, spellings: Sequence[str]) -> Sequence[User]:
        for spelling in spellings:
            found = [user for user in self.users if spelling in user.subjects]
            if found:
                return found
        return ()


def _named(name: str, users: tuple[User, ...]) -> User | None:
    return next((user for user in users if user.name == name), None)


def answer(
    request: SignedRequest, now: float, users: IUserDirectory | None = None, ssl_server: str | None = None
) -> User:
    """Return what an `SignatureAuthenticator` makes of `request` at `now`, or raise what it raises."""
    clock = Clock()
    clock.rightNow = now
    authenticator = SignatureAuthenticator(users or ListedUsers(), clock, ssl_server=ssl_server)
    user: User = done(Deferred.fromCoroutine(authenticator.authenticate(request)))
    return user


def refusal(
    request: SignedRequest, now: float, users: IUserDirectory | None = None, ssl_server: str | None = None
) -> EC2Error:
    """Return the error that `request` gets."""
    try:
        user = answer(request, now, users, ssl_server)
    except EC2Error as error:
        return error
    raise AssertionError(f"{user} was let in")


def done(deferred: Deferred[Any]) -> Any:
    """Return the result of a Deferred that has fired, or raise its failure."""
    results: list[Any] = []
    failures: list[Any] = []
    deferred.addCallbacks(results.append, failures.append)
    if failures:
        raise failures[0].value
    assert results, "it has not fired"
    return results[0]


@dataclass(frozen=True)
class Signed:
    """A request that botocore signed, and the time at which it did."""

    request: SignedRequest
    at: float


def sign_v4(
    method: str = "POST",
    url: str = "http://cloud.example.com:4567/",
    *,
    query: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    user: User = ALICE,
    token: str | None = None,
    scope: tuple[str, str] = ("us-east-1", "ec2"),
) -> Signed:
    """Sign as boto3 and the aws cli do: Version 4 in the Authorization header."""
    unsigned = AWSRequest(method, url, _headers(form, headers), dict(form or {}), dict(query or {}))
    unsigned = AWSRequest(method, url, _headers(form, headers), unsigned.prepare().body, dict(query or {}))
    SigV4Auth(Credentials(user.name, user.secret, token), scope[1], scope[0]).add_auth(unsigned)
    return Signed(_received(unsigned), _seconds(unsigned.context["timestamp"]))


def presign_v4(
    url: str = "http://cloud.example.com:4567/",
    *,
    query: Mapping[str, str] | None = None,
    user: User = ALICE,
    expires: int = 3600,
    token: str | None = None,
    scope: tuple[str, str] = ("us-east-1", "ec2"),
) -> Signed:
    """Sign as `generate_presigned_url` does: Version 4 in the query string."""
    unsigned = AWSRequest("GET", url, None, None, dict(query or {}))
    region, service = scope
    SigV4QueryAuth(Credentials(user.name, user.secret, token), service, region, expires).add_auth(unsigned)
    return Signed(_received(unsigned), _seconds(unsigned.context["timestamp"]))


def sign_v2(
    method: str,
    parameters: Mapping[str, str],
    url: str = "http://cloud.example.com:4567/",
    *,
    user: User = ALICE,
    token: str | None = None,
) -> Signed:
    """Sign as botocore's Version 2 signer does: in the query string of a GET, in the form of a POST."""
    form = dict(parameters) if method == "POST" else {}
    query = dict(parameters) if method == "GET" else {}
    unsigned = AWSRequest(method, url, _headers(form, None), form, query)
    SigV2Auth(Credentials(user.name, user.secret, token)).add_auth(unsigned)
    request = _received(unsigned)
    stamp = parse_qs((request.query or request.body).decode())["Timestamp"][0]
    return Signed(request, datetime.fromisoformat(stamp).timestamp())


def with_header(request: SignedRequest, name: str, *values: bytes) -> SignedRequest:
    """Return `request` with these values of a header and no others."""
    kept = tuple(pair for pair in request.headers if pair[0] != name)
    return replace(request, headers=(*kept, *((name, value) for value in values)))


def _headers(form: Mapping[str, str] | None, headers: Mapping[str, str] | None) -> dict[str, str]:
    return {**({"Content-Type": FORM} if form else {}), **(headers or {})}


def _received(signed: AWSRequest) -> SignedRequest:
    """Return a request as a server receives what botocore would send."""
    prepared = signed.prepare()
    url = urlsplit(prepared.url)
    body: Any = prepared.body or b""
    headers = [("host", url.netloc.encode())]
    for name, value in prepared.headers.items():
        headers.append((name.lower(), value if isinstance(value, bytes) else value.encode()))
    return SignedRequest(
        method=prepared.method,
        path=url.path.encode(),
        query=url.query.encode(),
        headers=tuple(headers),
        body=body if isinstance(body, bytes) else body.encode(),
    )


def _seconds(stamp: str) -> float:
    return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
