"""A cloud with elastic IPs, for the tests of addresses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lxml import etree
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from econed.actions.addresses.chores import AddressReconciler
from econed.actions.addresses.records import Pool
from econed.config.settings import Settings
from econed.interfaces import IOpenNebula, IScripts
from econed.opennebula.documents import VirtualNetwork
from econed.opennebula.session import Session
from econed.reconciler import Reconciler
from tests.support.cloud import Cloud, perform
from tests.support.scripts import FakeScripts

NETWORK = 1
FIRST, SECOND = "203.0.113.10", "203.0.113.11"
FIRST_ID = "eipalloc-3405803786"


def both_forms(ip: str) -> list[dict[str, Any]]:
    """Return the two ways to name an address."""
    return [{"PublicIp": ip}, {"AllocationId": FIRST_ID}]


class AddressCloud(Cloud):
    """A `Cloud` whose elastic IPs come from a network of the sandbox with eight addresses."""

    def __init__(self, version: str = "7.4", *, network: int = NETWORK, limit: int = 5) -> None:
        super().__init__(version, settings=Settings(elasticips_vnet_id=network, elastic_ips_per_user=limit))
        self.network = network
        self.fake_scripts = FakeScripts()
        self.scripts = self.fake_scripts

    def run_instance(self, user: str = "alice") -> str:
        """Launch an instance, wait until it is running, and return its id."""
        (instance,) = self.run(user, "RunInstances", ImageId="ami-00000000", MinCount=1, MaxCount=1)["Instances"]
        self.wait(10)
        return str(instance["InstanceId"])

    def private_ip(self, instance: str) -> str:
        """Return the private address of an instance of alice's."""
        (reservation,) = self.run("alice", "DescribeInstances", InstanceIds=[instance])["Reservations"]
        return str(reservation["Instances"][0]["PrivateIpAddress"])

    def allocate(self, user: str = "alice") -> str:
        """Allocate an address for a user, and return it."""
        return str(self.run(user, "AllocateAddress")["PublicIp"])

    def associate(self, user: str = "alice") -> tuple[str, str, str]:
        """Allocate an address and associate it with a new instance; return address, instance id and association id."""
        instance, ip = self.run_instance(user), self.allocate(user)
        response = self.run(user, "AssociateAddress", PublicIp=ip, InstanceId=instance)
        return ip, instance, str(response["AssociationId"])

    def addresses(self, user: str = "alice") -> dict[str, dict[str, Any]]:
        """Return the addresses in a user's DescribeAddresses, by address."""
        return {address["PublicIp"]: address for address in self.run(user, "DescribeAddresses")["Addresses"]}

    def associations(self, user: str = "alice") -> dict[str, str]:
        """Return the instance of each associated address in a user's DescribeAddresses."""
        return {ip: shown["InstanceId"] for ip, shown in self.addresses(user).items() if "InstanceId" in shown}

    def pool(self) -> Pool:
        """Return the network of elastic IPs as oned has it."""
        return Pool(VirtualNetwork(etree.fromstring(self.oneadmin("one.vn.info", self.network, False))))

    def held_addresses(self) -> set[str]:
        """Return the addresses whose leases are on hold."""
        return {str(ip) for ip in self.pool().ips if self.pool().is_held(ip)}

    def begin(
        self, backend: IOpenNebula, user: str, action: str, scripts: IScripts | None = None, **parameters: Any
    ) -> list[Any]:
        """Begin a call in a process with this backend; its result or failure is appended to the returned list."""
        call = replace(
            self.call_as(user),
            session=Session(backend, user),
            serveradmin=Session(backend, None),
            scripts=scripts or self.fake_scripts,
        )
        results: list[Any] = []
        Deferred.fromCoroutine(perform(call, action, parameters)).addBoth(results.append)
        return results

    def begin_reconciling(self, backend: IOpenNebula) -> list[Any]:
        """Begin a round of the reconciler in a process with this backend; its result is added to the returned list."""
        keeper = AddressReconciler(backend, self.network, self.scripts, self.clock)
        results: list[Any] = []
        round_ = Reconciler(backend, self.clock, (), Logger("test"), for_all=(keeper.round,)).round()
        Deferred.fromCoroutine(round_).addBoth(results.append)
        return results

    def reconcile(self) -> None:
        """Run a round of a reconciler, and wait until it has ended."""
        results = self.begin_reconciling(self.backend)
        self.wait(40)
        assert results == [None]
