"""Inconsistencies of elastic IPs (for `econe-server doctor`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from econed.actions.addresses.records import Pool
from econed.actions.findings import Finding

if TYPE_CHECKING:
    from econed.actions.findings import Examination


async def addresses_without_owner(examination: Examination) -> AsyncIterator[Finding]:
    """Addresses of the elastic IP network that are held without an owner, or whose owner was removed.

    Only the administrator can distinguish their own holds from those that the Ruby server left: none is released here.
    """
    network_id = examination.settings.elasticips_vnet_id
    if network_id is None:
        return
    pool = Pool(await examination.serveradmin.network(network_id))
    for ip in pool.ips:
        address = pool.addresses.get(ip)
        if address is None and pool.is_held(ip) and not pool.claims_on(ip):
            yield Finding(
                f"{ip} is held in network {network_id} and has no owner; "
                f"if nothing else uses it: onevnet release {network_id} {ip}"
            )
        elif address is not None and address.uid not in examination.users:
            yield Finding(
                f"{ip} in network {network_id} belongs to user {address.uid}, who does not exist any more; to free it: "
                f"onevnet release {network_id} {ip}, and remove the attribute with it in onevnet update {network_id}"
            )
        elif address is not None and not pool.is_leased(ip):
            yield Finding(
                f"{ip} belongs to user {address.uid} and is not held; to hold it: onevnet hold {network_id} {ip}"
            )
