"""Limits on the rates of requests and of authentication failures."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
import pytest_twisted

from tests.http.connections.connecting import Serve
from tests.support.reactor_turns import wait_until
from tests.support.serving import connected, get, send_request, signed


@pytest_twisted.ensureDeferred
async def test_an_access_key_over_the_rate_limit_is_refused_and_no_other(serve: Serve) -> None:
    """The error is the one after which SDKs wait. Requests with a wrong signature do not count for the access key."""
    server = serve(rate_limit=1.0, rate_burst=2)
    for _ in range(5):
        assert (await send_request(server, get(server, signed(server, secret="guessed")))).code == "AuthFailure"
    for _ in range(2):
        client = await connected(server)
        client.send(get(server, signed(server)))
        await wait_until(lambda: b"</DescribeRegionsResponse>" in client.received)  # noqa: B023 - called at once
    limited = await send_request(server, get(server, signed(server)))
    assert (limited.status, limited.code) == (503, "RequestLimitExceeded")
    assert (
        await send_request(server, get(server, signed(server, "bob", "bobpw", Action="Nothing")))
    ).code == "InvalidAction"
    server.cloud.clock.advance(1)
    assert (await send_request(server, get(server, signed(server, Action="Nothing")))).code == "InvalidAction"


@pytest.mark.parametrize("failure", ["AuthFailure", "MissingAuthenticationToken", "UnknownUser", "RequestExpired"])
@pytest_twisted.ensureDeferred
async def test_an_address_with_too_many_authentication_failures_is_refused(serve: Serve, failure: str) -> None:
    """Also with a valid signature, which is accepted from another address, and from this one some time later."""
    server = serve(failed_signatures=3)
    valid = get(server, signed(server, Action="Nothing"))
    invalid = {
        "AuthFailure": get(server, signed(server, secret="guessed")),
        "MissingAuthenticationToken": get(server),
        "UnknownUser": get(server, signed(server, "nobody")),
        "RequestExpired": valid.replace(b"Timestamp=20", b"Timestamp=19"),
    }[failure]
    for _ in range(3):
        assert (await send_request(server, invalid)).status in (400, 401, 403)
    limited = await send_request(server, valid)
    assert (limited.status, limited.code) == (503, "RequestLimitExceeded")
    client = await connected(server, "127.0.0.2")
    client.send(valid)
    await wait_until(lambda: client.has_response)
    assert client.code == "InvalidAction"
    server.cloud.clock.advance(20)
    assert (await send_request(server, valid)).code == "InvalidAction"


@pytest_twisted.ensureDeferred
async def test_authentication_failures_behind_a_trusted_proxy_count_for_the_client_address(serve: Serve) -> None:
    """One client's wrong signatures block neither other clients nor the proxy's own health checks."""
    server = serve(failed_signatures=2, trusted_proxies=(ip_network("127.0.0.1"),))
    for _ in range(2):
        await send_request(server, get(server, "", "X-Forwarded-For: 192.0.2.1"))
    codes = [
        (await send_request(server, get(server, "", *headers))).code for headers in (["X-Forwarded-For: 192.0.2.1"], [])
    ]
    codes.append((await send_request(server, get(server, "", "X-Forwarded-For: 192.0.2.2"))).code)
    assert codes == ["RequestLimitExceeded", "MissingAuthenticationToken", "MissingAuthenticationToken"]
