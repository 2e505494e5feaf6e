"""The machines of the benchmarks: what RunInstances writes for a user who gives a key, user data and two tags."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.furniture import Furniture
from benchmarks.oned import Refused
from econed.actions.client_tokens import CLIENT_TOKEN, REQUEST_DIGEST
from econed.actions.machines.facts import (
    IMAGE_ID,
    KEY_NAME,
    LAUNCH_COUNT,
    LAUNCH_INDEX,
    PUBLIC_KEY,
    RESERVATION,
    USER_DATA,
)
from econed.actions.tagging import tag_text
from econed.ids import IMAGE, reservation_id
from econed.opennebula.template import attribute, context, template, vector
from tests.support.processes import until

PER_RESERVATION = 10
"""Instances of each RunInstances call."""

KEY = "operations"
_PUBLIC_KEY = "ssh-rsa " + base64.b64encode(hashlib.shake_256(b"public key").digest(279)).decode() + " ops@example.org"
"""As long as a key of 2,048 bits."""

_CONTEXT: Mapping[str, str] = {"NETWORK": "YES", "TARGET": "hdb"}
_USER_DATA_LINE = b"echo configuring the service on this host >>/var/log/first-boot.log\n"
_THREADS = 2
_ATTEMPTS = 20
_PAUSE = 3.0
_HOLD, _ACTIVE, _RUNNING = 2, 3, "3"
_FILL_TIMEOUT = 3600.0


@dataclass(frozen=True)
class Population:
    """How machines are made: `image` is the OpenNebula id of their AMI, `user_data` what the user gives."""

    image: int
    user_data: bytes

    def text(self, index: int, reservation: str | None) -> str:
        """Return the template text of a machine, the same for the same index."""
        position = index % PER_RESERVATION
        launch = hashlib.sha256(f"launch {index - position}".encode()).hexdigest()
        facts = {
            IMAGE_ID: IMAGE.format(self.image),
            LAUNCH_INDEX: str(position),
            LAUNCH_COUNT: str(PER_RESERVATION),
            CLIENT_TOKEN: f"{launch[:8]}-{launch[8:12]}-{launch[12:16]}-{launch[16:20]}-{launch[20:32]}",
            REQUEST_DIGEST: launch,
        }
        if reservation is not None:
            facts[RESERVATION] = reservation
        data = base64.b64encode(self.user_data).decode()
        added = {
            PUBLIC_KEY: _PUBLIC_KEY,
            "SSH_PUBLIC_KEY": _PUBLIC_KEY,
            KEY_NAME: KEY,
            USER_DATA: data,
            "USER_DATA": data,
            "USER_DATA_ENCODING": "base64",
        }
        return template(
            vector("DISK", {"IMAGE_ID": str(self.image)}),
            *(attribute(name, value) for name, value in facts.items()),
            context(_CONTEXT, added),
            tag_text(self.tags(index)),
        )

    @staticmethod
    def tags(index: int) -> dict[str, str]:
        """Return the tags of a machine."""
        return {"Name": f"web-{index:05}", "Environment": "production"}

    @staticmethod
    def name(index: int) -> str:
        """Return the name of a machine."""
        return f"web-{index:05}"


def user_data(length: int) -> bytes:
    """Return user data of `length` bytes."""
    lines = b"#!/bin/sh\n" + _USER_DATA_LINE * (length // len(_USER_DATA_LINE) + 1)
    return lines[:length]


def in_reservations(indexes: range, create: Callable[[int, str | None], int]) -> Iterable[int]:
    """Create the machines of these indexes with `create`, which returns an id; yield the ids."""
    reservation = None
    for index in indexes:
        if index % PER_RESERVATION == 0:
            reservation = None
        machine = create(index, reservation)
        if reservation is None:
            reservation = reservation_id(machine)
        yield machine


def running_ids(furniture: Furniture) -> list[int]:
    """Return the ids of the running machines of the benchmarks' user, in ascending order."""
    pool = furniture.admin("one.vmpool.info", furniture.user.id, -1, -1, _ACTIVE, "").document
    running = (element for element in pool.iterchildren("VM") if element.findtext("LCM_STATE") == _RUNNING)
    return sorted(int(str(element.findtext("ID"))) for element in running)


def _deploy_held(furniture: Furniture) -> None:
    """Deploy machines that remain from a run that was interrupted."""
    pool = furniture.admin("one.vmpool.info", furniture.user.id, -1, -1, _HOLD, "").document
    for element in pool.iterchildren("VM"):
        _deploy(furniture, int(str(element.findtext("ID"))))


def _deploy(furniture: Furniture, machine: int) -> None:
    """Start a machine that is on HOLD; the scheduler would do it one by one."""
    with suppress(Refused):  # it is no longer on HOLD
        _ = furniture.admin("one.vm.deploy", machine, furniture.host, False, -1).value


def _persistently(create: Callable[[], int]) -> int:
    """Return the id of what `create` creates, in spite of refusals: SQLite can be locked for seconds by monitoring."""
    for _ in range(_ATTEMPTS - 1):
        with suppress(Refused):
            return create()
        time.sleep(_PAUSE)
    return create()


def fill(furniture: Furniture, count: int, data: bytes, report: Callable[[str], None]) -> list[int]:
    """Create machines of the benchmarks' user by calls to oned until `count` are running; return their ids."""
    population = Population(furniture.image, data)
    _deploy_held(furniture)
    present = len(running_ids(furniture))
    first = -(-present // PER_RESERVATION) * PER_RESERVATION
    oned = furniture.user.oned

    def create(index: int, reservation: str | None) -> int:
        text = population.text(index, reservation)
        arguments = (furniture.template, population.name(index), True, text, False)
        machine = _persistently(lambda: oned("one.template.instantiate", *arguments).number)
        _deploy(furniture, machine)
        return machine

    def launch(start: int) -> None:
        list(in_reservations(range(start, min(start + PER_RESERVATION, first + count - present)), create))
        if start % 500 == 0:
            report(f"{start} of {count} machines")

    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(launch, range(first, first + count - present, PER_RESERVATION)))
    until(lambda: len(running_ids(furniture)) >= count, f"{count} running machines", _FILL_TIMEOUT, every=2)
    return running_ids(furniture)
