"""The documentation agrees with the tables, names and limits in the code."""

from __future__ import annotations

import re
from pathlib import Path

from econed.actions.instances.run_instances import MAX_USER_DATA
from econed.actions.machines.state import BY_LCM_STATE, BY_STATE
from econed.actions.tagging import MAX_TAGS
from econed.catalogue import all_actions
from econed.config.settings import Settings

ROOT = Path(__file__).parent.parent.parent
COMPATIBILITY = (ROOT / "docs/compatibility.md").read_text("utf-8")


def table_below(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading of docs/compatibility.md, without the header row."""
    section = COMPATIBILITY.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| \n").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_the_table_of_states_has_the_ec2_state_for_every_opennebula_state() -> None:
    """Every state is listed once."""
    documented = [
        (column, name, row[0])
        for row in table_below("States")
        for column, cell in enumerate(row[1:])
        for name in filter(None, cell.split(", "))
    ]
    expected = [(0, state.name, ec2.ec2_name) for state, ec2 in BY_STATE.items()]
    expected += [(1, state.name, ec2.ec2_name) for state, ec2 in BY_LCM_STATE.items()]
    assert sorted(documented) == sorted(expected)


def test_the_readme_lists_all_actions() -> None:
    """It lists no others."""
    readme = (ROOT / "README.md").read_text("utf-8")
    table = readme.partition("## What works\n")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+", table)) == sorted(action.name for action in all_actions())


def test_the_documented_limits_are_those_of_the_code() -> None:
    """The page is searched for these sentences."""
    assert f"At most {MAX_TAGS} on a resource" in COMPATIBILITY
    assert f"may have {MAX_USER_DATA:,} bytes" in COMPATIBILITY
    assert f"`default_instance_type` (`{Settings().default_instance_type}`) if none is given" in COMPATIBILITY
    lifetime = Settings().terminated_instances_expiration_time
    assert f"`terminated_instances_expiration_time` seconds ({lifetime})" in COMPATIBILITY


def test_links_between_the_pages_have_targets() -> None:
    """The targets are files and headings; GitHub's anchors of headings are used."""
    links = 0
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text("utf-8")):
            links += 1
            path = (page.parent / target).resolve() if target else page
            assert path.is_file(), f"{page.name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
                assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, (
                    anchor
                )
    assert links > len(pages)
