"""TLS and client certificates end to end: boto3, the aws cli and Python's own TLS against `twistd econe`."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import ssl
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, HTTPClientError, SSLError
from cryptography.x509 import Certificate, load_der_x509_certificate
from cryptography.x509.oid import NameOID

from tests.support.certificates import Authority, Issued, key_pem, named, replace_file, rsa_key
from tests.support.clients import aws, boto, refusal
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import MAX_WAIT, FurnishedCloud
from tests.support.processes import until
from tests.support.raw_oned import Refused

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Site:
    """An econed with TLS, the authority that issues its certificate and those of its clients, and their directory."""

    econed: Econed
    authority: Authority
    directory: Path

    @property
    def ca(self) -> Path:
        """The file with the authority's certificate."""
        return self.directory / "ca.pem"

    def client(self, person: Person, certificate: Issued | None = None) -> Any:
        """Return boto3's client, with a certificate if one is given."""
        options: dict[str, Any] = {}
        if certificate is not None:
            files = certificate.write(self.directory, f"client-{certificate.certificate.serial_number}")
            options["client_cert"] = (files.cert, files.key)
        return boto(person, self.econed.url, authority=self.ca, **options)

    def connection(self) -> http.client.HTTPSConnection:
        """Return a connection of Python's own HTTPS client."""
        context = ssl.create_default_context(cafile=self.ca)
        return http.client.HTTPSConnection(HOST, self.econed.port, timeout=MAX_WAIT, context=context)


def site_of(cloud: FurnishedCloud, directory: Path, **settings: object) -> Site:
    """Start an econed with a certificate and these settings, in which AUTHORITY stands for the authority's file."""
    authority = Authority()
    (directory / "ca.pem").write_bytes(authority.pem)
    own = authority.server("localhost", HOST).write(directory, "own")
    given_settings = {
        key: str(directory / "ca.pem") if value == "AUTHORITY" else value for key, value in settings.items()
    }
    econed = cloud.econed(settings={"ssl_cert": own.cert, "ssl_key": own.key, **given_settings})
    assert econed.url.startswith("https:")
    return Site(econed, authority, directory)


@pytest.fixture(scope="module")
def signed(cloud: FurnishedCloud, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """An econed with TLS whose clients sign their requests."""
    return site_of(cloud, tmp_path_factory.mktemp("signed"))


@pytest.fixture(scope="module")
def certified(cloud: FurnishedCloud, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """An econed with TLS whose clients authenticate by certificate."""
    return site_of(cloud, tmp_path_factory.mktemp("certified"), auth="x509", ssl_client_ca="AUTHORITY")


# TLS


def test_boto3_signs_over_tls(signed: Site, alice: Person) -> None:
    """The client verifies the server's certificate with the authority."""
    client = signed.client(alice)
    client.create_key_pair(KeyName="over-tls")
    assert [key_pair["KeyName"] for key_pair in client.describe_key_pairs()["KeyPairs"]] == ["over-tls"]
    client.delete_key_pair(KeyName="over-tls")


def test_the_aws_cli_signs_over_tls(signed: Site, alice: Person, tmp_path: Path) -> None:
    """The authority is in --ca-bundle."""
    completed = aws(alice, signed.econed.url, "--ca-bundle", str(signed.ca), "describe-regions", directory=tmp_path)
    assert completed.returncode == 0, completed.stderr
    assert json.loads(completed.stdout)["Regions"]


def test_a_client_that_does_not_trust_the_authority_refuses_the_server(signed: Site, alice: Person) -> None:
    """The server therefore sends the configured certificate."""
    with pytest.raises(SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        boto(alice, signed.econed.url).describe_regions()


def test_plain_http_on_the_tls_port_gets_no_http_response(signed: Site) -> None:
    """The connection is closed."""
    connection = http.client.HTTPConnection(HOST, signed.econed.port, timeout=MAX_WAIT)
    connection.request("GET", "/")
    with pytest.raises((http.client.BadStatusLine, ConnectionError)):
        connection.getresponse()
    connection.close()


def test_new_certificate_files_are_loaded_without_closing_connections(
    cloud: FurnishedCloud, tmp_path: Path, alice: Person
) -> None:
    """Certificate and key are overwritten, as a deploy hook does; no signal is sent."""
    site = site_of(cloud, tmp_path)
    connection = site.connection()
    first = error_code(connection)
    new = site.authority.server("localhost", HOST, key=rsa_key())
    (tmp_path / "own-key.pem").write_bytes(key_pem(new.key))
    (tmp_path / "own-cert.pem").write_bytes(new.pem)
    until(
        lambda: server_certificate(site) == new.certificate,
        "the new certificate to be in use",
        MAX_WAIT,
    )
    assert error_code(connection) == first == b"MissingAuthenticationToken"
    connection.close()
    assert site.client(alice).describe_regions()["Regions"]


def test_a_bad_pair_is_logged_once_and_the_old_pair_stays_in_use(cloud: FurnishedCloud, tmp_path: Path) -> None:
    """The log line names the setting."""
    site = site_of(cloud, tmp_path)
    old = server_certificate(site)
    replace_file(tmp_path / "own-cert.pem", site.authority.server("localhost", HOST).pem)
    reason = site.econed.process.await_output(r"new certificates refused, keeping the old ones: (.*)")
    assert "own-cert.pem: ssl_cert: is not the certificate of the key in" in reason
    assert server_certificate(site) == old


def test_a_hangup_reloads_the_certificates(cloud: FurnishedCloud, tmp_path: Path) -> None:
    """It does so even if the files have not changed."""
    site = site_of(cloud, tmp_path)
    os.kill(site.econed.process.pid, signal.SIGHUP)
    site.econed.process.await_output(r"(new certificates are in use)")


def error_code(connection: http.client.HTTPSConnection) -> bytes:
    """Send a request on a persistent connection, and return the code of the error."""
    connection.request("GET", "/?Action=DescribeRegions&Version=2016-11-15")
    return connection.getresponse().read().partition(b"<Code>")[2].partition(b"</Code>")[0]


def server_certificate(site: Site) -> Certificate:
    """Return the certificate that the server sends on a new connection."""
    connection = site.connection()
    connection.connect()
    assert isinstance(connection.sock, ssl.SSLSocket)
    der = connection.sock.getpeercert(binary_form=True)
    connection.close()
    assert der is not None
    return load_der_x509_certificate(der)


# Client certificates


@pytest.fixture
def anna(cloud: FurnishedCloud, certified: Site) -> tuple[Person, Issued]:
    """A user of the driver x509, created as by `oneuser`, with a blank in the subject; and their certificate."""
    name = f"anna {secrets.token_hex(4)}"
    issued = certified.authority.client(named((NameOID.ORGANIZATION_NAME, "ONE cloud"), (NameOID.COMMON_NAME, name)))
    subject = f"/O=ONE cloud/CN={name}".replace(" ", r"\20")
    return cloud.x509_person("anna", rf"/CN=somebody\20else|{subject}"), issued


def error_of(client: Any) -> tuple[str, int] | None:
    """Make a call and return its error; None if it succeeds."""
    try:
        client.describe_key_pairs()
    except ClientError as error:
        return refusal(error)
    return None


def once_accepted(client: Any) -> Any:
    """Return the client of a new user once econed accepts it, which takes seconds."""
    until(lambda: error_of(client) is None, "the new user to be accepted", MAX_WAIT)
    return client


def test_a_user_authenticates_by_certificate(certified: Site, anna: tuple[Person, Issued]) -> None:
    """Calls are made as this user; the keys with which the client signs do not matter."""
    person, issued = anna
    client = once_accepted(certified.client(replace(person, name="another-name", secret="another-secret"), issued))
    client.create_key_pair(KeyName="by-certificate")
    assert [key_pair["KeyName"] for key_pair in client.describe_key_pairs()["KeyPairs"]] == ["by-certificate"]
    user = person.oned.document("one.user.info", person.id, False)
    assert [str(attribute.tag) for attribute in user.iter() if str(attribute.tag).startswith("EC2_KEYPAIR_")]
    client.delete_key_pair(KeyName="by-certificate")


def test_oned_refuses_a_subject_with_an_unescaped_blank(cloud: FurnishedCloud) -> None:
    """A subject can therefore only be stored as escaped by `oneuser`."""
    with pytest.raises(Refused, match="Invalid password, character ' ' is not allowed"):
        cloud.x509_person("bert", "/O=ONE cloud/CN=Bert Berg")


def test_a_removed_certificate_is_refused_on_an_open_connection_too(
    cloud: FurnishedCloud, certified: Site, anna: tuple[Person, Issued]
) -> None:
    """It is refused within seconds after its subject is removed from the user."""
    person, issued = anna
    client = once_accepted(certified.client(person, issued))
    cloud.admin("one.user.passwd", person.id, "/CN=nobody")

    refused = until(lambda: error_of(client), "the user to be refused", MAX_WAIT)
    assert refused == ("AuthFailure", 401)


def test_a_request_without_a_certificate_is_refused_with_an_ec2_error(certified: Site, alice: Person) -> None:
    """A valid signature does not replace the certificate."""
    with pytest.raises(ClientError) as caught:
        certified.client(alice).describe_regions()
    assert refusal(caught.value) == ("MissingAuthenticationToken", 403)


def test_a_certificate_whose_subject_no_user_has_is_refused(certified: Site, alice: Person) -> None:
    """It is refused even if the configured authority issued it."""
    with pytest.raises(ClientError) as caught:
        certified.client(alice, certified.authority.client("nobody")).describe_regions()
    assert refusal(caught.value) == ("AuthFailure", 401)


def test_a_certificate_of_another_authority_fails_the_handshake(certified: Site, anna: tuple[Person, Issued]) -> None:
    """It fails for any subject; the log has the reason."""
    person, issued = anna
    forged = Authority("Forgers").client(issued.certificate.subject)
    with pytest.raises((SSLError, HTTPClientError)):
        certified.client(person, forged).describe_regions()
    reason = certified.econed.process.await_output(r"certificate of the client at 127\.0\.0\.1 refused: (.*)")
    assert reason.startswith("CN=anna ")
    assert reason.endswith("O=ONE cloud is issued by an authority that is not in ssl_client_ca")
