"""The calls on hosts, clusters, datastores, the zone and the system."""

from __future__ import annotations

from functools import partial

from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.base import Kind, Permissions, Right, check_name
from econed.sandbox.objects.infrastructure import (
    Cluster,
    Datastore,
    Host,
    HostState,
    raft_status,
)
from econed.sandbox.objects.users import User
from econed.sandbox.refusals import internal, no_such, unauthorized, wrong_state
from econed.sandbox.template import cdata

_FIRST_CLUSTER_ID = 100
_HOST_STATES = (HostState.MONITORED, HostState.DISABLED, HostState.OFFLINE)


class HostCalls:
    """`one.host.*`, `one.hostpool.info`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.host.allocate", str, str, str, optional=(int,))
    def allocate(self, caller: User, name: str, im_mad: str, vm_mad: str, cluster_id: int = 0) -> int:
        """Allocate a host; it is monitored after a delay."""
        cloud = self._cloud
        cloud.rights.check(caller, Right.CREATE, Kind.HOST, None)
        cluster_id = max(cluster_id, 0)
        cloud.clusters.get(cluster_id)
        check_name(name)
        if any(host.name == name for host in cloud.hosts):
            raise internal(f"NAME is already taken by HOST {name}.")
        host = Host(
            cloud.hosts.allocate_id(),
            0,
            0,
            "",
            "",
            name,
            cluster_ids={cluster_id},
            cluster_id=cluster_id,
            im_mad=im_mad,
            vm_mad=vm_mad,
        )
        cloud.hosts.add(host)
        cloud.call_later(cloud.delays.monitor, partial(_monitored, host))
        return host.id

    @serves("one.host.info", int, optional=(bool,))
    def info(self, caller: User, host_id: int, _decrypt: bool = False) -> str:
        """Return the document of a host."""
        return self._xml(self._cloud.get_authorized(caller, Right.USE, self._cloud.hosts, host_id, locks=False))

    @serves("one.hostpool.info")
    def pool(self, caller: User) -> str:
        """Return the document of the hosts that the caller may use."""
        hosts = self._cloud.hosts.newest_first()
        usable = [host for host in hosts if self._cloud.rights.allows(caller, Right.USE, Kind.HOST, host)]
        return f"<HOST_POOL>{''.join(map(self._xml, usable))}</HOST_POOL>"

    def _xml(self, host: Host) -> str:
        return host.xml(self._cloud.clusters.get(host.cluster_id).name)

    @serves("one.host.status", int, int)
    def status(self, caller: User, host_id: int, status: int) -> int:
        """Enable a host (0), disable it (1) or take it offline (2)."""
        host = self._cloud.get_authorized(caller, Right.ADMIN, self._cloud.hosts, host_id)
        if status not in range(len(_HOST_STATES)):
            raise internal("Wrong status code")
        host.state = _HOST_STATES[status]
        return host_id

    @serves("one.host.delete", int)
    def delete(self, caller: User, host_id: int) -> int:
        """Delete a host without machines."""
        host = self._cloud.get_authorized(caller, Right.ADMIN, self._cloud.hosts, host_id)
        if host.vm_ids:
            raise wrong_state("Can not remove a host with running VMs")
        self._cloud.hosts.remove(host)
        return host_id


def _monitored(host: Host) -> None:
    host.state = HostState.MONITORED


class ClusterCalls:
    """`one.cluster.*`, `one.clusterpool.info`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.cluster.allocate", str)
    def allocate(self, caller: User, name: str) -> int:
        """Allocate a cluster."""
        self._cloud.rights.check(caller, Right.CREATE, Kind.CLUSTER, None)
        check_name(name)
        if any(cluster.name == name for cluster in self._cloud.clusters):
            raise internal(f"NAME is already taken by CLUSTER {name}.")
        self._cloud.clusters.skip_to(_FIRST_CLUSTER_ID)
        cluster = Cluster(self._cloud.clusters.allocate_id(), 0, 0, "oneadmin", "oneadmin", name)
        self._cloud.clusters.add(cluster)
        return cluster.id

    @serves("one.cluster.info", int, optional=(bool,))
    def info(self, caller: User, cluster_id: int, _decrypt: bool = False) -> str:
        """Return the document of a cluster."""
        return self._xml(self._cloud.get_authorized(caller, Right.USE, self._cloud.clusters, cluster_id, locks=False))

    @serves("one.clusterpool.info")
    def pool(self, caller: User) -> str:
        """Return the document of the clusters that the caller may use: none, for an ordinary user."""
        cloud = self._cloud
        clusters = cloud.clusters.newest_first()
        usable = [cluster for cluster in clusters if cloud.rights.allows(caller, Right.USE, Kind.CLUSTER, cluster)]
        return f"<CLUSTER_POOL>{''.join(map(self._xml, usable))}</CLUSTER_POOL>"

    def _xml(self, cluster: Cluster) -> str:
        cloud = self._cloud
        return cluster.xml(
            host_ids=[host.id for host in cloud.hosts if host.cluster_id == cluster.id],
            datastore_ids=[store.id for store in cloud.datastores if cluster.id in store.cluster_ids],
            network_ids=[network.id for network in cloud.networks if cluster.id in network.cluster_ids],
        )

    @serves("one.cluster.addhost", int, int)
    def add_host(self, caller: User, cluster_id: int, host_id: int) -> int:
        """Move a host into a cluster."""
        cluster = self._cloud.get_authorized(caller, Right.ADMIN, self._cloud.clusters, cluster_id)
        host = self._cloud.get_authorized(caller, Right.ADMIN, self._cloud.hosts, host_id)
        host.cluster_id, host.cluster_ids = cluster.id, {cluster.id}
        return cluster_id

    @serves("one.cluster.adddatastore", int, int)
    def add_datastore(self, caller: User, cluster_id: int, datastore_id: int) -> int:
        """Add a datastore to a cluster."""
        self._cloud.get_authorized(caller, Right.ADMIN, self._cloud.clusters, cluster_id)
        datastore = self._cloud.get_authorized(caller, Right.ADMIN, self._cloud.datastores, datastore_id)
        datastore.cluster_ids.add(cluster_id)
        return cluster_id

    @serves("one.cluster.deldatastore", int, int)
    def del_datastore(self, caller: User, cluster_id: int, datastore_id: int) -> int:
        """Remove a datastore from a cluster."""
        self._cloud.get_authorized(caller, Right.ADMIN, self._cloud.clusters, cluster_id)
        datastore = self._cloud.get_authorized(caller, Right.ADMIN, self._cloud.datastores, datastore_id)
        datastore.cluster_ids.discard(cluster_id)
        return cluster_id

    @serves("one.cluster.addvnet", int, int)
    def add_network(self, caller: User, cluster_id: int, network_id: int) -> int:
        """Add a network to a cluster."""
        self._cloud.get_authorized(caller, Right.ADMIN, self._cloud.clusters, cluster_id)
        network = self._cloud.get_authorized(caller, Right.ADMIN, self._cloud.networks, network_id)
        network.cluster_ids.add(cluster_id)
        return cluster_id

    @serves("one.cluster.delvnet", int, int)
    def del_network(self, caller: User, cluster_id: int, network_id: int) -> int:
        """Remove a network from a cluster."""
        self._cloud.get_authorized(caller, Right.ADMIN, self._cloud.clusters, cluster_id)
        network = self._cloud.get_authorized(caller, Right.ADMIN, self._cloud.networks, network_id)
        network.cluster_ids.discard(cluster_id)
        return cluster_id


class DatastoreCalls:
    """`one.datastore.*`, `one.datastorepool.info`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.datastore.allocate", str, optional=(int,))
    def allocate(self, caller: User, text: str, cluster_id: int = 0) -> int:
        """Allocate a datastore."""
        cloud = self._cloud
        cloud.rights.check(caller, Right.CREATE, Kind.DATASTORE, None)
        cloud.clusters.get(max(cluster_id, 0))
        template = self._cloud.parse(text)
        name = check_name(template.get("NAME"))
        if any(store.name == name for store in cloud.datastores):
            raise internal(f"NAME is already taken by DATASTORE {name}.")
        template.pop("NAME")
        cloud.datastores.skip_to(_FIRST_CLUSTER_ID)
        store = Datastore(
            cloud.datastores.allocate_id(),
            caller.id,
            caller.gid,
            caller.name,
            caller.gname,
            name,
            permissions=Permissions.from_octal("640"),
            cluster_ids={max(cluster_id, 0)},
            template=template,
        )
        store.derive(is_v7=cloud.version.is_v7)
        cloud.datastores.add(store)
        return store.id

    @serves("one.datastore.info", int, optional=(bool,))
    def info(self, caller: User, datastore_id: int, _decrypt: bool = False) -> str:
        """Return the document of a datastore."""
        return self._cloud.get_authorized(caller, Right.USE, self._cloud.datastores, datastore_id, locks=False).xml()

    @serves("one.datastorepool.info")
    def pool(self, caller: User) -> str:
        """Return the document of the datastores that the caller may use."""
        stores = self._cloud.datastores.newest_first()
        usable = [store for store in stores if self._cloud.rights.allows(caller, Right.USE, Kind.DATASTORE, store)]
        return f"<DATASTORE_POOL>{''.join(store.xml() for store in usable)}</DATASTORE_POOL>"

    @serves("one.datastore.update", int, str, optional=(int,))
    def update(self, caller: User, datastore_id: int, text: str, append: int = 0) -> int:
        """Replace a datastore's attributes (0), or merge into them (1); derived attributes are set again."""
        store = self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.datastores, datastore_id)
        store.template = self._cloud.updated_template(caller, store.template, text, append)
        store.derive(is_v7=self._cloud.version.is_v7)
        return datastore_id


class SystemCalls:
    """`one.system.*`, `one.zonepool.info`, `one.zone.info`, `one.zone.raftstatus`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.system.version")
    def version(self, _caller: User) -> str:
        """Return the version of oned."""
        return self._cloud.version.reported

    @serves("one.system.config")
    def config(self, caller: User) -> str:
        """Return the configuration; in 5.12 only to oneadmin's group."""
        if not self._cloud.version.is_v7 and not caller.is_oneadmin:
            raise unauthorized(
                f"User [{caller.id}] : The oned configuration can only be retrieved by users in the oneadmin group."
            )
        settings = (("DEFAULT_UMASK", "177"), ("SESSION_EXPIRATION_TIME", "900"), ("MAX_CONN", "15"))
        return f"<OPENNEBULA_CONFIGURATION>{''.join(cdata(*pair) for pair in settings)}</OPENNEBULA_CONFIGURATION>"

    def _zone(self) -> str:
        state, endpoints = "", cdata("ENDPOINT", "http://localhost:2633/RPC2")
        if self._cloud.version.is_v7:
            state, endpoints = "<STATE>0</STATE>", endpoints + cdata("ENDPOINT_GRPC", "localhost:2634")
        return (
            f"<ZONE><ID>0</ID><NAME>OpenNebula</NAME>{state}"
            f"<TEMPLATE>{endpoints}</TEMPLATE><SERVER_POOL></SERVER_POOL></ZONE>"
        )

    @serves("one.zonepool.info")
    def zones(self, _caller: User) -> str:
        """Return the document of the only zone, to all users."""
        return f"<ZONE_POOL>{self._zone()}</ZONE_POOL>"

    @serves("one.zone.info", int, optional=(bool,))
    def zone(self, _caller: User, zone_id: int, _decrypt: bool = False) -> str:
        """Return the document of the zone."""
        if zone_id != 0:
            raise no_such("zone", zone_id)
        return self._zone()

    @serves("one.zone.raftstatus")
    def raft_status(self, caller: User) -> str:
        """Return the status of a standalone server, to users who may ADMIN the zone."""
        if not caller.is_oneadmin:
            raise unauthorized(f"User [{caller.id}] : Not authorized to perform ADMIN ZONE [0].")
        return raft_status(server_id=-1, state=0, term=0)
