"""An oned in process: `Oned.execute` serves a call and returns the reply."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from xmlrpc.client import Fault

from cryptography.x509 import Certificate
from twisted.internet.interfaces import IReactorTime

from econed.sandbox.bootstrap import bootstrap
from econed.sandbox.calls.address_ranges import AddressRangeCalls
from econed.sandbox.calls.declaration import Method, methods
from econed.sandbox.calls.disks import DiskCalls
from econed.sandbox.calls.documents import DocumentCalls
from econed.sandbox.calls.groups import AclCalls, GroupCalls
from econed.sandbox.calls.images import ImageCalls
from econed.sandbox.calls.infrastructure import ClusterCalls, DatastoreCalls, HostCalls, SystemCalls
from econed.sandbox.calls.network_templates import NetworkTemplateCalls
from econed.sandbox.calls.networks import NetworkCalls
from econed.sandbox.calls.nic_changes import NicChangeCalls
from econed.sandbox.calls.nics import NicCalls
from econed.sandbox.calls.ownership import OwnershipCalls
from econed.sandbox.calls.quotas import QuotaCalls
from econed.sandbox.calls.reservations import ReservationCalls
from econed.sandbox.calls.security_groups import SecurityGroupCalls
from econed.sandbox.calls.users import UserCalls
from econed.sandbox.calls.virtual_machines import VmCalls
from econed.sandbox.calls.vm_capacity import CapacityCalls
from econed.sandbox.calls.vm_configuration import ConfigurationCalls
from econed.sandbox.calls.vm_groups import VmGroupCalls
from econed.sandbox.calls.vm_monitoring import MonitoringCalls
from econed.sandbox.calls.vm_pool import VmPoolCalls
from econed.sandbox.calls.vm_templates import TemplateCalls
from econed.sandbox.cloud import Cloud
from econed.sandbox.image_manager import ImageManager
from econed.sandbox.machines.allocation import MachineAllocator
from econed.sandbox.machines.deployment import Deployment
from econed.sandbox.machines.lifecycle import Lifecycle
from econed.sandbox.refusals import Refused, unknown_method, unparsable, wrong_parameter
from econed.sandbox.sessions import Sessions, distinguished_name
from econed.sandbox.versions import Delays, Version

_UNSENDABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd]")
"""Characters that calls to oned cannot contain: XML forbids them, or they are outside the Basic Multilingual Plane."""
_MAX_LOGGED_CALLS = 10_000


@dataclass(frozen=True)
class LoggedCall:
    """A call that the sandbox served. `user` is None if the caller was not authenticated.

    `code` is 0 for success, oned's error code for a refusal, or the negative code of a fault.
    """

    user: str | None
    method: str
    args: tuple[object, ...]
    code: int

    @property
    def ok(self) -> bool:
        """Whether the call succeeded."""
        return self.code == 0


class Oned:
    """The sandbox. `execute` is its XML-RPC API; delays run on `clock`.

    `version` is "5.12" or "7.4"; `oneadmin` and `serveradmin` are `NAME:PASSWORD`. `calls` holds the last 10,000 calls.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        version: str = "7.4",
        oneadmin: str = "oneadmin:opennebula",
        serveradmin: str = "serveradmin:serverpassword",
        delays: Delays | None = None,
    ) -> None:
        self.cloud = Cloud(clock, Version.of(version), delays or Delays())
        self.oneadmin = oneadmin
        self.serveradmin = serveradmin
        self.calls: deque[LoggedCall] = deque(maxlen=_MAX_LOGGED_CALLS)
        self.deployment = Deployment(self.cloud)
        self.lifecycle = Lifecycle(self.cloud, self.deployment)
        self.images = ImageManager(self.cloud)
        self.disks = DiskCalls(self.cloud, self.images)
        self.allocator = MachineAllocator(self.cloud, self.deployment)
        self._sessions = Sessions(self.cloud)
        self._methods = self._all_methods()
        bootstrap(self.cloud, oneadmin=oneadmin, serveradmin=serveradmin)

    def trust(self, certificate: Certificate) -> None:
        """Set serveradmin's auth driver to server_x509, with this certificate."""
        self._sessions.certificate = certificate
        server = self.cloud.find_user(self.serveradmin.partition(":")[0])
        if server is not None:
            server.driver, server.password = "server_x509", distinguished_name(certificate)

    @property
    def version(self) -> str:
        """The value of `one.system.version`, such as "7.4.0"."""
        return self.cloud.version.reported

    @property
    def authentications(self) -> Counter[str]:
        """The number of calls of auth drivers, by user name: sessions that were not cached."""
        return self._sessions.authentications

    @property
    def methods(self) -> frozenset[str]:
        """The names of all methods."""
        return frozenset(self._methods)

    def fail_next_deployment(self) -> None:
        """Let the next boot of a machine end in BOOT_FAILURE, as after an error of the hypervisor."""
        self.deployment.fail_next = True

    def shut_down_inside(self, vm_id: int) -> None:
        """Shut down the guest of a running machine from inside, and let oned's monitoring detect it."""
        self.lifecycle.shut_down_inside(self.cloud.vms.get(vm_id))

    def fail_next_image(self) -> None:
        """Let the next copy of an image end in ERROR, as if its source could not be read."""
        self.images.fail_next = True

    def fail_next_attachment(self) -> None:
        """Let the hypervisor refuse the next disk that is attached: oned then detaches it again."""
        self.disks.fail_next = True

    def _all_methods(self) -> Mapping[str, tuple[Method, Callable[..., object]]]:
        cloud = self.cloud
        services = (
            *(
                UserCalls(cloud),
                GroupCalls(cloud),
                QuotaCalls(cloud),
                AclCalls(cloud),
                SystemCalls(cloud),
                HostCalls(cloud),
            ),
            *(
                ClusterCalls(cloud),
                DatastoreCalls(cloud),
                NetworkCalls(cloud),
                AddressRangeCalls(cloud),
                NetworkTemplateCalls(cloud),
                ReservationCalls(cloud),
                SecurityGroupCalls(cloud),
            ),
            *(ImageCalls(cloud, self.images), TemplateCalls(cloud, self.allocator), VmPoolCalls(cloud)),
            *(
                VmCalls(cloud, self.deployment, self.lifecycle, self.allocator),
                self.disks,
                NicCalls(cloud),
                NicChangeCalls(cloud),
                VmGroupCalls(cloud, self.deployment),
                DocumentCalls(cloud),
                ConfigurationCalls(cloud),
                CapacityCalls(cloud),
                MonitoringCalls(cloud),
            ),
        )
        all_methods = {**methods(services), **OwnershipCalls(cloud).methods()}
        return {name: entry for name, entry in all_methods.items() if name not in cloud.version.unknown_methods}

    def execute(self, method: str, *params: object) -> list[object]:
        """Serve a call; `params[0]` is the session.

        Returns `[true, value, 0]`, or `[false, text, code, object_id, -1]` if oned refuses. Raises `Fault` for
        malformed calls (-501 parameters, -503 text that XML-RPC cannot contain, -506 method) and for exceptions in
        oned (-500).
        """
        user: str | None = None
        arguments = tuple(params[1:])
        try:
            declared, handler = self._find(method, params)
            caller = self._sessions.authenticate(str(params[0]))
            user = caller.name
            value = handler(caller, *declared.arguments(arguments))
        except Fault as fault:
            self.calls.append(LoggedCall(user, method, arguments, fault.faultCode))
            raise
        except Refused as refusal:
            self.calls.append(LoggedCall(user, method, arguments, int(refusal.code)))
            return [False, f"[{method}] {refusal.text}", int(refusal.code), refusal.object_id, -1]
        self.calls.append(LoggedCall(user, method, arguments, 0))
        return [True, value, 0]

    def _find(self, method: str, params: tuple[object, ...]) -> tuple[Method, Callable[..., object]]:
        if any(isinstance(value, str) and _UNSENDABLE.search(value) for value in params):
            raise unparsable()
        entry = self._methods.get(method)
        if entry is None:
            raise unknown_method(method)
        if not params:
            raise wrong_parameter("Not enough parameters")
        if not isinstance(params[0], str):
            raise wrong_parameter("Parameter that is supposed to be string is not")
        return entry
