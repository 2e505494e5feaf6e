"""`python -m tests.attacks [name …]`: attack an econed on this machine, and say what it cost another user.

Each attack has an econed of its own on loopback, ends by itself after a minute or two, and says what was refused.
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.attacks.victim import Named, waiting
from tests.soak.watching import children, look
from tests.support.clients import send, upload, upload_form, v2_form
from tests.support.deployment import Deployment, deployed

MALLORY, VICTIM = Named("mallory"), Named("victim")
ANSWERED_BEFORE = 3.0
"""Seconds for which the other user is watched before the attack: the baseline."""

_MIB = 1 << 20
_GONE_FOR = 60.0
_READERS = 20
_MACHINES = 5000

Say = Callable[[str], None]


@dataclass(frozen=True)
class Attack:
    """What is done, on an econed with these settings and so many machines of the attacker's."""

    run: Callable[[Deployment, Path, Say], None]
    settings: Mapping[str, object] = field(default_factory=dict)
    machines: int = 0


def _client(url: str, user: Named) -> Any:
    session = boto3.Session(user.name, user.secret, region_name="us-east-1")
    config = Config(retries={"total_max_attempts": 1}, proxies={}, read_timeout=120, parameter_validation=False)
    return session.client("ec2", endpoint_url=url, config=config)


def _sent(url: str, user: Named, action: str, parameters: Mapping[str, str]) -> str:
    """Send a form and return what came of it: 200, or the code of the error."""
    return _posted(url, v2_form(user, url, {"Action": action, **parameters}, method="POST"))


def _posted(url: str, form: str) -> str:
    """Send a form that is signed already: signing very long ones would hold up the other user's thread."""
    try:
        answer = send(url, "POST", form)
    except (OSError, ValueError) as error:
        return type(error).__name__
    return "200" if answer.status == 200 else f"{answer.status} {answer.code}"


def _watched(econed: Deployment, say: Say, action: str, attack: Callable[[], object]) -> None:
    """Say how long another user waits before an attack and during it."""
    with waiting(econed.url, VICTIM, action) as before:
        time.sleep(ANSWERED_BEFORE)
    say(f"  another user's {action} before: {before.told()}")
    with waiting(econed.url, VICTIM, action) as meanwhile:
        began = time.monotonic()
        came_of_it = attack()
        took = time.monotonic() - began
    say(f"  the attack took {took:.1f} s and was answered: {came_of_it}")
    say(f"  another user's {action} meanwhile: {meanwhile.told()}")


def filters(econed: Deployment, _: Path, say: Say) -> None:
    """Send one request with as many filter values as fit into it, on five volumes of 50 tags."""
    ec2 = _client(econed.url, MALLORY)
    zone = ec2.describe_availability_zones()["AvailabilityZones"][0]["ZoneName"]
    tags = [{"Key": f"{'a' * 120}{number:02}", "Value": "a" * 250} for number in range(49)]
    tags.append({"Key": "z", "Value": ""})
    for _number in range(5):
        ec2.create_volume(AvailabilityZone=zone, Size=1, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}])
    for count in (1, 5, 22):
        given = {}
        for number in range(count):
            given[f"Filter.{number + 1}.Name"] = "tag-key"
            given |= {f"Filter.{number + 1}.Value.{value + 1}": f"*{'a' * 60}b{value}" for value in range(199)}
            given[f"Filter.{number + 1}.Value.200"] = (
                "z*"  # the last tag, or the filters behind it would not be looked at
            )
        size = len(v2_form(MALLORY, econed.url, given))
        say(f" one DescribeVolumes of {size // 1024} KiB, {count} filters of 200 values")
        _watched(econed, say, "DescribeRegions", partial(_sent, econed.url, MALLORY, "DescribeVolumes", given))


def ids(econed: Deployment, _: Path, say: Say) -> None:
    """Ask for images that there are not: 1,000 and 4,900, by one request and by ten at once."""
    for named, count in ((1000, 1), (1000, 10), (4900, 1), (4900, 10)):
        unknown = {f"ImageId.{number}": f"ami-{number + 10_000:08d}" for number in range(1, named + 1)}
        form = v2_form(MALLORY, econed.url, {"Action": "DescribeImages", **unknown}, method="POST")

        def attack(count: int = count, form: str = form) -> Counter[str]:
            came: Counter[str] = Counter()
            threads = [threading.Thread(target=lambda: came.update([_posted(econed.url, form)])) for _ in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
            return came

        say(f" {count} x DescribeImages of {named} unknown ids")
        _watched(econed, say, "DescribeInstances", attack)


def keys(econed: Deployment, _: Path, say: Say) -> None:
    """Import 40 keys with a comment of 570 KB each, then have strangers knock."""
    public = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    came: Counter[str] = Counter()
    for number in range(40):
        material = base64.b64encode(public + b" " + b"c" * 570_000).decode()
        given = {"KeyName": f"k{number}", "PublicKeyMaterial": material}
        came[_sent(econed.url, MALLORY, "ImportKeyPair", given)] += 1
    say(f"  40 imports were answered: {dict(came)}")

    def knock() -> Counter[str]:
        found: Counter[str] = Counter()
        for number in range(5):
            found[_sent(econed.url, Named(f"nobody{number}"), "DescribeRegions", {})] += 1
            time.sleep(2.1)
        return found

    _watched(econed, say, "DescribeRegions", knock)


def documents(econed: Deployment, _: Path, say: Say) -> None:
    """Grow one's own user document, by `oneuser update`; strangers knock, and the worker starts anew."""

    def knock() -> Counter[str]:
        found: Counter[str] = Counter()
        for number in range(5):
            found[_sent(econed.url, Named(f"nobody{number}"), "DescribeRegions", {})] += 1
            time.sleep(2.1)
        return found

    grown = 0
    mallory = int(str(econed.call(MALLORY.name, "one.user.info", -1, False)).partition("<ID>")[2].partition("<")[0])
    for size in (23, 40):
        while grown < size:
            grown += 1
            econed.call(MALLORY.name, "one.user.update", mallory, f'GROWN_{grown}="{"x" * _MIB}"', 1)
        say(f" a document of {size} MiB")
        _watched(econed, say, "DescribeRegions", knock)
        (worker,) = children(econed.supervisor)
        began = time.monotonic()
        os.kill(worker, signal.SIGKILL)
        came: Counter[str] = Counter()
        while not came["200"] and time.monotonic() - began < _GONE_FOR:
            came[_sent(econed.url, VICTIM, "DescribeRegions", {})] += 1
        say(f"  a new worker let another user in after {time.monotonic() - began:.1f} s: {dict(came)}")
        say(f"  and the attacker: {_sent(econed.url, MALLORY, 'DescribeRegions', {})}")


def readers(econed: Deployment, _: Path, say: Say) -> None:
    """Ask for the list of 5,000 machines on 20 connections, and read none of it."""
    (worker,) = children(econed.supervisor)
    _sent(econed.url, VICTIM, "DescribeRegions", {})
    send(econed.url, "GET", v2_form(MALLORY, econed.url, {"Action": "DescribeInstances", "MaxResults": "5"}))
    idle = look(worker, 0).memory
    say(f"  worker idle: {idle / _MIB:.0f} MiB")
    where = urlsplit(econed.url)
    peak, done = idle, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.1):
            peak = max(peak, look(worker, 0).memory)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    with ExitStack() as ends:
        for _number in range(_READERS):
            connection = socket.create_connection((where.hostname or "", where.port or 80), 60)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            ends.callback(connection.close)
            query = v2_form(MALLORY, econed.url, {"Action": "DescribeInstances"})
            connection.sendall(f"GET /?{query} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
        time.sleep(90)
        say(f"  with {_READERS} that do not read, 90 s later: {look(worker, 0).memory / _MIB:.0f} MiB")
    time.sleep(_GONE_FOR)
    done.set()
    thread.join()
    after = look(worker, 0).memory
    say(f"  peak {peak / _MIB:.0f} MiB ({(peak - idle) / _MIB:+.0f}); a minute after they left: {after / _MIB:.0f} MiB")
    say(f"  ({(after - idle) / _MIB:+.0f} above idle)")


def uploads(econed: Deployment, directory: Path, say: Say) -> None:
    """Announce five files of a quarter of the disk each, send 1 KiB/s of them; another user uploads one MiB."""
    size = shutil.disk_usage(directory).free // 4 - _MIB
    where = urlsplit(econed.url)
    content_type, body = upload_form(MALLORY, econed.url, b"")
    head, _, _ = body.rpartition(b"\r\n--")
    over = threading.Event()

    def announce() -> None:
        with suppress(OSError), socket.create_connection((where.hostname or "", where.port or 80), 60) as connection:
            first = f"POST / HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: {content_type}\r\n"
            connection.sendall(f"{first}Content-Length: {size}\r\n\r\n".encode() + head)
            while not over.wait(1.0):
                connection.sendall(bytes(1024))

    for _number in range(5):
        threading.Thread(target=announce, daemon=True).start()
    for seconds in (5, 60):
        time.sleep(seconds)
        answer = upload(VICTIM, econed.url, bytes(_MIB))  # type: ignore[arg-type]
        say(f"  another user's upload of 1 MiB after {seconds} s more: {answer.status} {answer.code}")
    over.set()


ATTACKS: Mapping[str, Attack] = {
    "filters": Attack(filters),
    "ids": Attack(ids),
    "keys": Attack(keys),
    "documents": Attack(documents),
    "readers": Attack(readers, machines=_MACHINES),
    "uploads": Attack(uploads),
}


def main(arguments: Sequence[str], out: TextIO) -> int:
    """Run as a command."""

    def say(line: str) -> None:
        out.write(f"{line}\n")
        out.flush()

    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description="Attack econed on this machine.")
    parser.add_argument("names", nargs="*", help=f"which attacks: {', '.join(ATTACKS)} (all)")
    wanted = parser.parse_args(arguments).names or list(ATTACKS)
    for name in wanted:
        attack = ATTACKS[name]
        say(f"{name}: {attack.run.__doc__}")
        with tempfile.TemporaryDirectory(prefix="attack-") as directory:
            settings = {"workers": 1, "max_upload": shutil.disk_usage(directory).free // 4, **attack.settings}
            users = [MALLORY.name, VICTIM.name]
            with deployed(Path(directory), users, settings, machines=attack.machines) as econed:
                attack.run(econed, Path(directory), say)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdout))
