"""`make serve`: leave econed running on an OpenNebula in memory, and say how the aws cli finds it."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final, TextIO

from econed.cli.demo import connect
from econed.cli.sandbox_server import FORMS, Endpoint, ServerFailed, ended_by_sigterm, sandbox_server

PORT: Final = 4567
"""Where econe servers have always listened."""

_HOW = """
econed is serving an OpenNebula {form} in memory; nothing is kept. In another terminal:

    export AWS_ACCESS_KEY_ID={access_key}
    export AWS_SECRET_ACCESS_KEY={secret_key}
    export AWS_DEFAULT_REGION={region}
    export AWS_ENDPOINT_URL_EC2={url}

The aws cli knows AWS_ENDPOINT_URL_EC2 from 1.29 (v1) and 2.13 (v2) on; an older one wants --endpoint-url each time.

    aws ec2 describe-images --query 'Images[].[ImageId,Name]' --output text
    aws ec2 run-instances --image-id ami-00000000 --instance-type m1.small --count 2
    aws ec2 describe-instances --query 'Reservations[].Instances[].[InstanceId,State.Name]' --output text

Its log: {log}
Ctrl-C ends it.
"""


def main(arguments: Sequence[str], out: TextIO) -> int:
    """Serve until interrupted; return the exit code."""
    options = _options(arguments)
    try:
        with (
            ended_by_sigterm(),
            _log(options, out) as (log, where),
            sandbox_server(options.form, options.port, echo=log) as server,
        ):
            text = instructions(server.endpoint, options.form, region(server.endpoint), where)
            print(text, file=out, flush=True)
            server.process.wait()
            raise ServerFailed("\n".join(("the server has ended; its last words:", *server.log.last)))
    except ServerFailed as error:
        print(f"FAILED: {error}", file=out, flush=True)
        return 1
    except KeyboardInterrupt:
        return 0


def region(endpoint: Endpoint) -> str:
    """Return the name of the region that a server says it is."""
    return connect(endpoint).describe_regions()["Regions"][0]["RegionName"]


def instructions(endpoint: Endpoint, form: str, region_name: str, log: str) -> str:
    """Return what a person types to use a server with the aws cli; `log` is where its log is."""
    return _HOW.format(
        form=form,
        access_key=endpoint.access_key,
        secret_key=endpoint.secret_key,
        region=region_name,
        url=endpoint.url,
        log=log,
    )


@contextmanager
def _log(options: Namespace, out: TextIO) -> Iterator[tuple[TextIO, str]]:
    """Open what the server's log is written to, and say where that is: apart from what a person is to read."""
    if options.verbose:
        yield out, "here"
    elif options.log is not None:
        with options.log.open("a", encoding="utf-8") as file:
            yield file, str(options.log)
    else:
        with NamedTemporaryFile("w", encoding="utf-8", prefix="econed-serve-", suffix=".log") as kept:
            yield kept.file, f"{kept.name} (removed at the end)"  # type: ignore[misc]


def _options(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(prog="python -m econed.cli.serve", description="Leave econed running, to try it.")
    parser.add_argument("--form", choices=FORMS, default=FORMS[-1], help="the OpenNebula in memory to be like")
    parser.add_argument(
        "--port", type=int, default=PORT, help="port on loopback (default: %(default)s; 0: any free one)"
    )
    log = parser.add_mutually_exclusive_group()
    log.add_argument("--log", type=Path, metavar="FILE", help="append the log to this file (default: a temporary one)")
    log.add_argument("--verbose", "-v", action="store_true", help="show the log here")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdout))
