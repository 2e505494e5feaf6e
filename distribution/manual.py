"""The manual pages and the completion for shells, generated from docs/ and from the options of `econe-server`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import mistune
import shtab

from distribution.environment import CHECKOUT
from econed import __version__
from econed.cli.options import make_parser

Token = Mapping[str, Any]
"""A node of a parsed Markdown text, as mistune returns it."""

INDENT: Final = "4"
_BREAKS: Final = ("softbreak", "linebreak")


def write_pages(man: Path) -> None:
    """Write the pages econe-server(8) and econe.conf(5) into the directories of a manual."""
    pages = {
        "man8/econe-server.8": page("econe-server", 8, "start, stop and inspect econed", "econe-server.md", options()),
        "man5/econe.conf.5": page("econe.conf", 5, "the configuration of econed", "configuration.md"),
    }
    for name, text in pages.items():
        path = man / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def write_completion(bash: Path, zsh: Path) -> None:
    """Write the completion of `econe-server` into a directory of bash and into one of zsh."""
    for shell, path in (("bash", bash / "econe-server"), ("zsh", zsh / "_econe-server")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(shtab.complete(make_parser(), shell=shell), "utf-8")


def options() -> str:
    """Return the section OPTIONS of econe-server(8)."""
    return "\n".join((".SH OPTIONS", *_literal(make_parser().format_help()), ""))


def page(name: str, section: int, summary: str, source: str, *more: str) -> str:
    """Return a manual page with the text of a file of docs/, and more sections after it."""
    parse = mistune.create_markdown(renderer="ast", plugins=["table"])
    tokens = parse((CHECKOUT / "docs" / source).read_text("utf-8"))
    if isinstance(tokens, str):
        raise TypeError("the parser has rendered a text")
    head = (f'.TH "{name.upper()}" {section} "" "econed {__version__}"', ".SH NAME", rf"{name} \- {summary}")
    see_also = r"The guide: /usr/share/doc/econed/docs/guide. \fBecone\-server\fR(8), \fBecone.conf\fR(5)"
    lines = (*head, ".SH DESCRIPTION", *blocks(tokens))
    return "\n".join((*lines, *more, ".SH SEE ALSO", see_also, ""))


def blocks(tokens: Sequence[Token]) -> Iterator[str]:
    """Return the lines of a text in man(7). The heading of the file is left out: the page has a name of its own."""
    for token in tokens:
        match token["type"]:
            case "heading" if token["attrs"]["level"] > 1:
                yield f".{'SH' if token['attrs']['level'] == 2 else 'SS'} {inline(token['children'])}"
            case "paragraph":
                yield from (".PP", inline(token["children"]))
            case "block_text":
                yield inline(token["children"])
            case "block_code":
                yield from _literal(token["raw"])
            case "list":
                for item in token["children"]:
                    first, *rest = item["children"]
                    yield from (rf".IP \(bu {INDENT}", *blocks([{**first, "type": "block_text"}]))
                    yield from (".RS", *blocks(rest), ".RE") if rest else ()
            case "table":
                yield from _table(token)
            case "heading" | "blank_line":
                pass
            case other:
                raise ValueError(f"{other}: has no form in a manual page yet")


def inline(tokens: Sequence[Token]) -> str:
    """Return a line of text: code and strong text is bold, and of links to other pages only the text is left."""
    text = ""
    for token in tokens:
        match token["type"]:
            case "text" | "codespan" as kind:
                raw = _escaped(token["raw"])
                text += raw if kind == "text" else rf"\fB{raw}\fR"
            case "strong" | "emphasis":
                text += rf"\fB{inline(token['children'])}\fR"
            case "link":
                text += inline(token["children"])
            case kind if kind in _BREAKS:
                text += " "
            case other:
                raise ValueError(f"{other}: has no form in a manual page yet")
    return rf"\&{text}" if text[:1] in (".", "'") else text


def _table(token: Token) -> Iterator[str]:
    """Return a paragraph for each row: its first cell as the tag, the last as the text, then the others by column."""
    head, body = token["children"]
    columns = [inline(cell["children"]) for cell in head["children"]]
    for row in body["children"]:
        tag, *others, text = (inline(cell["children"]) for cell in row["children"])
        named = [f"{column.capitalize()}: {cell}." for column, cell in zip(columns[1:-1], others, strict=True)]
        yield from (f".TP {INDENT}", tag, " ".join((f"{text}.", *named)) if named else text)


def _literal(text: str) -> Iterator[str]:
    yield from (".PP", ".nf", f".RS {INDENT}")
    for line in text.rstrip().splitlines():
        yield rf"\&{_escaped(line)}"
    yield from (".RE", ".fi")


def _escaped(text: str) -> str:
    return text.replace("\\", r"\e").replace("-", r"\-")
