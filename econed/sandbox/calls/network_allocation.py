"""Allocation of virtual networks, from a call's text or from a template (oned: `VirtualNetworkPool::allocate`)."""

from __future__ import annotations

from functools import partial

from econed.opennebula.states import NetworkState
from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.scheduler import with_timestamp
from econed.sandbox.objects.base import check_name
from econed.sandbox.objects.network_templates import NetworkTemplate
from econed.sandbox.objects.networks import Network, network_template
from econed.sandbox.objects.users import User
from econed.sandbox.refusals import Refused, internal
from econed.sandbox.template import Template


def free_name(cloud: Cloud, uid: int, name: str) -> str:
    """Return the name of a new network; refuses (8192) one that another network of the owner has."""
    namesake = cloud.networks.find_by_name(uid, name)
    if namesake:
        raise internal(f"NAME is already taken by NET {namesake.id}.")
    return check_name(name)


def allocate_network(
    cloud: Cloud, owner: User, template: Template, cluster_ids: set[int], *, source: NetworkTemplate | None = None
) -> Network:
    """Allocate a network of a template, which is consumed; in 7.x it is READY, or in ERROR, after a delay.

    A network without a NAME is named after `source`, its template, and its own id. Refuses (8192) an invalid name or
    one of another network of the owner, a template without VN_MAD and, in 5.12, an invalid address range.
    """
    name = template.get("NAME")
    if name or source is None:
        free_name(cloud, owner.id, name)
    if not template.get("VN_MAD"):
        raise internal("No VN_MAD in template for Virtual Network.")
    network_id = cloud.networks.allocate_id()
    if source is not None and not name:
        name = f"{source.name}-{network_id}"
    network = Network(network_id, owner.id, owner.gid, owner.name, owner.gname, name, cluster_ids=cluster_ids)
    network.template = network_template(template)
    network.add_default_group()
    if source is not None:
        network.template_id = source.id
        if not cloud.version.is_v7:
            network.template.replace("TEMPLATE_ID", str(source.id))
    if cloud.version.is_v7:
        network.state = NetworkState.LOCK_CREATE
        cloud.call_later(cloud.delays.network, partial(_become_ready_or_failed, cloud, network))
    else:
        _become_ready(cloud, network)
    cloud.networks.add(network)
    return network


def _become_ready(cloud: Cloud, network: Network) -> None:
    try:
        network.become_ready(is_v7=False)
    except Refused:
        cloud.networks.release_id(network.id)
        raise


def _become_ready_or_failed(cloud: Cloud, network: Network) -> None:
    """Let a network of 7.x become READY, or ERROR, with the reason, if a range is invalid."""
    try:
        network.become_ready(is_v7=True)
    except Refused as refusal:
        network.state = NetworkState.ERROR
        network.template.replace("ERROR", with_timestamp(cloud, refusal.text))
