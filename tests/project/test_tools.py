"""A test whose tool is missing is skipped for a person and fails in CI."""

from __future__ import annotations

import sys

import pytest

from tests.support.tools import require_tool

MISSING = "no-such-tool-anywhere"


def test_a_tool_of_the_virtual_environment_is_found_by_its_path() -> None:
    """Also when PATH does not name the virtual environment."""
    assert require_tool("pytest").startswith(sys.prefix)


def test_a_missing_tool_skips_the_test_of_a_person_and_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the tool."""
    monkeypatch.delenv("ECONED_CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=MISSING):
        require_tool(MISSING)


def test_a_missing_tool_fails_the_test_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """A skip in CI would be a test that nobody runs."""
    monkeypatch.setenv("ECONED_CI", "1")
    with pytest.raises(pytest.fail.Exception, match=MISSING):
        require_tool(MISSING)
