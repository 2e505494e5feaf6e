"""`python -m tests.attacks [name …]`: attack an econed on this machine and measure the effect on another user.

Each attack has its own econed on loopback, ends after a minute or two, and prints which requests were rejected.
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

from tests.attacks.victim import Signer, measured_requests
from tests.soak.sampling import children, sample
from tests.support.clients import send, upload, upload_form, v2_form
from tests.support.deployment import Deployment, deployed

MALLORY, VICTIM = Signer("mallory"), Signer("victim")
BASELINE = 3.0
"""Seconds for which the other user's requests are measured before the attack."""

_MIB = 1 << 20
_RECOVERY = 60.0
_READERS = 20
_MACHINES = 5000

Report = Callable[[str], None]


@dataclass(frozen=True)
class Attack:
    """An attack, and its econed: settings, and number of the attacker's machines."""

    run: Callable[[Deployment, Path, Report], None]
    settings: Mapping[str, object] = field(default_factory=dict)
    machines: int = 0


def _client(url: str, user: Signer) -> Any:
    session = boto3.Session(user.name, user.secret, region_name="us-east-1")
    config = Config(retries={"total_max_attempts": 1}, proxies={}, read_timeout=120, parameter_validation=False)
    return session.client("ec2", endpoint_url=url, config=config)


def _send(url: str, user: Signer, action: str, parameters: Mapping[str, str]) -> str:
    """Send a form and return its result: 200, or status and error code."""
    return _post(url, v2_form(user, url, {"Action": action, **parameters}, method="POST"))


def _post(url: str, form: str) -> str:
    """Send a signed form; very long forms are signed earlier, because that would delay the other user's thread."""
    try:
        response = send(url, "POST", form)
    except (OSError, ValueError) as error:
        return type(error).__name__
    return "200" if response.status == 200 else f"{response.status} {response.code}"


def _measure(econed: Deployment, report: Report, action: str, attack: Callable[[], object]) -> None:
    """Print how long another user waits before an attack and during it."""
    with measured_requests(econed.url, VICTIM, action) as before:
        time.sleep(BASELINE)
    report(f"  another user's {action} before the attack: {before.summary()}")
    with measured_requests(econed.url, VICTIM, action) as during:
        start = time.monotonic()
        results = attack()
        duration = time.monotonic() - start
    report(f"  the attack took {duration:.1f} s; results: {results}")
    report(f"  another user's {action} during the attack: {during.summary()}")


def filters(econed: Deployment, _: Path, report: Report) -> None:
    """Send one request with as many filter values as possible, on five volumes with 50 tags."""
    ec2 = _client(econed.url, MALLORY)
    zone = ec2.describe_availability_zones()["AvailabilityZones"][0]["ZoneName"]
    tags = [{"Key": f"{'a' * 120}{number:02}", "Value": "a" * 250} for number in range(49)]
    tags.append({"Key": "z", "Value": ""})
    for _number in range(5):
        ec2.create_volume(AvailabilityZone=zone, Size=1, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}])
    for count in (1, 5, 22):
        parameters = {}
        for number in range(count):
            parameters[f"Filter.{number + 1}.Name"] = "tag-key"
            parameters |= {f"Filter.{number + 1}.Value.{value + 1}": f"*{'a' * 60}b{value}" for value in range(199)}
            parameters[f"Filter.{number + 1}.Value.200"] = (
                "z*"  # matches the last tag; otherwise the filters after it would not be evaluated
            )
        size = len(v2_form(MALLORY, econed.url, parameters))
        report(f" one DescribeVolumes of {size // 1024} KiB, {count} filters of 200 values")
        _measure(econed, report, "DescribeRegions", partial(_send, econed.url, MALLORY, "DescribeVolumes", parameters))


def ids(econed: Deployment, _: Path, report: Report) -> None:
    """Request 1,000 and 4,900 images that do not exist, with one request and with ten concurrent requests."""
    for id_count, count in ((1000, 1), (1000, 10), (4900, 1), (4900, 10)):
        unknown = {f"ImageId.{number}": f"ami-{number + 10_000:08d}" for number in range(1, id_count + 1)}
        form = v2_form(MALLORY, econed.url, {"Action": "DescribeImages", **unknown}, method="POST")

        def attack(count: int = count, form: str = form) -> Counter[str]:
            results: Counter[str] = Counter()
            threads = [threading.Thread(target=lambda: results.update([_post(econed.url, form)])) for _ in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
            return results

        report(f" {count} x DescribeImages of {id_count} unknown ids")
        _measure(econed, report, "DescribeInstances", attack)


def keys(econed: Deployment, _: Path, report: Report) -> None:
    """Import 40 keys with a comment of 570 KB each, then send wrong signatures of unknown users."""
    public = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    results: Counter[str] = Counter()
    for number in range(40):
        material = base64.b64encode(public + b" " + b"c" * 570_000).decode()
        parameters = {"KeyName": f"k{number}", "PublicKeyMaterial": material}
        results[_send(econed.url, MALLORY, "ImportKeyPair", parameters)] += 1
    report(f"  results of 40 imports: {dict(results)}")

    _measure(econed, report, "DescribeRegions", partial(_send_as_unknown_users, econed))


def _send_as_unknown_users(econed: Deployment) -> Counter[str]:
    """Send requests of five users that do not exist; return how many had which result."""
    results: Counter[str] = Counter()
    for number in range(5):
        results[_send(econed.url, Signer(f"nobody{number}"), "DescribeRegions", {})] += 1
        time.sleep(2.1)
    return results


def documents(econed: Deployment, _: Path, report: Report) -> None:
    """Lengthen the attacker's user document with `oneuser update`; unknown users send requests, a worker restarts."""
    length = 0
    mallory = int(str(econed.call(MALLORY.name, "one.user.info", -1, False)).partition("<ID>")[2].partition("<")[0])
    for size in (23, 40):
        while length < size:
            length += 1
            econed.call(MALLORY.name, "one.user.update", mallory, f'GROWN_{length}="{"x" * _MIB}"', 1)
        report(f" a document of {size} MiB")
        _measure(econed, report, "DescribeRegions", partial(_send_as_unknown_users, econed))
        (worker,) = children(econed.supervisor)
        start = time.monotonic()
        os.kill(worker, signal.SIGKILL)
        results: Counter[str] = Counter()
        while not results["200"] and time.monotonic() - start < _RECOVERY:
            results[_send(econed.url, VICTIM, "DescribeRegions", {})] += 1
        report(f"  a new worker served another user after {time.monotonic() - start:.1f} s: {dict(results)}")
        report(f"  result of the attacker's request: {_send(econed.url, MALLORY, 'DescribeRegions', {})}")


def readers(econed: Deployment, _: Path, report: Report) -> None:
    """Request a list of 5,000 machines on 20 connections without reading the responses."""
    (worker,) = children(econed.supervisor)
    _send(econed.url, VICTIM, "DescribeRegions", {})
    send(econed.url, "GET", v2_form(MALLORY, econed.url, {"Action": "DescribeInstances", "MaxResults": "5"}))
    idle = sample(worker, 0).memory
    report(f"  idle worker: {idle / _MIB:.0f} MiB")
    address = urlsplit(econed.url)
    peak, done = idle, threading.Event()

    def record_peak() -> None:
        nonlocal peak
        while not done.wait(0.1):
            peak = max(peak, sample(worker, 0).memory)

    thread = threading.Thread(target=record_peak, daemon=True)
    thread.start()
    with ExitStack() as stack:
        for _number in range(_READERS):
            connection = socket.create_connection((address.hostname or "", address.port or 80), 60)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stack.callback(connection.close)
            query = v2_form(MALLORY, econed.url, {"Action": "DescribeInstances"})
            connection.sendall(f"GET /?{query} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        time.sleep(90)
        report(f"  90 s later, with {_READERS} clients that do not read: {sample(worker, 0).memory / _MIB:.0f} MiB")
    time.sleep(_RECOVERY)
    done.set()
    thread.join()
    after = sample(worker, 0).memory
    report(
        f"  peak {peak / _MIB:.0f} MiB ({(peak - idle) / _MIB:+.0f});"
        f" a minute after they disconnected: {after / _MIB:.0f} MiB"
    )
    report(f"  ({(after - idle) / _MIB:+.0f} above idle)")


def uploads(econed: Deployment, directory: Path, report: Report) -> None:
    """Announce five files of a quarter of the disk each and send 1 KiB/s of each; another user uploads 1 MiB."""
    size = shutil.disk_usage(directory).free // 4 - _MIB
    address = urlsplit(econed.url)
    content_type, body = upload_form(MALLORY, econed.url, b"")
    head, _, _ = body.rpartition(b"\r\n--")
    stopped = threading.Event()

    def announce() -> None:
        with (
            suppress(OSError),
            socket.create_connection((address.hostname or "", address.port or 80), 60) as connection,
        ):
            headers = f"POST / HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: {content_type}\r\n"
            connection.sendall(f"{headers}Content-Length: {size}\r\n\r\n".encode() + head)
            while not stopped.wait(1.0):
                connection.sendall(bytes(1024))

    for _number in range(5):
        threading.Thread(target=announce, daemon=True).start()
    for seconds in (5, 60):
        time.sleep(seconds)
        response = upload(VICTIM, econed.url, bytes(_MIB))  # type: ignore[arg-type]
        report(f"  another user's upload of 1 MiB another {seconds} s later: {response.status} {response.code}")
    stopped.set()


ATTACKS: Mapping[str, Attack] = {
    "filters": Attack(filters),
    "ids": Attack(ids),
    "keys": Attack(keys),
    "documents": Attack(documents),
    "readers": Attack(readers, machines=_MACHINES),
    "uploads": Attack(uploads),
}


def main(arguments: Sequence[str], out: TextIO) -> int:
    """Run attacks by name; without names, all of them."""

    def report(line: str) -> None:
        out.write(f"{line}\n")
        out.flush()

    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description="Attack an econed on this machine.")
    parser.add_argument("names", nargs="*", help=f"attacks to run: {', '.join(ATTACKS)} (default: all)")
    names = parser.parse_args(arguments).names or list(ATTACKS)
    for name in names:
        attack = ATTACKS[name]
        report(f"{name}: {attack.run.__doc__}")
        with tempfile.TemporaryDirectory(prefix="attack-") as directory:
            settings = {"workers": 1, "max_upload": shutil.disk_usage(directory).free // 4, **attack.settings}
            users = [MALLORY.name, VICTIM.name]
            with deployed(Path(directory), users, settings, machines=attack.machines) as econed:
                attack.run(econed, Path(directory), report)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdout))
