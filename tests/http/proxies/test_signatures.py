"""Signatures that econed verifies behind the real lighttpd, nginx and HAProxy."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from tests.http.proxies.proxied_deployment import AWKWARD, KINDS, ProxiedDeployment, client_of, send_through
from tests.support.clients import ec2_error, refusal, v2_form
from tests.support.econed_process import Person

pytestmark = pytest.mark.slow


@KINDS
@pytest.mark.parametrize("version", ["v2", "v4"])
def test_signed_forms_are_authenticated(
    deployment: ProxiedDeployment, alice: Person, name: str, kind: str, version: str
) -> None:
    """With any characters in them; a wrong secret is refused."""
    ec2 = client_of(deployment, alice, kind, name, signature_version=version)
    key = ec2.create_key_pair(KeyName=f"{AWKWARD} {kind} {version} {name}")["KeyName"]
    filters = [{"Name": "key-name", "Values": [key]}]
    assert [pair["KeyName"] for pair in ec2.describe_key_pairs(Filters=filters)["KeyPairs"]] == [key]
    wrong_secret = replace(alice, secret="guessed")
    with pytest.raises(ClientError) as raised:
        client_of(deployment, wrong_secret, kind, name, signature_version=version).describe_key_pairs()
    assert refusal(raised.value) == ("AuthFailure", 401)


@KINDS
def test_signed_queries_are_authenticated(deployment: ProxiedDeployment, alice: Person, name: str, kind: str) -> None:
    """Of Version 2, and presigned by Version 4; lighttpd changes the encoding of some characters."""
    parameters = {"Action": "DescribeTags", "Filter.1.Name": "key", "Filter.1.Value.1": AWKWARD}
    assert send_through(deployment, kind, name, v2_form(alice, deployment.url(kind, name), parameters)).status == 200
    presigned = client_of(deployment, alice, kind, name).generate_presigned_url(
        "describe_tags", Params={"Filters": [{"Name": "key", "Values": [AWKWARD]}]}, HttpMethod="GET"
    )
    query = urlsplit(presigned).query
    assert send_through(deployment, kind, name, query).status == 200
    for changed in (query.replace("DescribeTags", "DescribeVolumes"), query.replace("a%20b", "a%20c")):
        assert changed != query
        assert ec2_error(send_through(deployment, kind, name, changed)) == "AuthFailure"


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_a_proxy_may_send_its_own_host_if_ssl_server_is_set(
    deployment: ProxiedDeployment, alice: Person, version: str
) -> None:
    """And remove the path; without ssl_server no signature for the client's URL is accepted."""
    assert client_of(deployment, alice, "host", "nginx", signature_version=version).describe_images()["Images"]
    for kind, secret in (("host", "guessed"), ("unnamed", alice.secret)):
        ec2 = client_of(deployment, replace(alice, secret=secret), kind, "nginx", signature_version=version)
        with pytest.raises(ClientError) as raised:
            ec2.describe_images()
        assert refusal(raised.value) == ("AuthFailure", 401)
