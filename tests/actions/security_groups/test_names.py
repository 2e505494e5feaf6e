"""The names of groups in OpenNebula, and in EC2."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econed.actions.security_groups.names import ec2_name, opennebula_name
from econed.ids import DEFAULT_VPC_NUMBER

REFUSED_BY_OPENNEBULA = re.compile(r"""["#$&'/:;<>{|}]""")
ALLOWED_BY_EC2 = st.text("abcXYZ019 ._-:/()#,@[]+=&;{}!$*", min_size=1, max_size=255).filter(str.strip)
VPCS = st.sampled_from([DEFAULT_VPC_NUMBER, 7, 2**31 - 1])


@given(ALLOWED_BY_EC2, VPCS)
def test_opennebula_accepts_the_name(name: str, vpc: int) -> None:
    stored = opennebula_name(name, vpc)
    assert 0 < len(stored) <= 128
    assert stored == stored.strip()
    assert REFUSED_BY_OPENNEBULA.search(stored) is None


@given(ALLOWED_BY_EC2, VPCS, ALLOWED_BY_EC2, VPCS)
def test_other_names_and_the_same_name_in_other_vpcs_are_other_names_in_opennebula(
    name: str, vpc: int, other: str, other_vpc: int
) -> None:
    is_same = (name, vpc) == (other, other_vpc)
    assert (opennebula_name(name, vpc) == opennebula_name(other, other_vpc)) is is_same


@given(ALLOWED_BY_EC2.filter(lambda name: name == name.strip() and len(name) <= 35), VPCS)
def test_the_name_in_ec2_is_read_from_that_in_opennebula(name: str, vpc: int) -> None:
    assert ec2_name(opennebula_name(name, vpc)) == name


@pytest.mark.parametrize("name", ["web (vpc-00000007)", "a%3Ab"])
def test_a_name_that_looks_like_one_with_an_escape_or_a_vpc_is_read_as_it_was_given(name: str) -> None:
    assert opennebula_name(name, DEFAULT_VPC_NUMBER) != name
    assert ec2_name(opennebula_name(name, DEFAULT_VPC_NUMBER)) == name


@pytest.mark.parametrize("name", ["default", "web", "50%", "50%41", "%zz", "größer", ""])
def test_a_name_that_was_given_in_opennebula_is_shown_as_it_is(name: str) -> None:
    assert ec2_name(name) == name
