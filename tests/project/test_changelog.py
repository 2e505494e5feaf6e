"""CHANGELOG.md and the fragments of which it is built."""

from __future__ import annotations

import re
from pathlib import Path

from econed import __version__
from tests.support.packages import ran
from tests.support.tools import require_tool

ROOT = Path(__file__).parent.parent.parent


def test_the_changelog_has_the_changes_of_this_version() -> None:
    """`make changelog` adds them. The newest version comes first, and none comes twice."""
    versions = re.findall(r"(?m)^## (\S+) \(", (ROOT / "CHANGELOG.md").read_text("utf-8"))
    assert versions[0] == __version__
    assert len(versions) == len(set(versions))


def test_towncrier_accepts_every_fragment() -> None:
    """The changes since the last release are those that it would add now."""
    output = ran(require_tool("towncrier"), "build", "--draft", "--version", "next", cwd=ROOT)
    for fragment in (ROOT / "changelog.d").glob("*.md"):
        first_words = " ".join(fragment.read_text("utf-8").split()[:4])
        assert first_words in " ".join(output.split()), fragment.name
