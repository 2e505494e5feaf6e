"""Key pairs, kept on the user: made, imported, listed, removed, and never made twice."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from econed.actions.keys.key_pairs import find_key_pair, import_key_pair
from econed.actions.keys.store import CLAIM_LIFETIME
from econed.errors import EC2Error
from econed.interfaces import IOpenNebula
from econed.opennebula.documents import UserDocument
from econed.opennebula.template import hex_name
from tests.actions.keys.test_public_keys import ED25519, ED25519_FINGERPRINT, RSA, RSA_FINGERPRINT
from tests.support.awkward_texts import AWKWARD
from tests.support.cloud import NOW, Cloud

LEGACY = Path(__file__).parents[2] / "data" / "legacy"
MATERIAL = f"{ED25519} me@example.org".encode()


def listed(cloud: Cloud, user: str = "alice", **parameters: Any) -> dict[str, dict[str, Any]]:
    """The key pairs of a user by name, in the order of the answer."""
    return {pair["KeyName"]: pair for pair in cloud.run(user, "DescribeKeyPairs", **parameters)["KeyPairs"]}


def import_key(cloud: Cloud, name: str, user: str = "alice", **parameters: Any) -> dict[str, Any]:
    return cloud.run(user, "ImportKeyPair", KeyName=name, PublicKeyMaterial=MATERIAL, **parameters)


def attributes(cloud: Cloud, user: int = 2) -> dict[str, Any]:
    """The free attributes of a user."""
    document = UserDocument(etree.fromstring(cloud.oneadmin("one.user.info", user, False)))
    return {name: value for name, value in document.template if name != "TOKEN_PASSWORD"}


def with_legacy_keys(cloud: Cloud) -> None:
    """Give alice the key pairs `my key` and `other` as the Ruby server kept them."""
    template = etree.parse(str(LEGACY / "user.xml")).find("TEMPLATE")
    assert template is not None
    cloud.as_user("alice", "one.user.update", 2, etree.tostring(template, encoding="unicode"), 1)


# CreateKeyPair


def test_a_key_pair_is_made_and_its_private_key_shown_this_once(cloud: Cloud) -> None:
    made = cloud.run("alice", "CreateKeyPair", KeyName="mine")
    private = made.pop("KeyMaterial")
    assert private.startswith("-----BEGIN RSA PRIVATE KEY-----")
    described = listed(cloud, IncludePublicKey=True)["mine"]
    assert described["KeyType"] == "rsa"
    assert described["CreateTime"].timestamp() == NOW
    assert described["PublicKey"].startswith("ssh-rsa AAAA")
    assert described["PublicKey"].endswith(" mine")
    assert {name: described[name] for name in made} == made
    assert "PRIVATE" not in str(attributes(cloud))


def test_an_ed25519_key_pair_is_made_if_asked_for(cloud: Cloud) -> None:
    made = cloud.run("alice", "CreateKeyPair", KeyName="mine", KeyType="ed25519", KeyFormat="pem")
    assert made["KeyMaterial"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert listed(cloud)["mine"]["KeyType"] == "ed25519"


def test_the_public_key_is_shown_only_if_asked_for(cloud: Cloud) -> None:
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
def test_what_is_not_carried_out_is_refused(cloud: Cloud, parameters: dict[str, Any], code: str) -> None:
    assert cloud.refusal("alice", "CreateKeyPair", **{"KeyName": "mine", **parameters}).code == code
    assert cloud.changes == []


def test_a_name_that_is_taken_is_refused_and_the_key_pair_stays_as_it_is(cloud: Cloud) -> None:
    import_key(cloud, "mine")
    before = attributes(cloud)
    for error in (
        cloud.refusal("alice", "CreateKeyPair", KeyName="mine"),
        cloud.refusal("alice", "ImportKeyPair", KeyName="mine", PublicKeyMaterial=RSA.encode()),
        cloud.refusal("alice", "CreateKeyPair", KeyName="mine", dry_run=True),
    ):
        assert (error.code, error.message) == ("InvalidKeyPair.Duplicate", "The keypair 'mine' already exists.")
    assert attributes(cloud) == before


def test_names_that_differ_in_case_are_two(cloud: Cloud) -> None:
    import_key(cloud, "mine")
    import_key(cloud, "Mine")
    assert list(listed(cloud)) == ["Mine", "mine"]


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD)
def test_a_name_survives_whatever_it_holds(cloud: Cloud, text: str) -> None:
    cloud.as_user("alice", "one.user.update", 2, 'LABELS="a"', 1)
    cloud.run("alice", "CreateKeyPair", KeyName=text, KeyType="ed25519")
    assert list(listed(cloud, KeyNames=[text])) == [text]
    assert cloud.result(find_key_pair(cloud.call_as("alice"), text)).name == text
    assert "EVIL" not in attributes(cloud)
    cloud.run("alice", "DeleteKeyPair", KeyName=text)
    assert attributes(cloud) == {"LABELS": "a"}


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD)
def test_a_comment_survives_whatever_it_holds_or_is_refused_if_it_has_two_lines(cloud: Cloud, text: str) -> None:
    material = f"{ED25519} {text}".encode()
    if "\n" in text:
        error = cloud.refusal("alice", "ImportKeyPair", KeyName="mine", PublicKeyMaterial=material)
        assert error.code == "InvalidKey.Format"
        assert attributes(cloud) == {}
    else:
        cloud.run("alice", "ImportKeyPair", KeyName="mine", PublicKeyMaterial=material)
        assert listed(cloud, IncludePublicKey=True)["mine"]["PublicKey"] == f"{ED25519} {text}"
        assert "EVIL" not in attributes(cloud)


def test_a_dry_run_of_either_changes_nothing(cloud: Cloud) -> None:
    assert cloud.refusal("alice", "CreateKeyPair", KeyName="mine", dry_run=True).code == "DryRunOperation"
    dry_import = cloud.refusal("alice", "ImportKeyPair", KeyName="x", PublicKeyMaterial=MATERIAL, dry_run=True)
    assert dry_import.code == "DryRunOperation"
    assert cloud.changes == []


# ImportKeyPair


def test_a_key_is_imported_with_amazons_fingerprint(cloud: Cloud) -> None:
    made = import_key(cloud, "mine")
    assert (made["KeyName"], made["KeyFingerprint"]) == ("mine", ED25519_FINGERPRINT)
    rsa = cloud.run("alice", "ImportKeyPair", KeyName="rsa", PublicKeyMaterial=RSA.encode())
    assert rsa["KeyFingerprint"] == RSA_FINGERPRINT
    assert listed(cloud)["rsa"]["KeyType"] == "rsa"


# DescribeKeyPairs


def test_key_pairs_are_chosen_by_name_by_id_and_by_filters(cloud: Cloud) -> None:
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


def test_all_key_pairs_that_are_named_must_exist(cloud: Cloud) -> None:
    import_key(cloud, "mine")
    error = cloud.refusal("alice", "DescribeKeyPairs", KeyNames=["mine", "nobody's"])
    assert (error.code, error.message) == ("InvalidKeyPair.NotFound", "The key pair 'nobody's' does not exist")
    by_id = cloud.refusal("alice", "DescribeKeyPairs", KeyPairIds=["key-0123456789abcdef0"])
    assert by_id.code == "InvalidKeyPair.NotFound"


def test_key_pairs_are_ones_own(cloud: Cloud) -> None:
    mine = import_key(cloud, "mine")["KeyPairId"]
    assert listed(cloud, "bob") == {}
    assert cloud.refusal("bob", "DescribeKeyPairs", KeyPairIds=[mine]).code == "InvalidKeyPair.NotFound"
    cloud.run("bob", "DeleteKeyPair", KeyName="mine")
    cloud.run("bob", "DeleteKeyPair", KeyPairId=mine)
    assert import_key(cloud, "mine", "bob")["KeyPairId"] != mine
    assert list(listed(cloud)) == ["mine"]


# DeleteKeyPair


@pytest.mark.parametrize("by", ["KeyName", "KeyPairId"])
def test_a_key_pair_is_removed_by_name_or_id_and_its_name_is_free_again(cloud: Cloud, by: str) -> None:
    made = import_key(cloud, "mine")
    other = import_key(cloud, "other")
    assert cloud.run("alice", "DeleteKeyPair", **{by: made[by]}) == {"Return": True, "KeyPairId": made["KeyPairId"]}
    assert list(listed(cloud)) == ["other"]
    import_key(cloud, "mine")
    assert listed(cloud)["other"]["KeyPairId"] == other["KeyPairId"]


def test_removing_what_does_not_exist_succeeds_as_on_amazon(cloud: Cloud) -> None:
    assert cloud.run("alice", "DeleteKeyPair", KeyName="nothing") == {"Return": True}
    assert cloud.changes == []


def test_removing_takes_one_of_name_and_id(cloud: Cloud) -> None:
    assert cloud.refusal("alice", "DeleteKeyPair").code == "MissingParameter"
    both = cloud.refusal("alice", "DeleteKeyPair", KeyName="x", KeyPairId="key-1")
    assert both.code == "InvalidParameterCombination"


def test_removing_dry_removes_nothing(cloud: Cloud) -> None:
    import_key(cloud, "mine")
    assert cloud.refusal("alice", "DeleteKeyPair", KeyName="mine", dry_run=True).code == "DryRunOperation"
    assert list(listed(cloud)) == ["mine"]


# Tags


def test_tags_come_with_a_key_pair_and_go_with_it(cloud: Cloud) -> None:
    tags = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": AWKWARD["emoji"]}]
    specification = [{"ResourceType": "key-pair", "Tags": tags}]
    assert import_key(cloud, "mine", TagSpecifications=specification)["Tags"] == tags
    assert listed(cloud)["mine"]["Tags"] == tags
    assert list(listed(cloud, Filters=[{"Name": "tag:a", "Values": ["1"]}])) == ["mine"]
    cloud.run("alice", "DeleteKeyPair", KeyName="mine")
    import_key(cloud, "mine")
    assert listed(cloud)["mine"]["Tags"] == []


def test_what_comes_and_goes_leaves_nothing_on_the_user(cloud: Cloud) -> None:
    before = attributes(cloud)
    specification = [{"ResourceType": "key-pair", "Tags": [{"Key": "a", "Value": "1"}]}]
    made = import_key(cloud, "mine", TagSpecifications=specification)
    cloud.run("alice", "CreateTags", Resources=[made["KeyPairId"]], Tags=[{"Key": "b", "Value": "2"}])
    cloud.run("alice", "DeleteTags", Resources=[made["KeyPairId"]], Tags=[{"Key": "b"}])
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
    assert cloud.result(find_key_pair(cloud.call_as("alice"), "other")).public_key == pairs["other"]["PublicKey"]


def test_a_key_pair_of_the_ruby_server_is_removed_without_touching_the_others(cloud: Cloud) -> None:
    with_legacy_keys(cloud)
    before = attributes(cloud)
    assert cloud.refusal("alice", "CreateKeyPair", KeyName="my key").code == "InvalidKeyPair.Duplicate"
    cloud.run("alice", "DeleteKeyPair", KeyName="my key")
    assert list(listed(cloud)) == ["other"]
    assert attributes(cloud) == before | {hex_name("EC2_KEYPAIR_", "my key"): ""}, "it hides what is in EC2_KEYPAIRS"
    import_key(cloud, "my key")
    assert listed(cloud)["my key"]["KeyFingerprint"] == ED25519_FINGERPRINT
    cloud.run("alice", "DeleteKeyPair", KeyName="my key")
    assert list(listed(cloud)) == ["other"], "its own does not come back, nor that of the Ruby server"


@pytest.mark.parametrize("text", ["", "no base64!", "e30K", "WzFd", "eyJhIjoxfQ==", "eyJhIjp7InB1YmxpY19rZXkiOjF9fQ=="])
def test_what_the_ruby_server_cannot_have_written_is_no_key_pair(cloud: Cloud, text: str) -> None:
    cloud.as_user("alice", "one.user.update", 2, f'EC2_KEYPAIRS="{text}"', 1)
    assert listed(cloud) == {}


# At once


@implementer(IOpenNebula)
class Stepping:
    """oned that does not begin with a call before it is told to."""

    def __init__(self, one: IOpenNebula) -> None:
        self._one = one
        self._waiting: list[Deferred[None]] = []

    async def call(self, user: str | None, method: str, *args: object) -> str | int | bool:
        await self._turn()
        return await self._one.call(user, method, *args)

    async def document(self, user: str | None, method: str, *args: object) -> etree._Element:
        await self._turn()
        return await self._one.document(user, method, *args)

    def step(self) -> None:
        """Let the call that waits be done."""
        if self._waiting:
            self._waiting.pop().callback(None)

    async def _turn(self) -> None:
        turn: Deferred[None] = Deferred()
        self._waiting.append(turn)
        await turn


class Maker:
    """A request for a key pair, in a process of its own, that goes on by steps of one call to oned."""

    def __init__(self, cloud: Cloud, name: str) -> None:
        self._one = Stepping(cloud.backend)
        self.outcome: Any = None
        call = cloud.call_as("alice")
        call = replace(call, session=replace(call.session, oned=self._one))
        made = Deferred.fromCoroutine(import_key_pair(call, key_name=name, public_key_material=MATERIAL))
        made.addBoth(lambda outcome: setattr(self, "outcome", outcome))

    def step(self) -> None:
        self._one.step()

    @property
    def has_won(self) -> bool:
        """Whether it ended with a key pair; if not, it must have ended with one of the two errors."""
        if isinstance(self.outcome, Failure):
            error = self.outcome.value
            assert isinstance(error, EC2Error)
            assert (error.code, error.status) in {("InvalidKeyPair.Duplicate", 400), ("RequestLimitExceeded", 503)}
            return False
        assert self.outcome is not None, "it has not come to an end"
        return True


STEPS = 4
"""Calls to oned that a request makes: look, announce, look, keep or withdraw."""


def test_of_two_that_make_a_key_pair_at_once_one_wins_at_most_in_whatever_order() -> None:
    cloud = Cloud()
    winners = set()
    for number, turns in enumerate(itertools.combinations(range(2 * STEPS), STEPS)):
        name = f"key-{number}"
        first, second = Maker(cloud, name), Maker(cloud, name)
        for turn in range(2 * STEPS):
            (first if turn in turns else second).step()
        won = first.has_won + second.has_won
        assert won <= 1, turns
        assert (name in listed(cloud)) == bool(won)
        winners.add(won)
        if not won:
            import_key(cloud, name)
    assert winners == {0, 1}
    assert not any(name.startswith("EC2_KEYCLAIM_") for name in attributes(cloud))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(turns=st.permutations(sorted([0, 1, 2] * STEPS)))
def test_of_three_that_make_a_key_pair_at_once_one_wins_at_most(turns: list[int]) -> None:
    cloud = Cloud()
    makers = [Maker(cloud, "mine") for _ in range(3)]
    for turn in turns:
        makers[turn].step()
    won = sum(maker.has_won for maker in makers)
    assert won <= 1
    assert (list(listed(cloud)) == ["mine"]) == bool(won)


def test_requests_for_different_names_do_not_hinder_one_another() -> None:
    cloud = Cloud()
    makers = [Maker(cloud, "blue"), Maker(cloud, "red")]
    for _ in range(STEPS):
        for maker in makers:
            maker.step()
    assert all(maker.has_won for maker in makers)


def test_what_a_process_announced_before_it_died_hinders_for_a_while_only() -> None:
    cloud = Cloud()
    dead = Maker(cloud, "mine")
    dead.step()
    dead.step()
    cloud.clock.advance(CLAIM_LIFETIME - 1)
    error = cloud.refusal("alice", "CreateKeyPair", KeyName="mine", KeyType="ed25519")
    assert (error.code, error.status) == ("RequestLimitExceeded", 503)
    cloud.clock.advance(1)
    import_key(cloud, "mine")
    assert list(listed(cloud)) == ["mine"]


def test_what_a_process_announced_before_it_died_is_cleared_away_when_no_clock_can_be_that_wrong() -> None:
    cloud = Cloud()
    dead = Maker(cloud, "mine")
    dead.step()
    dead.step()
    (claim,) = attributes(cloud)
    cloud.clock.advance(24 * 3600)
    import_key(cloud, "other")
    assert claim in attributes(cloud)
    cloud.clock.advance(1)
    import_key(cloud, "one more")
    assert claim not in attributes(cloud)


def test_who_was_held_up_for_long_does_not_rely_on_what_he_announced() -> None:
    cloud = Cloud()
    slow = Maker(cloud, "mine")
    slow.step()
    slow.step()
    cloud.clock.advance(CLAIM_LIFETIME)
    slow.step()
    slow.step()
    assert not slow.has_won
    assert listed(cloud) == {}
