"""`make demo`: start econed on an OpenNebula in memory and use it as a user of EC2 would, with boto3.

With `--endpoint` it drives a server that runs already, in front of whatever cloud. It takes away what it makes.
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

from econed.cli.sandbox_server import FORMS, Endpoint, ServerFailed, ended_by_sigterm, sandbox_server

if TYPE_CHECKING:
    from types_boto3_ec2 import EC2Client

REGION: Final = "OpenNebula"
"""What requests are signed for; econed takes any region."""

USER_DATA: Final = "#!/bin/sh\necho 'econed was here' > /etc/motd\n"
TAGS: Final[Mapping[str, str]] = {"Name": "web", "stage": "demo"}

_EVERY: Final = 1
_LOOKS: Final = 600
_SHOWN: Final = 56
_LINE: Final = 100
_FAILURES: Final = (ClientError, WaiterError, BotoCoreError)


class Unexpected(Exception):
    """The server answered, and the answer is not what was asked for."""


@dataclass(frozen=True)
class Narrator:
    """Makes calls by boto3, and tells each with what came back."""

    client: EC2Client
    out: TextIO

    def call(self, operation: str, **parameters: Any) -> Any:
        """Call an operation by its EC2 name and return the result."""
        self.say("\n" + _told(operation, parameters))
        method = getattr(self.client, _python_name(operation))
        return method(**parameters)

    def wait(self, waiter: str, ids: Sequence[str]) -> None:
        """Wait as the SDKs do, by one of botocore's waiters."""
        self.say(f"\nwait {waiter}({', '.join(ids)})")
        config = {"Delay": _EVERY, "MaxAttempts": _LOOKS}
        self.client.get_waiter(waiter).wait(InstanceIds=ids, WaiterConfig=config)  # type: ignore[call-overload]

    def rows(self, rows: Iterable[Sequence[str]]) -> None:
        """Tell what came back, a thing on a line, in columns."""
        table = list(rows)
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for row in table:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.say("    " + "  ".join(cells).rstrip())

    def say(self, text: str) -> None:
        """Tell a line."""
        print(text, file=self.out, flush=True)


def tour(ec2: Narrator, instance_type: str) -> None:
    """Go through the life of two instances, from choosing their image to their end.

    Raises `Unexpected` where an answer is wrong, and what boto3 raises where there is none.
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


def choose_image(ec2: Narrator) -> str:
    """Return the first AMI that can be used."""
    images = ec2.call("DescribeImages", Filters=[{"Name": "state", "Values": ["available"]}])["Images"]
    _expect(bool(images), "no AMI can be used: mark an image with EC2_AMI=YES, or register one")
    ec2.rows((each["ImageId"], each["Name"], each["State"], each.get("Description", "")) for each in images)
    return str(images[0]["ImageId"])


@contextmanager
def key_pair(ec2: Narrator) -> Iterator[str]:
    """Have a key pair of a new name for as long as the block runs."""
    name = f"demo-{secrets.token_hex(3)}"
    made = ec2.call("CreateKeyPair", KeyName=name)
    material = made["KeyMaterial"]
    ec2.rows([(made["KeyPairId"], made["KeyName"], made["KeyFingerprint"])])
    ec2.rows([("private key", f"{material.splitlines()[0]} … {len(material)} characters, given out this once")])
    with _undone_on_failure(lambda: ec2.client.delete_key_pair(KeyName=name)):
        yield name
    ec2.rows([(ec2.call("DeleteKeyPair", KeyName=name)["KeyPairId"], "deleted")])


@contextmanager
def two_instances(ec2: Narrator, image: str, instance_type: str, key: str) -> Iterator[list[str]]:
    """Have two instances, which the block is to terminate."""
    tags = [{"Key": name, "Value": value} for name, value in TAGS.items()]
    answer = ec2.call(
        "RunInstances",
        ImageId=image,
        InstanceType=instance_type,
        MinCount=2,
        MaxCount=2,
        KeyName=key,
        UserData=USER_DATA,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    ids = [each["InstanceId"] for each in answer["Instances"]]
    with _undone_on_failure(lambda: ec2.client.terminate_instances(InstanceIds=ids)):
        _expect(len(ids) == 2, f"2 instances were asked for, {len(ids)} were made")
        ec2.rows((each["InstanceId"], each["State"]["Name"], answer["ReservationId"]) for each in answer["Instances"])
        yield ids


@contextmanager
def _undone_on_failure(undo: Callable[[], object]) -> Iterator[None]:
    """If the block fails, leave nothing behind; what failed counts, not how the undoing went."""
    try:
        yield
    except BaseException:
        with suppress(*_FAILURES):
            undo()
        raise


def show_running(ec2: Narrator, ids: Sequence[str], image: str, key: str) -> None:
    """Tell what the instances are now, each field as it was asked for."""
    found = _described(ec2, ids)
    ec2.rows(
        (
            each["InstanceId"],
            each["State"]["Name"],
            each["InstanceType"],
            each["Placement"]["AvailabilityZone"],
            each.get("PrivateIpAddress", "no address"),
            ", ".join(f"{tag['Key']}={tag['Value']}" for tag in each.get("Tags", ())),
        )
        for each in found
    )
    for each in found:
        tags = {tag["Key"]: tag["Value"] for tag in each.get("Tags", ())}
        shown = (each["State"]["Name"], each["ImageId"], each.get("KeyName"), tags)
        _expect(shown == ("running", image, key, dict(TAGS)), f"{each['InstanceId']} is {shown}")


def stop(ec2: Narrator, ids: Sequence[str]) -> None:
    """Stop the instances."""
    _show_changes(ec2, ec2.call("StopInstances", InstanceIds=ids)["StoppingInstances"])


def start(ec2: Narrator, ids: Sequence[str]) -> None:
    """Start them again."""
    _show_changes(ec2, ec2.call("StartInstances", InstanceIds=ids)["StartingInstances"])


def terminate(ec2: Narrator, ids: Sequence[str]) -> None:
    """End them for good."""
    _show_changes(ec2, ec2.call("TerminateInstances", InstanceIds=ids)["TerminatingInstances"])


def show_terminated(ec2: Narrator, ids: Sequence[str]) -> None:
    """Tell that instances that have ended are still to be seen, for a while."""
    found = _described(ec2, ids)
    ec2.rows((each["InstanceId"], each["State"]["Name"], each["StateTransitionReason"]) for each in found)
    for each in found:
        _expect(each["State"]["Name"] == "terminated", f"{each['InstanceId']} is {each['State']['Name']}")


def _described(ec2: Narrator, ids: Sequence[str]) -> list[Any]:
    answer = ec2.call("DescribeInstances", InstanceIds=ids)
    found = [each for reservation in answer["Reservations"] for each in reservation["Instances"]]
    _expect(sorted(each["InstanceId"] for each in found) == sorted(ids), "not the instances that were asked for")
    return found


def _show_changes(ec2: Narrator, changes: Sequence[Any]) -> None:
    ec2.rows(
        (each["InstanceId"], each["PreviousState"]["Name"], "->", each["CurrentState"]["Name"]) for each in changes
    )


def _expect(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise Unexpected(otherwise)


def _told(operation: str, parameters: Mapping[str, Any]) -> str:
    """Return a call as a person wants to read it: long values are cut, and of many each has its own line."""
    told = [f"{name}={_shortened(_plain(value))}" for name, value in parameters.items()]
    line = f"{operation}({', '.join(told)})"
    return line if len(line) <= _LINE else f"{operation}(" + "".join(f"\n        {each}," for each in told) + "\n)"


def _plain(value: Any) -> str:
    """Return a parameter without the marks that only a program needs: `Name=web`, `[i-00000001, i-00000002]`."""
    match value:
        case {"Key": key, "Value": text} | {"Name": key, "Values": [text]}:
            return f"{key}={text}"
        case {"ResourceType": kind, "Tags": tags}:
            return f"{kind}: {_plain(tags)}"
        case list():
            return f"[{', '.join(map(_plain, value))}]"
        case str() if "\n" in value:
            return repr(value)
    return str(value)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _python_name(operation: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in operation).removeprefix("_")


def connect(endpoint: Endpoint) -> EC2Client:
    """Return a client for this endpoint, whatever the environment says of keys, regions and proxies."""
    session = boto3.session.Session(endpoint.access_key, endpoint.secret_key, region_name=REGION)
    config = Config(retries={"total_max_attempts": 2}, proxies={})
    client: EC2Client = session.client("ec2", endpoint_url=endpoint.url, config=config)
    return client


def demonstrate(endpoint: Endpoint, instance_type: str, out: TextIO) -> bool:
    """Go on the tour; return whether all of it worked, and otherwise say what did not."""
    try:
        tour(Narrator(connect(endpoint), out), instance_type)
    except (Unexpected, *_FAILURES) as error:
        print(f"\nFAILED: {error}", file=out, flush=True)
        return False
    print("\nAll of it worked.", file=out, flush=True)
    return True


def main(arguments: Sequence[str], out: TextIO) -> int:
    """Carry out the command and return its exit code."""
    options = _options(arguments)
    try:
        with ended_by_sigterm():
            worked = _on_running_server(options, out) if options.endpoint else _on_sandbox(options, out)
        return 0 if worked else 1
    except ServerFailed as error:
        print(f"FAILED: {error}", file=out)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=out)
        return 130


def _on_running_server(options: Namespace, out: TextIO) -> bool:
    endpoint = Endpoint(options.endpoint, options.access_key, options.secret_key)
    print(f"econed at {endpoint.url}, as {endpoint.access_key}", file=out, flush=True)
    return demonstrate(endpoint, options.instance_type, out)


def _on_sandbox(options: Namespace, out: TextIO) -> bool:
    with sandbox_server(options.form) as server:
        print(f"econed at {server.endpoint.url}, on an OpenNebula {options.form} in memory", file=out, flush=True)
        worked = demonstrate(server.endpoint, options.instance_type, out)
    if not worked:
        print("\n    ".join(("The server's last words:", *server.log.last)), file=out)
    return worked


def _options(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(prog="python -m econed.cli.demo", description="Use econed as a user of EC2 would.")
    parser.add_argument("--form", choices=FORMS, default=FORMS[-1], help="the OpenNebula in memory to be like")
    parser.add_argument("--endpoint", metavar="URL", help="drive the server at this URL, start none")
    parser.add_argument("--access-key", help="with --endpoint: the name of an OpenNebula user")
    parser.add_argument("--secret-key", help="with --endpoint: his PASSWORD as oned keeps it")
    parser.add_argument("--instance-type", default="m1.small", help="the instance type to run (default: %(default)s)")
    options = parser.parse_args(arguments)
    if bool(options.endpoint) != bool(options.access_key and options.secret_key):
        parser.error("--endpoint, --access-key and --secret-key go together")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdout))
