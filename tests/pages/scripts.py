"""The shell scripts, sessions and commands that the pages of the documentation show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mistune

ROOT = Path(__file__).parent.parent.parent
PAGES = tuple(sorted((ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))))

PROMPT = "$ "
_CONTEXTS = ("paragraph", "block_text", "heading", "table_head", "table_row")
_HERE_DOCUMENT = re.compile(r"<<(\w+)([^\n]*)\n.*?\n\1(?=\n|$)", re.DOTALL)
_SUBSTITUTION = re.compile(r"\$\(([^()]+)\)")
_OPERATORS = frozenset("();<>|&")
_BEFORE_COMMANDS = frozenset(("if", "then", "else", "elif", "do", "while", "until", "!", "{"))
_WITHOUT_COMMANDS = frozenset(("for", "case", "done", "fi", "}"))


Token = Mapping[str, Any]
"""A node of a parsed page, as mistune returns it."""


@dataclass(frozen=True)
class Block:
    """Text that a page shows as code."""

    text: str

    def sessions(self) -> Iterator[tuple[str, str]]:
        """Yield the commands after prompts, each with the output that is shown below it."""
        command, output = "", ""
        for line in self.text.splitlines(keepends=True):
            if line.startswith(PROMPT):
                if command:
                    yield command, output
                command, output = line.removeprefix(PROMPT), ""
            elif command and not output and _words_of(command) is None:
                command += line
            else:
                output += line
        if command:
            yield command, output

    @property
    def script(self) -> str:
        """The commands of the block, if it consists of commands: those after prompts if there are any, else all."""
        return "".join(command for command, _ in self.sessions()) or self.text

    @property
    def first_word(self) -> str:
        """The word at the beginning, after comments, assignments and a prompt; empty if there is none."""
        for command in commands_of(self.script):
            return command[0]
        return ""


@dataclass(frozen=True)
class Span:
    """Text that a page shows as code within a sentence, and the paragraph or the row of a table that it is in."""

    text: str
    context: str


@cache
def blocks(page: Path) -> Sequence[Block]:
    """Return the blocks of code of a page that are in no other language than the shell's."""
    return [
        Block(token["raw"])
        for token in _tokens(_parsed(page))
        if token["type"] == "block_code" and not token.get("attrs", {}).get("info")
    ]


@cache
def spans(page: Path) -> Sequence[Span]:
    """Return the code in the sentences of a page."""
    contexts = [token for token in _tokens(_parsed(page)) if token["type"] in _CONTEXTS]
    return [
        Span(" ".join(token["raw"].split()), _text(context))
        for context in contexts
        for token in _tokens([context])
        if token["type"] == "codespan"
    ]


def commands_of(script: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of each simple command of a shell script, also of those in `$(…)`; without redirections.

    Raises ValueError if the script ends within a command.
    """
    text = _HERE_DOCUMENT.sub(r"\2", script)
    pending = ""
    for line in text.splitlines(keepends=True):
        pending += line
        words = _words_of(pending)
        if words is None:
            continue
        yield from _simple_commands(words)
        for substitution in _SUBSTITUTION.findall(pending):
            yield from commands_of(substitution)
        pending = ""
    if pending:
        raise ValueError(f"unfinished: {pending}")


def _words_of(text: str) -> list[str] | None:
    """Return the words and operators of complete lines; None if a quotation or the last line goes on."""
    if text.rstrip("\n").endswith("\\"):
        return None
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError:
        return None


def _simple_commands(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    command: list[str] = []
    rest = iter(words)
    for word in rest:
        if not set(word) <= _OPERATORS or not word:
            command.append(word)
        elif set(word) & set("<>"):
            next(rest, None)
        else:
            yield from _stripped(command)
            command = []
    yield from _stripped(command)


def _stripped(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield a command without keywords and assignments before it, if there is one."""
    rest = list(words)
    while rest and (rest[0] in _BEFORE_COMMANDS or re.match(r"\w+=", rest[0])):
        rest.pop(0)
    if rest and rest[0] not in _WITHOUT_COMMANDS:
        yield tuple(rest)


def _parsed(page: Path) -> Sequence[Token]:
    tokens = mistune.create_markdown(renderer="ast", plugins=["table"])(page.read_text("utf-8"))
    assert not isinstance(tokens, str)
    return tokens


def _tokens(tokens: Sequence[Token]) -> Iterator[Token]:
    """Yield the nodes of a parsed page, each before those in it."""
    for token in tokens:
        yield token
        yield from _tokens(token.get("children", ()))


def _text(token: Token) -> str:
    return "".join(inner.get("raw", " ") for inner in _tokens([token]))
