"""The check of `econe-server check` whether EC2's security groups protect what is in the networks."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from econed.actions.networks.protection import why_unprotected
from econed.cli.survey import Row, Survey, Verdict
from econed.opennebula.template import attribute

NO_GROUPS = f"echo '{attribute('SECURITY_GROUPS', '')}' >none.txt && onevnet update {{}} none.txt --append"


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
