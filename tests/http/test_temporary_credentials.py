"""Requests with temporary credentials over real sockets: what each service answers."""

from __future__ import annotations

import pytest
import pytest_twisted
from lxml import etree

from tests.support.serving import Client, Server, get, send_request, signed
from tests.support.signing_in import Keys

STS, IAM = "2011-06-15", "2010-05-08"
HOUR = 3600


async def requested(server: Server) -> Keys:
    """Return the keys that alice gets with her password, for an hour."""
    query = signed(server, Action="GetSessionToken", Version=STS, DurationSeconds=str(HOUR))
    response = await send_request(server, get(server, query))
    assert response.status == 200, response.received
    names = ("AccessKeyId", "SecretAccessKey", "SessionToken")
    key, secret, token = (text_of(response, name) for name in names)
    return Keys(key, secret, token)


def text_of(response: Client, name: str) -> str:
    """Return the text of the first element with this name, in any namespace."""
    return str(next(etree.fromstring(response.received.partition(b"\r\n\r\n")[2]).iter(f"{{*}}{name}")).text)


async def outcome(server: Server, keys: Keys, **parameters: str) -> tuple[int, str]:
    """Return the status and the error code of a request with keys."""
    if keys.token is not None:
        parameters["SecurityToken"] = keys.token
    response = await send_request(server, get(server, signed(server, keys.access_key, keys.secret, **parameters)))
    return response.status, "" if response.status == 200 else text_of(response, "Code")


@pytest_twisted.ensureDeferred
async def test_after_their_end_each_service_says_so_in_its_own_words(server: Server) -> None:
    keys = await requested(server)
    server.cloud.clock.advance(HOUR - 1)
    assert await outcome(server, keys) == (200, "")
    server.cloud.clock.advance(1)
    assert await outcome(server, keys) == (400, "RequestExpired")
    assert await outcome(server, keys, Action="AssumeRole", Version=STS) == (403, "ExpiredToken")
    assert await outcome(server, keys, Action="ListUsers", Version=IAM) == (403, "ExpiredToken")


@pytest_twisted.ensureDeferred
async def test_without_their_own_session_token_credentials_do_not_count(server: Server) -> None:
    keys, others = await requested(server), await requested(server)
    for token in (None, others.token, "A" * 100):
        mixed = Keys(keys.access_key, keys.secret, token)
        assert await outcome(server, mixed) == (401, "AuthFailure")
        assert await outcome(server, mixed, Action="AssumeRole", Version=STS) == (403, "InvalidClientTokenId")


@pytest.mark.parametrize("kind", ["password", "login token", "access key", "temporary credentials"])
@pytest_twisted.ensureDeferred
async def test_a_replayed_request_is_refused_after_its_time(server: Server, kind: str) -> None:
    """Though the credentials still count."""
    match kind:
        case "password":
            keys = Keys("alice", "alicepw")
        case "login token":
            keys = Keys("alice", str(server.cloud.as_user("alice", "one.user.login", "alice", "", HOUR, -1)))
        case "access key":
            key = server.cloud.run("alice", "CreateAccessKey")["AccessKey"]
            keys = Keys(key["AccessKeyId"], key["SecretAccessKey"])
        case _:
            keys = await requested(server)
    token = {} if keys.token is None else {"SecurityToken": keys.token}
    request = get(server, signed(server, keys.access_key, keys.secret, **token))
    assert (await send_request(server, request)).status == 200
    server.cloud.clock.advance(16 * 60)
    replayed = await send_request(server, request)
    assert (replayed.status, text_of(replayed, "Code")) == (400, "RequestExpired")
    assert await outcome(server, keys) == (200, "")


@pytest_twisted.ensureDeferred
async def test_a_request_for_credentials_with_a_wrong_duration_is_invalid(server: Server) -> None:
    for duration in ("899", "129601", "0", "-1", "a"):
        query = signed(server, Action="GetSessionToken", Version=STS, DurationSeconds=duration)
        response = await send_request(server, get(server, query))
        assert response.status == 400
        assert text_of(response, "Code") in {"ValidationError", "MalformedInput", "InvalidParameterValue"}


@pytest_twisted.ensureDeferred
async def test_policies_of_a_session_are_refused_and_never_ignored(server: Server) -> None:
    """They narrow rights."""
    alice = server.cloud.user("alice").id
    role = {"RoleArn": f"arn:aws:iam::{alice:012d}:role/ec2", "RoleSessionName": "session"}
    assert await outcome(server, Keys("alice", "alicepw"), Action="AssumeRole", Version=STS, **role) == (200, "")
    for narrowed in (
        {"Policy": "{}"},
        {"PolicyArns.member.1.arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"},
        {"Tags.member.1.Key": "a", "Tags.member.1.Value": "b"},
        {"TransitiveTagKeys.member.1": "a"},
        {"SourceIdentity": "alice"},
    ):
        parameters = {**role, **narrowed}
        status, code = await outcome(server, Keys("alice", "alicepw"), Action="AssumeRole", Version=STS, **parameters)
        assert (status, code) == (400, "InvalidParameterValue"), narrowed


@pytest_twisted.ensureDeferred
async def test_no_secret_of_temporary_credentials_is_logged(server: Server) -> None:
    keys = await requested(server)
    await outcome(server, keys)
    await outcome(server, Keys(keys.access_key, "another", keys.token))
    logged = repr(server.events)
    user = server.cloud.user("alice")
    assert keys.access_key in logged
    for secret in (keys.secret, str(keys.token), user.login_tokens[0].text):
        assert secret not in logged
