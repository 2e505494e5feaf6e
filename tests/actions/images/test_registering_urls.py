"""AMIs whose images oned downloads from a URL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from lxml import etree

from tests.support.awkward_texts import AWKWARD
from tests.support.cloud import Cloud
from tests.support.images import create_image, describe_image

TRUSTED_HOSTS = ("images.example", "10.0.0.1", "*.inside", "2001:db8::1")


@pytest.fixture
def trusting_cloud(cloud: Cloud) -> Cloud:
    """Return a cloud whose oned downloads images from some hosts."""
    cloud.settings = replace(cloud.settings, image_url_hosts=TRUSTED_HOSTS)
    return cloud


IMAGE_URL = "https://images.example:8443/noble/server%20v1.img?key=a%2Fb&time=1"


def test_oned_downloads_an_image_from_a_url_and_all_parameters_are_applied(trusting_cloud: Cloud) -> None:
    changes_before = len(trusting_cloud.changes)
    tags = [{"Key": "a", "Value": "1"}]
    image_id = trusting_cloud.run(
        "alice",
        "RegisterImage",
        ImageLocation=IMAGE_URL,
        Name="noble",
        Description=AWKWARD["attributes"],
        Architecture="arm64",
        TagSpecifications=[{"ResourceType": "image", "Tags": tags}],
    )["ImageId"]
    assert [change.method for change in trusting_cloud.changes[changes_before:]] == ["one.image.allocate"]
    assert describe_image(trusting_cloud, image_id)["State"] == "pending"
    trusting_cloud.wait(10)
    image = describe_image(trusting_cloud, image_id)
    assert (image["Name"], image["State"], image["Architecture"]) == ("noble", "available", "arm64")
    assert (image["Description"], image["Tags"]) == (AWKWARD["attributes"], tags)
    document = etree.fromstring(trusting_cloud.oneadmin("one.image.info", int(image_id[4:]), False))
    assert (document.findtext("PATH"), document.findtext("TYPE"), document.findtext("DATASTORE_ID")) == (
        IMAGE_URL,
        "0",
        "1",
    )


def test_an_image_that_oned_cannot_download_is_failed(trusting_cloud: Cloud) -> None:
    trusting_cloud.oned.fail_next_image()
    image_id = trusting_cloud.run("alice", "RegisterImage", ImageLocation=IMAGE_URL)["ImageId"]
    trusting_cloud.wait(10)
    assert (
        describe_image(trusting_cloud, image_id)["State"],
        describe_image(trusting_cloud, image_id)["StateReason"]["Code"],
    ) == (
        "failed",
        "Server.InternalError",
    )


@pytest.mark.parametrize(
    "url",
    [
        "http:///x",
        "http://user:password@images.example/x",
        "http://images.example/a b",
        "http://images.example/x';touch /tmp/x;'",
        "http://images.example/$(id)",
        "http://images.example/`id`",
        "http://images.example/{a,b}",
        "http://images.example/[1-3]",
        'http://images.example/x"',
        "http://images.example/x\nPATH=y",
        "http://images.example/x#part",
        "http://images.example:0/x",
        "http://images.example:99999/x",
        "http://imagês.example/x",
        "http://other.example/x",
        "http://images.example.other.example/x",
        "http://10.0.0.2/x",
        "http://167772161/x",
        "HTTPS://images.example/x",
        "https://images.example/" + "x" * 2048,
    ],
)
def test_a_url_with_special_characters_or_another_host_never_reaches_oned(trusting_cloud: Cloud, url: str) -> None:
    """In a cloud where econed downloads nothing either; tests/fetching tests its downloads."""
    changes_before = len(trusting_cloud.changes)
    assert (
        trusting_cloud.refusal("alice", "RegisterImage", ImageLocation=url, Name="image").code
        == "InvalidParameterValue"
    )
    assert trusting_cloud.changes[changes_before:] == []


@pytest.mark.parametrize(
    "url",
    ["http://IMAGES.example./x", "http://10.0.0.1:2633/x", "http://a.b.inside/x", "https://[2001:DB8:0::1]/x"],
)
def test_oned_downloads_from_the_configured_hosts_even_in_private_networks(trusting_cloud: Cloud, url: str) -> None:
    image_id = trusting_cloud.run("alice", "RegisterImage", ImageLocation=url)["ImageId"]
    document = etree.fromstring(trusting_cloud.oneadmin("one.image.info", int(image_id[4:]), False))
    assert document.findtext("PATH") == url


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"Name": "mine"}, "InvalidAMIName.Duplicate"),
        ({"Name": "x"}, "InvalidAMIName.Malformed"),
        ({"Name": "other", "Architecture": "vax"}, "InvalidParameterValue"),
    ],
)
def test_an_ami_that_cannot_be_created_from_a_url_is_refused(
    trusting_cloud: Cloud, parameters: dict[str, Any], code: str
) -> None:
    create_image(trusting_cloud, "alice", "mine")
    changes_before = len(trusting_cloud.changes)
    assert trusting_cloud.refusal("alice", "RegisterImage", ImageLocation=IMAGE_URL, **parameters).code == code
    assert (
        trusting_cloud.refusal("alice", "RegisterImage", ImageLocation=IMAGE_URL, dry_run=True, **parameters).code
        == code
    )
    assert trusting_cloud.changes[changes_before:] == []
