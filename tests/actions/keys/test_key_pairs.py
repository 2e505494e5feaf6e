"""Key pairs, stored on the user: creating, importing, listing and deleting them, and those of the Ruby server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from econed.actions.keys.key_pairs import find_key_pair
from econed.opennebula.documents import UserDocument
from econed.opennebula.template import hex_name
from tests.actions.keys.test_public_keys import ED25519, ED25519_FINGERPRINT, RSA, RSA_FINGERPRINT
from tests.support.awkward_texts import AWKWARD
from tests.support.cloud import NOW, Cloud

LEGACY = Path(__file__).parents[2] / "data" / "legacy"
MATERIAL = f"{ED25519} me@example.org".encode()


def listed(cloud: Cloud, user: str = "alice", **parameters: Any) -> dict[str, dict[str, Any]]:
    """Return the key pairs that a user lists, by name, in the order of the response."""
    return {pair["KeyName"]: pair for pair in cloud.run(user, "DescribeKeyPairs", **parameters)["KeyPairs"]}


def import_key(cloud: Cloud, name: str, user: str = "alice", **parameters: Any) -> dict[str, Any]:
    """Import a public key as a user."""
    return cloud.run(user, "ImportKeyPair", KeyName=name, PublicKeyMaterial=MATERIAL, **parameters)


def attributes(cloud: Cloud, user: int = 2) -> dict[str, Any]:
    """Return the free attributes of a user."""
    document = UserDocument(etree.fromstring(cloud.oneadmin("one.user.info", user, False)))
    return {name: value for name, value in document.template if name != "TOKEN_PASSWORD"}


def with_legacy_keys(cloud: Cloud) -> None:
    """Store the key pairs `my key` and `other` on alice, in the form of the Ruby server."""
    template = etree.parse(str(LEGACY / "user.xml")).find("TEMPLATE")
    assert template is not None
    cloud.as_user("alice", "one.user.update", 2, etree.tostring(template, encoding="unicode"), 1)


# CreateKeyPair


def test_a_created_key_pair_is_returned_with_its_private_key_only_once(cloud: Cloud) -> None:
    created = cloud.run("alice", "CreateKeyPair", KeyName="mine")
    private = created.pop("KeyMaterial")
    assert private.startswith("-----BEGIN RSA PRIVATE KEY-----")
    described = listed(cloud, IncludePublicKey=True)["mine"]
    assert described["KeyType"] == "rsa"
    assert described["CreateTime"].timestamp() == NOW
    assert described["PublicKey"].startswith("ssh-rsa AAAA")
    assert described["PublicKey"].endswith(" mine")
    assert {name: described[name] for name in created} == created
    assert "PRIVATE" not in str(attributes(cloud))


def test_an_ed25519_key_pair_is_created_on_request(cloud: Cloud) -> None:
    created = cloud.run("alice", "CreateKeyPair", KeyName="mine", KeyType="ed25519", KeyFormat="pem")
    assert created["KeyMaterial"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert listed(cloud)["mine"]["KeyType"] == "ed25519"


def test_the_public_key_is_listed_only_on_request(cloud: Cloud) -> None:
    import_key(cloud, "mine")
    assert "PublicKey" not in listed(cloud)["mine"]
    assert listed(cloud, IncludePublicKey=True)["mine"]["PublicKey"] == f"{ED25519} me@example.org"


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"KeyFormat": "ppk"}, "UnsupportedOperation"),
        ({"KeyType": "dsa"}, "InvalidParameterValue"),
        ({"KeyName": "x" * 256}, "InvalidParameterValue"),
        ({"KeyName": "bell\x07"}, "InvalidParameterValue"),
        ({"KeyName": ""}, "MissingParameter"),
        ({"TagSpecifications": [{"ResourceType": "image", "Tags": []}]}, "InvalidParameterValue"),
        ({"TagSpecifications": [{"ResourceType": "key-pair", "Tags": [{"Key": "aws:x"}]}]}, "InvalidParameterValue"),
    ],
)
def test_invalid_parameters_of_create_key_pair_are_refused(cloud: Cloud, parameters: dict[str, Any], code: str) -> None:
    assert cloud.refusal("alice", "CreateKeyPair", **{"KeyName": "mine", **parameters}).code == code
    assert cloud.changes == []


def test_a_name_in_use_is_refused_and_its_key_pair_unchanged(cloud: Cloud) -> None:
    import_key(cloud, "mine")
    before = attributes(cloud)
    for error in (
        cloud.refusal("alice", "CreateKeyPair", KeyName="mine"),
        cloud.refusal("alice", "ImportKeyPair", KeyName="mine", PublicKeyMaterial=RSA.encode()),
        cloud.refusal("alice", "CreateKeyPair", KeyName="mine", dry_run=True),
    ):
        assert (error.code, error.message) == ("InvalidKeyPair.Duplicate", "The keypair 'mine' already exists.")
    assert attributes(cloud) == before


def test_names_that_differ_in_case_are_different(cloud: Cloud) -> None:
    import_key(cloud, "mine")
    import_key(cloud, "Mine")
    assert list(listed(cloud)) == ["Mine", "mine"]


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD)
def test_an_awkward_name_is_preserved(cloud: Cloud, text: str) -> None:
    cloud.as_user("alice", "one.user.update", 2, 'LABELS="a"', 1)
    cloud.run("alice", "CreateKeyPair", KeyName=text, KeyType="ed25519")
    assert list(listed(cloud, KeyNames=[text])) == [text]
    assert cloud.result(find_key_pair(cloud.call_as("alice"), text))[1].name == text
    assert "EVIL" not in attributes(cloud)
    cloud.run("alice", "DeleteKeyPair", KeyName=text)
    assert attributes(cloud) == {"LABELS": "a"}


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD)
def test_an_awkward_comment_is_preserved_and_one_with_several_lines_refused(cloud: Cloud, text: str) -> None:
    material = f"{ED25519} {text}".encode()
    if "\n" in text:
        error = cloud.refusal("alice", "ImportKeyPair", KeyName="mine", PublicKeyMaterial=material)
        assert error.code == "InvalidKey.Format"
        assert attributes(cloud) == {}
    else:
        cloud.run("alice", "ImportKeyPair", KeyName="mine", PublicKeyMaterial=material)
        assert listed(cloud, IncludePublicKey=True)["mine"]["PublicKey"] == f"{ED25519} {text}"
        assert "EVIL" not in attributes(cloud)


def test_dry_runs_of_creating_and_importing_change_nothing(cloud: Cloud) -> None:
    assert cloud.refusal("alice", "CreateKeyPair", KeyName="mine", dry_run=True).code == "DryRunOperation"
    dry_import = cloud.refusal("alice", "ImportKeyPair", KeyName="x", PublicKeyMaterial=MATERIAL, dry_run=True)
    assert dry_import.code == "DryRunOperation"
    assert cloud.changes == []


# ImportKeyPair


def test_a_key_is_imported_with_amazons_fingerprint(cloud: Cloud) -> None:
    created = import_key(cloud, "mine")
    assert (created["KeyName"], created["KeyFingerprint"]) == ("mine", ED25519_FINGERPRINT)
    rsa = cloud.run("alice", "ImportKeyPair", KeyName="rsa", PublicKeyMaterial=RSA.encode())
    assert rsa["KeyFingerprint"] == RSA_FINGERPRINT
    assert listed(cloud)["rsa"]["KeyType"] == "rsa"


# DescribeKeyPairs


def test_key_pairs_are_selected_by_name_by_id_and_by_filters(cloud: Cloud) -> None:
    ids = {name: import_key(cloud, name)["KeyPairId"] for name in ("blue", "red")}
    assert len(set(ids.values())) == 2
    assert list(listed(cloud)) == ["blue", "red"]
    assert list(listed(cloud, KeyNames=["red"])) == ["red"]
    assert list(listed(cloud, KeyPairIds=[ids["blue"]])) == ["blue"]
    for name, value in (("key-name", "r*"), ("key-pair-id", ids["red"])):
        assert list(listed(cloud, Filters=[{"Name": name, "Values": [value]}])) == ["red"]
    both = [{"Name": "fingerprint", "Values": [ED25519_FINGERPRINT]}]
    assert list(listed(cloud, Filters=both)) == ["blue", "red"]
    assert cloud.refusal("alice", "DescribeKeyPairs", Filters=[{"Name": "type", "Values": ["rsa"]}]).code == (
        "InvalidParameterValue"
    )


def test_an_unknown_name_or_id_is_an_error(cloud: Cloud) -> None:
    import_key(cloud, "mine")
    error = cloud.refusal("alice", "DescribeKeyPairs", KeyNames=["mine", "unknown"])
    assert (error.code, error.message) == ("InvalidKeyPair.NotFound", "The key pair 'unknown' does not exist")
    by_id = cloud.refusal("alice", "DescribeKeyPairs", KeyPairIds=["key-0123456789abcdef0"])
    assert by_id.code == "InvalidKeyPair.NotFound"


def test_the_key_pairs_of_different_users_are_independent(cloud: Cloud) -> None:
    mine = import_key(cloud, "mine")["KeyPairId"]
    assert listed(cloud, "bob") == {}
    assert cloud.refusal("bob", "DescribeKeyPairs", KeyPairIds=[mine]).code == "InvalidKeyPair.NotFound"
    cloud.run("bob", "DeleteKeyPair", KeyName="mine")
    cloud.run("bob", "DeleteKeyPair", KeyPairId=mine)
    assert import_key(cloud, "mine", "bob")["KeyPairId"] != mine
    assert list(listed(cloud)) == ["mine"]


# DeleteKeyPair


@pytest.mark.parametrize("by", ["KeyName", "KeyPairId"])
def test_a_key_pair_is_deleted_by_name_or_id_and_its_name_can_be_used_again(cloud: Cloud, by: str) -> None:
    created = import_key(cloud, "mine")
    other = import_key(cloud, "other")
    result = cloud.run("alice", "DeleteKeyPair", **{by: created[by]})
    assert result == {"Return": True, "KeyPairId": created["KeyPairId"]}
    assert list(listed(cloud)) == ["other"]
    import_key(cloud, "mine")
    assert listed(cloud)["other"]["KeyPairId"] == other["KeyPairId"]


def test_deleting_an_unknown_key_pair_succeeds_as_on_amazon(cloud: Cloud) -> None:
    assert cloud.run("alice", "DeleteKeyPair", KeyName="nothing") == {"Return": True}
    assert cloud.changes == []


def test_deleting_takes_exactly_one_of_name_and_id(cloud: Cloud) -> None:
    assert cloud.refusal("alice", "DeleteKeyPair").code == "MissingParameter"
    both = cloud.refusal("alice", "DeleteKeyPair", KeyName="x", KeyPairId="key-1")
    assert both.code == "InvalidParameterCombination"


def test_a_dry_run_of_deleting_changes_nothing(cloud: Cloud) -> None:
    import_key(cloud, "mine")
    assert cloud.refusal("alice", "DeleteKeyPair", KeyName="mine", dry_run=True).code == "DryRunOperation"
    assert list(listed(cloud)) == ["mine"]


# Tags


def test_tags_are_set_with_a_key_pair_and_deleted_with_it(cloud: Cloud) -> None:
    tags = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": AWKWARD["emoji"]}]
    specification = [{"ResourceType": "key-pair", "Tags": tags}]
    assert import_key(cloud, "mine", TagSpecifications=specification)["Tags"] == tags
    assert listed(cloud)["mine"]["Tags"] == tags
    assert list(listed(cloud, Filters=[{"Name": "tag:a", "Values": ["1"]}])) == ["mine"]
    cloud.run("alice", "DeleteKeyPair", KeyName="mine")
    import_key(cloud, "mine")
    assert listed(cloud)["mine"]["Tags"] == []


def test_creating_and_deleting_key_pairs_leaves_nothing_on_the_user(cloud: Cloud) -> None:
    before = attributes(cloud)
    specification = [{"ResourceType": "key-pair", "Tags": [{"Key": "a", "Value": "1"}]}]
    created = import_key(cloud, "mine", TagSpecifications=specification)
    cloud.run("alice", "CreateTags", Resources=[created["KeyPairId"]], Tags=[{"Key": "b", "Value": "2"}])
    cloud.run("alice", "DeleteTags", Resources=[created["KeyPairId"]], Tags=[{"Key": "b"}])
    cloud.refusal("alice", "ImportKeyPair", KeyName="mine", PublicKeyMaterial=ED25519.encode())
    cloud.run("alice", "DeleteKeyPair", KeyName="mine")
    assert attributes(cloud) == before


# Key pairs of the Ruby server


def test_key_pairs_of_the_ruby_server_are_listed(cloud: Cloud) -> None:
    with_legacy_keys(cloud)
    pairs = listed(cloud, IncludePublicKey=True)
    assert list(pairs) == ["my key", "other"]
    assert pairs["my key"]["KeyFingerprint"] == "6d:ae:c1:3d:ab:26:cc:93:37:3f:17:da:01:be:bd:b8"
    assert pairs["my key"]["PublicKey"].startswith("ssh-rsa AAAAB3NzaC1yc2E")
    assert pairs["my key"]["PublicKey"].endswith(" my key")
    assert "CreateTime" not in pairs["my key"]
    _, pair = cloud.result(find_key_pair(cloud.call_as("alice"), "other"))
    assert pair.public_key == pairs["other"]["PublicKey"]


def test_deleting_a_key_pair_of_the_ruby_server_leaves_the_others_unchanged(cloud: Cloud) -> None:
    with_legacy_keys(cloud)
    before = attributes(cloud)
    assert cloud.refusal("alice", "CreateKeyPair", KeyName="my key").code == "InvalidKeyPair.Duplicate"
    cloud.run("alice", "DeleteKeyPair", KeyName="my key")
    assert list(listed(cloud)) == ["other"]
    assert attributes(cloud) == before | {hex_name("EC2_KEYPAIR_", "my key"): ""}, (
        "an empty attribute hides the entry of EC2_KEYPAIRS"
    )
    import_key(cloud, "my key")
    assert listed(cloud)["my key"]["KeyFingerprint"] == ED25519_FINGERPRINT
    cloud.run("alice", "DeleteKeyPair", KeyName="my key")
    assert list(listed(cloud)) == ["other"], "neither the new key pair nor that of the Ruby server is listed"


@pytest.mark.parametrize("text", ["", "no base64!", "e30K", "WzFd", "eyJhIjoxfQ==", "eyJhIjp7InB1YmxpY19rZXkiOjF9fQ=="])
def test_invalid_key_pairs_of_the_ruby_server_are_ignored(cloud: Cloud, text: str) -> None:
    cloud.as_user("alice", "one.user.update", 2, f'EC2_KEYPAIRS="{text}"', 1)
    assert listed(cloud) == {}
