"""The checks of `econe-server check` whether security groups protect what is in networks, and VPCs are private."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from econed.actions.networks.protection import why_unprotected
from econed.actions.regions.regions import own_zone
from econed.actions.vpcs.privacy import WAY_OUT, NewNetwork, opening_rule, reason
from econed.actions.vpcs.templates import marked_template
from econed.cli.survey import NO_USER, Row, Survey, Verdict
from econed.opennebula.documents import Right
from econed.opennebula.template import attribute

NO_GROUPS = f"echo '{attribute('SECURITY_GROUPS', '')}' >none.txt && onevnet update {{}} none.txt --append"


async def check_vpcs(survey: Survey) -> AsyncGenerator[Row, None]:
    """Yield a BAD row for each group whose users may use the template for VPCs, but whose VPCs would not be private."""
    template = marked_template(await survey.serveradmin.network_templates())
    if template is None:
        return
    zone_id = own_zone(survey.loaded.settings, await survey.serveradmin.zones()).id
    for group in survey.groups:
        network = NewNetwork(NO_USER, group.id, template.cluster_ids, zone_id)
        rule = opening_rule(network, survey.rules, survey.groups)
        if rule is not None and template.allows(NO_USER, (group.id,), Right.USE):
            text = f"cannot create VPCs: {reason(rule)}. {WAY_OUT.format(rule.id)}"
            yield Row(Verdict.BAD, f"group {group.name}", text)


async def check_networks(survey: Survey) -> AsyncGenerator[Row, None]:
    """Yield a NOTE row for each network in which security groups do not protect, with the command that changes it."""
    settings = survey.loaded.settings
    for network in await survey.serveradmin.networks():
        if network.id == settings.elasticips_vnet_id:
            continue
        reason = why_unprotected(network, (), settings.filtering_drivers)
        if reason is not None:
            way = f": {NO_GROUPS.format(network.id)}" if network.driver in settings.filtering_drivers else ""
            text = f"{network.name}: EC2's security groups do not protect instances, since {reason}{way}"
            yield Row(Verdict.NOTE, f"network {network.id}", text)
