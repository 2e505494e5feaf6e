"""Every command of the documentation is one that its program accepts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages import opennebula_cli
from tests.pages.checks import CHECKS, OTHER_TOOLS, Written, check, is_command, opennebula_programs
from tests.pages.opennebula_cli import InvalidCommand
from tests.pages.scripts import PAGES, ROOT, Block, blocks, commands_of, spans

OTHER_TEXT = frozenset(
    ("BAD", "backend", "debug", "econe-server:", "import", "new", "no", "ok", "scrape_configs:", "server", "sum")
)
"""Words with which blocks begin that are no commands: output, logs, configuration, queries."""


def written_in(page: Path) -> Iterator[Written]:
    """Yield the commands of a page."""
    for block in blocks(page):
        if is_script(block):
            for words in commands_of(block.script):
                yield Written(words, block.text, is_in_sentence=False)
    for span in spans(page):
        if is_command(span.text):
            for words in commands_of(span.text):
                yield Written(words, span.context, is_in_sentence=True)


def is_script(block: Block) -> bool:
    """Return whether a block consists of commands."""
    program = block.first_word.rpartition("/")[2]
    return program in CHECKS or program in OTHER_TOOLS or program in opennebula_programs()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_is_valid(page: Path) -> None:
    failures = []
    for written in written_in(page):
        try:
            check(written)
        except InvalidCommand as failure:
            failures.append(f"{' '.join(written.words)}: {failure}")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_block_that_begins_with_a_word_is_a_script_or_known_not_to_be_one(page: Path) -> None:
    """Otherwise a command of a new program would not be checked."""
    words = {block.first_word for block in blocks(page) if not is_script(block)}
    assert {word for word in words if re.fullmatch(r"[A-Za-z][\w-]*:?", word)} <= OTHER_TEXT


def test_the_pages_have_commands_of_all_kinds() -> None:
    programs = [written.words[0] for page in PAGES for written in written_in(page)]
    assert len(programs) > 200
    assert CHECKS.keys() <= {program.rpartition("/")[2] for program in programs}


@pytest.mark.parametrize(
    ("words", "failure"),
    [
        ("onevdc create ec2 again", "takes 1 to 1 arguments, not 2"),
        ("onevdc addhost ec2", "takes 3 to 3 arguments, not 1"),
        ("onevdc add ec2", "is not a command"),
        ("oneimage create --size", "needs a value"),
        ("oneimage create --colour red", "has no option --colour"),
        ("oneuser enable alice", "is not a command of 5.12"),
        ("econe-server check --groups ec2", "unrecognized arguments"),
        ("systemctl restart econed", "there are no units"),
        ("journalctl -u econed", "there are no units"),
        ("curl http://127.0.0.1:4569/ready", "econed has no path"),
        ("curl http://127.0.0.1:4569/?Action=DescribeEverything", "there is no action"),
        ("aws ec2 describe-everything", "there is no action"),
        ("aws ec2 register-image --image-location 42", "aws requires --name"),
        ("make package", "has no targets"),
        ("python -m econed.cli.nothing", "there is no module"),
        ("pip install -r requirements/nothing.txt", "there are no files"),
        ("cp systemd/econed.service /etc/systemd/system/", "there are no files"),
        ("install -m 640 econed.conf /etc/one/econe.conf", "there are no files"),
        ("apt install ./dist/econed_9.9.9_all.deb", "not 9.9.9"),
        ("frobnicate now", "is not a known program"),
    ],
)
def test_a_command_that_cannot_succeed_is_found(words: str, failure: str) -> None:
    with pytest.raises(InvalidCommand, match=re.escape(failure)):
        check(Written(words.split(), "", is_in_sentence=False))


def test_a_command_of_one_version_is_valid_where_the_sentence_names_the_version() -> None:
    check(Written(("oneuser", "enable", "alice"), "(7.x)", is_in_sentence=True))
    with pytest.raises(InvalidCommand):
        check(Written(("oneuser", "enable", "alice"), "(5.12)", is_in_sentence=True))


def test_a_sentence_may_name_a_command_without_its_arguments() -> None:
    opennebula_cli.check("5.12", ("oneuser", "create", "--x509", "--cert"), is_complete=False)
    with pytest.raises(InvalidCommand):
        opennebula_cli.check("5.12", ("oneuser", "create"))


def test_commands_are_found_in_all_parts_of_a_script() -> None:
    script = """\
# a comment
if [ -e "$file" ]; then echo "$(cat secret)" > "$file"; fi
cat > x <<END
not a command
END
a --long \\
    argument | VARIABLE=1 b && c 'two
lines'
"""
    assert list(commands_of(script)) == [
        ("[", "-e", "$file", "]"),
        ("echo", "$(cat secret)"),
        ("cat", "secret"),
        ("cat",),
        ("a", "--long", "argument"),
        ("b",),
        ("c", "two\nlines"),
    ]
