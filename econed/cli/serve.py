"""`make serve`: leave econed running on an OpenNebula in memory, and say how the aws cli finds it."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Final, TextIO

from econed.cli.sandbox_server import FORMS, Endpoint, ServerFailed, ended_by_sigterm, sandbox_server

PORT: Final = 4567
"""Where econe servers have always listened."""

_HOW = """
econed is serving an OpenNebula {form} in memory; nothing is kept. In another terminal:

    export AWS_ACCESS_KEY_ID={access_key}
    export AWS_SECRET_ACCESS_KEY={secret_key}
    export AWS_DEFAULT_REGION=opennebula
    export AWS_ENDPOINT_URL_EC2={url}

The aws cli knows AWS_ENDPOINT_URL_EC2 from 1.29 (v1) and 2.13 (v2) on; an older one wants --endpoint-url each time.

    aws ec2 describe-images --query 'Images[].[ImageId,Name]' --output text
    aws ec2 run-instances --image-id ami-00000000 --instance-type m1.small --count 2
    aws ec2 describe-instances --query 'Reservations[].Instances[].[InstanceId,State.Name]' --output text

Ctrl-C ends it.
"""


def main(arguments: Sequence[str], out: TextIO) -> int:
    """Serve until interrupted; return the exit code."""
    options = _options(arguments)
    try:
        with ended_by_sigterm(), sandbox_server(options.form, options.port, echo=out) as server:
            print(instructions(server.endpoint, options.form), file=out, flush=True)
            server.process.wait()
            raise ServerFailed("the server has ended")
    except ServerFailed as error:
        print(f"FAILED: {str(error).splitlines()[0]}", file=out, flush=True)
        return 1
    except KeyboardInterrupt:
        return 0


def instructions(endpoint: Endpoint, form: str) -> str:
    """Return what a person types to use a server with the aws cli."""
    return _HOW.format(form=form, access_key=endpoint.access_key, secret_key=endpoint.secret_key, url=endpoint.url)


def _options(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(prog="python -m econed.cli.serve", description="Leave econed running, to try it.")
    parser.add_argument("--form", choices=FORMS, default=FORMS[-1], help="the OpenNebula in memory to be like")
    parser.add_argument(
        "--port", type=int, default=PORT, help="port on loopback (default: %(default)s; 0: any free one)"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdout))
