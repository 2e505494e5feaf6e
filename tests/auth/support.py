"""Shared by the tests of authentication: users, a directory over a list, and requests signed by botocore."""

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
from econed.auth.user_names import UserNames
from econed.errors import EC2Error
from econed.interfaces import IUserDirectory
from econed.user import Sender, User
from econed.wire.signed_request import SignedRequest

ALICE = User(id=2, name="alice", gid=100, groups=(100,), secret="6624974ea2baffac", driver="core", enabled=True)
FORM = "application/x-www-form-urlencoded; charset=utf-8"


@implementer(IUserDirectory)
@dataclass
class ListedUsers:
    """A directory over a list of users, which another list replaces on a refresh."""

    users: tuple[User, ...] = (ALICE,)
    refreshed: tuple[User, ...] | None = None
    calls: list[tuple[str, str]] = field(default_factory=list)
    """The calls that would cost calls to oned, each with the name of the user."""

    def cached(self, access_key: str) -> User | None:
        return _with_name(access_key, self.users)

    def cached_by_id(self, user_id: int) -> User | None:
        return next((user for user in self.users if user.id == user_id), None)

    async def confirm(self, user: User) -> User | None:
        self.calls.append(("confirm", user.name))
        return _with_name(user.name, self.users)

    async def refresh(self, access_key: str) -> None:
        self.calls.append(("refresh", access_key))
        if self.refreshed is not None:
            self.users = self.refreshed

    async def read(self, user_id: int, credential: str) -> User | None:
        self.calls.append(("read", str(user_id)))
        return self.cached_by_id(user_id)

    async def find_by_subject(self, spellings: Sequence[str]) -> Sequence[User]:
        for spelling in spellings:
            users = [user for user in self.users if spelling in user.subjects]
            if users:
                return users
        return ()


def _with_name(name: str, users: tuple[User, ...]) -> User | None:
    return next((user for user in users if user.name == name), None)


def authenticated(
    request: SignedRequest, now: float, users: IUserDirectory | None = None, ssl_server: str | None = None
) -> User:
    """Return the user that a `SignatureAuthenticator` returns for `request` at `now`, or raise what it raises."""
    clock = Clock()
    clock.rightNow = now
    names = UserNames(users or ListedUsers())
    authenticator = SignatureAuthenticator((names,), clock, ssl_server=ssl_server)
    sender: Sender = done(Deferred.fromCoroutine(authenticator.authenticate(request)))
    return sender.user


def refusal(
    request: SignedRequest, now: float, users: IUserDirectory | None = None, ssl_server: str | None = None
) -> EC2Error:
    """Return the error for `request`."""
    try:
        user = authenticated(request, now, users, ssl_server)
    except EC2Error as error:
        return error
    raise AssertionError(f"{user} was authenticated")


def done(deferred: Deferred[Any]) -> Any:
    """Return the result of a Deferred that has fired, or raise its failure."""
    results: list[Any] = []
    failures: list[Any] = []
    deferred.addCallbacks(results.append, failures.append)
    if failures:
        raise failures[0].value
    assert results, "the Deferred has not fired"
    return results[0]


@dataclass(frozen=True)
class Signed:
    """A request signed by botocore, and when it was signed (epoch seconds)."""

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
    """Sign as boto3 and the AWS CLI do: Version 4 in the Authorization header."""
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
    timestamp = parse_qs((request.query or request.body).decode())["Timestamp"][0]
    return Signed(request, datetime.fromisoformat(timestamp).timestamp())


def with_header(request: SignedRequest, name: str, *values: bytes) -> SignedRequest:
    """Return `request` with exactly these values of a header."""
    others = tuple(pair for pair in request.headers if pair[0] != name)
    return replace(request, headers=(*others, *((name, value) for value in values)))


def _headers(form: Mapping[str, str] | None, headers: Mapping[str, str] | None) -> dict[str, str]:
    return {**({"Content-Type": FORM} if form else {}), **(headers or {})}


def _received(signed: AWSRequest) -> SignedRequest:
    """Return the request that a server receives from botocore."""
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


def _seconds(timestamp: str) -> float:
    return datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
