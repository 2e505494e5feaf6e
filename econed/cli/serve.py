"""`make serve`: run econed with an OpenNebula in memory and print how to use it with the AWS CLI."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final, TextIO

from econed.cli.demo import connect
from econed.cli.entry import exit_with
from econed.cli.sandbox_server import FORMS, ServerAccess, ServerFailed, interrupt_on_sigterm, sandbox_server

PORT: Final = 4567
"""The port of OpenNebula's own econe-server, and the default of econed."""

_INSTRUCTIONS = """
econed is running with an OpenNebula {form} in memory; nothing is stored on disk. In another terminal:

    export AWS_ACCESS_KEY_ID={access_key}
    export AWS_SECRET_ACCESS_KEY={secret_key}
    export AWS_DEFAULT_REGION={region}
    export AWS_ENDPOINT_URL={url}

The AWS CLI supports AWS_ENDPOINT_URL since 1.29 (v1) and 2.13 (v2); with an older version, pass --endpoint-url.

    aws ec2 describe-images --query 'Images[].[ImageId,Name]' --output text
    aws ec2 run-instances --image-id ami-00000000 --instance-type m1.small --count 2
    aws ec2 describe-instances --query 'Reservations[].Instances[].[InstanceId,State.Name]' --output text

Log: {log}
Press Ctrl-C to stop.
"""


def main(arguments: Sequence[str], out: TextIO) -> int:
    """Serve until interrupted; return the exit code."""
    options = _options(arguments)
    try:
        with (
            interrupt_on_sigterm(),
            _open_log(options, out) as (log, log_place),
            sandbox_server(options.form, options.port, echo=log) as server,
        ):
            text = instructions(server.access, options.form, region(server.access), log_place)
            print(text, file=out, flush=True)
            server.process.wait()
            raise ServerFailed("\n".join(("the server exited; end of its log:", *server.log.last_lines)))
    except ServerFailed as error:
        print(f"FAILED: {error}", file=out, flush=True)
        return 1
    except KeyboardInterrupt:
        return 0


def region(access: ServerAccess) -> str:
    """Return the name of the region, as DescribeRegions reports it."""
    return connect(access).describe_regions()["Regions"][0]["RegionName"]


def instructions(access: ServerAccess, form: str, region_name: str, log: str) -> str:
    """Return the instructions for using the server with the AWS CLI; `log` says where its log is."""
    return _INSTRUCTIONS.format(
        form=form,
        access_key=access.access_key,
        secret_key=access.secret_key,
        region=region_name,
        url=access.url,
        log=log,
    )


@contextmanager
def _open_log(options: Namespace, out: TextIO) -> Iterator[tuple[TextIO, str]]:
    """Open the file to which the server's log is written; yield it with a description of where it is."""
    if options.verbose:
        yield out, "here"
    elif options.log is not None:
        with options.log.open("a", encoding="utf-8") as file:
            yield file, str(options.log)
    else:
        with NamedTemporaryFile("w", encoding="utf-8", prefix="econed-serve-", suffix=".log") as temporary:
            yield temporary.file, f"{temporary.name} (removed on exit)"  # type: ignore[misc]


def _options(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(prog="python -m econed.cli.serve", description="Run econed with an OpenNebula in memory.")
    parser.add_argument("--form", choices=FORMS, default=FORMS[-1], help="the version of OpenNebula to imitate")
    parser.add_argument(
        "--port", type=int, default=PORT, help="port on loopback (default: %(default)s; 0: any free one)"
    )
    log = parser.add_mutually_exclusive_group()
    log.add_argument("--log", type=Path, metavar="FILE", help="append the log to this file (default: a temporary one)")
    log.add_argument("--verbose", "-v", action="store_true", help="print the log here")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    exit_with(lambda: main(sys.argv[1:], sys.stdout))
