"""What the clients of a soak do: calls of every resource, over kept and new connections, and some that are rude."""

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
PATIENCE = 60.0
"""Seconds that a state may take to be reached."""

_POLL = 0.3


@dataclass
class Tally:
    """What was asked and what failed, of all clients together."""

    calls: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def done(self, what: str) -> None:
        """Count a call that ended as it should."""
        with self._lock:
            self.calls[what] += 1

    def failed(self, what: str, why: str) -> None:
        """Count one that did not."""
        with self._lock:
            self.calls[what] += 1
            self.failures[f"{what}: {why}"] += 1


class Failed(Exception):
    """A call failed, and is counted: what was to follow it has no meaning."""


@dataclass(frozen=True)
class Person:
    """A user of the cloud with a client of his own, which tries nothing twice."""

    name: str
    secret: str
    url: str
    ca: str
    tally: Tally

    def client(self, *, secret: str | None = None, **config: Any) -> Any:
        """Return boto3's EC2 client; `secret` is for one that he does not have."""
        return boto3.Session(region_name="us-east-1").client(
            "ec2",
            endpoint_url=self.url,
            verify=self.ca,
            aws_access_key_id=self.name,
            aws_secret_access_key=self.secret if secret is None else secret,
            config=Config(retries={"total_max_attempts": 1}, proxies={}, read_timeout=PATIENCE, **config),
        )

    def ask(self, ec2: Any, action: str, **parameters: Any) -> Any:
        """Make a call; a failure is counted and ends what it is part of."""
        try:
            answer = getattr(ec2, action)(**parameters)
        except (ClientError, BotoCoreError) as error:
            self.tally.failed(action, str(error))
            raise Failed(action) from error
        self.tally.done(action)
        return answer

    def until(self, ec2: Any, action: str, reached: Callable[[Any], bool], **parameters: Any) -> Any:
        """Ask again and again until an answer is as wished."""
        deadline = time.monotonic() + PATIENCE
        while not reached(answer := self.ask(ec2, action, **parameters)):
            if time.monotonic() > deadline:
                self.tally.failed(action, f"not reached in {PATIENCE:g} s")
                raise Failed(action)
            time.sleep(_POLL)
        return answer


def past(person: Person) -> None:
    """Give a user as many instances that have ended as are ever looked at, so that documents grow no more."""
    ec2 = person.client()
    launched = person.ask(ec2, "run_instances", ImageId=AMI, InstanceType="m1.small", MinCount=250, MaxCount=250)
    person.ask(ec2, "terminate_instances", InstanceIds=[each["InstanceId"] for each in launched["Instances"]])
    ec2.close()


def instances(person: Person, ec2: Any) -> None:
    """The life of two instances: launched, tagged, stopped, started, with a volume and an address, terminated."""
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": f"soak <{person.name}>"}]}]
    launched = person.ask(
        ec2, "run_instances", ImageId=AMI, InstanceType="m1.small", MinCount=2, MaxCount=2,
        ClientToken=uuid4().hex, UserData="#!/bin/sh\n" + "echo soak\n" * 200, TagSpecifications=tags,
    )["Instances"]  # fmt: skip
    ids = [each["InstanceId"] for each in launched]
    try:
        _in_state(person, ec2, ids, "running")
        person.ask(ec2, "create_tags", Resources=ids, Tags=[{"Key": "round", "Value": uuid4().hex}])
        person.ask(ec2, "describe_tags", Filters=[{"Name": "resource-id", "Values": ids}])
        _volume(person, ec2, ids[0])
        _address(person, ec2, ids[1])
        person.ask(ec2, "stop_instances", InstanceIds=ids)
        _in_state(person, ec2, ids, "stopped")
        person.ask(ec2, "start_instances", InstanceIds=ids)
        _in_state(person, ec2, ids, "running")
        person.ask(ec2, "reboot_instances", InstanceIds=ids)
    finally:
        with suppress(Failed):
            person.ask(ec2, "terminate_instances", InstanceIds=ids)
            _in_state(person, ec2, ids, "terminated")


def _in_state(person: Person, ec2: Any, ids: list[str], state: str) -> None:
    def reached(answer: Any) -> bool:
        found = [each["State"]["Name"] for held in answer["Reservations"] for each in held["Instances"]]
        return found == [state] * len(ids)

    person.until(ec2, "describe_instances", reached, InstanceIds=ids)


def _volume(person: Person, ec2: Any, instance: str) -> None:
    made = person.ask(ec2, "create_volume", Size=1, AvailabilityZone="default")["VolumeId"]

    try:
        _volume_becomes(person, ec2, made, "available")
        person.ask(ec2, "attach_volume", VolumeId=made, InstanceId=instance, Device="/dev/sdf")
        _volume_becomes(person, ec2, made, "in-use")
        person.until(
            ec2, "describe_volumes",
            lambda answer: answer["Volumes"][0]["Attachments"][0]["State"] == "attached", VolumeIds=[made],
        )  # fmt: skip
        person.ask(ec2, "detach_volume", VolumeId=made)
        _volume_becomes(person, ec2, made, "available")
    finally:
        person.ask(ec2, "delete_volume", VolumeId=made)


def _volume_becomes(person: Person, ec2: Any, volume: str, state: str) -> None:
    person.until(ec2, "describe_volumes", lambda answer: answer["Volumes"][0]["State"] == state, VolumeIds=[volume])


def _address(person: Person, ec2: Any, instance: str) -> None:
    address = person.ask(ec2, "allocate_address")["PublicIp"]
    try:
        person.ask(ec2, "associate_address", PublicIp=address, InstanceId=instance)
        person.ask(ec2, "describe_addresses", PublicIps=[address])
        person.ask(ec2, "disassociate_address", PublicIp=address)
    finally:
        person.ask(ec2, "release_address", PublicIp=address)


def keys(person: Person, ec2: Any) -> None:
    """A key pair made, seen and removed."""
    name = f"key {uuid4().hex}"
    person.ask(ec2, "create_key_pair", KeyName=name)
    person.ask(ec2, "describe_key_pairs", KeyNames=[name])
    person.ask(ec2, "delete_key_pair", KeyName=name)


def looking(person: Person, ec2: Any) -> None:
    """What a dashboard asks."""
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
        person.ask(ec2, action)


def snapshots(person: Person, ec2: Any) -> None:
    """A volume, a snapshot of it and a volume of that, all removed again."""
    volume = person.ask(ec2, "create_volume", Size=1, AvailabilityZone="default")["VolumeId"]
    _volume_becomes(person, ec2, volume, "available")
    snapshot = person.ask(ec2, "create_snapshot", VolumeId=volume)["SnapshotId"]
    person.until(
        ec2, "describe_snapshots", lambda answer: answer["Snapshots"][0]["State"] == "completed", SnapshotIds=[snapshot]
    )
    other = person.ask(ec2, "create_volume", SnapshotId=snapshot, AvailabilityZone="default")["VolumeId"]
    _volume_becomes(person, ec2, other, "available")
    person.ask(ec2, "delete_volume", VolumeId=other)
    person.ask(ec2, "delete_snapshot", SnapshotId=snapshot)
    person.ask(ec2, "delete_volume", VolumeId=volume)


def uploading(person: Person, ec2: Any) -> None:
    """An image of 4 MB, sent as the Ruby tools do, registered, seen and deregistered; and one that breaks off."""
    content_type, body = upload_form(person, person.url, b"\0" * (4 << 20))
    context = ssl.create_default_context(cafile=person.ca)
    answer = send(person.url, "POST", body, {"Content-Type": content_type}, tls=context)
    if answer.status != 200:
        person.tally.failed("upload_image", f"{answer.status} {answer.body!r:.200}")
        raise Failed("upload_image")
    person.tally.done("upload_image")
    (image,) = answer.texts("imageId")
    person.ask(ec2, "register_image", ImageLocation=image, Name=f"soak {uuid4().hex}")
    person.until(ec2, "describe_images", lambda answer: answer["Images"][0]["State"] == "available", ImageIds=[image])
    person.ask(ec2, "deregister_image", ImageId=image)
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    where = urlsplit(person.url)
    with _over_tls(context, str(where.hostname), where.port or 443) as connection:
        connection.sendall(head.encode() + body[: 1 << 20])
    person.tally.done("uploads broken off")


def refused(person: Person, ec2: Any) -> None:
    """Calls that have to fail, and how: an unknown id, a wrong secret."""
    stranger = person.client(secret="wrong")
    for client, code in ((ec2, "InvalidInstanceID.NotFound"), (stranger, "AuthFailure")):
        try:
            client.describe_instances(InstanceIds=["i-99999999"])
        except ClientError as error:
            if error.response["Error"]["Code"] == code:
                person.tally.done(f"refused with {code}")
                continue
            person.tally.failed("describe_instances", str(error))
        else:
            person.tally.failed("describe_instances", f"not refused with {code}")
    stranger.close()


def rude(person: Person, _: Any) -> None:
    """Connections that end where none should: before the handshake, in it, in the headers, in the body; and garbage."""
    where = urlsplit(person.url)
    context = ssl.create_default_context(cafile=person.ca)
    for said in (None, b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\nHost: x\r\n"):
        with suppress(OSError), socket.create_connection((where.hostname, where.port or 443), 10) as plain:
            plain.sendall(said or b"")
    for said in (b"", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Le", b"\0\1\2\3\r\n\r\n", _UNFINISHED):
        with _over_tls(context, str(where.hostname), where.port or 443) as connection:
            connection.sendall(said)
    person.tally.done("rude connections")


_UNFINISHED = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nAction=Descr"


@contextmanager
def _over_tls(context: ssl.SSLContext, host: str, port: int) -> Iterator[ssl.SSLSocket]:
    with (
        suppress(OSError),
        socket.create_connection((host, port), 10) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        yield secure


def go_on(person: Person, work: Callable[[Person, Any], None], pause: float, over: threading.Event) -> None:
    """Do one kind of work again and again until it is over, every tenth time with a new client."""
    ec2, rounds = person.client(), 0
    while not over.is_set():
        with suppress(Failed):
            work(person, ec2)
        rounds += 1
        if rounds % 10 == 0:
            ec2.close()
            ec2 = person.client(signature_version=("v4", "v2")[rounds // 10 % 2])
        over.wait(pause)
    ec2.close()
