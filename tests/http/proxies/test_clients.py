"""What econed learns from the real proxies about the client: its address, its URL, and its certificate."""

from __future__ import annotations

import base64
import ssl
from urllib.parse import quote

import pytest

from tests.http.proxies.proxied_deployment import CLIENT, ProxiedDeployment, send_through
from tests.support.certificates import Issued
from tests.support.clients import VERSION, ec2_error, send, v2_form
from tests.support.econed_process import Person

pytestmark = pytest.mark.slow

CAROL = r"/O=ONE\20cloud/CN=carol"


def test_the_access_log_has_the_address_of_the_client(deployment: ProxiedDeployment, alice: Person, name: str) -> None:
    """Not that of the proxy, nor the one in the client's header."""
    form = v2_form(alice, deployment.url("root", name), {"Action": "DescribeKeyPairs"})
    response = send_through(deployment, "root", name, form, X__Forwarded__For="198.51.100.7")
    assert response.status == 200
    line = deployment.access_line(deployment.econed("root", name), response)
    assert CLIENT in line
    assert "198.51.100.7" not in line


@pytest.mark.parametrize("forwarded", ["http", "https"])
def test_clients_get_the_url_that_they_use_as_endpoint(
    deployment: ProxiedDeployment, alice: Person, name: str, forwarded: str
) -> None:
    """In DescribeRegions; the scheme is that of the proxy's header, not of the client's."""
    for kind in ("root", "path"):
        form = v2_form(alice, deployment.url(kind, name), {"Action": "DescribeRegions"})
        response = send_through(deployment, kind, name, form, X__Forwarded__Proto=forwarded)
        (endpoint,) = response.texts("regionEndpoint")
        assert endpoint.rstrip("/") == deployment.url(kind, name).rstrip("/")


def test_the_headers_of_a_direct_client_have_no_effect(deployment: ProxiedDeployment, alice: Person) -> None:
    """On the plain port, from an address that is not a proxy's."""
    econed = deployment.econed("root", "nginx")
    headers = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}
    form = v2_form(alice, econed.url, {"Action": "DescribeRegions"})
    response = send(econed.url, "GET", form, headers, source=CLIENT)
    assert response.texts("regionEndpoint") == [econed.url.rstrip("/")]
    line = deployment.access_line(econed, response)
    assert CLIENT in line
    assert "198.51.100.7" not in line


# Client certificates


@pytest.fixture(scope="module")
def carol(deployment: ProxiedDeployment) -> Issued:
    """The certificate of a user of the driver x509."""
    deployment.cloud.admin.make("one.user.allocate", "carol", CAROL, "x509", [deployment.cloud.group])
    return deployment.authority.client("carol")


QUERY = f"Action=DescribeKeyPairs&Version={VERSION}"


def test_a_user_is_authenticated_by_their_certificate(deployment: ProxiedDeployment, name: str, carol: Issued) -> None:
    """Which the proxy has verified, without a signature. A certificate in the client's own header has no effect."""
    other = deployment.authority.client("dave")
    for headers in ({}, {"SSL_CLIENT_CERT": _one_line(other)}):
        response = send_through(deployment, "x509", name, QUERY, carol, **headers)
        assert response.status == 200
        assert "carol" in deployment.access_line(deployment.econed("x509", name), response)


def test_a_certificate_of_no_user_is_refused(deployment: ProxiedDeployment, name: str) -> None:
    assert (
        ec2_error(send_through(deployment, "x509", name, QUERY, deployment.authority.client("dave"))) == "AuthFailure"
    )


@pytest.mark.parametrize("header", ["SSL_CLIENT_CERT", "ssl_client_cert", "SSL__Client__Cert", "X__SSL__Client__Cert"])
def test_a_certificate_in_a_header_of_the_client_is_ignored(
    deployment: ProxiedDeployment, name: str, header: str, carol: Issued
) -> None:
    """Certificates are public, so anybody could send one. Similar header names are ignored, too."""
    for value in (_one_line(carol), quote(carol.pem.decode()), base64.b64encode(carol.der).decode()):
        response = send_through(deployment, "x509", name, QUERY, None, **{header: value})
        assert ec2_error(response) == "MissingAuthenticationToken"


def test_a_certificate_of_another_authority_is_refused(deployment: ProxiedDeployment, name: str, carol: Issued) -> None:
    """Although it has the same subject. nginx and HAProxy refuse the request themselves."""
    forged = deployment.other_authority.client("carol")
    try:
        response = send_through(deployment, "x509", name, QUERY, forged, SSL_CLIENT_CERT=_one_line(carol))
    except (ssl.SSLError, ConnectionError):
        assert name == "haproxy"
    else:
        assert response.status in (400, 403)
        assert name == "nginx" or ec2_error(response) == "MissingAuthenticationToken"


def test_a_certificate_header_counts_only_from_a_trusted_proxy(deployment: ProxiedDeployment, carol: Issued) -> None:
    """On the plain port anybody can send the header."""
    url = deployment.econed("x509", "nginx").url
    response = send(url, "GET", QUERY, {"SSL_CLIENT_CERT": _one_line(carol)}, source=CLIENT)
    assert ec2_error(response) == "MissingAuthenticationToken"


def _one_line(issued: Issued) -> str:
    return issued.pem.decode().strip().replace("\n", " ")
