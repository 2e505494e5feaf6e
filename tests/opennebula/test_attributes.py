"""Attributes of a template are found by a prefix of their names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from econed.opennebula.attributes import Attributes

NAME = st.text(alphabet="AB_1", max_size=4)


@given(st.lists(NAME, max_size=20), NAME)
def test_names_starting_with_a_prefix_are_returned_sorted_and_once_each(names: list[str], prefix: str) -> None:
    attributes = Attributes((name, "x") for name in names)
    assert attributes.names_starting_with(prefix) == tuple(sorted({name for name in names if name.startswith(prefix)}))


def test_looking_up_many_prefixes_does_not_compare_all_names_each_time() -> None:
    comparisons = 0

    class Counted(str):
        def __lt__(self, other: str) -> bool:
            nonlocal comparisons
            comparisons += 1
            return str(self) < str(other)

        __hash__ = str.__hash__

    attributes = Attributes((Counted(f"EC2_DISK{number}_TAG_AA"), "x") for number in range(1000))
    assert attributes.names_starting_with("EC2_DISK7_TAG_") == ("EC2_DISK7_TAG_AA",)
    comparisons = 0
    for number in range(1000):
        assert len(attributes.names_starting_with(f"EC2_DISK{number}_TAG_")) == 1
    assert comparisons <= 1000 * 2 * 11
