"""The calls on hosts, clusters, datastores, the zone and the system."""

from __future__ import annotations

from functools import partial

from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.base import Kind, Permissions, Right, demand_name
from econed.sandbox.objects.infrastructure import (
    HOST_DISABLED,
    HOST_MONITORED,
    HOST_OFFLINE,
    Cluster,
    Datastore,
    Host,
    raft_status,
)
from econed.sandbox.objects.users import User
from econed.sandbox.refusals import internal, no_such, unauthorized, wrong_state
from econed.sandbox.template import cdata

_FIRST_REAL_CLUSTER = 100
_HOST_STATES = (HOST_MONITORED, HOST_DISABLED, HOST_OFFLINE)


class HostCalls:
    """`one.host.*`, `one.hostpool.info`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.host.allocate", str, str, str, optional=(int,))
    def allocate(self, caller: User, name: str, im_mad: str, vm_mad: str, cluster: int = 0) -> int:
        """Make a host; it is monitored a moment later."""
        cloud = self._cloud
        cloud.rights.demand(caller, Right.CREATE, Kind.HOST, None)
        cloud.clusters.get(max(cluster, 0))
        demand_name(name)
        if any(host.name == name for host in cloud.hosts):
            raise internal(f"NAME is already taken by HOST {name}.")
        host = Host(cloud.hosts.take_id(), 0, 0, "", "", name, cluster=max(cluster, 0), im_mad=im_mad, vm_mad=vm_mad)
        host.clusters = {host.cluster}
        cloud.hosts.put(host)
        cloud.later(cloud.delays.monitor, partial(_monitored, host))
        return host.id

    @serves("one.host.info", int, optional=(bool,))
    def info(self, caller: User, number: int, _decrypt: bool = False) -> str:
        """Show a host."""
        return self._xml(self._cloud.demand(caller, Right.USE, self._cloud.hosts, number, locks=False))

    @serves("one.hostpool.info")
    def pool(self, caller: User) -> str:
        """Show the hosts that the caller may use."""
        shown = [h for h in self._cloud.hosts.newest_first() if self._cloud.rights.may(caller, Right.USE, Kind.HOST, h)]
        return f"<HOST_POOL>{''.join(map(self._xml, shown))}</HOST_POOL>"

    def _xml(self, host: Host) -> str:
        return host.xml(self._cloud.clusters.get(host.cluster).name)

    @serves("one.host.status", int, int)
    def status(self, caller: User, number: int, status: int) -> int:
        """Enable (0), disable (1) or take offline (2)."""
        host = self._cloud.demand(caller, Right.ADMIN, self._cloud.hosts, number)
        if status not in range(len(_HOST_STATES)):
            raise internal("Wrong status code")
        host.state = _HOST_STATES[status]
        return number

    @serves("one.host.delete", int)
    def delete(self, caller: User, number: int) -> int:
        """Remove a host that carries no machines."""
        host = self._cloud.demand(caller, Right.ADMIN, self._cloud.hosts, number)
        if host.vms:
            raise wrong_state("Can not remove a host with running VMs")
        self._cloud.hosts.drop(host)
        return number


def _monitored(host: Host) -> None:
    host.state = HOST_MONITORED


class ClusterCalls:
    """`one.cluster.*`, `one.clusterpool.info`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.cluster.allocate", str)
    def allocate(self, caller: User, name: str) -> int:
        """Make a cluster."""
        self._cloud.rights.demand(caller, Right.CREATE, Kind.CLUSTER, None)
        demand_name(name)
        if any(cluster.name == name for cluster in self._cloud.clusters):
            raise internal(f"NAME is already taken by CLUSTER {name}.")
        self._cloud.clusters.skip_to(_FIRST_REAL_CLUSTER)
        cluster = Cluster(self._cloud.clusters.take_id(), 0, 0, "oneadmin", "oneadmin", name)
        self._cloud.clusters.put(cluster)
        return cluster.id

    @serves("one.cluster.info", int, optional=(bool,))
    def info(self, caller: User, number: int, _decrypt: bool = False) -> str:
        """Show a cluster."""
        return self._xml(self._cloud.demand(caller, Right.USE, self._cloud.clusters, number, locks=False))

    @serves("one.clusterpool.info")
    def pool(self, caller: User) -> str:
        """Show the clusters that the caller may use: none, for an ordinary user."""
        cloud = self._cloud
        shown = [c for c in cloud.clusters.newest_first() if cloud.rights.may(caller, Right.USE, Kind.CLUSTER, c)]
        return f"<CLUSTER_POOL>{''.join(map(self._xml, shown))}</CLUSTER_POOL>"

    def _xml(self, cluster: Cluster) -> str:
        cloud = self._cloud
        return cluster.xml(
            hosts=[host.id for host in cloud.hosts if host.cluster == cluster.id],
            datastores=[store.id for store in cloud.datastores if cluster.id in store.clusters],
            networks=[network.id for network in cloud.networks if cluster.id in network.clusters],
        )

    @serves("one.cluster.addhost", int, int)
    def add_host(self, caller: User, number: int, host_id: int) -> int:
        """Move a host into a cluster."""
        cluster = self._cloud.demand(caller, Right.ADMIN, self._cloud.clusters, number)
        host = self._cloud.demand(caller, Right.ADMIN, self._cloud.hosts, host_id)
        host.cluster, host.clusters = cluster.id, {cluster.id}
        return number

    @serves("one.cluster.adddatastore", int, int)
    def add_datastore(self, caller: User, number: int, store: int) -> int:
        """Let a datastore lie in a cluster too."""
        self._cloud.demand(caller, Right.ADMIN, self._cloud.clusters, number)
        self._cloud.demand(caller, Right.ADMIN, self._cloud.datastores, store).clusters.add(number)
        return number

    @serves("one.cluster.deldatastore", int, int)
    def del_datastore(self, caller: User, number: int, store: int) -> int:
        """Take a datastore out of a cluster."""
        self._cloud.demand(caller, Right.ADMIN, self._cloud.clusters, number)
        self._cloud.demand(caller, Right.ADMIN, self._cloud.datastores, store).clusters.discard(number)
        return number

    @serves("one.cluster.addvnet", int, int)
    def add_network(self, caller: User, number: int, net: int) -> int:
        """Let a network lie in a cluster too."""
        self._cloud.demand(caller, Right.ADMIN, self._cloud.clusters, number)
        self._cloud.demand(caller, Right.ADMIN, self._cloud.networks, net).clusters.add(number)
        return number

    @serves("one.cluster.delvnet", int, int)
    def del_network(self, caller: User, number: int, net: int) -> int:
        """Take a network out of a cluster."""
        self._cloud.demand(caller, Right.ADMIN, self._cloud.clusters, number)
        self._cloud.demand(caller, Right.ADMIN, self._cloud.networks, net).clusters.discard(number)
        return number


class DatastoreCalls:
    """`one.datastore.*`, `one.datastorepool.info`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.datastore.allocate", str, optional=(int,))
    def allocate(self, caller: User, text: str, cluster: int = 0) -> int:
        """Make a datastore."""
        cloud = self._cloud
        cloud.rights.demand(caller, Right.CREATE, Kind.DATASTORE, None)
        cloud.clusters.get(max(cluster, 0))
        template = self._cloud.read(text)
        name = demand_name(template.get("NAME"))
        if any(store.name == name for store in cloud.datastores):
            raise internal(f"NAME is already taken by DATASTORE {name}.")
        template.pop("NAME")
        cloud.datastores.skip_to(_FIRST_REAL_CLUSTER)
        store = Datastore(
            cloud.datastores.take_id(),
            caller.id,
            caller.gid,
            caller.name,
            caller.gname,
            name,
            permissions=Permissions.octal("640"),
            clusters={max(cluster, 0)},
            template=template,
        )
        store.derive(modern=cloud.version.modern)
        cloud.datastores.put(store)
        return store.id

    @serves("one.datastore.info", int, optional=(bool,))
    def info(self, caller: User, number: int, _decrypt: bool = False) -> str:
        """Show a datastore."""
        return self._cloud.demand(caller, Right.USE, self._cloud.datastores, number, locks=False).xml()

    @serves("one.datastorepool.info")
    def pool(self, caller: User) -> str:
        """Show the datastores that the caller may use."""
        stores = self._cloud.datastores.newest_first()
        shown = [store for store in stores if self._cloud.rights.may(caller, Right.USE, Kind.DATASTORE, store)]
        return f"<DATASTORE_POOL>{''.join(store.xml() for store in shown)}</DATASTORE_POOL>"

    @serves("one.datastore.update", int, str, optional=(int,))
    def update(self, caller: User, number: int, text: str, append: int = 0) -> int:
        """Replace a datastore's attributes (0), or merge into them (1); what follows from its drivers is set anew."""
        store = self._cloud.demand(caller, Right.MANAGE, self._cloud.datastores, number)
        store.template = self._cloud.updated(caller, store.template, text, append)
        store.derive(modern=self._cloud.version.modern)
        return number


class SystemCalls:
    """`one.system.*`, `one.zonepool.info`, `one.zone.info`, `one.zone.raftstatus`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.system.version")
    def version(self, _caller: User) -> str:
        """Say which version this is."""
        return self._cloud.version.answer

    @serves("one.system.config")
    def config(self, caller: User) -> str:
        """Show the configuration; 5.12 shows it to oneadmin's group only."""
        if not self._cloud.version.modern and not caller.is_oneadmin:
            raise unauthorized(
                f"User [{caller.id}] : The oned configuration can only be retrieved by users in the oneadmin group."
            )
        settings = (("DEFAULT_UMASK", "177"), ("SESSION_EXPIRATION_TIME", "900"), ("MAX_CONN", "15"))
        return f"<OPENNEBULA_CONFIGURATION>{''.join(cdata(*pair) for pair in settings)}</OPENNEBULA_CONFIGURATION>"

    def _zone(self) -> str:
        if not self._cloud.version.modern:
            inside = cdata("ENDPOINT", "http://localhost:2633/RPC2")
            return (
                "<ZONE><ID>0</ID><NAME>OpenNebula</NAME>"
                f"<TEMPLATE>{inside}</TEMPLATE><SERVER_POOL></SERVER_POOL></ZONE>"
            )
        inside = cdata("ENDPOINT", "http://localhost:2633/RPC2") + cdata("ENDPOINT_GRPC", "localhost:2634")
        return (
            "<ZONE><ID>0</ID><NAME>OpenNebula</NAME><STATE>0</STATE>"
            f"<TEMPLATE>{inside}</TEMPLATE><SERVER_POOL></SERVER_POOL></ZONE>"
        )

    @serves("one.zonepool.info")
    def zones(self, _caller: User) -> str:
        """Show the one zone; everybody may."""
        return f"<ZONE_POOL>{self._zone()}</ZONE_POOL>"

    @serves("one.zone.info", int, optional=(bool,))
    def zone(self, _caller: User, number: int, _decrypt: bool = False) -> str:
        """Show the zone."""
        if number != 0:
            raise no_such("zone", number)
        return self._zone()

    @serves("one.zone.raftstatus")
    def raft_status(self, caller: User) -> str:
        """Show that there is but one server; for those who may ADMIN the zone."""
        if not caller.is_oneadmin:
            raise unauthorized(f"User [{caller.id}] : Not authorized to perform ADMIN ZONE [0].")
        return raft_status(server_id=-1, state=0, term=0)
