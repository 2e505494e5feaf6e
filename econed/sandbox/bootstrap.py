"""The users, groups, ACL rules, cluster and datastores of a new cloud."""

from __future__ import annotations

from econed.sandbox.accounts import new_group, new_user, sha256
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.base import Kind, Permissions, Right
from econed.sandbox.objects.infrastructure import Cluster, Datastore
from econed.sandbox.objects.security_groups import default_group
from econed.sandbox.rights import ALL, GROUP, INDIVIDUAL
from econed.sandbox.template import Template

_FIRST_GROUP_ID = 100
_SUNSTONE = {
    "DEFAULT_VIEW": "cloud",
    "GROUP_ADMIN_DEFAULT_VIEW": "groupadmin",
    "GROUP_ADMIN_VIEWS": "groupadmin,cloud",
    "VIEWS": "cloud",
}


def bootstrap(cloud: Cloud, *, oneadmin: str, serveradmin: str) -> None:
    """Add the objects that oned creates when it first starts; `oneadmin` and `serveradmin` are `NAME:PASSWORD`."""
    for name in ("oneadmin", "users"):
        new_group(cloud, name)
    cloud.rights.reset()
    _add_first_rules(cloud)
    cloud.groups.skip_to(_FIRST_GROUP_ID)
    cloud.groups.get(1).template = Template([("SUNSTONE", dict(_SUNSTONE))])
    name, _, password = oneadmin.partition(":")
    new_user(cloud, name, sha256(password), "core", [0])
    name, _, password = serveradmin.partition(":")
    new_user(cloud, name, sha256(password), "server_cipher", [0])
    _add_infrastructure(cloud)
    cloud.security_groups.add(default_group())


def _add_first_rules(cloud: Cloud) -> None:
    rights = cloud.rights
    kinds = [Kind.VM, Kind.IMAGE, Kind.TEMPLATE, Kind.DOCUMENT, Kind.SECGROUP, Kind.VMGROUP]
    if cloud.version.is_v7:
        kinds.append(Kind.BACKUPJOB)
    rights.add(GROUP | 1, sum(kind.bit for kind in kinds) | ALL, Right.CREATE, ALL)
    rights.add(ALL, Kind.ZONE.bit | ALL, Right.USE, ALL)
    rights.add(ALL, Kind.MARKETPLACE.bit | Kind.MARKETPLACEAPP.bit | ALL, Right.USE, ALL)
    rights.add(GROUP | 1, Kind.HOST.bit | ALL, Right.MANAGE, INDIVIDUAL)
    rights.add(GROUP | 1, Kind.NET.bit | ALL, Right.USE, INDIVIDUAL)
    rights.add(GROUP | 1, Kind.DATASTORE.bit | ALL, Right.USE, INDIVIDUAL)


def _add_infrastructure(cloud: Cloud) -> None:
    """Add the cluster `default` and the datastores `system`, `default` and `files`."""
    reserved = Template([("RESERVED_CPU", ""), ("RESERVED_MEM", "")])
    cluster = Cluster(cloud.clusters.allocate_id(), 0, 0, "oneadmin", "oneadmin", "default", template=reserved)
    cloud.clusters.add(cluster)
    driver = "local" if cloud.version.is_v7 else "ssh"
    for name, type_name in (("system", "SYSTEM_DS"), ("default", "IMAGE_DS"), ("files", "FILE_DS")):
        template = Template([("TM_MAD", driver), ("TYPE", type_name), ("RESTRICTED_DIRS", "/")])
        template.add("SAFE_DIRS", "/var/tmp")  # noqa: S108  the default of oned
        if type_name != "SYSTEM_DS":
            template.replace("DS_MAD", "fs")
        if type_name != "FILE_DS":
            template.replace("DISK_TYPE", "FILE")
        store = Datastore(
            cloud.datastores.allocate_id(),
            0,
            0,
            "oneadmin",
            "oneadmin",
            name,
            permissions=Permissions.from_octal("640"),
            cluster_ids={0},
            template=template,
        )
        store.derive(is_v7=cloud.version.is_v7)
        cloud.datastores.add(store)
