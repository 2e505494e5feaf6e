"""A cloud for end-to-end tests: an oned of any form, what a user of EC2 needs in it, and econed in front of it.

Whatever the form, it is furnished by the same calls, in the session of oneadmin; tests do not know on which they run.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import secrets
import shutil
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from lxml import etree

from tests.support.processes import Process, until
from tests.support.raw_oned import NO_EXISTS, RawOned, Refused, server_token

LIVE = "live"
FORMS = ("5.12", "7.4", LIVE)

PATIENCE = 180.0
"""Seconds that a cloud may take for anything."""

DRAIN_TIMEOUT = 0
"""Seconds that connections have when an econed is to end; clients keep theirs for longer than tests would wait."""

ELEMENTS_READ_TAC = Path(__file__).with_name("elements_read.tac")

_CREATE = ("21429400000000", "8")
"""What `onegroup create` lets a group's users make: machines, images, templates and what belongs to them."""

_USE_FOR_GROUP = (1, 1, 0, 1, 0, 0, 0, 0, 0)
_SERVERADMIN = "serveradmin:serverpassword"
_DONE = 6
_READY, _DISABLED, _ERROR = 1, 3, 5
_MOVING = ("MONITORING", "LAST_POLL", "USER_TEMPLATE/EC2_STOPPED")
"""What changes by itself, also by a round of the reconciler."""
_ADDRESSES = 24
"""Elastic IPs of a cloud: its tests come one after the other, and give back what they take."""

_SCRIPT = """#!/bin/sh
printf '{what} %s %s %s\\n' "$1" "$2" "$3" >> '{runs}'
"""


@dataclass(frozen=True)
class Person:
    """A user of the cloud: `name` is the access key, `secret` the secret key, `one` his own session with oned."""

    name: str
    id: int
    secret: str
    one: RawOned


@dataclass(frozen=True)
class LoggedCall:
    """A call that oned served: in whose name, and whether it was done."""

    user: str | None
    method: str
    args: tuple[Any, ...]
    ok: bool


@dataclass(frozen=True)
class ScriptRun:
    """What a script of the elastic IPs was given; `what` is `associate` or `disassociate`."""

    what: str
    elastic_ip: str
    private_ip: str
    network: str


class Econed:
    """An econed process; `url` is where it serves."""

    def __init__(self, process: Process, notes: Path | None) -> None:
        self.process = process
        self._notes = notes
        self.port = int(process.says(r"EC2Site(?: \(TLS\))? starting on (\d+)"))
        self.url = f"{'https' if 'EC2Site (TLS)' in process.text else 'http'}://127.0.0.1:{self.port}/"

    @property
    def elements_read(self) -> frozenset[str]:
        """The elements of oned's documents that it has read, if it takes notes."""
        if self._notes is None or not self._notes.exists():
            return frozenset()
        return frozenset(self._notes.read_text(encoding="utf-8").split("\n")[:-1])


class FurnishedCloud:
    """An oned with a group of users, an instance type, an AMI, an image that is none, a network, elastic IPs."""

    def __init__(self, form: str, url: str, oneadmin: str, auth_file: Path, directory: Path) -> None:
        self.form = form
        self.url = url
        self.directory = directory
        self.auth_file = auth_file
        self.prefix = f"econed-{secrets.token_hex(4)}"
        self.admin = RawOned(url, lambda: oneadmin)
        self.elastic_networks: set[int] = set()
        self._undo: list[Callable[[], object]] = []
        self._people: list[Person] = []
        self._processes: list[Process] = []
        self._econeds: list[Econed] = []
        self._numbers = itertools.count()
        self._script_runs = directory / "scripts.log"
        self.uploads = directory / "uploads"

    # What there is

    def furnish(self) -> None:
        """Make what every test needs. What was made is removed by `remove`, also if this fails half-way."""
        self.version = str(self.admin("one.system.version"))
        self.is_modern = int(self.version.partition(".")[0]) >= 6
        self.group = self._made("group", self.admin.make("one.group.allocate", self.prefix))
        rule = self.admin.make("one.acl.addrule", f"{0x200000000 | self.group:x}", *_CREATE)
        self._undo.append(lambda: self.admin("one.acl.delrule", rule))
        self.network = self._network()
        self.elastic_ips = self.elastic_network(_ADDRESSES)
        self.instance_type = f"{self.prefix}.small"
        self.type_template = self.template(self.instance_type)
        self._share("template", self.type_template)
        self.ami = self.image(f"{self.prefix}-ami", 'EC2_AMI="YES"')
        self._share("image", self.ami)
        self.zone = self._zone()
        self.alice = self.person("alice")
        self.bob = self.person("bob")

    def person(self, name: str, driver: str = "core") -> Person:
        """Make a user of the group; of the driver core, or public, whose secret key is his password."""
        full, password = f"{self.prefix}-{name}-{next(self._numbers)}", secrets.token_hex(8)
        number = self.admin.make("one.user.allocate", full, password, driver, [self.group])
        secret = password if driver == "public" else hashlib.sha256(password.encode()).hexdigest()
        credentials = self.auth_file.read_text(encoding="ascii").strip()

        def session() -> str:
            token = server_token(credentials, full, zero_vector=not self.is_modern)
            return token if driver == "public" else f"{full}:{password}"

        person = Person(full, number, secret, RawOned(self.url, session))
        self._undo.append(lambda: self.admin("one.user.delete", number))
        self._people.append(person)
        return person

    def certified(self, name: str, password: str) -> Person:
        """Make a user of the group who comes by certificate: `password` holds the subjects, he has no secret."""
        full = f"{self.prefix}-{name}-{next(self._numbers)}"
        number = self.admin.make("one.user.allocate", full, password, "x509", [self.group])
        self._undo.append(lambda: self.admin("one.user.delete", number))
        credentials = self.auth_file.read_text(encoding="ascii").strip()
        session = partial(server_token, credentials, full, zero_vector=not self.is_modern)
        return Person(full, number, "no secret", RawOned(self.url, session))

    def template(self, instance_type: str, text: str = "", owner: Person | None = None) -> int:
        """Make a template that is an instance type; `text` goes with it."""
        one = owner.one if owner else self.admin
        number = one.make(
            "one.template.allocate",
            f'NAME="{instance_type}"\nEC2_INSTANCE_TYPE="{instance_type}"\nCPU="0.1"\nVCPU="2"\nMEMORY="64"\n'
            f'NIC=[NETWORK_ID="{self.network}"]\nCONTEXT=[NETWORK="YES",TARGET="hdb"]\n{text}',
        )
        self._undo.append(lambda: self.admin("one.template.delete", number, False))
        return number

    def image(self, name: str, text: str = "", owner: Person | None = None) -> int:
        """Make an image of which machines can be made, and wait until it is ready."""
        one = owner.one if owner else self.admin
        number = one.make("one.image.allocate", f'NAME="{name}"\nTYPE="OS"\nPATH="/etc/hostname"\nSIZE="10"\n{text}', 1)
        self._undo.append(lambda: self._remove_image(number))
        until(lambda: self._state("one.image.info", number) == _READY, f"image {number} to be ready", PATIENCE)
        return number

    def elastic_network(self, size: int) -> int:
        """Make a network of so many elastic IPs, each a range of its own, which users have no rights on."""
        ranges = "\n".join(f'AR=[TYPE="IP4",IP="203.0.113.{number + 1}",SIZE="1"]' for number in range(size))
        name = f"{self.prefix}-elastic-{next(self._numbers)}"
        number = self.admin.make("one.vn.allocate", f'NAME="{name}"\nVN_MAD="dummy"\nBRIDGE="none"\n{ranges}', -1)
        self._undo.append(lambda: self._remove_network(number))
        self._await_network(number)
        self.elastic_networks.add(number)
        return number

    def held(self, network: int) -> list[str]:
        """Return the addresses of a network that are held."""
        leases = self.admin.document("one.vn.info", network, False).findall("AR_POOL/AR/LEASES/LEASE")
        return sorted(str(lease.findtext("IP")) for lease in leases if lease.findtext("VM") == "-1")

    def address_records(self, person: Person) -> str:
        """Return what the network of elastic IPs says of a user's: its attributes that name him."""
        template = self.admin.document("one.vn.info", self.elastic_ips, False).find("TEMPLATE")
        named = [each for each in template if each.findtext("UID") == str(person.id)]  # type: ignore[union-attr]
        return "".join(etree.tostring(each, encoding="unicode") for each in named)

    def script_runs(self) -> list[ScriptRun]:
        """Return what the scripts of the elastic IPs were given so far, in order."""
        if not self._script_runs.exists():
            return []
        return [ScriptRun(*line.split(" ")) for line in self._script_runs.read_text(encoding="ascii").splitlines()]

    def share(self, what: str, number: int, owner: Person) -> None:
        """Let the owner's group use an object of his, and no more."""
        owner.one(f"one.{what}.chmod", number, 1, 1, 0, 1, 0, 0, 0, 0, 0)

    def document(self, kind: str, number: int) -> str:
        """Return an object as oned keeps it, without what changes by itself; by `vm`, `image`, `template`, `user`."""
        extra = (False,) if kind in ("vm", "user", "image") else (False, False)
        root = self.admin.document(f"one.{kind}.info", number, *extra)
        for name in _MOVING:
            for element in root.findall(name):
                parent = element.getparent()
                assert parent is not None
                parent.remove(element)
        return etree.tostring(root, encoding="unicode")

    def vm(self, number: int) -> etree._Element:
        """Return a machine's document."""
        return self.admin.document("one.vm.info", number, False)

    def vm_ids(self, person: Person, state: int = -2) -> list[int]:
        """Return the ids of a user's machines, ended ones too."""
        pool = self.admin.document("one.vmpool.info", person.id, -1, -1, state, "")
        return sorted(int(found.text or "") for found in pool.findall("VM/ID"))

    # econed

    def econed(
        self,
        *,
        one_url: str | None = None,
        notes: bool = True,
        settings: Mapping[str, object] | None = None,
        interval: float | None = None,
        fails_with: Path | None = None,
    ) -> Econed:
        """Start an econed on this cloud: `twistd -n econe`, or with `notes` the same in `elements_read.tac`.

        `interval` is the time between two rounds of its reconciler, in seconds. While the file `fails_with` exists,
        reading oned's documents fails with the text of that file as the message. Both need `elements_read.tac`.
        """
        assert notes or (interval is None and fails_with is None)
        name = f"econed-{next(self._numbers)}"
        self.uploads.mkdir(exist_ok=True)
        configuration = self.directory / f"{name}.conf"
        configuration.write_text(
            yaml.safe_dump(
                {
                    "host": "127.0.0.1",
                    "one_xmlrpc": one_url or self.url,
                    "tmpdir": str(self.uploads),
                    "image_url_hosts": ["images.invalid"],
                    "drain_timeout": DRAIN_TIMEOUT,
                    "elasticips_vnet_id": self.elastic_ips,
                    "region_names": ["us-east-1"],
                    "associate_script": self._script("associate"),
                    "disassociate_script": self._script("disassociate"),
                    **(settings or {}),
                }
            )
        )
        listen = "tcp:0:interface=127.0.0.1"
        environment = {"ONE_CIPHER_AUTH": str(self.auth_file)}
        written = self.directory / f"{name}.notes" if notes else None
        if written is None:
            arguments = ["econe", "--config", str(configuration), "--listen", listen]
        else:
            arguments = ["-y", str(ELEMENTS_READ_TAC)]
            environment |= {
                "ECONE_CONF": str(configuration),
                "ECONED_LISTEN": listen,
                "ECONED_NOTES": str(written),
            }
            environment |= {} if interval is None else {"ECONED_INTERVAL": str(interval)}
            environment |= {} if fails_with is None else {"ECONED_FAILS_WITH": str(fails_with)}
        econed = Econed(self._started(name, [twistd(), "-n", "--pidfile=", *arguments], environment), written)
        self._econeds.append(econed)
        return econed

    @property
    def elements_read(self) -> frozenset[str]:
        """The elements of oned's documents that any econed on this cloud has read and noted."""
        return frozenset[str]().union(*(each.elements_read for each in self._econeds))

    # What only some forms have

    tells_its_calls = False
    """Whether oned tells which calls it has served."""

    def log_length(self) -> int:
        """Return how many calls oned has served; skips the test where oned does not tell."""
        pytest.skip("a real oned does not tell which calls it has served")

    def calls(self, since: int = 0) -> list[LoggedCall]:
        """Return the calls that oned has served from a length of its log on; skips the test where it does not tell."""
        pytest.skip("a real oned does not tell which calls it has served")

    def authentications(self, person: Person) -> int:
        """Return how often oned asked an auth driver about a user; skips the test where it does not tell."""
        pytest.skip("a real oned does not tell how often it has asked an auth driver")

    def fail_next_deployment(self) -> None:
        """Let the next machine fail to boot; skips the test where that cannot be had."""
        pytest.skip("a real oned cannot be told to fail")

    def needs_quick_machines(self) -> None:
        """Skip the test where machines take as long as they do in life."""
        pytest.skip("makes more machines than a real cloud should be burdened with")

    # The end

    def remove(self) -> None:
        """Stop all processes and remove all that was made, as far as it can be; says what could not."""
        for process in reversed(self._processes):
            process.stop()
        problems = []
        for undo in itertools.chain([self._end_machines], self._image_removals(), reversed(self._undo)):
            try:
                undo()
            except Refused as refusal:
                if refusal.code != NO_EXISTS:
                    problems.append(str(refusal))
            except AssertionError as error:
                problems.append(str(error))
        assert not problems, f"could not be removed: {problems}"

    def _end_machines(self) -> None:
        """End the machines of all users, and wait until nothing is in use any more."""
        for number in {number for person in self._people for number in self.vm_ids(person, -1)}:
            until(partial(self._is_ended, number), f"VM {number} to end", PATIENCE, every=0.2)

    def _is_ended(self, number: int) -> bool:
        """Whether a machine has ended; asks for it as often as oned refuses, as it does while one is booting."""
        if self._state("one.vm.info", number) == _DONE:
            return True
        with contextlib.suppress(Refused):
            self.admin("one.vm.action", "terminate-hard", number)
        return False

    def _image_removals(self) -> Iterator[Callable[[], None]]:
        """Yield what removes all that people made through EC2: volumes, snapshots, images."""
        for person in self._people:
            pool = self.admin.document("one.imagepool.info", person.id, -1, -1)
            for found in pool.findall("IMAGE/ID"):
                yield partial(self._remove_image, int(str(found.text)))

    def _remove_network(self, number: int) -> None:
        """Remove a network of elastic IPs, given back first: oned keeps one with leases."""
        for ip in self.held(number):
            self.admin("one.vn.release", number, f'LEASES=[IP="{ip}"]')
        self.admin("one.vn.delete", number)

    def _remove_image(self, number: int) -> None:
        settled = "image to be free"
        until(lambda: self._state("one.image.info", number) in (_READY, _DISABLED, _ERROR), settled, PATIENCE)
        self.admin("one.image.delete", number, *((False,) if self.is_modern else ()))

        def is_gone() -> bool:
            try:
                self._state("one.image.info", number)
            except Refused:
                return True
            return False

        until(is_gone, f"image {number} to be gone", PATIENCE)

    def _made(self, kind: str, number: int) -> int:
        self._undo.append(lambda: self.admin(f"one.{kind}.delete", number))
        return number

    def _network(self) -> int:
        text = f'NAME="{self.prefix}"\nVN_MAD="dummy"\nBRIDGE="br-{self.prefix[-8:]}"\n'
        text += 'NETWORK_ADDRESS="10.77.0.0"\nNETWORK_MASK="255.255.0.0"\nGATEWAY="10.77.0.1"\n'
        text += 'AR=[TYPE="IP4",IP="10.77.0.10",SIZE="2000"]'
        number = self._made("vn", self.admin.make("one.vn.allocate", text, -1))
        self._await_network(number)
        self._share("vn", number)
        return number

    def _await_network(self, number: int) -> None:
        if self.is_modern:
            until(lambda: self._state("one.vn.info", number) == _READY, f"network {number} to be ready", PATIENCE)

    def _script(self, what: str) -> str:
        """Write a script that notes what it is given, and return its path."""
        path = self.directory / what
        path.write_text(_SCRIPT.format(what=what, runs=self._script_runs), encoding="utf-8")
        path.chmod(0o755)
        return str(path)

    def _share(self, what: str, number: int) -> None:
        self.admin(f"one.{what}.chown", number, -1, self.group)
        extra = (False,) if what == "template" else ()
        self.admin(f"one.{what}.chmod", number, *_USE_FOR_GROUP, *extra)

    def _zone(self) -> str:
        network = self.admin.document("one.vn.info", self.network, False)
        number = network.findtext("CLUSTERS/ID")
        return str(self.admin.document("one.cluster.info", int(str(number)), False).findtext("NAME"))

    def _state(self, method: str, number: int) -> int:
        return int(str(self.admin.document(method, number, False).findtext("STATE")))

    def _started(self, name: str, arguments: list[str], environment: Mapping[str, str]) -> Process:
        process = Process(name, arguments, self.directory, environment)
        self._processes.append(process)
        return process


class SandboxCloud(FurnishedCloud):
    """A sandbox in a process of its own, in the form of 5.12 or of 7.4."""

    tells_its_calls = True

    def __init__(self, form: str, directory: Path) -> None:
        auth_file = directory / "server_auth"
        auth_file.touch(mode=0o600)
        auth_file.write_text(f"{_SERVERADMIN}\n", encoding="ascii")
        process = Process("oned", ["-m", "tests.support.sandbox_process", form, "0"], directory)
        port = process.says(r"listening on (\d+)\.")
        super().__init__(form, f"http://127.0.0.1:{port}/RPC2", "oneadmin:opennebula", auth_file, directory)
        self._processes.append(process)

    def log_length(self) -> int:
        return int(self._control("calls/1000000000")[0])

    def calls(self, since: int = 0) -> list[LoggedCall]:
        return [
            LoggedCall(user, method, tuple(args), code == 0)
            for user, method, args, code in self._control(f"calls/{since}")[1]
        ]

    def authentications(self, person: Person) -> int:
        return int(self._control("authentications").get(person.name, 0))

    def fail_next_deployment(self) -> None:
        self._control("fail-next-deployment", b"")

    def needs_quick_machines(self) -> None:
        """Go on: they are quick here."""

    def remove(self) -> None:
        """Stop all processes: nothing else is left of a sandbox."""
        for process in reversed(self._processes):
            process.stop()

    def _control(self, what: str, data: bytes | None = None) -> Any:
        with urllib.request.urlopen(self.url.replace("/RPC2", f"/control/{what}"), data, PATIENCE) as answer:
            return json.load(answer)


class LiveCloud(FurnishedCloud):
    """A real oned, as the environment names it (`make test-live`)."""

    def __init__(self, directory: Path) -> None:
        url, oneadmin, given = (os.environ.get(f"ECONED_LIVE_{name}") for name in ("ONED", "ONEADMIN", "AUTH_FILE"))
        if not (url and oneadmin and given):
            pytest.skip("no real oned to test with: make test-live ONED=URL ONEADMIN=user:password AUTH_FILE=path")
        auth_file = directory / "server_auth"
        auth_file.touch(mode=0o600)
        shutil.copyfile(given, auth_file)
        super().__init__(LIVE, url, oneadmin, auth_file, directory)


@contextlib.contextmanager
def furnished(form: str, directory: Path) -> Iterator[FurnishedCloud]:
    """A cloud of a form with what tests need in it, which is removed at the end."""
    made = LiveCloud(directory) if form == LIVE else SandboxCloud(form, directory)
    try:
        made.furnish()
        yield made
    finally:
        made.remove()


def twistd() -> str:
    found = Path(sys.executable).with_name("twistd")
    assert found.exists(), "twistd is not installed beside this Python"
    return str(found)
