"""`econe-server check`: checks the configuration against the running oned and prints a table."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from typing import Final, TextIO

from econed.cli.check_access import check_amis, check_datastore, check_rights, check_types
from econed.cli.check_keys import key_rows
from econed.cli.check_networks import check_networks, check_vpcs
from econed.cli.connection import is_wrong_credentials
from econed.cli.installation import Exit
from econed.cli.survey import Row, Survey, Verdict
from econed.config.settings import Settings
from econed.configtest import LoadedConfiguration
from econed.credentials.revocations import revocations
from econed.errors import OpenNebulaCode, OpenNebulaError, OpenNebulaRefusal
from econed.fetching.own_host import can_oned_read_tmpdir
from econed.interfaces import IOpenNebula
from econed.opennebula.access import Group
from econed.opennebula.documents import UserDocument, VirtualNetwork
from econed.opennebula.raft import RaftState, RaftStatus
from econed.opennebula.session import Session
from econed.telemetry.log_lines import printable
from econed.xmlrpc.leader import ServerStatus, leader_of

_TESTED_VERSIONS: Final = ("5.12", "6.", "7.")
_PASSWORD_DRIVERS: Final = ("core", "public")
_ONEADMIN_GROUP: Final = 0


async def run(
    oned: IOpenNebula,
    loaded: LoadedConfiguration,
    groups: Sequence[str],
    out: TextIO,
    statuses: Sequence[ServerStatus] = (),
    local_rows: Sequence[Row] = (),
    *,
    now: float,
) -> Exit:
    """Run all checks and print the table; OK if no row is BAD.

    `statuses` are the Raft states of the oneds, `local_rows` the results of checks that need no oned. `now` is in
    seconds since the epoch.
    """
    rows = [*local_rows, *server_rows(statuses)]
    exit_code = Exit.OK
    try:
        rows += [row async for row in cloud_rows(oned, loaded, groups, now)]
    except OpenNebulaError as error:
        is_refused = is_wrong_credentials(error)
        text = f"rejects the credentials of {loaded.server.name}" if is_refused else str(error)
        rows += [Row(Verdict.BAD, "oned", f"{', '.join(loaded.settings.one_xmlrpc)}: {text}")]
        exit_code = Exit.REFUSED if is_refused else Exit.NO_REPLY
    print_table(rows, out)
    return exit_code or (Exit.FAILED if any(row.verdict is Verdict.BAD for row in rows) else Exit.OK)


def print_table(rows: Sequence[Row], out: TextIO) -> None:
    """Print a line per row; control characters in names that users have chosen are escaped."""
    cells = [(row.verdict.value, printable(row.subject), printable(row.text)) for row in rows]
    width = max(len(subject) for _, subject, _ in cells)
    for verdict, subject, text in cells:
        print(f"{verdict:<5} {subject:<{width}}  {text}", file=out)


async def cloud_rows(
    oned: IOpenNebula, loaded: LoadedConfiguration, group_names: Sequence[str], now: float
) -> AsyncGenerator[Row, None]:
    """Yield the rows of all checks of the cloud and of this host; raises `OpenNebulaError` if oned does not reply."""
    serveradmin = Session(oned, None)
    revoked = revocations(await serveradmin.current_user())
    version = await serveradmin.version()
    yield Row(Verdict.GOOD, "oned", ", ".join(loaded.settings.one_xmlrpc))
    is_tested = version.startswith(_TESTED_VERSIONS)
    text = version if is_tested else f"{version}: not tested with econed"
    yield Row(Verdict.GOOD if is_tested else Verdict.NOTE, "version", text)
    yield Row(Verdict.GOOD, "token", f"{_driver(loaded)}, accepted by oned")
    all_groups = await serveradmin.groups()
    for name in group_names:
        if name not in {group.name for group in all_groups}:
            yield Row(Verdict.BAD, f"group {name}", "there is no such group")
    users: list[UserDocument] = []
    too_long: list[int] = []

    async def visit(user: UserDocument) -> None:
        users.append(user)

    await serveradmin.visit_users(visit, too_long.append)
    for user_id in too_long:
        yield Row(Verdict.BAD, f"user {user_id}", "cannot use EC2: the user's document is too long to be read")
    for row in key_rows(loaded, users, revoked, now):
        yield row
    ec2_groups = _select_groups(all_groups, users, group_names)
    survey = Survey(loaded, serveradmin, ec2_groups, bool(group_names), await serveradmin.acl_rules())
    for check in (
        check_types,
        check_amis,
        _check_cluster,
        check_datastore,
        _check_elastic_ips,
        check_networks,
        check_vpcs,
        check_rights,
    ):
        try:
            async for row in check(survey):
                yield row
        except OpenNebulaRefusal as refusal:
            yield Row(Verdict.BAD, "oned", str(refusal))
    for row in _check_host(loaded):
        yield row


def server_rows(statuses: Sequence[ServerStatus]) -> Iterator[Row]:
    """Yield a row for each of several oneds; for a single oned only if it is part of an HA zone."""
    if len(statuses) == 1:
        raft = statuses[0].raft
        if raft is not None and raft.state is not RaftState.SOLO:
            text = f"{_role(raft)} in an HA zone: one_xmlrpc should name all its servers, or its floating address"
            yield Row(Verdict.NOTE, "server", text)
        return
    leader = leader_of(statuses)
    for status in statuses:
        raft, url = status.raft, status.server.url
        if raft is None:
            yield Row(Verdict.BAD, "server", f"{url}: {status.error}")
        elif raft.state is RaftState.SOLO:
            yield Row(Verdict.BAD, "server", f"{url}: standalone, not in an HA zone with the others")
        else:
            is_stale = raft.state is RaftState.LEADER and (leader is None or leader.server is not status.server)
            text = f"{url}: {_role(raft)}{', but another server has a newer term' if is_stale else ''}"
            yield Row(Verdict.NOTE if is_stale or raft.state is RaftState.CANDIDATE else Verdict.GOOD, "server", text)
    if statuses and leader is None:
        yield Row(Verdict.BAD, "servers", "no leader: nothing can be changed, requests wait")


def _role(raft: RaftStatus) -> str:
    roles = {RaftState.LEADER: "leader", RaftState.FOLLOWER: "follower", RaftState.CANDIDATE: "candidate"}
    return f"{roles[raft.state]} (term {raft.term})"


def _driver(loaded: LoadedConfiguration) -> str:
    return "server_x509" if loaded.settings.core_auth == "x509" else "server_cipher"


def _select_groups(groups: Iterable[Group], users: Iterable[UserDocument], names: Sequence[str]) -> tuple[Group, ...]:
    """Return the groups of these names; without names, those of all users who can use EC2, but not oneadmin's."""
    if names:
        return tuple(group for group in groups if group.name in names)
    group_ids = {user.gid for user in users if user.is_enabled and user.driver in _PASSWORD_DRIVERS}
    return tuple(group for group in groups if group.id in group_ids - {_ONEADMIN_GROUP})


async def _check_cluster(survey: Survey) -> AsyncGenerator[Row, None]:
    """Check the cluster named in the configuration."""
    cluster_id = survey.loaded.settings.cluster_id
    clusters = {cluster.id: cluster.name for cluster in await survey.serveradmin.clusters()}
    if cluster_id is None:
        yield Row(Verdict.GOOD, "clusters", ", ".join(clusters.values()) or "none")
    elif cluster_id in clusters:
        yield Row(Verdict.GOOD, "cluster_id", f"{cluster_id} ({clusters[cluster_id]})")
    else:
        yield Row(Verdict.BAD, "cluster_id", f"there is no cluster {cluster_id}")


async def _check_elastic_ips(survey: Survey) -> AsyncGenerator[Row, None]:
    """Check the virtual network from which elastic IPs are allocated."""
    network_id = survey.loaded.settings.elasticips_vnet_id
    if network_id is None:
        yield Row(Verdict.NOTE, "elastic IPs", "none: elasticips_vnet_id is not set")
        return
    try:
        network = await survey.serveradmin.network(network_id)
    except OpenNebulaRefusal as refusal:
        if refusal.code != OpenNebulaCode.NO_EXISTS:
            raise
        yield Row(Verdict.BAD, "elasticips_vnet_id", f"there is no network {network_id}")
        return
    wrong_sizes = [str(address_range.ar_id) for address_range in network.address_ranges if address_range.size != 1]
    if wrong_sizes:
        text = f"address ranges {', '.join(wrong_sizes)} of network {network_id} are not of size 1"
        yield Row(Verdict.BAD, "elastic IPs", text)
    yield _count_addresses(network)


def _count_addresses(network: VirtualNetwork) -> Row:
    leases = [lease for address_range in network.address_ranges for lease in address_range.leases]
    size = sum(address_range.size for address_range in network.address_ranges)
    held = sum(lease.is_held for lease in leases)
    text = f"network {network.id} ({network.name}): {size} addresses, {held} held, {size - len(leases)} free"
    if len(leases) > held:
        return Row(Verdict.BAD, "elastic IPs", f"{text}, {len(leases) - held} leased directly to virtual machines")
    return Row(Verdict.GOOD if size else Verdict.BAD, "elastic IPs", text)


def _check_host(loaded: LoadedConfiguration) -> Iterator[Row]:
    """Check the scripts and directories on this host."""
    settings = loaded.settings
    commands = {
        "associate_script": settings.associate_script,
        "disassociate_script": settings.disassociate_script,
    }
    for name, command in commands.items():
        if command is None:
            if settings.elasticips_vnet_id is not None:
                yield Row(Verdict.NOTE, name, "not set: elastic IPs are recorded, but no traffic is routed")
        elif os.access(command[0], os.X_OK) and os.path.isfile(command[0]):
            yield Row(Verdict.GOOD, name, command[0])
        else:
            yield Row(Verdict.BAD, name, f"{command[0]} does not exist or is not executable")
    yield _check_image_urls(settings)
    if can_oned_read_tmpdir(settings):  # otherwise it is not used
        yield _check_tmpdir(settings.tmpdir)


def _check_tmpdir(path: str) -> Row:
    if os.path.isdir(path) and os.access(path, os.W_OK):
        return Row(Verdict.GOOD, "tmpdir", f"{path}, {shutil.disk_usage(path).free >> 20} MB free")
    return Row(Verdict.BAD, "tmpdir", f"{path} does not exist or is not writable")


def _check_image_urls(settings: Settings) -> Row:
    """Return whether oned or econed downloads images for RegisterImage, and from which hosts."""
    hosts = ", ".join(settings.image_url_hosts)
    if can_oned_read_tmpdir(settings):
        return Row(
            Verdict.GOOD, "image URLs", f"{hosts}: by oned; others by econed" if hosts else "downloaded by econed"
        )
    if hosts:
        return Row(Verdict.GOOD, "image URLs", f"{hosts}: by oned; no others, because oned runs on another host")
    text = "oned runs on another host: images can be neither uploaded nor registered from a URL (image_url_hosts)"
    return Row(Verdict.NOTE, "image URLs", text)
