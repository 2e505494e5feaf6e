"""EC2 ids and the OpenNebula ids in them."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econed import ids
from econed.errors import EC2Error
from econed.ids import IMAGE, INSTANCE, VOLUME, part_of_machine, reservation_id


@given(st.integers(0, 2**31 - 1))
def test_a_formatted_id_is_parsed_to_the_same_number(number: int) -> None:
    assert INSTANCE.parse(INSTANCE.format(number)) == number


def test_ids_have_the_form_of_the_ruby_server() -> None:
    assert INSTANCE.format(42) == "i-00000042"
    assert IMAGE.format(0) == "ami-00000000"
    assert INSTANCE.format(1234567890) == "i-1234567890"


def test_an_id_with_fewer_digits_is_parsed() -> None:
    assert INSTANCE.parse("i-42") == 42


@pytest.mark.parametrize(
    "text",
    [
        "",
        "i",
        "i-",
        "i-x",
        "I-00000001",
        "ami-00000001",
        "i-0000000g",
        "i-abcdef0",
        "i-0123456789abcdef",
        "i-0123456789abcdef01",
        "i--1",
        "i-1 ",
        " i-1",
        "i-1\n",
        "i-٣",
        "i-²",
        "i-00000042003",
        "i-1,i-2",
        "i-1' or 1=1",
    ],
)
def test_other_texts_are_malformed(text: str) -> None:
    with pytest.raises(EC2Error) as raised:
        INSTANCE.parse(text)
    assert raised.value.code == "InvalidInstanceID.Malformed"


KINDS = [value for value in vars(ids).values() if isinstance(value, ids.Kind)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.prefix)
@pytest.mark.parametrize("digits", ["0123456789abcdef0", "abcdef01", "ABCDEF01", "12345678901234567", "ffffffff"])
def test_an_id_of_amazons_form_is_well_formed_and_does_not_exist(kind: ids.Kind, digits: str) -> None:
    text = f"{kind.prefix}-{digits}"
    assert kind.is_well_formed(text)
    assert not kind.is_id(text)
    assert kind.opennebula_id(text) is None
    with pytest.raises(EC2Error) as raised:
        kind.parse(text)
    assert raised.value.code == kind.not_found_code


@pytest.mark.parametrize("text", ["i-2147483648", "i-9999999999"])
def test_a_number_beyond_opennebulas_does_not_exist(text: str) -> None:
    with pytest.raises(EC2Error) as raised:
        INSTANCE.parse(text)
    assert raised.value.code == "InvalidInstanceID.NotFound"


@given(st.one_of(st.text(), st.from_regex(r"vol-[0-9a-f]{1,18}", fullmatch=True)))
def test_any_text_is_an_id_or_not_found_or_malformed(text: str) -> None:
    try:
        assert 0 <= VOLUME.parse(text) < 2**31
    except EC2Error as error:
        assert error.code == ("InvalidVolume.NotFound" if VOLUME.is_well_formed(text) else "InvalidVolumeID.Malformed")


def test_the_id_of_a_part_of_a_machine_is_not_that_of_an_object() -> None:
    part = part_of_machine("vol", 42, 0)
    assert part == "vol-00000042000"
    with pytest.raises(EC2Error):
        VOLUME.parse(part)


def test_the_id_of_a_reservation_has_the_number_of_its_first_machine() -> None:
    assert reservation_id(7) == "r-00000007"


@pytest.mark.parametrize("ip", ["0.0.0.0", "10.0.0.1", "203.0.113.10", "255.255.255.255"])
def test_the_ids_of_an_elastic_ip_contain_its_address(ip: str) -> None:
    address = IPv4Address(ip)
    assert ids.allocated_ip(ids.allocation_id(address)) == address
    assert ids.association(ids.association_id(address, 7)) == (address, 7)


@pytest.mark.parametrize(
    "text", ["", "eipalloc-", "eipalloc-42949672960", "eipalloc--1", "eipassoc-1", "eni-1", "eni-0123456789abcdef0"]
)
def test_other_texts_are_malformed_ids_of_elastic_ips(text: str) -> None:
    with pytest.raises(EC2Error, match=r"InvalidAllocationID\.Malformed"):
        ids.allocated_ip(text)
    with pytest.raises(EC2Error, match=r"InvalidAssociationID\.Malformed"):
        ids.association(text)


@pytest.mark.parametrize("digits", ["0123456789abcdef0", "12ab34cd", "4294967296"])
def test_an_impossible_allocation_id_does_not_exist(digits: str) -> None:
    with pytest.raises(EC2Error, match=r"InvalidAllocationID\.NotFound"):
        ids.allocated_ip(f"eipalloc-{digits}")


@pytest.mark.parametrize("digits", ["0123456789abcdef0", "12ab34cd", "42949672960000000001"])
def test_an_impossible_association_id_does_not_exist(digits: str) -> None:
    with pytest.raises(EC2Error, match=r"InvalidAssociationID\.NotFound"):
        ids.association(f"eipassoc-{digits}")
