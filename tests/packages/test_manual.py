"""The manual pages and the completion of `econe-server` in the packages."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from distribution import manual
from econed.cli.options import make_parser
from econed.config.settings import Settings
from tests.support.packages import ran
from tests.support.tools import require_tool


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the generated files."""
    directory = tmp_path_factory.mktemp("share")
    manual.write_pages(directory)
    manual.write_completion(directory / "bash", directory / "zsh")
    return directory


def _tags(page: Path) -> set[str]:
    """Return the terms that a page explains, each at the start of a paragraph."""
    tagged = re.findall(r"(?m)^\.TP .*\n(.*)$", page.read_text("utf-8"))
    return {term for tag in tagged for term in re.findall(r"\\fB([^\\]+)\\fR", tag)}


def _commands() -> set[str]:
    """Return the commands, which the help of the options lists with four spaces before them."""
    return set(re.findall(r"(?m)^    ([a-z]+) ", make_parser().format_help()))


@pytest.mark.parametrize("name", ["man8/econe-server.8", "man5/econe.conf.5"])
def test_groff_formats_the_pages_without_a_warning(share: Path, name: str) -> None:
    assert ran(require_tool("groff"), "-man", "-Tutf8", "-ww", "-z", share / name) == ""


def test_econe_conf_5_explains_every_key(share: Path) -> None:
    assert {field.name for field in fields(Settings)} <= _tags(share / "man5/econe.conf.5")


def test_econe_server_8_explains_every_command_and_names_every_option(share: Path) -> None:
    assert len(_commands()) > 8
    assert _commands() <= _tags(share / "man8/econe-server.8")
    text = ran(require_tool("groff"), "-man", "-Tutf8", "-P-cbou", share / "man8/econe-server.8")
    assert {"--config", "--pidfile", "--logfile", "--user", "--version"} <= set(re.findall(r"--[a-z]+", text))


def test_what_a_page_cannot_show_is_an_error() -> None:
    """Nothing of the documentation is left out without notice."""
    with pytest.raises(ValueError, match="block_quote"):
        list(manual.blocks([{"type": "block_quote", "children": []}]))


def test_lines_of_a_text_are_never_requests_of_roff() -> None:
    """A line that begins with a dot or an apostrophe would be one, and a backslash an escape."""
    assert manual.inline([{"type": "codespan", "raw": ".bashrc"}]) == r"\fB.bashrc\fR"
    assert manual.inline([{"type": "text", "raw": ".SH x"}]) == r"\&.SH x"
    assert manual.inline([{"type": "text", "raw": "'\\-"}]) == r"\&'\e\-"


def test_bash_completes_commands_and_options(share: Path) -> None:
    script = (
        f". {share}/bash/econe-server;"
        'complete_words() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE};'
        "  COMPREPLY=(); $(complete -p econe-server | sed 's/.*-F \\([^ ]*\\).*/\\1/') econe-server \"${@: -1}\" x;"
        '  echo "${COMPREPLY[@]}"; };'
        "complete_words econe-server re; complete_words econe-server doctor --f;"
        "complete_words econe-server keys re"
    )
    assert ran("bash", "-c", script).split("\n") == ["restart reload reopen", "--fix", "renew reseal retire", ""]


def test_zsh_loads_the_completion(share: Path) -> None:
    """It is a function of zsh's completion system, for this command."""
    assert (share / "zsh/_econe-server").read_text("utf-8").startswith("#compdef econe-server\n")
    script = f"fpath=({share}/zsh $fpath); autoload -Uz compinit; compinit -u -D; echo $_comps[econe-server]"
    assert ran(require_tool("zsh"), "-f", "-c", script) == "_econe-server\n"
    ran(require_tool("zsh"), "-f", "-n", share / "zsh/_econe-server")
