"""A test whose tool is missing is skipped, except in CI, where it fails."""

from __future__ import annotations

import sys

import pytest

from tests.support.tools import require_tool

MISSING = "no-such-tool-anywhere"


def test_a_tool_in_the_virtual_environment_is_found() -> None:
    """PATH need not contain the virtual environment."""
    assert require_tool("pytest").startswith(sys.prefix)


def test_a_missing_tool_skips_the_test_outside_of_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the tool."""
    monkeypatch.delenv("ECONED_CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=MISSING):
        require_tool(MISSING)


def test_a_missing_tool_fails_the_test_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a skip in CI the test would never run."""
    monkeypatch.setenv("ECONED_CI", "1")
    with pytest.raises(pytest.fail.Exception, match=MISSING):
        require_tool(MISSING)
