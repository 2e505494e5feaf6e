"""Texts and names are in plain technical English, and no class name means two things (CONTRIBUTING.md)."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PLACES = ("econed", "tests", "benchmarks", "docs", "etc", "distribution", "changelog.d", "*.md", "Makefile")
EXCLUDED = (ROOT / "tests/data", Path(__file__))

WORDS = {
    r"he|his|him|himself": "they, their, them; it for machines and programs",
    r"who(?:so)?ever|nobody's": "the subject: the client, the administrator, a process",
    r"(?:is|are|was|were) told": "receives, is called with, is notified of",
    r"(?:is|are|was|were|be|been|being) said": "is reported, logged, documented",
    r"as good as none|for good|made wary|last words|good faith": "the fact without a metaphor",
    r"anew|afresh": "again",
    r"lately": "recently",
    r"mend(?:s|ed|ing)?": "fix, repair, correct",
    r"comes? to listen": "starts listening",
    r"on (?:its|their) way|under[ _]way": "in flight, in progress",
    r"at work": "running, in progress",
    r"alone with": "exclusive access, mutual exclusion",
    r"leads? nowhere|(?:is|are|be|been) led|leading away|led (?:away|elsewhere)": "associated, disassociated",
    r"what is known of": "the state of, the facts about",
    r"_?demand_\w+": "check_…",
    r"(?-i:ITurns|OpenNebulaNonsense|LAST_WORDS|PATIENCE)": "ICallLimiter, InvalidReply, a name for the duration",
    r"(?-i:_?(?:Hears|Ear|Estate|House|Hand|World|Automatic|Making|Question|QUIET))": "the name of what it is",
    r"ledger|estate|scenery": "what it is: a list, a cloud with contents",
    r"the house": "the architecture",
}
"""Regular expressions of words that a reader has to guess at, and what to write instead."""


@cache
def texts() -> dict[Path, str]:
    """Return the texts that the project writes by hand, by path."""
    paths = [path for place in PLACES for top in sorted(ROOT.glob(place)) for path in (top, *top.rglob("*"))]
    return {
        path.relative_to(ROOT): without_quotations(path, path.read_text("utf-8", errors="replace"))
        for path in paths
        if path.is_file()
        and path.suffix not in {".pyc", ".png"}
        and not any(path.is_relative_to(other) for other in EXCLUDED)
    }


def without_quotations(path: Path, text: str) -> str:
    """Return a text; of the changelog without what is in backquotes, which may be a log line of an earlier version."""
    if path.name != "CHANGELOG.md" and path.parent.name != "changelog.d":
        return text
    return re.sub("`[^`]*`", lambda quotation: "\n" * quotation[0].count("\n"), text)


@pytest.mark.parametrize(("words", "better"), WORDS.items(), ids=WORDS)
def test_texts_and_names_have_no_words_that_readers_must_guess_at(words: str, better: str) -> None:
    """Case does not matter; words within names, such as in `is_under_way`, count too."""
    pattern = re.compile(rf"(?<![a-z])(?:{words})(?![a-z])", re.IGNORECASE)
    assert len(texts()) > 500
    lines = [
        f"{path}:{number}: {line.strip()}"
        for path, text in texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert not lines, f"write instead of {words!r}: {better}\n" + "\n".join(lines)


def test_every_class_name_is_defined_only_once() -> None:
    """A leading underscore makes no difference; the sandbox, which imitates oned, may use the names of econed."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "econed").rglob("*.py")):
        if not path.is_relative_to(ROOT / "econed/sandbox"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ClassDef):
                    places[node.name.lstrip("_")].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(places) > 100
    assert {name: lines for name, lines in places.items() if len(lines) > 1} == {}
