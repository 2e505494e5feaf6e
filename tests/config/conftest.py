"""Fixtures of the tests of econe.conf."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """The path of the econe.conf that a test writes."""
    return tmp_path / "econe.conf"


@pytest.fixture
def pem(tmp_path: Path) -> str:
    """A readable file."""
    file = tmp_path / "file.pem"
    file.touch()
    return str(file)
