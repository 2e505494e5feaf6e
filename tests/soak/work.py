"""The clients of the soak test: calls for every resource, on kept and new connections, and invalid connections."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.support.clients import send, upload_form

AMI = "ami-00000000"
STATE_TIMEOUT = 60.0
"""Seconds that a resource may take to reach a state."""

_POLL = 0.3


@dataclass
class Tally:
    """Calls and failures of all clients together."""

    calls: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def succeeded(self, call: str) -> None:
        """Count a call with the expected result."""
        with self._lock:
            self.calls[call] += 1

    def failed(self, call: str, reason: str) -> None:
        """Count a call with another result."""
        with self._lock:
            self.calls[call] += 1
            self.failures[f"{call}: {reason}"] += 1


class CallFailed(Exception):
    """A call failed and was counted; the rest of its task is skipped."""


@dataclass(frozen=True)
class CloudUser:
    """A user of the cloud with their own client, which does not retry."""

    name: str
    secret: str
    url: str
    ca: str
    tally: Tally

    def client(self, *, secret: str | None = None, **config: Any) -> Any:
        """Return a boto3 client for EC2; `secret` overrides the user's secret key."""
        return boto3.Session(region_name="us-east-1").client(
            "ec2",
            endpoint_url=self.url,
            verify=self.ca,
            aws_access_key_id=self.name,
            aws_secret_access_key=self.secret if secret is None else secret,
            config=Config(retries={"total_max_attempts": 1}, proxies={}, read_timeout=STATE_TIMEOUT, **config),
        )

    def call(self, ec2: Any, action: str, **parameters: Any) -> Any:
        """Make a call; if it fails, count that and raise `CallFailed`."""
        try:
            response = getattr(ec2, action)(**parameters)
        except (ClientError, BotoCoreError) as error:
            self.tally.failed(action, str(error))
            raise CallFailed(action) from error
        self.tally.succeeded(action)
        return response

    def wait_until(self, ec2: Any, action: str, is_reached: Callable[[Any], bool], **parameters: Any) -> Any:
        """Repeat a call until its response meets a condition."""
        deadline = time.monotonic() + STATE_TIMEOUT
        while not is_reached(response := self.call(ec2, action, **parameters)):
            if time.monotonic() > deadline:
                self.tally.failed(action, f"not reached in {STATE_TIMEOUT:g} s")
                raise CallFailed(action)
            time.sleep(_POLL)
        return response


def create_terminated_instances(user: CloudUser) -> None:
    """Create more terminated instances than are ever read, so that documents do not grow during the test."""
    ec2 = user.client()
    launched = user.call(ec2, "run_instances", ImageId=AMI, InstanceType="m1.small", MinCount=250, MaxCount=250)
    user.call(ec2, "terminate_instances", InstanceIds=[instance["InstanceId"] for instance in launched["Instances"]])
    ec2.close()


def instances(user: CloudUser, ec2: Any) -> None:
    """Launch, tag, stop, start, reboot and terminate two instances, with a volume and an elastic IP."""
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": f"soak <{user.name}>"}]}]
    launched = user.call(
        ec2, "run_instances", ImageId=AMI, InstanceType="m1.small", MinCount=2, MaxCount=2,
        ClientToken=uuid4().hex, UserData="#!/bin/sh\n" + "echo soak\n" * 200, TagSpecifications=tags,
    )["Instances"]  # fmt: skip
    ids = [instance["InstanceId"] for instance in launched]
    try:
        _wait_for_state(user, ec2, ids, "running")
        user.call(ec2, "create_tags", Resources=ids, Tags=[{"Key": "round", "Value": uuid4().hex}])
        user.call(ec2, "describe_tags", Filters=[{"Name": "resource-id", "Values": ids}])
        _attach_and_detach_volume(user, ec2, ids[0])
        _associate_and_release_address(user, ec2, ids[1])
        user.call(ec2, "stop_instances", InstanceIds=ids)
        _wait_for_state(user, ec2, ids, "stopped")
        user.call(ec2, "start_instances", InstanceIds=ids)
        _wait_for_state(user, ec2, ids, "running")
        user.call(ec2, "reboot_instances", InstanceIds=ids)
    finally:
        with suppress(CallFailed):
            user.call(ec2, "terminate_instances", InstanceIds=ids)
            _wait_for_state(user, ec2, ids, "terminated")


def _wait_for_state(user: CloudUser, ec2: Any, ids: list[str], state: str) -> None:
    def is_reached(response: Any) -> bool:
        reservations = response["Reservations"]
        states = [instance["State"]["Name"] for reservation in reservations for instance in reservation["Instances"]]
        return states == [state] * len(ids)

    user.wait_until(ec2, "describe_instances", is_reached, InstanceIds=ids)


def _attach_and_detach_volume(user: CloudUser, ec2: Any, instance: str) -> None:
    volume = user.call(ec2, "create_volume", Size=1, AvailabilityZone="default")["VolumeId"]
    try:
        _wait_for_volume(user, ec2, volume, "available")
        user.call(ec2, "attach_volume", VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
        _wait_for_volume(user, ec2, volume, "in-use")
        user.wait_until(
            ec2, "describe_volumes",
            lambda response: response["Volumes"][0]["Attachments"][0]["State"] == "attached", VolumeIds=[volume],
        )  # fmt: skip
        user.call(ec2, "detach_volume", VolumeId=volume)
        _wait_for_volume(user, ec2, volume, "available")
    finally:
        user.call(ec2, "delete_volume", VolumeId=volume)


def _wait_for_volume(user: CloudUser, ec2: Any, volume: str, state: str) -> None:
    user.wait_until(
        ec2, "describe_volumes", lambda response: response["Volumes"][0]["State"] == state, VolumeIds=[volume]
    )


def _associate_and_release_address(user: CloudUser, ec2: Any, instance: str) -> None:
    address = user.call(ec2, "allocate_address")["PublicIp"]
    try:
        user.call(ec2, "associate_address", PublicIp=address, InstanceId=instance)
        user.call(ec2, "describe_addresses", PublicIps=[address])
        user.call(ec2, "disassociate_address", PublicIp=address)
    finally:
        user.call(ec2, "release_address", PublicIp=address)


def key_pairs(user: CloudUser, ec2: Any) -> None:
    """Create, describe and delete a key pair."""
    name = f"key {uuid4().hex}"
    user.call(ec2, "create_key_pair", KeyName=name)
    user.call(ec2, "describe_key_pairs", KeyNames=[name])
    user.call(ec2, "delete_key_pair", KeyName=name)


def describe_all(user: CloudUser, ec2: Any) -> None:
    """List all resources, as a dashboard does."""
    for action in (
        "describe_instances",
        "describe_images",
        "describe_volumes",
        "describe_addresses",
        "describe_tags",
        "describe_regions",
        "describe_availability_zones",
        "describe_snapshots",
    ):
        user.call(ec2, action)


def snapshots(user: CloudUser, ec2: Any) -> None:
    """Create a volume, a snapshot of it and a volume from the snapshot, and delete them."""
    volume = user.call(ec2, "create_volume", Size=1, AvailabilityZone="default")["VolumeId"]
    _wait_for_volume(user, ec2, volume, "available")
    snapshot = user.call(ec2, "create_snapshot", VolumeId=volume)["SnapshotId"]
    user.wait_until(
        ec2,
        "describe_snapshots",
        lambda response: response["Snapshots"][0]["State"] == "completed",
        SnapshotIds=[snapshot],
    )
    copy = user.call(ec2, "create_volume", SnapshotId=snapshot, AvailabilityZone="default")["VolumeId"]
    _wait_for_volume(user, ec2, copy, "available")
    user.call(ec2, "delete_volume", VolumeId=copy)
    user.call(ec2, "delete_snapshot", SnapshotId=snapshot)
    user.call(ec2, "delete_volume", VolumeId=volume)


def uploads(user: CloudUser, ec2: Any) -> None:
    """Upload an image of 4 MB as the Ruby tools do, register and deregister it; abort another upload."""
    content_type, body = upload_form(user, user.url, b"\0" * (4 << 20))
    context = ssl.create_default_context(cafile=user.ca)
    response = send(user.url, "POST", body, {"Content-Type": content_type}, tls=context)
    if response.status != 200:
        user.tally.failed("upload_image", f"{response.status} {response.body!r:.200}")
        raise CallFailed("upload_image")
    user.tally.succeeded("upload_image")
    (image,) = response.texts("imageId")
    user.call(ec2, "register_image", ImageLocation=image, Name=f"soak {uuid4().hex}")
    user.wait_until(
        ec2, "describe_images", lambda response: response["Images"][0]["State"] == "available", ImageIds=[image]
    )
    user.call(ec2, "deregister_image", ImageId=image)
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    address = urlsplit(user.url)
    with _tls_connection(context, str(address.hostname), address.port or 443) as connection:
        connection.sendall(head.encode() + body[: 1 << 20])
    user.tally.succeeded("aborted uploads")


def rejected_calls(user: CloudUser, ec2: Any) -> None:
    """Make calls that must fail with a certain error: an unknown id, a wrong secret."""
    wrong_secret = user.client(secret="wrong")
    for client, code in ((ec2, "InvalidInstanceID.NotFound"), (wrong_secret, "AuthFailure")):
        try:
            client.describe_instances(InstanceIds=["i-99999999"])
        except ClientError as error:
            if error.response["Error"]["Code"] == code:
                user.tally.succeeded(f"rejected with {code}")
                continue
            user.tally.failed("describe_instances", str(error))
        else:
            user.tally.failed("describe_instances", f"not rejected with {code}")
    wrong_secret.close()


def broken_connections(user: CloudUser, _: Any) -> None:
    """Close connections before or during the handshake, in the headers and in the body; send garbage."""
    address = urlsplit(user.url)
    context = ssl.create_default_context(cafile=user.ca)
    for data in (None, b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\nHost: x\r\n"):
        with suppress(OSError), socket.create_connection((address.hostname, address.port or 443), 10) as plain:
            plain.sendall(data or b"")
    for data in (b"", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Le", b"\0\1\2\3\r\n\r\n", _UNFINISHED):
        with _tls_connection(context, str(address.hostname), address.port or 443) as connection:
            connection.sendall(data)
    user.tally.succeeded("broken connections")


_UNFINISHED = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nAction=Descr"


@contextmanager
def _tls_connection(context: ssl.SSLContext, host: str, port: int) -> Iterator[ssl.SSLSocket]:
    with (
        suppress(OSError),
        socket.create_connection((host, port), 10) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        yield secure


def repeat(user: CloudUser, task: Callable[[CloudUser, Any], None], pause: float, stopped: threading.Event) -> None:
    """Repeat a task until `stopped` is set; use a new client every ten rounds."""
    ec2, rounds = user.client(), 0
    while not stopped.is_set():
        with suppress(CallFailed):
            task(user, ec2)
        rounds += 1
        if rounds % 10 == 0:
            ec2.close()
            ec2 = user.client(signature_version=("v4", "v2")[rounds // 10 % 2])
        stopped.wait(pause)
    ec2.close()
