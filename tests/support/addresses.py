"""A cloud with elastic IPs, and what the tests of them ask it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lxml import etree
from twisted.internet.defer import Deferred

from econed.actions.address_chores import AddressKeeper
from econed.actions.address_records import Pool
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


class AddressCloud(Cloud):
    """The cloud of the tests, where elastic IPs are taken from the sandbox's network of eight."""

    def __init__(self, version: str = "7.4", *, network: int = NETWORK, limit: int = 5) -> None:
        super().__init__(version, settings=Settings(elasticips_vnet_id=network, elastic_ips_per_user=limit))
        self.network = network
        self.fake = FakeScripts()
        self.scripts = self.fake

    def instance(self, user: str = "alice") -> str:
        """Run an instance until it runs, and return its id."""
        (made,) = self.run(user, "RunInstances", ImageId="ami-00000000", MinCount=1, MaxCount=1)["Instances"]
        self.wait(10)
        return str(made["InstanceId"])

    def private_ip(self, instance: str) -> str:
        """Return the private address of one of alice's instances."""
        (reservation,) = self.run("alice", "DescribeInstances", InstanceIds=[instance])["Reservations"]
        return str(reservation["Instances"][0]["PrivateIpAddress"])

    def allocated(self, user: str = "alice") -> str:
        """Give a user an address, and return it."""
        return str(self.run(user, "AllocateAddress")["PublicIp"])

    def associated(self, user: str = "alice") -> tuple[str, str, str]:
        """Return an address and an instance of a user's that it leads to, and the association."""
        instance, ip = self.instance(user), self.allocated(user)
        answer = self.run(user, "AssociateAddress", PublicIp=ip, InstanceId=instance)
        return ip, instance, str(answer["AssociationId"])

    def shown(self, user: str = "alice") -> dict[str, dict[str, Any]]:
        """Return a user's addresses as he sees them, by address."""
        return {each["PublicIp"]: each for each in self.run(user, "DescribeAddresses")["Addresses"]}

    def led(self, user: str = "alice") -> dict[str, str]:
        """Return which of a user's addresses lead to which instance, as he sees it."""
        return {ip: each["InstanceId"] for ip, each in self.shown(user).items() if "InstanceId" in each}

    def pool(self) -> Pool:
        """Return the network as it stands."""
        return Pool(VirtualNetwork(etree.fromstring(self.oneadmin("one.vn.info", self.network, False))))

    def held(self) -> set[str]:
        """Return the addresses that are held."""
        return {str(ip) for ip in self.pool().ips if self.pool().is_held(ip)}

    def begin(
        self, one: IOpenNebula, user: str, action: str, scripts: IScripts | None = None, **parameters: Any
    ) -> list[Any]:
        """Begin a call in a process that sees oned as `one`; the answer or failure comes into the list returned."""
        call = replace(
            self.call_as(user), one=Session(one, user), serveradmin=Session(one, None), scripts=scripts or self.fake
        )
        ended: list[Any] = []
        Deferred.fromCoroutine(perform(call, action, parameters)).addBoth(ended.append)
        return ended

    def begin_round(self, one: IOpenNebula) -> list[Any]:
        """Begin a round of a reconciler in a process that sees oned as `one`; what it comes to is in the list."""
        keeper = AddressKeeper(one, self.network, self.scripts, self.clock)
        ended: list[Any] = []
        round_ = Reconciler(one, self.clock, (), for_all=(keeper.round,)).round()
        Deferred.fromCoroutine(round_).addBoth(ended.append)
        return ended

    def look(self) -> None:
        """Let a reconciler make a round, and wait until it has come to its end."""
        ended = self.begin_round(self.one)
        self.wait(40)
        assert ended == [None]
