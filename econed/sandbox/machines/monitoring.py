"""What the driver measures of machines. As the dummy driver it makes numbers up; here they depend on the time only."""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.template import cdata

INTERVAL = 20
"""Seconds between two measurements (oned.conf of the recorded oned: MONITORING_INTERVAL_MONITOR)."""

EXPIRATION = 43_200
"""Seconds for which oned keeps measurements (monitord.conf: VM_MONITORING_EXPIRATION_TIME)."""

_BOUNDS = {
    "CPU": 100,
    "DISKRDBYTES": 1000,
    "DISKRDIOPS": 1000,
    "DISKWRBYTES": 1000,
    "DISKWRIOPS": 1000,
    "MEMORY": 131_072,
    "NETRX": 10_000,
    "NETTX": 10_000,
}
"""The measures, each less than its bound: CPU in percent, MEMORY in KiB, the others in bytes or operations."""


def measurement_times(machine: VirtualMachine, now: int) -> Iterator[int]:
    """Return the times in epoch seconds at which a machine was measured that oned still has."""
    first = max(machine.started, now - EXPIRATION)
    return iter(range(first + -first % INTERVAL, (machine.ended or now) + 1, INTERVAL))


def measurement_xml(machine: VirtualMachine, time: int) -> str:
    """Return the MONITORING element of a measurement."""
    values = {name: crc32(f"{machine.id} {time} {name}".encode()) % bound for name, bound in _BOUNDS.items()}
    values |= {"ID": machine.id, "TIMESTAMP": time}
    return f"<MONITORING>{''.join(cdata(name, values[name]) for name in sorted(values))}</MONITORING>"
