"""Attributes of a template by the beginning of their names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from econed.opennebula.attributes import Attributes

NAME = st.text(alphabet="AB_1", max_size=4)


@given(st.lists(NAME, max_size=20), NAME)
def test_the_names_with_a_prefix_are_those_that_begin_with_it(names: list[str], prefix: str) -> None:
    attributes = Attributes((name, "x") for name in names)
    assert attributes.names_starting_with(prefix) == tuple(sorted({name for name in names if name.startswith(prefix)}))


def test_looking_for_many_prefixes_does_not_look_at_all_names_each_time() -> None:
    compared = 0

    class Counted(str):
        def __lt__(self, other: str) -> bool:
            nonlocal compared
            compared += 1
            return str(self) < str(other)

        __hash__ = str.__hash__

    attributes = Attributes((Counted(f"EC2_DISK{number}_TAG_AA"), "x") for number in range(1000))
    assert attributes.names_starting_with("EC2_DISK7_TAG_") == ("EC2_DISK7_TAG_AA",)
    compared = 0
    for number in range(1000):
        assert len(attributes.names_starting_with(f"EC2_DISK{number}_TAG_")) == 1
    assert compared <= 1000 * 2 * 11
