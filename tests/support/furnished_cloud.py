"""A cloud for end-to-end tests: an oned, the objects that a user of EC2 needs in it, and econed in front of it.

The objects are created by the same calls in every form of oned, in the session of oneadmin, so that tests need not know
which form they run on.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
import yaml
from lxml import etree

from tests.support.econed_process import Econed, LoggedCall, Person, ScriptRun, twistd
from tests.support.processes import Process, until
from tests.support.raw_oned import NO_EXISTS, RawOned, Refused, server_token

MAX_WAIT = 180.0
"""Seconds after which a test stops waiting for anything in the cloud."""

DRAIN_TIMEOUT = 0
"""`drain_timeout` of the econed processes: clients keep their connections open for longer than a test would wait."""

ELEMENTS_READ_TAC = Path(__file__).with_name("elements_read.tac")

_CREATE = ("21429400000000", "8")
"""The rights that `onegroup create` gives a group, such as to create machines, images and templates."""

_NETWORKS, _ALL, _ID = 0x4000000000, 0x400000000, 0xFFFFFFFF
"""Bits in the RESOURCE of a rule: it is about networks, and about all of them; and those of the id of the users."""

_USE_FOR_GROUP = (1, 1, 0, 1, 0, 0, 0, 0, 0)
_DONE = 6
_READY, _DISABLED, _ERROR = 1, 3, 5
_CHANGING_ELEMENTS = ("MONITORING", "LAST_POLL", "USER_TEMPLATE/EC2_STOPPED")
"""Elements that change by themselves, or by a round of the reconciler."""
_ADDRESSES = 24
"""Elastic IPs of a cloud. Its tests run one after the other, and release the addresses that they allocate."""

_SCRIPT = """#!/bin/sh
printf '{script} %s %s %s\\n' "$1" "$2" "$3" >> '{runs}'
"""


class FurnishedCloud:
    """An oned with a group of users, an instance type, an AMI, an image that is not an AMI, a network, elastic IPs."""

    def __init__(self, form: str, url: str, oneadmin: str, auth_file: Path, directory: Path) -> None:
        self.form = form
        self.url = url
        self.directory = directory
        self.auth_file = auth_file
        self.prefix = f"econed-{secrets.token_hex(4)}"
        self.admin = RawOned(url, lambda: oneadmin)
        self.elastic_networks: set[int] = set()
        self._groups: set[int] = set()
        self._undo: list[Callable[[], object]] = []
        self._people: list[Person] = []
        self._processes: list[Process] = []
        self._econeds: list[Econed] = []
        self._numbers = itertools.count()
        self._script_runs = directory / "scripts.log"
        self.uploads = directory / "uploads"

    # Objects in oned

    def furnish(self) -> None:
        """Create the objects that every test needs. `remove` removes them, even if this fails half-way."""
        self.version = str(self.admin("one.system.version"))
        self.is_modern = int(self.version.partition(".")[0]) >= 6
        self.group = self.add_group(self.prefix)
        self.network = self._network()
        self.elastic_ips = self.elastic_network(_ADDRESSES)
        self.instance_type = f"{self.prefix}.small"
        self._vpc_template()
        self.type_template = self.template(self.instance_type)
        self._share("template", self.type_template)
        self.ami = self.image(f"{self.prefix}-ami", 'EC2_AMI="YES"')
        self._share("image", self.ami)
        self.zone = self._zone()
        self.alice = self.person("alice")
        self.bob = self.person("bob")

    def add_group(self, name: str) -> int:
        """Create a group whose users may create machines, images and templates."""
        group = self._allocated("group", self.admin.make("one.group.allocate", name))
        self._groups.add(group)
        rule = self.admin.make("one.acl.addrule", f"{0x200000000 | group:x}", *_CREATE)
        self._undo.append(lambda: self.admin("one.acl.delrule", rule))
        self._make_networks_private()
        return group

    def _make_networks_private(self) -> None:
        """Remove the rules by which groups may USE all networks; `remove` adds those of other groups again."""
        for rule in self.admin.document("one.acl.info").findall("ACL"):
            resource = int(rule.findtext("RESOURCE", ""), 16)
            if resource & _NETWORKS and resource & _ALL:
                parts = [rule.findtext(name, "") for name in ("USER", "RESOURCE", "RIGHTS", "ZONE")]
                self.admin("one.acl.delrule", int(rule.findtext("ID", "")))
                if int(parts[0], 16) & _ID not in self._groups:
                    self._undo.append(partial(self.admin, "one.acl.addrule", *parts))

    def _vpc_template(self) -> None:
        """Create the template for VPCs, which everybody may USE."""
        text = f'NAME="{self.prefix}-vpc"\nVN_MAD="dummy"\nBRIDGE="none"\nEC2_VPC="YES"'
        template_id = self._allocated("vntemplate", self.admin.make("one.vntemplate.allocate", text))
        self.admin("one.vntemplate.chmod", template_id, -1, -1, -1, -1, -1, -1, 1, -1, -1)

    def remove_vpc_later(self, vpc: int, subnets: Iterable[int] = ()) -> None:
        """Remove a VPC that a test has made through EC2, and its subnets, with the cloud."""

        def remove() -> None:
            for network in (*subnets, vpc):
                for ip in self.held_addresses(network):
                    self.admin("one.vn.release", network, f'LEASES=[IP="{ip}"]')
                self._remove_network(network)

        self._undo.append(remove)

    def member(self, name: str) -> tuple[Person, str]:
        """Create a user of the group and of a second one; return the user and the name of the second group."""
        group_name = f"{self.prefix}-{name}-{next(self._numbers)}"
        group = self.add_group(group_name)
        person = self.person(name)
        self.admin("one.user.addgroup", person.id, group)
        return person, group_name

    def person(self, name: str, driver: str = "core") -> Person:
        """Create a user of the group with the driver core, or public, for which the password is the secret key."""
        full_name, password = f"{self.prefix}-{name}-{next(self._numbers)}", secrets.token_hex(8)
        user_id = self.admin.make("one.user.allocate", full_name, password, driver, [self.group])
        secret = password if driver == "public" else hashlib.sha256(password.encode()).hexdigest()
        credentials = self.auth_file.read_text(encoding="ascii").strip()

        def session() -> str:
            token = server_token(credentials, full_name, zero_vector=not self.is_modern)
            return token if driver == "public" else f"{full_name}:{password}"

        person = Person(full_name, user_id, secret, RawOned(self.url, session))
        self._undo.append(lambda: self.admin("one.user.delete", user_id))
        self._people.append(person)
        return person

    def x509_person(self, name: str, password: str) -> Person:
        """Create a user of the group who authenticates by certificate; `password` has their subjects."""
        return self.person_of("x509", name, password, [self.group])

    def person_of(self, driver: str, name: str, password: str, groups: list[int]) -> Person:
        """Create a user of a driver that stores no secret key; `{}` in the password is the name.

        oned is called in the sessions of server tokens.
        """
        full_name = f"{self.prefix}-{name}-{next(self._numbers)}"
        user_id = self.admin.make("one.user.allocate", full_name, password.replace("{}", full_name), driver, groups)
        self._undo.append(lambda: self.admin("one.user.delete", user_id))
        credentials = self.auth_file.read_text(encoding="ascii").strip()
        session = partial(server_token, credentials, full_name, zero_vector=not self.is_modern)
        person = Person(full_name, user_id, "no secret", RawOned(self.url, session))
        self._people.append(person)
        return person

    def second_group(self) -> int:
        """Create another group of users, who may create objects, and who may use no objects of the first."""
        return self.add_group(f"{self.prefix}-{next(self._numbers)}")

    def template(self, instance_type: str, text: str = "", owner: Person | None = None) -> int:
        """Create a template that is an instance type, with `text` added to it."""
        oned = owner.oned if owner else self.admin
        template_id = oned.make(
            "one.template.allocate",
            f'NAME="{instance_type}"\nEC2_INSTANCE_TYPE="{instance_type}"\nCPU="0.1"\nVCPU="2"\nMEMORY="64"\n'
            f'NIC=[NETWORK_ID="{self.network}"]\nCONTEXT=[NETWORK="YES",TARGET="hdb"]\n{text}',
        )
        self._undo.append(lambda: self.admin("one.template.delete", template_id, False))
        return template_id

    def image(self, name: str, text: str = "", owner: Person | None = None) -> int:
        """Create an image from which machines can be created, and wait until it is ready."""
        oned = owner.oned if owner else self.admin
        template = f'NAME="{name}"\nTYPE="OS"\nPATH="/etc/hostname"\nSIZE="10"\n{text}'
        image_id = oned.make("one.image.allocate", template, 1)
        self._undo.append(lambda: self._remove_image(image_id))
        until(lambda: self._state("one.image.info", image_id) == _READY, f"image {image_id} to be ready", MAX_WAIT)
        return image_id

    def elastic_network(self, size: int) -> int:
        """Create a network of `size` elastic IPs, each in its own address range; users have no rights on it."""
        ranges = "\n".join(f'AR=[TYPE="IP4",IP="203.0.113.{host}",SIZE="1"]' for host in range(1, size + 1))
        name = f"{self.prefix}-elastic-{next(self._numbers)}"
        network_id = self.admin.make("one.vn.allocate", f'NAME="{name}"\nVN_MAD="dummy"\nBRIDGE="none"\n{ranges}', -1)
        self._undo.append(lambda: self._remove_network(network_id))
        self._await_network(network_id)
        self.elastic_networks.add(network_id)
        return network_id

    def network_without_groups(self) -> int:
        """Create a network for everybody of the group that has no security groups of its own."""
        name = f"{self.prefix}-{next(self._numbers)}"
        text = f'NAME="{name}"\nVN_MAD="dummy"\nBRIDGE="none"\nAR=[TYPE="IP4",IP="10.78.0.10",SIZE="200"]'
        network_id = self._allocated("vn", self.admin.make("one.vn.allocate", text, -1))
        self._await_network(network_id)
        self.admin("one.vn.update", network_id, 'SECURITY_GROUPS=""', 1)
        self._share("vn", network_id)
        return network_id

    def reservation(self, name: str, owner: Person, size: int = 4) -> int:
        """Reserve addresses of the network for a user, who alone may use them, and return the id of the reservation."""
        network_id = owner.oned.make("one.vn.reserve", self.network, f'NAME="{name}"\nSIZE="{size}"')
        self._undo.append(lambda: self.admin("one.vn.delete", network_id))
        self._await_network(network_id)
        return network_id

    def held_addresses(self, network_id: int) -> list[str]:
        """Return the addresses of a network whose leases are on hold."""
        leases = self.admin.document("one.vn.info", network_id, False).findall("AR_POOL/AR/LEASES/LEASE")
        return sorted(str(lease.findtext("IP")) for lease in leases if lease.findtext("VM") == "-1")

    def address_records(self, person: Person) -> str:
        """Return the attributes of the network of elastic IPs that name a user."""
        template = self.admin.document("one.vn.info", self.elastic_ips, False).find("TEMPLATE")
        records = [record for record in template if record.findtext("UID") == str(person.id)]  # type: ignore[union-attr]
        return "".join(etree.tostring(record, encoding="unicode") for record in records)

    def script_runs(self) -> list[ScriptRun]:
        """Return the runs of the scripts for elastic IPs so far, in order."""
        if not self._script_runs.exists():
            return []
        return [ScriptRun(*line.split(" ")) for line in self._script_runs.read_text(encoding="ascii").splitlines()]

    def share(self, kind: str, object_id: int, owner: Person) -> None:
        """Let the owner's group USE an object, without other rights."""
        owner.oned(f"one.{kind}.chmod", object_id, 1, 1, 0, 1, 0, 0, 0, 0, 0)

    def remove_later(self, kind: str, object_id: int) -> None:
        """Remove an object that a test has made through EC2 with the cloud."""
        self._undo.append(lambda: self.admin(f"one.{kind}.delete", object_id))

    def document(self, kind: str, object_id: int) -> str:
        """Return the document of an object, `vm`, `image`, …, without what changes by itself."""
        extra = (False, False) if kind == "template" else (False,)
        root = self.admin.document(f"one.{kind}.info", object_id, *extra)
        for name in _CHANGING_ELEMENTS:
            for element in root.findall(name):
                parent = element.getparent()
                assert parent is not None
                parent.remove(element)
        return etree.tostring(root, encoding="unicode")

    def vm(self, machine_id: int) -> etree._Element:
        """Return a machine's document."""
        return self.admin.document("one.vm.info", machine_id, False)

    def vm_ids(self, person: Person, state: int = -2) -> list[int]:
        """Return the ids of a user's machines, also of terminated ones."""
        pool = self.admin.document("one.vmpool.info", person.id, -1, -1, state, "")
        return sorted(int(element.text or "") for element in pool.findall("VM/ID"))

    # econed

    def econed(
        self,
        *,
        one_url: str | None = None,
        records_elements: bool = True,
        settings: Mapping[str, object] | None = None,
        interval: float | None = None,
        fails_with: Path | None = None,
    ) -> Econed:
        """Start an econed on this cloud: `twistd -n econe`, or `elements_read.tac` to record the elements it reads.

        `interval` is the time between two rounds of its reconciler, in seconds. While the file `fails_with` exists,
        reading oned's documents fails with the text of that file as the message. Both need `elements_read.tac`.
        """
        assert records_elements or (interval is None and fails_with is None)
        name = f"econed-{next(self._numbers)}"
        self.uploads.mkdir(exist_ok=True)
        config_path = self.directory / f"{name}.conf"
        config_path.write_text(
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
        notes = self.directory / f"{name}.notes" if records_elements else None
        if notes is None:
            arguments = ["econe", "--config", str(config_path), "--listen", listen]
        else:
            arguments = ["-y", str(ELEMENTS_READ_TAC)]
            environment |= {
                "ECONE_CONF": str(config_path),
                "ECONED_LISTEN": listen,
                "ECONED_NOTES": str(notes),
            }
            environment |= {} if interval is None else {"ECONED_INTERVAL": str(interval)}
            environment |= {} if fails_with is None else {"ECONED_FAILS_WITH": str(fails_with)}
        econed = Econed(self._started(name, [twistd(), "-n", "--pidfile=", *arguments], environment), notes)
        self._econeds.append(econed)
        return econed

    @property
    def elements_read(self) -> frozenset[str]:
        """The elements of oned's documents that the econed processes on this cloud have read and recorded."""
        return frozenset[str]().union(*(econed.elements_read for econed in self._econeds))

    # Features of some forms only

    has_call_log = False
    """Whether the calls that oned has served can be read."""

    def call_count(self) -> int:
        """Return how many calls oned has served; skips the test where the form has no call log."""
        pytest.skip("a real oned does not tell which calls it has served")

    def calls(self, since: int = 0) -> list[LoggedCall]:
        """Return the calls that oned has served after the first `since`; skips the test where there is no log."""
        pytest.skip("a real oned does not tell which calls it has served")

    def authentications(self, person: Person) -> int:
        """Return how often oned ran an auth driver for a user; skips the test where that cannot be read."""
        pytest.skip("a real oned does not report how often it has run an auth driver")

    def fail_next_deployment(self) -> None:
        """Make the next machine fail to boot; skip the test where that is not possible."""
        pytest.skip("a real oned cannot be made to fail")

    def skip_where_machines_are_slow(self) -> None:
        """Skip the test where machines are real."""
        pytest.skip("makes more machines than a real cloud should be burdened with")

    # Removal

    def remove(self) -> None:
        """Stop all processes and remove all objects, as far as possible; fails with a list of those that remain."""
        for process in reversed(self._processes):
            process.stop()
        problems = []
        for undo in itertools.chain([self._terminate_machines], self._image_removals(), reversed(self._undo)):
            try:
                undo()
            except Refused as refusal:
                if refusal.code != NO_EXISTS:
                    problems.append(str(refusal))
            except AssertionError as error:
                problems.append(str(error))
        assert not problems, f"could not be removed: {problems}"

    def _terminate_machines(self) -> None:
        """Terminate the machines of all users, and wait until they have released their resources."""
        for machine_id in {machine_id for person in self._people for machine_id in self.vm_ids(person, -1)}:
            until(partial(self._is_terminated, machine_id), f"VM {machine_id} to be done", MAX_WAIT, every=0.2)

    def _is_terminated(self, machine_id: int) -> bool:
        """Whether a machine is done. If not, terminate it again: oned refuses to terminate a booting machine."""
        if self._state("one.vm.info", machine_id) == _DONE:
            return True
        with contextlib.suppress(Refused):
            self.admin("one.vm.action", "terminate-hard", machine_id)
        return False

    def _image_removals(self) -> Iterator[Callable[[], None]]:
        """Yield the removals of all images that users made through EC2: volumes, snapshots, AMIs."""
        for person in self._people:
            pool = self.admin.document("one.imagepool.info", person.id, -1, -1)
            for element in pool.findall("IMAGE/ID"):
                yield partial(self._remove_image, int(str(element.text)))

    def _remove_network(self, network_id: int) -> None:
        """Remove a network of elastic IPs, after releasing its leases: oned does not delete a network with leases."""
        for ip in self.held_addresses(network_id):
            self.admin("one.vn.release", network_id, f'LEASES=[IP="{ip}"]')
        self.admin("one.vn.delete", network_id)

    def _remove_image(self, image_id: int) -> None:
        def is_removable() -> bool:
            return self._state("one.image.info", image_id) in (_READY, _DISABLED, _ERROR)

        def is_gone() -> bool:
            try:
                self._state("one.image.info", image_id)
            except Refused:
                return True
            return False

        until(is_removable, f"image {image_id} to be unused", MAX_WAIT)
        self.admin("one.image.delete", image_id, *((False,) if self.is_modern else ()))
        until(is_gone, f"image {image_id} to be gone", MAX_WAIT)

    def _allocated(self, kind: str, object_id: int) -> int:
        self._undo.append(lambda: self.admin(f"one.{kind}.delete", object_id))
        return object_id

    def _network(self) -> int:
        text = f'NAME="{self.prefix}"\nVN_MAD="dummy"\nBRIDGE="br-{self.prefix[-8:]}"\n'
        text += 'NETWORK_ADDRESS="10.77.0.0"\nNETWORK_MASK="255.255.0.0"\nGATEWAY="10.77.0.1"\n'
        text += 'AR=[TYPE="IP4",IP="10.77.0.10",SIZE="2000"]'
        network_id = self._allocated("vn", self.admin.make("one.vn.allocate", text, -1))
        self._await_network(network_id)
        self._share("vn", network_id)
        return network_id

    def _await_network(self, network_id: int) -> None:
        if self.is_modern:
            state = partial(self._state, "one.vn.info", network_id)
            until(lambda: state() == _READY, f"network {network_id} to be ready", MAX_WAIT)

    def _script(self, script: str) -> str:
        """Write a script that records its arguments, and return its path."""
        path = self.directory / script
        path.write_text(_SCRIPT.format(script=script, runs=self._script_runs), encoding="utf-8")
        path.chmod(0o755)
        return str(path)

    def _share(self, kind: str, object_id: int) -> None:
        self.admin(f"one.{kind}.chown", object_id, -1, self.group)
        extra = (False,) if kind == "template" else ()
        self.admin(f"one.{kind}.chmod", object_id, *_USE_FOR_GROUP, *extra)

    def _zone(self) -> str:
        network = self.admin.document("one.vn.info", self.network, False)
        cluster_id = int(str(network.findtext("CLUSTERS/ID")))
        return str(self.admin.document("one.cluster.info", cluster_id, False).findtext("NAME"))

    def _state(self, method: str, object_id: int) -> int:
        return int(str(self.admin.document(method, object_id, False).findtext("STATE")))

    def _started(self, name: str, arguments: list[str], environment: Mapping[str, str]) -> Process:
        process = Process(name, arguments, self.directory, environment)
        self._processes.append(process)
        return process
