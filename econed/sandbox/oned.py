"""A small oned in process: one call in, one reply out."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from xmlrpc.client import Fault

from cryptography.x509 import Certificate
from twisted.internet.interfaces import IReactorTime

from econed.sandbox.bootstrap import bootstrap
from econed.sandbox.calls.declaration import Method, methods
from econed.sandbox.calls.groups import AclCalls, GroupCalls
from econed.sandbox.calls.hotplug import HotplugCalls
from econed.sandbox.calls.images import ImageCalls
from econed.sandbox.calls.infrastructure import ClusterCalls, DatastoreCalls, HostCalls, SystemCalls
from econed.sandbox.calls.networks import NetworkCalls
from econed.sandbox.calls.ownership import OwnershipCalls
from econed.sandbox.calls.security_groups import SecurityGroupCalls
from econed.sandbox.calls.users import UserCalls
from econed.sandbox.calls.virtual_machines import VmCalls
from econed.sandbox.calls.vm_pool import VmPoolCalls
from econed.sandbox.calls.vm_templates import TemplateCalls
from econed.sandbox.cloud import Cloud
from econed.sandbox.image_manager import ImageManager
from econed.sandbox.machines.assembly import Assembly
from econed.sandbox.machines.deployment import Deployment
from econed.sandbox.machines.lifecycle import Lifecycle
from econed.sandbox.refusals import Refused, unknown_method, unparsable, wrong_parameter
from econed.sandbox.sessions import Sessions, distinguished_name
from econed.sandbox.versions import Delays, Version

_ONLY_IN_7 = frozenset({"one.user.enable", "one.vm.attachsg", "one.vm.detachsg"})
_UNSENDABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd]")
"""Characters that oned cannot be sent: those that XML has not, and those outside the Basic Multilingual Plane."""
_CALLS_KEPT = 10_000


@dataclass(frozen=True)
class LoggedCall:
    """A call that the sandbox served: `user` in whose name (None where nobody was authenticated), and the outcome.

    `code` is 0 for success, oned's error code for a refusal, the negative number of a fault.
    """

    user: str | None
    method: str
    args: tuple[object, ...]
    code: int

    @property
    def ok(self) -> bool:
        """Whether oned did it."""
        return self.code == 0


class Oned:
    """The sandbox. `execute` is its XML-RPC API; everything that takes time runs on `clock`.

    `version` is "5.12" or "7.4"; `oneadmin` and `serveradmin` are `NAME:PASSWORD`. `calls` holds the last 10,000 calls,
    `authentications` how often, by user, a session was not the one remembered and a driver had to be asked.
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
        self.calls: deque[LoggedCall] = deque(maxlen=_CALLS_KEPT)
        self.deployment = Deployment(self.cloud)
        self.lifecycle = Lifecycle(self.cloud, self.deployment)
        self.images = ImageManager(self.cloud)
        self.assembly = Assembly(self.cloud, self.deployment)
        self._sessions = Sessions(self.cloud)
        self._methods = self._all_methods()
        bootstrap(self.cloud, oneadmin=oneadmin, serveradmin=serveradmin)

    def trust(self, certificate: Certificate) -> None:
        """Let serveradmin be of the driver server_x509, and this his certificate."""
        self._sessions.certificate = certificate
        server = self.cloud.user_named(self.serveradmin.partition(":")[0])
        if server is not None:
            server.driver, server.password = "server_x509", distinguished_name(certificate)

    @property
    def version(self) -> str:
        """The version as `one.system.version` says it, as "7.4.0"."""
        return self.cloud.version.answer

    @property
    def authentications(self) -> Counter[str]:
        """How often, by user name, oned had to ask an auth driver."""
        return self._sessions.authentications

    @property
    def methods(self) -> frozenset[str]:
        """The names of the methods that there are."""
        return frozenset(self._methods)

    def fail_next_deployment(self) -> None:
        """Let the next machine that boots fail, as a hypervisor may: ACTIVE, BOOT_FAILURE."""
        self.deployment.fail_next = True

    def shut_down_inside(self, vm_id: int) -> None:
        """Let the guest of a running machine shut down by itself, and oned's monitoring find it off."""
        self.lifecycle.found_off(self.cloud.vms.get(vm_id))

    def fail_next_image(self) -> None:
        """Let the next image that is copied end in ERROR, as one whose source cannot be read."""
        self.images.fail_next = True

    def _all_methods(self) -> Mapping[str, tuple[Method, Callable[..., object]]]:
        cloud = self.cloud
        services = (
            *(UserCalls(cloud), GroupCalls(cloud), AclCalls(cloud), SystemCalls(cloud), HostCalls(cloud)),
            *(ClusterCalls(cloud), DatastoreCalls(cloud), NetworkCalls(cloud), SecurityGroupCalls(cloud)),
            *(ImageCalls(cloud, self.images), TemplateCalls(cloud, self.assembly), VmPoolCalls(cloud)),
            *(VmCalls(cloud, self.deployment, self.lifecycle, self.assembly), HotplugCalls(cloud, self.images)),
        )
        found = {**methods(services), **OwnershipCalls(cloud).methods()}
        if not cloud.version.modern:
            found = {name: served for name, served in found.items() if name not in _ONLY_IN_7}
        return found

    def execute(self, method: str, *params: object) -> list[object]:
        """Serve one call; `params[0]` is the session.

        Returns `[true, value, 0]`, or `[false, text, code, id, -1]` where oned refuses. Raises `Fault` for calls that
        are malformed (-501 parameters, -503 text that XML-RPC cannot carry, -506 method) or that break off (-500).
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
            return [False, f"[{method}] {refusal.text}", int(refusal.code), refusal.number, -1]
        self.calls.append(LoggedCall(user, method, arguments, 0))
        return [True, value, 0]

    def _find(self, method: str, params: tuple[object, ...]) -> tuple[Method, Callable[..., object]]:
        if any(isinstance(value, str) and _UNSENDABLE.search(value) for value in params):
            raise unparsable()
        served = self._methods.get(method)
        if served is None:
            raise unknown_method(method)
        if not params:
            raise wrong_parameter("Not enough parameters")
        if not isinstance(params[0], str):
            raise wrong_parameter("Parameter that is supposed to be string is not")
        return served
