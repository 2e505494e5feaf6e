"""The hosts and paths for which signatures are verified: those received, and those of `ssl_server`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from econed.auth.endpoints import Endpoint, Endpoints
from econed.wire.signed_request import SignedRequest
from tests.auth.support import ALICE, authenticated, refusal, sign_v2, sign_v4, with_header

DESCRIBE = {"Action": "DescribeInstances", "Version": "2016-11-15"}
SSL_SERVER = "https://cloud.example.com:8443/ec2/"


def received(host: bytes, path: bytes = b"/") -> SignedRequest:
    """Return a GET of `path` at `host`."""
    return SignedRequest("GET", path, b"", (("host", host),), b"")


def test_the_received_host_is_the_first_candidate() -> None:
    """Then in lower case, then without the port."""
    assert Endpoints().candidates(received(b"Cloud:4567", b"/x")) == (
        Endpoint(b"Cloud:4567", b"/x"),
        Endpoint(b"cloud:4567", b"/x"),
        Endpoint(b"cloud", b"/x"),
    )


@pytest.mark.parametrize(
    ("host", "other_hosts"), [(b"[::1]:4567", [b"[::1]"]), (b"[::1]", []), (b"127.0.0.1:80", [b"127.0.0.1"]), (b"", [])]
)
def test_ports_are_removed_from_addresses_too(host: bytes, other_hosts: list[bytes]) -> None:
    """The colons in an IPv6 address do not begin a port."""
    assert Endpoints().candidates(received(host)) == tuple(Endpoint(name, b"/") for name in (host, *other_hosts))


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("https://Cloud.example.com/", (b"cloud.example.com:443", b"cloud.example.com")),
        ("http://cloud.example.com", (b"cloud.example.com:80", b"cloud.example.com")),
        ("https://cloud.example.com:8443", (b"cloud.example.com:8443", b"cloud.example.com")),
        ("https://[2001:db8::1]:8443/", (b"[2001:db8::1]:8443", b"[2001:db8::1]")),
        ("https://wölke.example/", (b"xn--wlke-5qa.example:443", b"xn--wlke-5qa.example")),
    ],
)
def test_the_host_of_ssl_server_is_a_candidate_with_and_without_its_port(url: str, hosts: tuple[bytes, ...]) -> None:
    """Some clients sign the default port, and some omit any port."""
    candidates = Endpoints(url).candidates(received(b"backend"))
    assert candidates == tuple(Endpoint(host, b"/") for host in (b"backend", *hosts))


def test_the_path_of_ssl_server_is_a_candidate_alone_and_as_a_prefix() -> None:
    """A proxy may remove the prefix or keep it."""
    candidates = Endpoints("https://c/ec2/").candidates(received(b"c", b"/x"))
    assert [endpoint.path for endpoint in candidates if endpoint.host == b"c"] == [b"/x", b"/ec2/", b"/ec2", b"/ec2/x"]


@pytest.mark.parametrize("url", ["cloud.example.com", "ftp://cloud/", "https:///ec2", "https://cloud:port/", ""])
def test_an_invalid_url_is_refused(url: str) -> None:
    """With `ValueError`, for the check of the configuration."""
    with pytest.raises(ValueError, match=r"."):
        Endpoints(url)


@pytest.mark.parametrize(
    "signed_url", [SSL_SERVER, "https://cloud.example.com:8443/ec2", "https://cloud.example.com/ec2/"]
)
@pytest.mark.parametrize("path", [b"/", b"/ec2/"])
@pytest.mark.parametrize("host", [b"127.0.0.1:4567", b"cloud.example.com:8443", b"cloud.example.com"])
def test_a_proxy_may_change_host_and_path(signed_url: str, path: bytes, host: bytes) -> None:
    """Signatures of both versions for the URL of ssl_server are accepted as the proxy forwards them."""
    for signed in (sign_v4("POST", signed_url, form=DESCRIBE), sign_v2("POST", DESCRIBE, signed_url)):
        forwarded = replace(with_header(signed.request, "host", host), path=path)
        assert authenticated(forwarded, signed.at, ssl_server=SSL_SERVER) == ALICE


def test_without_ssl_server_only_the_received_url_is_accepted() -> None:
    """A signature for the URL of another server is refused."""
    signed = sign_v4("POST", SSL_SERVER, form=DESCRIBE)
    forwarded = replace(with_header(signed.request, "host", b"127.0.0.1:4567"), path=b"/")
    assert refusal(forwarded, signed.at).code == "AuthFailure"
    assert refusal(forwarded, signed.at, ssl_server="https://other.example.com/ec2/").code == "AuthFailure"


def test_with_ssl_server_the_received_url_is_accepted_too() -> None:
    """Clients may still connect to econed directly."""
    signed = sign_v4("POST", form=DESCRIBE)
    assert authenticated(signed.request, signed.at, ssl_server=SSL_SERVER) == ALICE
