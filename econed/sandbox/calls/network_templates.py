"""The calls on templates of virtual networks, including instantiation."""

from __future__ import annotations

from econed.sandbox.calls.declaration import serves
from econed.sandbox.calls.network_allocation import allocate_network
from econed.sandbox.calls.network_restrictions import (
    check_vlans,
    first_restricted_of_ranges,
    restricted_network_attributes,
)
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.base import Kind, Right, check_name, parse_ids
from econed.sandbox.objects.network_templates import NetworkTemplate
from econed.sandbox.objects.pools import page
from econed.sandbox.objects.users import User
from econed.sandbox.refusals import Refused, internal, not_allocated, unauthorized
from econed.sandbox.template import Template

_DEFAULT_CLUSTER = 0


class NetworkTemplateCalls:
    """`one.vntemplate.*`, `one.vntemplatepool.info`. Names are unique per owner."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.vntemplate.allocate", str)
    def allocate(self, caller: User, text: str) -> int:
        """Allocate a template; no group has the right to by default."""
        cloud = self._cloud
        template = cloud.parse(text)
        cloud.rights.check(caller, Right.CREATE, Kind.VNTEMPLATE, None)
        name = check_name(template.get("NAME"))
        namesake = cloud.network_templates.find_by_name(caller.id, name)
        if namesake:
            raise internal(f"NAME is already taken by VN TEMPLATE {namesake.id}.")
        template.pop("NAME")
        network_template = NetworkTemplate(
            cloud.network_templates.allocate_id(),
            caller.id,
            caller.gid,
            caller.name,
            caller.gname,
            name,
            template=template,
            registered=cloud.now(),
        )
        cloud.network_templates.add(network_template)
        return network_template.id

    @serves("one.vntemplate.info", int, optional=(bool,))
    def info(self, caller: User, template_id: int, _decrypt: bool = False) -> str:
        """Return the document of a template."""
        pool = self._cloud.network_templates
        return self._cloud.get_authorized(caller, Right.USE, pool, template_id, locks=False).xml()

    @serves("one.vntemplatepool.info", int, int, int)
    def pool(self, caller: User, owner: int, start: int, end: int) -> str:
        """Return the document of the templates that the caller may use."""
        newest_first = self._cloud.network_templates.newest_first()
        templates = self._cloud.visible(caller, newest_first, Kind.VNTEMPLATE, owner)
        elements = "".join(template.xml() for template in page(templates, start, end))
        return f"<VNTEMPLATE_POOL>{elements}</VNTEMPLATE_POOL>"

    def _managed(self, caller: User, template_id: int) -> NetworkTemplate:
        return self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.network_templates, template_id)

    @serves("one.vntemplate.update", int, str, optional=(int,))
    def update(self, caller: User, template_id: int, text: str, append: int = 0) -> int:
        """Replace a template's attributes (0), or merge into them (1)."""
        network_template = self._managed(caller, template_id)
        restricted = restricted_network_attributes(self._cloud.version)
        network_template.template = self._cloud.updated_template(
            caller, network_template.template, text, append, restricted
        )
        return template_id

    @serves("one.vntemplate.delete", int)
    def delete(self, caller: User, template_id: int) -> int:
        """Delete a template."""
        self._cloud.network_templates.remove(self._managed(caller, template_id))
        return template_id

    @serves("one.vntemplate.instantiate", int, str, str)
    def instantiate(self, caller: User, template_id: int, name: str, extra: str) -> int:
        """Allocate a network of the caller from a template and the attributes of `extra`.

        The caller needs no right but USE of the template. Without a name the network is named after the template and
        its own id.
        """
        cloud = self._cloud
        network_template = cloud.network_templates.get(template_id)
        template = network_template.template.copy()
        self._add(caller, template, cloud.parse(extra) if extra else Template())
        cloud.rights.check(caller, Right.USE, Kind.VNTEMPLATE, network_template)
        cluster_ids = parse_ids(network_template.template.get("CLUSTER_IDS")) or {_DEFAULT_CLUSTER}
        template.replace("NAME", name)
        try:
            network = allocate_network(cloud, caller, template, cluster_ids, source=network_template)
        except Refused as refusal:
            text = f"Error allocating a new virtual network template. {refusal.text}"
            raise not_allocated(text) from refusal
        return network.id

    def _add(self, caller: User, template: Template, extra: Template) -> None:
        """Merge `extra` into `template`, whose address ranges stay in 7.x; refuses (512) restricted attributes."""
        cloud, is_v7 = self._cloud, self._cloud.version.is_v7
        check_vlans(cloud, caller, extra)
        restricted = restricted_network_attributes(cloud.version)
        ranges = extra.vectors("AR") if is_v7 else []
        if is_v7:
            extra.pop("AR")
        attribute = first_restricted_of_ranges(cloud.version, ranges)
        attribute = f"AR/{attribute}" if attribute else extra.first_restricted_change(template, restricted)
        if attribute and not caller.is_oneadmin:
            label = "Extra" if is_v7 else "User"
            raise unauthorized(f"User [{caller.id}] : {label} Template includes a restricted attribute {attribute}.")
        template.merge(extra)
        for requested in ranges:
            template.add("AR", requested)
