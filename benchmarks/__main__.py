"""`python -m benchmarks`: run the benchmarks on the sandbox, or on a real oned, and print the results as JSON."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import results
from benchmarks.bench import Bench, Effort, Figures, NotMeasured
from benchmarks.clouds import Cloud, real_cloud, sandbox_cloud
from benchmarks.goals import ROWS, Row
from benchmarks.wrk import WrkFailed, find_wrk

MACHINES = 5000
_QUICK = Effort(
    rounds=1,
    launch_rounds=1,
    rate_rounds=1,
    rate_seconds=1,
    warm_up_seconds=1,
    quiet_seconds=0.5,
    launched=3,
    upload_bytes=1 << 20,
    upload_rounds=1,
    ended=100,
    paged=30,
)
_FULL = Effort(upload_bytes=2 << 30, paged=50_000)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _cloud(options: argparse.Namespace, report: Callable[[str], None]) -> Iterator[Cloud]:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        if options.oned:
            with real_cloud(directory, options.oned, options.oneadmin, options.auth_file, report) as cloud:
                yield cloud
        else:
            with sandbox_cloud(directory, options.form, report) as cloud:
                yield cloud


@contextmanager
def _another_sandbox(form: str, report: Callable[[str], None]) -> Iterator[Cloud]:
    with tempfile.TemporaryDirectory(prefix="bench-") as name, sandbox_cloud(Path(name), form, report) as cloud:
        yield cloud


def _measured(row: Row, bench: Bench) -> Figures:
    bench.report(f"{row.name}: {row.title}")
    try:
        outcome = row.measure(bench)
    except NotMeasured as reason:
        bench.report(f"not measured: {reason}")
        return {"title": row.title, "not_measured": str(reason)}
    figures = results.row_figures(row, outcome, is_real=bench.cloud.is_real)
    bench.report(json.dumps({"compared": figures.get("compared"), "reach": figures.get("reach")}, ensure_ascii=False))
    return figures


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run the benchmarks of econed.")
    names = ", ".join(row.name for row in ROWS)
    parser.add_argument("--only", default="", help=f"rows to measure, with commas between them: {names}")
    parser.add_argument("--machines", type=int, default=MACHINES, help="running machines (default: %(default)s)")
    parser.add_argument("--rounds", type=int, help=f"measurements of each thing (default: {Effort().rounds})")
    parser.add_argument("--full", action="store_true", help="also pages of 50,000 machines and an upload of 2 GiB")
    parser.add_argument("--quick", action="store_true", help="measure hardly anything: to see that all rows work")
    parser.add_argument("--form", default="5.12", choices=("5.12", "7.4"), help="what the sandbox behaves as")
    parser.add_argument("--results", type=Path, help="directory for the file of results (default: only print them)")
    parser.add_argument("--oned", default=os.environ.get("ECONED_LIVE_ONED"), help="URL of a real oned")
    parser.add_argument("--oneadmin", default=os.environ.get("ECONED_LIVE_ONEADMIN"), help="USER:PASSWORD of oneadmin")
    parser.add_argument(
        "--auth-file",
        type=Path,
        default=os.environ.get("ECONED_LIVE_AUTH_FILE") or None,
        help="file with the credentials of serveradmin",
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run the benchmarks as a command."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.oned and not (options.oneadmin and options.auth_file):
        parser.error("--oned needs --oneadmin and --auth-file")
    wanted = [name for name in options.only.split(",") if name]
    if unknown := {*wanted} - {row.name for row in ROWS}:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    try:
        find_wrk()
    except WrkFailed as error:
        parser.exit(1, f"{error}\n")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    effort = _QUICK if options.quick else _FULL if options.full else Effort()
    if options.rounds:
        effort = replace(effort, rounds=options.rounds)
    with _cloud(options, _say) as cloud:
        cloud.fill(options.machines)
        sandbox = None if cloud.is_real else partial(_another_sandbox, options.form, _say)
        bench = Bench(cloud, effort, _say, sandbox)
        rows = {row.name: _measured(row, bench) for row in ROWS if row.name in wanted or not wanted}
        measured = {
            "cloud": cloud.name,
            "oned": cloud.furniture.version,
            "machines": len(cloud.machines),
            **results.machine_figures(),
            "rows": rows,
        }
    if options.results:
        results.write(options.results, cloud.name, measured)
    print(json.dumps(measured, indent=1, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
