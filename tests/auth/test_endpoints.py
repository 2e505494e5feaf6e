"""Under which hosts and paths a signature may have been made: as received, and as `ssl_server` says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from econed.auth.endpoints import Endpoint, Endpoints
from econed.wire.signed_request import SignedRequest
from tests.auth.support import ALICE, answer, refusal, sign_v2, sign_v4, with_header

DESCRIBE = {"Action": "DescribeInstances", "Version": "2016-11-15"}
BEHIND = "https://cloud.example.com:8443/ec2/"


def received(host: bytes, path: bytes = b"/") -> SignedRequest:
    """Return a GET of `path` at `host`."""
    return SignedRequest("GET", path, b"", (("host", host),), b"")


def test_the_host_as_received_comes_first() -> None:
    """Then in lower case, then without the port."""
    assert Endpoints().candidates(received(b"Cloud:4567", b"/x")) == (
        Endpoint(b"Cloud:4567", b"/x"),
        Endpoint(b"cloud:4567", b"/x"),
        Endpoint(b"cloud", b"/x"),
    )


@pytest.mark.parametrize(
    ("host", "others"), [(b"[::1]:4567", [b"[::1]"]), (b"[::1]", []), (b"127.0.0.1:80", [b"127.0.0.1"]), (b"", [])]
)
def test_ports_are_taken_off_addresses_too(host: bytes, others: list[bytes]) -> None:
    """The colons of an IPv6 address are not a port's."""
    assert Endpoints().candidates(received(host)) == tuple(Endpoint(each, b"/") for each in (host, *others))


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
def test_ssl_servers_host_is_tried_with_and_without_its_port(url: str, hosts: tuple[bytes, ...]) -> None:
    """Some clients sign the default port, some leave out any."""
    candidates = Endpoints(url).candidates(received(b"back"))
    assert candidates == tuple(Endpoint(host, b"/") for host in (b"back", *hosts))


def test_ssl_servers_path_is_tried_alone_and_before_the_received_one() -> None:
    """A proxy may take the prefix away, or pass it on."""
    candidates = Endpoints("https://c/ec2/").candidates(received(b"c", b"/x"))
    assert [each.path for each in candidates if each.host == b"c"] == [b"/x", b"/ec2/", b"/ec2", b"/ec2/x"]


@pytest.mark.parametrize("url", ["cloud.example.com", "ftp://cloud/", "https:///ec2", "https://cloud:port/", ""])
def test_what_is_no_url_is_refused(url: str) -> None:
    """`ValueError`, to be said of the configuration."""
    with pytest.raises(ValueError, match=r"."):
        Endpoints(url)


@pytest.mark.parametrize("signed_url", [BEHIND, "https://cloud.example.com:8443/ec2", "https://cloud.example.com/ec2/"])
@pytest.mark.parametrize("path", [b"/", b"/ec2/"])
@pytest.mark.parametrize("host", [b"127.0.0.1:4567", b"cloud.example.com:8443", b"cloud.example.com"])
def test_a_proxy_may_change_host_and_path(signed_url: str, path: bytes, host: bytes) -> None:
    """Both versions' signatures for ssl_server's URL are let in as the proxy passes them on."""
    for signed in (sign_v4("POST", signed_url, form=DESCRIBE), sign_v2("POST", DESCRIBE, signed_url)):
        passed_on = replace(with_header(signed.request, "host", host), path=path)
        assert answer(passed_on, signed.at, ssl_server=BEHIND) == ALICE


def test_without_ssl_server_the_url_must_be_the_received_one() -> None:
    """A signature for another server's URL is none for this one."""
    signed = sign_v4("POST", BEHIND, form=DESCRIBE)
    passed_on = replace(with_header(signed.request, "host", b"127.0.0.1:4567"), path=b"/")
    assert refusal(passed_on, signed.at).code == "AuthFailure"
    assert refusal(passed_on, signed.at, ssl_server="https://other.example.com/ec2/").code == "AuthFailure"


def test_a_signature_is_for_the_received_url_behind_a_proxy_too() -> None:
    """Whoever reaches econed itself may go on doing so."""
    signed = sign_v4("POST", form=DESCRIBE)
    assert answer(signed.request, signed.at, ssl_server=BEHIND) == ALICE
