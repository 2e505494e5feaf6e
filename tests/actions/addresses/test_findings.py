"""What the daemon logs about the elastic IP network at startup, and what doctor finds in it."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, capturedLogs

from econed.actions.addresses.chores import AddressReconciler
from econed.actions.addresses.findings import addresses_without_owner
from econed.actions.findings import Examination, all_users, examine
from econed.config.settings import Settings
from econed.errors import OpenNebulaUnavailable
from econed.opennebula.session import Session
from econed.reconciler import INTERVAL, ReportService
from tests.support.addresses import FIRST, NETWORK, SECOND, AddressCloud


def findings(cloud: AddressCloud, settings: Settings | None = None) -> list[str]:
    """Return the findings of doctor."""
    users = cloud.result(all_users(Session(cloud.backend, None)))
    examination = Examination(cloud.backend, settings or cloud.settings, int(cloud.clock.seconds()), users)
    return [finding.what for finding in cloud.result(examine(examination, addresses_without_owner))]


def reconciler(cloud: AddressCloud) -> AddressReconciler:
    """Return the reconciler of the addresses of a cloud."""
    return AddressReconciler(cloud.backend, NETWORK, cloud.scripts, cloud.clock)


def test_ranges_that_are_not_of_size_1_are_reported() -> None:
    cloud = AddressCloud()
    cloud.oneadmin("one.vn.add_ar", NETWORK, 'AR=[TYPE="IP4",IP="198.51.100.0",SIZE="4"]')
    with capturedLogs() as events:
        cloud.result(reconciler(cloud).report())
    assert [(event["range"], event["size"]) for event in events] == [(8, 4)]


def test_a_consistent_network_gives_no_log_lines_and_no_findings() -> None:
    cloud = AddressCloud()
    cloud.associate()
    with capturedLogs() as events:
        cloud.result(reconciler(cloud).report())
    assert events == []
    assert findings(cloud) == []


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_doctor_finds_addresses_held_without_an_owner_and_allocated_ones_not_held(version: str) -> None:
    cloud = AddressCloud(version)
    cloud.oneadmin("one.vn.hold", NETWORK, f'LEASES=[IP="{FIRST}"]')
    assert cloud.allocate() == SECOND
    cloud.oneadmin("one.vn.release", NETWORK, f'LEASES=[IP="{SECOND}"]')
    cloud.oneadmin("one.vn.update", NETWORK, 'EC2_ADDRESS_X=[IP="203.0.113.12",UID="99"]', 1)
    assert [finding.split()[0] for finding in findings(cloud)] == [FIRST, SECOND, "203.0.113.12"]


def test_doctor_finds_nothing_where_there_are_no_elastic_ips() -> None:
    assert findings(AddressCloud(), Settings()) == []


def test_an_allocated_address_that_is_not_held_is_not_allocated_again() -> None:
    """The record of its owner counts: an administrator may have released it by mistake."""
    cloud = AddressCloud()
    ip = cloud.allocate("alice")
    cloud.oneadmin("one.vn.release", NETWORK, f'LEASES=[IP="{ip}"]')
    assert cloud.allocate("bob") != ip
    assert set(cloud.addresses("alice")) == {ip}


def test_the_report_at_startup_is_retried_until_oned_responds() -> None:
    clock = Clock()
    outcomes: list[Exception | None] = [OpenNebulaUnavailable("one.vn.info", "down"), None]
    reports: list[object] = []

    async def report() -> None:
        reports.append(outcomes[0])
        if (error := outcomes.pop(0)) is not None:
            raise error

    service = ReportService(report, clock, Logger("test"))
    service.startService()
    assert reports == []
    clock.pump([0, INTERVAL, INTERVAL, INTERVAL])
    assert len(reports) == 2
    service.stopService()
    assert clock.getDelayedCalls() == []
