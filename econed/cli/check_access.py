"""The checks of `econe-server check` that ask what the users of EC2 may use: types, AMIs, networks, datastores."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Container, Iterable, Iterator, Sequence
from typing import Final

from econed.actions.images.view import is_ami
from econed.actions.machines.facts import INSTANCE_TYPE
from econed.cli.survey import Row, Survey, Verdict, acl_command
from econed.errors import NotStorable
from econed.ids import IMAGE
from econed.opennebula.access import Group, Operation, Resource, is_granted
from econed.opennebula.attributes import Attributes, Vector
from econed.opennebula.documents import Datastore, VirtualNetwork, VMTemplate
from econed.opennebula.file_templates import FileTemplate
from econed.opennebula.networks import NetworksOfNics
from econed.opennebula.states import DatastoreType, ImageState

REQUIRED_RIGHTS: Final = (
    (Resource.VM, Operation.CREATE, "run instances"),
    (Resource.IMAGE, Operation.CREATE, "create images, volumes and snapshots"),
    (Resource.TEMPLATE, Operation.CREATE, "run instances with parameters of their own"),
    (Resource.HOST, Operation.MANAGE, "have instances scheduled on hosts"),
)
"""Rights that a group needs an ACL rule for, and the use of each. Networks and datastores have permissions as well."""

OPTIONAL_RIGHTS: Final = (
    (Resource.SECGROUP, Operation.CREATE, "create security groups"),
    (Resource.VMGROUP, Operation.CREATE, "create placement groups"),
)
"""Rights that an administrator may keep from a group on purpose: instances run without them."""

_USABLE_STATES = (ImageState.READY, ImageState.USED, ImageState.CLONE)


async def check_types(survey: Survey) -> AsyncGenerator[Row, None]:
    """Check that there are instance types, that a group can use each, and that it can use the networks of the type."""
    subject = "instance types"
    networks = await survey.serveradmin.networks()
    if survey.loaded.file_types is not None:
        yield Row(Verdict.GOOD, subject, f"files: {', '.join(sorted(survey.loaded.file_types))}")
        for row in _default_type_rows(survey, survey.loaded.file_types):
            yield row
        for name, file in sorted(survey.loaded.file_types.items()):
            for row in _network_rows(survey, name, _attributes_of_file(name, file), survey.groups, networks):
                yield row
        return
    templates = [template for template in await survey.serveradmin.templates() if INSTANCE_TYPE in template.template]
    if not templates:
        yield Row(Verdict.BAD, subject, f"no template has {INSTANCE_TYPE}: no instance can be run")
        return
    for row in _default_type_rows(survey, {template.template.text(INSTANCE_TYPE) for template in templates}):
        yield row
    for template in templates:
        for row in _rows_of_template(survey, template, networks):
            yield row


def _default_type_rows(survey: Survey, names: Container[str]) -> Iterator[Row]:
    name = survey.loaded.settings.default_instance_type
    if name not in names:
        text = f"there is no instance type {name}: RunInstances is refused without a type"
        yield Row(Verdict.NOTE, "default_instance_type", text)


def _rows_of_template(survey: Survey, template: VMTemplate, networks: Sequence[VirtualNetwork]) -> Iterator[Row]:
    name = template.template.text(INSTANCE_TYPE)
    yield survey.usability(f"type {name}", f"template {template.id}", template, Resource.TEMPLATE)
    groups = survey.users_of(template, Resource.TEMPLATE)
    yield from _network_rows(survey, name, template.template, groups, networks)


def _attributes_of_file(name: str, file: FileTemplate) -> Attributes:
    """Return the attributes of an instance type that is a file, for any AMI."""
    try:
        return file.attributes({"img_id": "0", "ec2_img_id": IMAGE.format(0), "instance_type": name})
    except NotStorable:
        return Attributes(())


def _network_rows(
    survey: Survey,
    type_name: str,
    attributes: Attributes,
    groups: Sequence[Group],
    networks: Sequence[VirtualNetwork],
) -> Iterator[Row]:
    """Yield a BAD row for each network of an instance type that does not exist or that one of `groups` cannot use."""
    subject, networks_of_nics = f"type {type_name}", NetworksOfNics(networks)
    for nic in attributes.vectors("NIC"):
        if "NETWORK_ID" not in nic and "NETWORK" not in nic:
            continue  # the scheduler chooses a network (NETWORK_MODE)
        if not {"NETWORK_ID", "NETWORK_UID", "NETWORK_UNAME"} & nic.keys():
            if not any(network.name == nic["NETWORK"] and network.uid for network in networks):
                text = f'NETWORK = "{nic["NETWORK"]}" is looked up among the user\'s own networks: add NETWORK_UNAME'
                yield Row(Verdict.BAD, subject, text)
            continue
        network = networks_of_nics.of(nic, "")
        if network is None:
            yield Row(Verdict.BAD, subject, f"there is no network {_name_in(nic)}")
        else:
            yield from _unusable(survey, subject, groups, network)


def _unusable(survey: Survey, subject: str, groups: Iterable[Group], network: VirtualNetwork) -> Iterator[Row]:
    for group in groups:
        if not survey.may_use(group, network, Resource.NET):
            command = acl_command(group, Resource.NET, f"#{network.id}", Operation.USE)
            yield Row(
                Verdict.BAD, subject, f"{group.name} cannot use its network {network.id} ({network.name}): {command}"
            )


def _name_in(nic: Vector) -> str:
    if "NETWORK_ID" in nic:
        return nic["NETWORK_ID"]
    owner = nic["NETWORK_UNAME"] if "NETWORK_UNAME" in nic else f"user {nic['NETWORK_UID']}"
    return f"{nic.get('NETWORK', '')} of {owner}"


async def check_amis(survey: Survey) -> AsyncGenerator[Row, None]:
    """Check that there are AMIs, and that users of the groups can use them.

    An AMI of one of these users is private unless they share it, as on Amazon.
    """
    amis = [image for image in await survey.serveradmin.images() if is_ami(image)]
    ready = [image for image in amis if image.state in _USABLE_STATES]
    verdict = Verdict.GOOD if ready else Verdict.NOTE
    yield Row(verdict, "AMIs", f"{len(amis)} images marked EC2_AMI, {len(ready)} of them ready")
    owners = {user_id for group in survey.groups for user_id in group.user_ids}
    for image in amis:
        if image.state is ImageState.ERROR:
            yield Row(Verdict.NOTE, f"AMI {image.id}", "is in state ERROR")
        elif image.uid not in owners and survey.groups and not survey.users_of(image, Resource.IMAGE):
            row = survey.usability(f"AMI {image.id}", f"image {image.id} ({image.name})", image, Resource.IMAGE)
            yield row
    for group in survey.groups if ready else ():
        if not any(image.uid in group.user_ids or survey.may_use(group, image, Resource.IMAGE) for image in ready):
            yield Row(Verdict.BAD, f"group {group.name}", "cannot use any AMI: oneimage chgrp, oneimage chmod 640")


async def check_datastore(survey: Survey) -> AsyncGenerator[Row, None]:
    """Check the datastore of images and volumes, and that the groups can use a system datastore."""
    datastores = await survey.serveradmin.datastores()
    yield _image_datastore(survey, datastores)
    cluster_id = survey.loaded.settings.cluster_id
    system = [
        datastore
        for datastore in datastores
        if datastore.type is DatastoreType.SYSTEM_DS
        and datastore.is_usable
        and (cluster_id is None or cluster_id in datastore.cluster_ids)
    ]
    where = "" if cluster_id is None else f" in cluster {cluster_id}"
    if not system:
        yield Row(Verdict.BAD, "datastores", f"there is no enabled system datastore{where}: instances stay pending")
    for group in survey.groups if system else ():
        if not any(survey.may_use(group, datastore, Resource.DATASTORE) for datastore in system):
            command = acl_command(group, Resource.DATASTORE, f"#{system[0].id}", Operation.USE)
            text = f"cannot use any system datastore{where}, so its instances stay pending: {command}"
            yield Row(Verdict.BAD, f"group {group.name}", text)


def _image_datastore(survey: Survey, datastores: Sequence[Datastore]) -> Row:
    datastore_id = survey.loaded.settings.datastore_id
    datastore = next((datastore for datastore in datastores if datastore.id == datastore_id), None)
    if datastore is None:
        return Row(Verdict.BAD, "datastore_id", f"there is no datastore {datastore_id}")
    if datastore.type is not DatastoreType.IMAGE_DS:
        return Row(Verdict.BAD, "datastore_id", f"{datastore.id} ({datastore.name}) is not an image datastore")
    name = f"{datastore.id} ({datastore.name}), {datastore.free_mb} MB free"
    return survey.usability("datastore_id", name, datastore, Resource.DATASTORE)


async def check_rights(survey: Survey) -> AsyncGenerator[Row, None]:
    """Check the rights of the groups: ACL rules, and permissions of networks except that of the elastic IPs."""
    if not survey.groups and not survey.are_groups_named:
        text = "no user outside of oneadmin's group can use EC2; name groups with --group"
        yield Row(Verdict.NOTE, "groups", text)
    elastic_id = survey.loaded.settings.elasticips_vnet_id
    networks = [network for network in await survey.serveradmin.networks() if network.id != elastic_id]
    if not networks:
        yield Row(Verdict.NOTE, "networks", "none: instances have no address")
    for group in survey.groups:
        subject = f"group {group.name}"
        missing = list(_missing_rights(survey, group, Verdict.BAD, REQUIRED_RIGHTS))
        if not any(survey.may_use(group, network, Resource.NET) for network in networks) and networks:
            command = acl_command(group, Resource.NET, f"#{networks[0].id}", Operation.USE)
            missing.append(Row(Verdict.BAD, subject, f"cannot use any network: {command}"))
        for row in missing or [Row(Verdict.GOOD, subject, "has the rights that EC2 needs")]:
            yield row
        for row in _missing_rights(survey, group, Verdict.NOTE, OPTIONAL_RIGHTS):
            yield row


def _missing_rights(
    survey: Survey, group: Group, verdict: Verdict, rights: Iterable[tuple[Resource, Operation, str]]
) -> Iterator[Row]:
    """Yield a row for each of `rights` that no ACL rule gives to the group, with the command that does."""
    for kind, operation, purpose in rights:
        if not is_granted(survey.rules, group.id, kind, operation):
            text = f"cannot {purpose}: {acl_command(group, kind, '*', operation)}"
            yield Row(verdict, f"group {group.name}", text)
