"""`econe-server check`: the configuration held against the live oned, as a table."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TextIO

from econed.actions.image_view import is_ami
from econed.actions.instance_facts import INSTANCE_TYPE
from econed.cli.installation import Exit
from econed.cli.reaching import Prepared, is_wrong_credentials
from econed.config.settings import Settings
from econed.errors import OpenNebulaError, OpenNebulaRefusal
from econed.fetching.own_host import has_tmpdir
from econed.interfaces import IOpenNebula
from econed.opennebula.access import Group, Operation, Resource, Rule, is_granted
from econed.opennebula.documents import OwnedView, Right, UserDocument, VirtualNetwork
from econed.opennebula.raft import RaftState, RaftStatus
from econed.opennebula.session import Session
from econed.opennebula.states import DatastoreType, ImageState
from econed.telemetry.log_lines import printable
from econed.xmlrpc.leader import Standing, leader_of

_KNOWN: Final = ("5.12", "6.", "7.")
_NOBODY: Final = -1
_WITH_PASSWORDS: Final = ("core", "public")
_ONEADMIN_GROUP: Final = 0

NEEDED: Final = (
    (Resource.VM, Operation.CREATE, "run instances"),
    (Resource.IMAGE, Operation.CREATE, "make images, volumes and snapshots"),
    (Resource.TEMPLATE, Operation.CREATE, "run instances of what they ask for"),
    (Resource.HOST, Operation.MANAGE, "have their instances placed"),
)
"""What a group needs a rule for, and what for. Networks and datastores may also be opened by their own permissions."""


class Verdict(Enum):
    """How it stands with one thing."""

    GOOD = "ok"
    NOTE = "note"
    BAD = "BAD"


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    verdict: Verdict
    subject: str
    text: str


@dataclass(frozen=True)
class Survey:
    """What the checks look at. `groups` are the groups of EC2's users."""

    ready: Prepared
    serveradmin: Session
    groups: tuple[Group, ...]
    rules: tuple[Rule, ...]


async def run(
    one: IOpenNebula, ready: Prepared, groups: Sequence[str], out: TextIO, standings: Sequence[Standing] = ()
) -> Exit:
    """Check everything and print the table; OK if nothing is bad. `standings` is how the oneds stand to each other."""
    rows = list(of_servers(standings))
    exit_code = Exit.OK
    try:
        rows += [row async for row in checked(one, ready, groups)]
    except OpenNebulaError as error:
        rows += [Row(Verdict.BAD, "oned", f"{', '.join(ready.settings.one_xmlrpc)}: {error}")]
        exit_code = Exit.REFUSED if is_wrong_credentials(error) else Exit.NO_ANSWER
    show(rows, out)
    return exit_code or (Exit.FAILED if any(row.verdict is Verdict.BAD for row in rows) else Exit.OK)


def show(rows: Sequence[Row], out: TextIO) -> None:
    """Print rows as a table, one a line whatever is in the names that OpenNebula's users have given."""
    told = [(row.verdict.value, printable(row.subject), printable(row.text)) for row in rows]
    width = max(len(subject) for _, subject, _ in told)
    for verdict, subject, text in told:
        print(f"{verdict:<5} {subject:<{width}}  {text}", file=out)


async def checked(one: IOpenNebula, ready: Prepared, group_names: Sequence[str]) -> AsyncGenerator[Row, None]:
    """Yield what there is to say; raises `OpenNebulaError` where oned cannot be asked at all."""
    serveradmin = Session(one, None)
    await serveradmin.current_user()
    version = await serveradmin.version()
    yield Row(Verdict.GOOD, "oned", ", ".join(ready.settings.one_xmlrpc))
    known = version.startswith(_KNOWN)
    yield Row(Verdict.GOOD if known else Verdict.NOTE, "version", version if known else f"{version}: not tried")
    yield Row(Verdict.GOOD, "token", f"{_driver(ready)}, taken by oned")
    every_group = await serveradmin.groups()
    for name in group_names:
        if name not in {group.name for group in every_group}:
            yield Row(Verdict.BAD, f"group {name}", "there is no such group")
    users: list[UserDocument] = []
    too_long: list[int] = []

    async def visit(user: UserDocument) -> None:
        users.append(user)

    await serveradmin.visit_users(visit, too_long.append)
    for user_id in too_long:
        yield Row(Verdict.BAD, f"user {user_id}", "has a document that is too long to be read, and cannot use EC2")
    wanted = _groups(every_group, users, group_names)
    survey = Survey(ready, serveradmin, wanted, await serveradmin.acl_rules())
    for about in (_types, _amis, _places, _elastic_ips, _rights):
        try:
            async for row in about(survey):
                yield row
        except OpenNebulaRefusal as refusal:
            yield Row(Verdict.BAD, "oned", str(refusal))
    for row in _of_this_machine(ready):
        yield row


def of_servers(standings: Sequence[Standing]) -> Iterator[Row]:
    """Yield what there is to say of several oneds, or of one that is not alone as OpenNebula sees it."""
    if len(standings) == 1:
        raft = standings[0].raft
        if raft is not None and raft.state is not RaftState.SOLO:
            text = f"{_place(raft)} in an HA zone: one_xmlrpc should name every server of it, or an address that moves"
            yield Row(Verdict.NOTE, "server", text)
        return
    leader = leader_of(standings)
    for standing in standings:
        raft, url = standing.raft, standing.server.url
        if raft is None:
            yield Row(Verdict.BAD, "server", f"{url}: {standing.trouble}")
        elif raft.state is RaftState.SOLO:
            yield Row(Verdict.BAD, "server", f"{url}: is alone, in no HA zone with the others")
        else:
            is_old = raft.state is RaftState.LEADER and (leader is None or leader.server is not standing.server)
            text = f"{url}: {_place(raft)}{', and others know better' if is_old else ''}"
            yield Row(Verdict.NOTE if is_old or raft.state is RaftState.CANDIDATE else Verdict.GOOD, "server", text)
    if standings and leader is None:
        yield Row(Verdict.BAD, "servers", "none leads: nothing can be changed, requests wait")


def _place(raft: RaftStatus) -> str:
    words = {RaftState.LEADER: "leads", RaftState.FOLLOWER: "follows", RaftState.CANDIDATE: "stands for election"}
    return f"{words[raft.state]} (term {raft.term})"


def _driver(ready: Prepared) -> str:
    return "server_x509" if ready.settings.core_auth == "x509" else "server_cipher"


def _groups(groups: Iterable[Group], users: Iterable[UserDocument], names: Sequence[str]) -> tuple[Group, ...]:
    """Return the groups named; if none is, those of all users who can use EC2 and are no administrators."""
    if names:
        return tuple(group for group in groups if group.name in names)
    theirs = {user.gid for user in users if user.is_enabled and user.driver in _WITH_PASSWORDS}
    return tuple(group for group in groups if group.id in theirs - {_ONEADMIN_GROUP})


async def _types(survey: Survey) -> AsyncGenerator[Row, None]:
    """Instance types: is there any, and who can use it."""
    subject = "instance types"
    if survey.ready.file_types is not None:
        yield Row(Verdict.GOOD, subject, f"files: {', '.join(sorted(survey.ready.file_types))}")
        return
    found = [each for each in await survey.serveradmin.templates() if INSTANCE_TYPE in each.template]
    if not found:
        yield Row(Verdict.BAD, subject, f"no template has {INSTANCE_TYPE}: no instance can be run")
    for template in found:
        row = _usable(survey, template, Resource.TEMPLATE)
        yield Row(row.verdict, f"type {template.template.text(INSTANCE_TYPE)}", f"template {template.id}, {row.text}")


async def _amis(survey: Survey) -> AsyncGenerator[Row, None]:
    """AMIs: is there any that an instance can be run of."""
    found = [image for image in await survey.serveradmin.images() if is_ami(image)]
    ready = [image for image in found if image.state in (ImageState.READY, ImageState.USED, ImageState.CLONE)]
    verdict = Verdict.GOOD if ready else Verdict.NOTE
    yield Row(verdict, "AMIs", f"{len(found)} images marked EC2_AMI, {len(ready)} of them ready")
    for image in found:
        if image.state is ImageState.ERROR:
            yield Row(Verdict.NOTE, f"AMI {image.id}", "is in state ERROR")


async def _places(survey: Survey) -> AsyncGenerator[Row, None]:
    """The cluster and the datastore of the configuration."""
    settings = survey.ready.settings
    clusters = {cluster.id: cluster.name for cluster in await survey.serveradmin.clusters()}
    if settings.cluster_id is None:
        yield Row(Verdict.GOOD, "clusters", ", ".join(clusters.values()) or "none")
    elif settings.cluster_id in clusters:
        yield Row(Verdict.GOOD, "cluster_id", f"{settings.cluster_id} ({clusters[settings.cluster_id]})")
    else:
        yield Row(Verdict.BAD, "cluster_id", f"there is no cluster {settings.cluster_id}")
    stores = {store.id: store for store in await survey.serveradmin.datastores()}
    store = stores.get(settings.datastore_id)
    if store is None:
        yield Row(Verdict.BAD, "datastore_id", f"there is no datastore {settings.datastore_id}")
    elif store.type is not DatastoreType.IMAGE_DS:
        yield Row(Verdict.BAD, "datastore_id", f"{store.id} ({store.name}) is not for images")
    else:
        row = _usable(survey, store, Resource.DATASTORE)
        yield Row(row.verdict, "datastore_id", f"{store.id} ({store.name}), {store.free_mb} MB free, {row.text}")


async def _elastic_ips(survey: Survey) -> AsyncGenerator[Row, None]:
    """The pool of elastic IPs."""
    number = survey.ready.settings.elasticips_vnet_id
    if number is None:
        yield Row(Verdict.NOTE, "elastic IPs", "none: elasticips_vnet_id is not set")
        return
    network = await survey.serveradmin.network(number)
    large = [str(each.ar_id) for each in network.address_ranges if each.size != 1]
    if large:
        yield Row(Verdict.BAD, "elastic IPs", f"ranges {', '.join(large)} of network {number} are not of size 1")
    yield _pool(network)


def _pool(network: VirtualNetwork) -> Row:
    leases = [lease for each in network.address_ranges for lease in each.leases]
    size = sum(each.size for each in network.address_ranges)
    held = sum(lease.is_held for lease in leases)
    text = f"network {network.id} ({network.name}): {size} addresses, {held} held, {size - len(leases)} free"
    if len(leases) > held:
        return Row(Verdict.BAD, "elastic IPs", f"{text}, {len(leases) - held} in use by machines directly")
    return Row(Verdict.GOOD if size else Verdict.BAD, "elastic IPs", text)


async def _rights(survey: Survey) -> AsyncGenerator[Row, None]:
    """What the groups may do, by rules and by the permissions of networks."""
    if not survey.groups:
        yield Row(Verdict.NOTE, "groups", "no user outside of oneadmin's group can use EC2; --group names one")
    networks = await survey.serveradmin.networks()
    if not networks:
        yield Row(Verdict.NOTE, "networks", "there is none: instances have no address")
    for group in survey.groups:
        missing = [
            Row(Verdict.BAD, f"group {group.name}", f"cannot {what}: {_command(group, resource, operation)}")
            for resource, operation, what in NEEDED
            if not is_granted(survey.rules, group.id, resource, operation)
        ]
        of_all = is_granted(survey.rules, group.id, Resource.NET, Operation.USE)
        if not of_all and not any(_may(survey, group, network, Resource.NET) for network in networks):
            text = f"can use no network: {_command(group, Resource.NET, Operation.USE)}"
            missing.append(Row(Verdict.BAD, f"group {group.name}", text))
        for row in missing or [Row(Verdict.GOOD, f"group {group.name}", "has the rights that EC2 needs")]:
            yield row


def _command(group: Group, resource: Resource, operation: Operation) -> str:
    return f'oneacl create "@{group.id} {resource.name}/* {operation.name}"'


def _usable(survey: Survey, thing: OwnedView, resource: Resource) -> Row:
    """Say which of the groups can use a thing."""
    theirs = [group.name for group in survey.groups if _may(survey, group, thing, resource)]
    if theirs:
        return Row(Verdict.GOOD, "", f"for {', '.join(theirs)}")
    return Row(Verdict.BAD if survey.groups else Verdict.NOTE, "", "which no group of EC2's users can use")


def _may(survey: Survey, group: Group, thing: OwnedView, resource: Resource) -> bool:
    allowed = thing.allows(_NOBODY, (group.id,), Right.USE)
    return allowed or is_granted(survey.rules, group.id, resource, Operation.USE)


def _of_this_machine(ready: Prepared) -> Iterator[Row]:
    """Yield what there is to say of commands and directories."""
    settings = ready.settings
    commands = {
        "associate_script": settings.associate_script,
        "disassociate_script": settings.disassociate_script,
    }
    for name, command in commands.items():
        if command is None:
            if settings.elasticips_vnet_id is not None:
                yield Row(Verdict.NOTE, name, "none: elastic IPs are recorded, and lead nowhere")
        elif os.access(command[0], os.X_OK) and os.path.isfile(command[0]):
            yield Row(Verdict.GOOD, name, command[0])
        else:
            yield Row(Verdict.BAD, name, f"{command[0]} is not there, or cannot be run")
    yield _of_urls(settings)
    if os.path.isdir(settings.tmpdir) and os.access(settings.tmpdir, os.W_OK):
        yield Row(Verdict.GOOD, "tmpdir", f"{settings.tmpdir}, {shutil.disk_usage(settings.tmpdir).free >> 20} MB free")
    else:
        yield Row(Verdict.BAD, "tmpdir", f"{settings.tmpdir} is not there, or nothing can be written to it")


def _of_urls(settings: Settings) -> Row:
    """Return who fetches images for RegisterImage, and from where."""
    hosts = ", ".join(settings.image_url_hosts)
    if has_tmpdir(settings):
        return Row(Verdict.GOOD, "image URLs", f"{hosts}: by oned; others by econed" if hosts else "fetched by econed")
    if hosts:
        return Row(Verdict.GOOD, "image URLs", f"{hosts}: by oned; no others, since oned is on another machine")
    text = "oned is on another machine: images can be neither uploaded nor registered from a URL (image_url_hosts)"
    return Row(Verdict.NOTE, "image URLs", text)
