"""Texts from clients are kept unchanged, or refused with an EC2 error; nothing else is changed."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import pytest
from botocore.exceptions import ClientError
from lxml import etree

from tests.e2e.every_action import PUBLIC_KEY
from tests.e2e.waiting import described, wait
from tests.support.clients import refusal
from tests.support.econed_process import Person
from tests.support.furnished_cloud import FurnishedCloud

TEXTS = {
    "quotes": "say \"it\" 'so'",
    "a backslash at the end": "C:\\",
    "a backslash and a quote": 'a\\"',
    "the end of CDATA": "a]]>b",
    "a newline": "one\ntwo",
    "a variable": "$NAME and $USER[TEMPLATE]",
    "a dollar at the end": "100$",
    "braces": "${X}",
    "an emoji": "rocket 🚀",
    "template text": 'x"]\nCPU="99"\nY=["',
    "markup": "<b>&amp;</b>",
    "blanks around": "  between  ",
    "accents": "Grüße, 你好",
    "a separator of oned's": "a@^_^@b",
    "commas and brackets": "[a=b,c]#d",
}


every_text = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())


def _without_tags(document: str, of: str) -> bytes:
    """Return a document without the tags of its object and without the attributes that store them."""
    root = etree.fromstring(document)
    attributes = root.find(of)
    assert attributes is not None
    for element in list(attributes):
        if str(element.tag).startswith("EC2_TAG_"):
            attributes.remove(element)
    return etree.tostring(root, method="c14n")


@pytest.fixture(scope="module")
def instance(cloud: FurnishedCloud, ec2: Any) -> Any:
    """One instance, on which all texts are set."""
    reservation = ec2.run_instances(
        ImageId=f"ami-{cloud.ami:08d}", InstanceType=cloud.instance_type, MinCount=1, MaxCount=1
    )
    (instance,) = reservation["Instances"]
    wait(ec2, "instance_running", [instance["InstanceId"]])
    yield instance["InstanceId"]
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])


@every_text
def test_a_tag_keeps_any_key_and_any_value(cloud: FurnishedCloud, ec2: Any, instance: str, text: str) -> None:
    """It is in every list, filters find it, and DeleteTags removes exactly this tag."""
    machine_id = int(instance[2:])
    before = _without_tags(cloud.document("vm", machine_id), "USER_TEMPLATE")
    key = text[:100]
    ec2.create_tags(Resources=[instance], Tags=[{"Key": key, "Value": text}, {"Key": "beside", "Value": "it"}])
    (described_instance,) = described(ec2, instance)
    assert {tag["Key"]: tag["Value"] for tag in described_instance["Tags"]} == {key: text, "beside": "it"}
    tags = ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [instance]}])["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {key: text, "beside": "it"}
    exactly = text.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?")
    reservations = ec2.describe_instances(Filters=[{"Name": f"tag:{key}", "Values": [exactly]}])["Reservations"]
    assert [instance["InstanceId"] for reservation in reservations for instance in reservation["Instances"]] == [
        instance
    ]
    ec2.delete_tags(Resources=[instance], Tags=[{"Key": key, "Value": text}])
    (described_instance,) = described(ec2, instance)
    assert described_instance["Tags"] == [{"Key": "beside", "Value": "it"}]
    assert _without_tags(cloud.document("vm", machine_id), "USER_TEMPLATE") == before


@every_text
def test_a_key_pair_keeps_any_name_and_any_comment(cloud: FurnishedCloud, alice: Person, ec2: Any, text: str) -> None:
    """It is imported, listed and deleted; the rest of the user's document is unchanged."""
    before = cloud.document("user", alice.id)
    name = f"{text} {uuid.uuid4().hex[:6]}" if not text.startswith(" ") else text
    comment = text.replace("\n", " ").strip()  # a line of authorized_keys is one line
    line = f"{' '.join(PUBLIC_KEY.decode().split()[:2])} {comment}"
    key_pair = ec2.import_key_pair(KeyName=name, PublicKeyMaterial=line.encode())
    assert key_pair["KeyName"] == name
    (described_key_pair,) = ec2.describe_key_pairs(KeyNames=[name], IncludePublicKey=True)["KeyPairs"]
    assert described_key_pair["KeyName"] == name
    assert described_key_pair["PublicKey"] == line
    ec2.delete_key_pair(KeyName=name)
    assert cloud.document("user", alice.id) == before


@every_text
def test_a_machine_gets_any_user_data_and_any_key_name(cloud: FurnishedCloud, ec2: Any, launch: Any, text: str) -> None:
    """They are unchanged byte for byte, also with a key pair whose name and comment contain the same text."""
    name = f"{text}-key"
    line = f"{' '.join(PUBLIC_KEY.decode().split()[:2])} {text.replace(chr(10), ' ').strip()}"
    ec2.import_key_pair(KeyName=name, PublicKeyMaterial=line.encode())
    try:
        (instance,) = launch(
            KeyName=name,
            UserData=text,
            TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": text}]}],
        )
        context = cloud.vm(int(instance["InstanceId"][2:])).find("TEMPLATE/CONTEXT")
        assert context is not None
        assert base64.b64decode(context.findtext("USER_DATA") or "").decode() == text
        assert context.findtext("USER_DATA") == context.findtext("EC2_USER_DATA")
        assert (context.findtext("SSH_PUBLIC_KEY") or "").split()[:2] == PUBLIC_KEY.decode().split()[:2]
        assert context.findtext("NETWORK") == "YES"
        assert context.findtext("CPU") is None
        (described_instance,) = described(ec2, instance["InstanceId"])
        assert described_instance["KeyName"] == name
        assert described_instance["Tags"] == [{"Key": "Name", "Value": text}]
        assert described_instance["CpuOptions"]["CoreCount"] == 2
    finally:
        ec2.delete_key_pair(KeyName=name)


@every_text
def test_an_image_keeps_any_description(
    cloud: FurnishedCloud, alice: Person, ec2: Any, text: str, described_image: int
) -> None:
    """DescribeImages shows it as RegisterImage set it; the rest of the image's document is unchanged."""
    ami = f"ami-{described_image:08d}"
    ec2.register_image(ImageLocation=ami, Name=f"{cloud.prefix}-described", Description=text)
    (image,) = ec2.describe_images(ImageIds=[ami])["Images"]
    assert image["Description"] == text
    root = etree.fromstring(cloud.document("image", described_image))
    attributes = root.find("TEMPLATE")
    assert attributes is not None
    assert {str(attribute.tag) for attribute in attributes} <= {
        "DESCRIPTION",
        "DESCRIPTION_BASE64",
        "DEV_PREFIX",
        "EC2_AMI",
    }


@pytest.fixture(scope="module")
def described_image(cloud: FurnishedCloud, alice: Person) -> int:
    """An image of alice's own."""
    return cloud.image(f"{cloud.prefix}-described", "", alice)


def test_characters_that_xml_cannot_hold_are_refused(ec2: Any, instance: str) -> None:
    """The documents of oned cannot contain control characters: the client gets an error, and nothing is changed."""
    before = described(ec2, instance)
    for key, value in (("bell\x07", "x"), ("x", "nul\x00")):
        with pytest.raises(ClientError) as raised:
            ec2.create_tags(Resources=[instance], Tags=[{"Key": key, "Value": value}])
        assert refusal(raised.value)[1] == 400
    assert described(ec2, instance) == before
