"""`make demo`: start econed with an OpenNebula in memory and use it with boto3 as a user of EC2 would.

With `--endpoint` it uses a server that is already running, on any cloud. It deletes everything that it creates.
"""

from __future__ import annotations

import secrets
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TextIO

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from econed.cli.entry import exit_with
from econed.cli.sandbox_server import FORMS, ServerAccess, ServerFailed, interrupt_on_sigterm, sandbox_server

if TYPE_CHECKING:
    from types_boto3_ec2 import EC2Client

REGION: Final = "OpenNebula"
"""The region for which requests are signed; econed accepts any."""

USER_DATA: Final = "#!/bin/sh\necho 'econed was here' > /etc/motd\n"
TAGS: Final[Mapping[str, str]] = {"Name": "web", "stage": "demo"}

_WAITER_DELAY: Final = 1
_WAITER_ATTEMPTS: Final = 600
_MAX_VALUE_LENGTH: Final = 56
_MAX_LINE_LENGTH: Final = 100
_BOTO_ERRORS: Final = (ClientError, WaiterError, BotoCoreError)


class UnexpectedResponse(Exception):
    """The content of a successful response is wrong."""


@dataclass(frozen=True)
class PrintingClient:
    """Makes calls with boto3 and prints each call with its result."""

    client: EC2Client
    out: TextIO

    def call(self, operation: str, **parameters: Any) -> Any:
        """Call an operation by its EC2 name and return the result."""
        self.print("\n" + _formatted_call(operation, parameters))
        method = getattr(self.client, _python_name(operation))
        return method(**parameters)

    def wait(self, waiter: str, ids: Sequence[str]) -> None:
        """Wait with one of botocore's waiters."""
        self.print(f"\nwait {waiter}({', '.join(ids)})")
        config = {"Delay": _WAITER_DELAY, "MaxAttempts": _WAITER_ATTEMPTS}
        self.client.get_waiter(waiter).wait(InstanceIds=ids, WaiterConfig=config)  # type: ignore[call-overload]

    def rows(self, rows: Iterable[Sequence[str]]) -> None:
        """Print rows in aligned columns."""
        table = list(rows)
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for row in table:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.print("    " + "  ".join(cells).rstrip())

    def print(self, text: str) -> None:
        """Print a line."""
        print(text, file=self.out, flush=True)


def run_scenario(ec2: PrintingClient, instance_type: str) -> None:
    """Run two instances of the first AMI, stop, start and terminate them.

    Raises `UnexpectedResponse` for a wrong response, and boto3's exceptions for errors.
    """
    image = choose_image(ec2)
    with key_pair(ec2) as key, two_instances(ec2, image, instance_type, key) as ids:
        ec2.wait("instance_running", ids)
        show_running(ec2, ids, image, key)
        stop(ec2, ids)
        ec2.wait("instance_stopped", ids)
        start(ec2, ids)
        ec2.wait("instance_running", ids)
        terminate(ec2, ids)
        ec2.wait("instance_terminated", ids)
        show_terminated(ec2, ids)


def choose_image(ec2: PrintingClient) -> str:
    """Return the id of the first AMI that is available."""
    images = ec2.call("DescribeImages", Filters=[{"Name": "state", "Values": ["available"]}])["Images"]
    _expect(bool(images), "no AMI is available: mark an image with EC2_AMI=YES, or register one")
    ec2.rows((image["ImageId"], image["Name"], image["State"], image.get("Description", "")) for image in images)
    return str(images[0]["ImageId"])


@contextmanager
def key_pair(ec2: PrintingClient) -> Iterator[str]:
    """Create a key pair with a new name for the duration of the block."""
    name = f"demo-{secrets.token_hex(3)}"
    key = ec2.call("CreateKeyPair", KeyName=name)
    material = key["KeyMaterial"]
    ec2.rows([(key["KeyPairId"], key["KeyName"], key["KeyFingerprint"])])
    ec2.rows([("private key", f"{material.splitlines()[0]} … {len(material)} characters, returned only once")])
    with _undo_on_failure(lambda: ec2.client.delete_key_pair(KeyName=name)):
        yield name
    ec2.rows([(ec2.call("DeleteKeyPair", KeyName=name)["KeyPairId"], "deleted")])


@contextmanager
def two_instances(ec2: PrintingClient, image: str, instance_type: str, key: str) -> Iterator[list[str]]:
    """Run two instances, which the block has to terminate."""
    tags = [{"Key": name, "Value": value} for name, value in TAGS.items()]
    reservation = ec2.call(
        "RunInstances",
        ImageId=image,
        InstanceType=instance_type,
        MinCount=2,
        MaxCount=2,
        KeyName=key,
        UserData=USER_DATA,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    instances = reservation["Instances"]
    ids = [instance["InstanceId"] for instance in instances]
    with _undo_on_failure(lambda: ec2.client.terminate_instances(InstanceIds=ids)):
        _expect(len(ids) == 2, f"2 instances were requested, {len(ids)} were launched")
        ec2.rows(
            (instance["InstanceId"], instance["State"]["Name"], reservation["ReservationId"]) for instance in instances
        )
        yield ids


@contextmanager
def _undo_on_failure(undo: Callable[[], object]) -> Iterator[None]:
    """Call `undo` if the block fails, and raise the error of the block even if `undo` fails too."""
    try:
        yield
    except BaseException:
        with suppress(*_BOTO_ERRORS):
            undo()
        raise


def show_running(ec2: PrintingClient, ids: Sequence[str], image: str, key: str) -> None:
    """Print the running instances and check that they are as requested."""
    instances = _describe(ec2, ids)
    ec2.rows(
        (
            instance["InstanceId"],
            instance["State"]["Name"],
            instance["InstanceType"],
            instance["Placement"]["AvailabilityZone"],
            instance.get("PrivateIpAddress", "no address"),
            ", ".join(f"{tag['Key']}={tag['Value']}" for tag in instance.get("Tags", ())),
        )
        for instance in instances
    )
    for instance in instances:
        tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", ())}
        properties = (instance["State"]["Name"], instance["ImageId"], instance.get("KeyName"), tags)
        _expect(properties == ("running", image, key, dict(TAGS)), f"{instance['InstanceId']} is {properties}")


def stop(ec2: PrintingClient, ids: Sequence[str]) -> None:
    """Stop the instances."""
    _show_changes(ec2, ec2.call("StopInstances", InstanceIds=ids)["StoppingInstances"])


def start(ec2: PrintingClient, ids: Sequence[str]) -> None:
    """Start the instances again."""
    _show_changes(ec2, ec2.call("StartInstances", InstanceIds=ids)["StartingInstances"])


def terminate(ec2: PrintingClient, ids: Sequence[str]) -> None:
    """Terminate the instances."""
    _show_changes(ec2, ec2.call("TerminateInstances", InstanceIds=ids)["TerminatingInstances"])


def show_terminated(ec2: PrintingClient, ids: Sequence[str]) -> None:
    """Print the instances, which DescribeInstances lists for some time after they were terminated."""
    instances = _describe(ec2, ids)
    ec2.rows(
        (instance["InstanceId"], instance["State"]["Name"], instance["StateTransitionReason"]) for instance in instances
    )
    for instance in instances:
        state = instance["State"]["Name"]
        _expect(state == "terminated", f"{instance['InstanceId']} is {state}")


def _describe(ec2: PrintingClient, ids: Sequence[str]) -> list[Any]:
    reservations = ec2.call("DescribeInstances", InstanceIds=ids)["Reservations"]
    instances = [instance for reservation in reservations for instance in reservation["Instances"]]
    described_ids = sorted(instance["InstanceId"] for instance in instances)
    _expect(described_ids == sorted(ids), "the instances listed are not those requested")
    return instances


def _show_changes(ec2: PrintingClient, changes: Sequence[Any]) -> None:
    ec2.rows(
        (change["InstanceId"], change["PreviousState"]["Name"], "->", change["CurrentState"]["Name"])
        for change in changes
    )


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise UnexpectedResponse(message)


def _formatted_call(operation: str, parameters: Mapping[str, Any]) -> str:
    """Return a call on one line, or a parameter per line if it is too long; long values are truncated."""
    arguments = [f"{name}={_truncated(_formatted(value))}" for name, value in parameters.items()]
    line = f"{operation}({', '.join(arguments)})"
    if len(line) <= _MAX_LINE_LENGTH:
        return line
    return f"{operation}(" + "".join(f"\n        {argument}," for argument in arguments) + "\n)"


def _formatted(value: Any) -> str:
    """Return a parameter in a short notation: `Name=web`, `[i-00000001, i-00000002]`."""
    match value:
        case {"Key": key, "Value": text} | {"Name": key, "Values": [text]}:
            return f"{key}={text}"
        case {"ResourceType": kind, "Tags": tags}:
            return f"{kind}: {_formatted(tags)}"
        case list():
            return f"[{', '.join(map(_formatted, value))}]"
        case str() if "\n" in value:
            return repr(value)
    return str(value)


def _truncated(text: str) -> str:
    return text if len(text) <= _MAX_VALUE_LENGTH else text[: _MAX_VALUE_LENGTH - 1] + "…"


def _python_name(operation: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in operation).removeprefix("_")


def connect(access: ServerAccess) -> EC2Client:
    """Return a client of this server; keys, regions and proxies in the environment are not used."""
    session = boto3.session.Session(access.access_key, access.secret_key, region_name=REGION)
    config = Config(retries={"total_max_attempts": 2}, proxies={})
    client: EC2Client = session.client("ec2", endpoint_url=access.url, config=config)
    return client


def demonstrate(access: ServerAccess, instance_type: str, out: TextIO) -> bool:
    """Run the scenario and print an error if it fails; return whether it succeeded."""
    try:
        run_scenario(PrintingClient(connect(access), out), instance_type)
    except (UnexpectedResponse, *_BOTO_ERRORS) as error:
        print(f"\nFAILED: {error}", file=out, flush=True)
        return False
    print("\nAll steps succeeded.", file=out, flush=True)
    return True


def main(arguments: Sequence[str], out: TextIO) -> int:
    """Carry out the command and return its exit code."""
    options = _options(arguments)
    try:
        with interrupt_on_sigterm():
            has_succeeded = _on_running_server(options, out) if options.endpoint else _on_sandbox(options, out)
        return 0 if has_succeeded else 1
    except ServerFailed as error:
        print(f"FAILED: {error}", file=out)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=out)
        return 130


def _on_running_server(options: Namespace, out: TextIO) -> bool:
    access = ServerAccess(options.endpoint, options.access_key, options.secret_key)
    print(f"econed at {access.url}, as {access.access_key}", file=out, flush=True)
    return demonstrate(access, options.instance_type, out)


def _on_sandbox(options: Namespace, out: TextIO) -> bool:
    with sandbox_server(options.form) as server:
        print(f"econed at {server.access.url}, with an OpenNebula {options.form} in memory", file=out, flush=True)
        has_succeeded = demonstrate(server.access, options.instance_type, out)
    if not has_succeeded:
        print("\n    ".join(("End of the server's log:", *server.log.last_lines)), file=out)
    return has_succeeded


def _options(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(prog="python -m econed.cli.demo", description="Use econed as a user of EC2 would.")
    parser.add_argument("--form", choices=FORMS, default=FORMS[-1], help="the version of OpenNebula to imitate")
    parser.add_argument("--endpoint", metavar="URL", help="use the server at this URL instead of starting one")
    parser.add_argument("--access-key", help="with --endpoint: the name of an OpenNebula user")
    parser.add_argument("--secret-key", help="with --endpoint: the user's PASSWORD as oned stores it")
    parser.add_argument("--instance-type", default="m1.small", help="the instance type to run (default: %(default)s)")
    options = parser.parse_args(arguments)
    if bool(options.endpoint) != bool(options.access_key and options.secret_key):
        parser.error("--endpoint, --access-key and --secret-key go together")
    return options


if __name__ == "__main__":
    exit_with(lambda: main(sys.argv[1:], sys.stdout))
