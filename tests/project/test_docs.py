"""What the documentation says of tables and names in the code is so."""

from __future__ import annotations

import re
from pathlib import Path

from econed.actions.instances.run_instances import DEFAULT_TYPE, MAX_USER_DATA
from econed.actions.machines.state import BY_LCM_STATE, BY_STATE
from econed.actions.tagging import MAX_TAGS
from econed.catalogue import all_actions
from econed.config.settings import Settings

ROOT = Path(__file__).parent.parent.parent
COMPATIBILITY = (ROOT / "docs/compatibility.md").read_text("utf-8")


def table_below(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading of the page on compatibility, without its head."""
    section = COMPATIBILITY.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| \n").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_every_state_stands_in_the_table_of_states_under_what_it_is_to_ec2() -> None:
    """Each once."""
    shown = [
        (column, name, row[0])
        for row in table_below("States")
        for column, cell in enumerate(row[1:])
        for name in filter(None, cell.split(", "))
    ]
    kept = [(0, state.name, ec2.ec2_name) for state, ec2 in BY_STATE.items()]
    kept += [(1, state.name, ec2.ec2_name) for state, ec2 in BY_LCM_STATE.items()]
    assert sorted(shown) == sorted(kept)


def test_the_readme_lists_the_actions_that_there_are() -> None:
    """No more and no fewer."""
    readme = (ROOT / "README.md").read_text("utf-8")
    table = readme.partition("## What works\n")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+", table)) == sorted(action.name for action in all_actions())


def test_limits_are_those_of_the_code() -> None:
    """In the words of the page."""
    assert f"At most {MAX_TAGS} on a resource" in COMPATIBILITY
    assert f"may have {MAX_USER_DATA:,} bytes" in COMPATIBILITY
    assert f"`{DEFAULT_TYPE}` if none is given" in COMPATIBILITY
    ended = Settings().terminated_instances_expiration_time
    assert f"`terminated_instances_expiration_time` seconds ({ended})" in COMPATIBILITY


def test_links_between_the_pages_lead_somewhere() -> None:
    """Those to files of the checkout, and to headings in them, which are named as GitHub names them."""
    links = 0
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text("utf-8")):
            links += 1
            found = (page.parent / target).resolve() if target else page
            assert found.is_file(), f"{page.name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", found.read_text("utf-8"), re.MULTILINE)
                assert anchor in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}, anchor
    assert links > len(pages)
