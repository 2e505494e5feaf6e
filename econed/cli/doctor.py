"""`econe-server doctor`: finds inconsistencies in OpenNebula; with `--fix`, repairs them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TextIO

from twisted.internet.interfaces import IReactorTime

from econed.actions.findings import Examination, Finder, Finding, all_users, examine
from econed.catalogue import all_finders
from econed.cli.connection import is_wrong_credentials
from econed.cli.installation import Exit
from econed.config.settings import Settings
from econed.errors import OpenNebulaError
from econed.interfaces import IOpenNebula
from econed.opennebula.session import Session
from econed.telemetry.log_lines import printable


async def run(oned: IOpenNebula, settings: Settings, clock: IReactorTime, fix: bool, out: TextIO) -> Exit:
    """Print all findings, repair them if `fix`; OK if none is left."""
    try:
        examination = Examination(oned, settings, int(clock.seconds()), await all_users(Session(oned, None)))
        return await run_finders(examination, all_finders(), fix, out)
    except OpenNebulaError as error:
        print(f"oned: {printable(str(error))}", file=out)
        return Exit.REFUSED if is_wrong_credentials(error) else Exit.NO_REPLY


async def run_finders(examination: Examination, finders: Sequence[Finder], fix: bool, out: TextIO) -> Exit:
    """Run every finder and print its findings; a repair that fails does not keep the others from running."""
    unrepaired = repairable = 0
    for finder in finders:
        findings = await examine(examination, finder)
        print(f"{description(finder)} {len(findings) or 'none'}", file=out)
        for finding in findings:
            repairable += finding.repair is not None
            unrepaired += not await _handle(finding, fix, out)
    if repairable and not fix:
        print("\nNothing was changed. `econe-server doctor --fix` performs the actions marked with ->.", file=out)
    return Exit.FAILED if unrepaired else Exit.OK


def description(finder: Finder) -> str:
    """Return what a finder looks for: the first line of its docstring, with a colon."""
    return (inspect.getdoc(finder) or "").partition("\n")[0].rstrip(".") + ":"


async def _handle(finding: Finding, fix: bool, out: TextIO) -> bool:
    """Print a finding, repair it if `fix`, and return whether it is repaired."""
    print(f"  {printable(finding.what)}", file=out)
    if finding.repair is None:
        print("    not repaired by econe-server: only an administrator can decide", file=out)
        return False
    print(f"    -> {printable(finding.remedy or '')}", file=out)
    if not fix:
        return False
    try:
        await finding.repair()
    except OpenNebulaError as error:
        print(f"    failed: {printable(str(error))}", file=out)
        return False
    print("    done", file=out)
    return True
