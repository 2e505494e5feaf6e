"""The list of what econed reads of oned's documents, which the contract test holds the sandbox to."""

from __future__ import annotations

import re

from tests.e2e.conftest import ELEMENTS_READ


def test_the_list_is_sorted_and_names_elements() -> None:
    """A path a line, each once, in order: so that a change of it can be read."""
    lines = ELEMENTS_READ.read_text(encoding="utf-8").splitlines()
    assert lines == sorted(set(lines))
    assert [line for line in lines if not re.fullmatch(r"[A-Z]+(/[A-Z0-9_]+)+(/\*)?", line)] == []
