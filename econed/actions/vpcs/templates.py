"""The template that VPCs are made of: an administrator marks a template of virtual networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from econed.actions.networks.lookup import VPC_MARK
from econed.errors import EC2Error
from econed.opennebula.access import ADMINISTRATORS, ONEADMIN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from econed.actions.call import Call
    from econed.opennebula.documents import NetworkTemplate


def marked_template(templates: Iterable[NetworkTemplate]) -> NetworkTemplate | None:
    """Return the first template with the mark; those of users do not count, who may mark templates for others."""
    marked = (
        template
        for template in templates
        if (template.uid == ONEADMIN or template.gid == ADMINISTRATORS)
        and template.template.text(VPC_MARK).upper() == "YES"
    )
    return min(marked, key=lambda template: template.id, default=None)


async def find_template(call: Call) -> NetworkTemplate:
    """Return the marked template that the caller may USE; raises `EC2Error` UnsupportedOperation if there is none."""
    template = marked_template(await call.session.network_templates())
    if template is None:
        raise EC2Error(
            "UnsupportedOperation",
            "This cloud has no template for VPCs. An administrator marks a template of networks, of VXLAN for example, "
            f"with automatic ids, with {VPC_MARK}=YES by 'onevntemplate update TEMPLATE', and shares it with "
            "'onevntemplate chmod TEMPLATE 644'.",
        )
    if template.template.vectors("AR"):
        raise EC2Error(
            "UnsupportedOperation",
            f"The template {template.id} for VPCs has address ranges of its own, which VPCs would have too. An "
            "administrator removes AR by 'onevntemplate update TEMPLATE'.",
        )
    return template
