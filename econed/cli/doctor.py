"""`econe-server doctor`: what is not as it should be in OpenNebula, and with `--fix` its mending."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TextIO

from twisted.internet.interfaces import IReactorTime

from econed.actions.findings import Examination, Finder, Finding, all_users, examine
from econed.catalogue import all_finders
from econed.cli.installation import Exit
from econed.cli.reaching import is_wrong_credentials
from econed.config.settings import Settings
from econed.errors import OpenNebulaError
from econed.interfaces import IOpenNebula
from econed.opennebula.session import Session
from econed.telemetry.log_lines import printable


async def run(one: IOpenNebula, settings: Settings, clock: IReactorTime, fix: bool, out: TextIO) -> Exit:
    """Look, tell, and mend if told to; OK if nothing is left that is not as it should be."""
    try:
        examination = Examination(one, settings, int(clock.seconds()), await all_users(Session(one, None)))
        return await go_round(examination, all_finders(), fix, out)
    except OpenNebulaError as error:
        print(f"oned: {printable(str(error))}", file=out)
        return Exit.REFUSED if is_wrong_credentials(error) else Exit.NO_ANSWER


async def go_round(examination: Examination, finders: Sequence[Finder], fix: bool, out: TextIO) -> Exit:
    """Have every finder look; what one finds does not keep the others."""
    left = 0
    for finder in finders:
        findings = await examine(examination, finder)
        print(f"{description(finder)} {len(findings) or 'none'}", file=out)
        for finding in findings:
            left += not await _told(finding, fix, out)
    if left and not fix:
        print("\nNothing was changed. `econe-server doctor --fix` does what stands behind the arrows.", file=out)
    return Exit.FAILED if left else Exit.OK


def description(finder: Finder) -> str:
    """Return what a finder looks for, as people read it."""
    return (inspect.getdoc(finder) or "").partition("\n")[0].rstrip(".") + ":"


async def _told(finding: Finding, fix: bool, out: TextIO) -> bool:
    """Tell a finding, mend it if that is wanted, and return whether it is mended."""
    print(f"  {printable(finding.what)}", file=out)
    if finding.mend is None:
        return False
    print(f"    -> {printable(finding.remedy or '')}", file=out)
    if not fix:
        return False
    try:
        await finding.mend()
    except OpenNebulaError as error:
        print(f"    failed: {printable(str(error))}", file=out)
        return False
    print("    done", file=out)
    return True
