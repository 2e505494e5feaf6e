"""The list of the elements of oned's documents that econed reads, with which the contract test checks the sandbox."""

from __future__ import annotations

import re

from tests.e2e.conftest import ELEMENTS_READ


def test_the_list_is_sorted_without_duplicates() -> None:
    """One path per line, so that its changes can be reviewed."""
    lines = ELEMENTS_READ.read_text(encoding="utf-8").splitlines()
    assert lines == sorted(set(lines))
    assert [line for line in lines if not re.fullmatch(r"[A-Z_]+(/[A-Z0-9_]+)+(/\*)?", line)] == []
