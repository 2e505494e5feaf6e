"""The calls on VM templates, instantiation among them."""

from __future__ import annotations

from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.assembly import Assembly
from econed.sandbox.machines.restrictions import demand_unrestricted, vm_restricted
from econed.sandbox.objects.base import Kind, Right, demand_name
from econed.sandbox.objects.pools import page
from econed.sandbox.objects.users import User
from econed.sandbox.objects.vm_templates import VmTemplate
from econed.sandbox.refusals import internal
from econed.sandbox.template import Template


class TemplateCalls:
    """`one.template.*`, `one.templatepool.info`. Names are unique per owner."""

    def __init__(self, cloud: Cloud, assembly: Assembly) -> None:
        self._cloud = cloud
        self._assembly = assembly

    @serves("one.template.allocate", str)
    def allocate(self, caller: User, text: str) -> int:
        """Make a template."""
        template = self._cloud.read(text)
        demand_unrestricted(self._cloud.version, caller, template)
        self._cloud.rights.demand(caller, Right.CREATE, Kind.TEMPLATE, None)
        return self._new(caller, template.get("NAME"), template).id

    def _new(self, caller: User, name: str, template: Template) -> VmTemplate:
        self._demand_free(caller.id, name)
        template.pop("NAME")
        made = VmTemplate(
            self._cloud.templates.take_id(),
            caller.id,
            caller.gid,
            caller.name,
            caller.gname,
            demand_name(name),
            template=template,
            registered=self._cloud.now(),
        )
        self._cloud.templates.put(made)
        return made

    def _demand_free(self, uid: int, name: str) -> None:
        taken = next((other for other in self._cloud.templates if (other.uid, other.name) == (uid, name)), None)
        if taken:
            raise internal(f"NAME is already taken by TEMPLATE {taken.id}.")
        demand_name(name)

    @serves("one.template.info", int, optional=(bool, bool))
    def info(self, caller: User, number: int, _extended: bool = False, _decrypt: bool = False) -> str:
        """Show a template."""
        return self._cloud.demand(caller, Right.USE, self._cloud.templates, number, locks=False).xml()

    @serves("one.templatepool.info", int, int, int)
    def pool(self, caller: User, flag: int, start: int, end: int) -> str:
        """Show templates."""
        shown = self._cloud.visible(caller, self._cloud.templates.newest_first(), Kind.TEMPLATE, flag)
        return f"<VMTEMPLATE_POOL>{''.join(each.xml() for each in page(shown, start, end))}</VMTEMPLATE_POOL>"

    def _managed(self, caller: User, number: int) -> VmTemplate:
        return self._cloud.demand(caller, Right.MANAGE, self._cloud.templates, number)

    @serves("one.template.update", int, str, optional=(int,))
    def update(self, caller: User, number: int, text: str, append: int = 0) -> int:
        """Replace a template's attributes (0), or merge into them (1)."""
        held = self._managed(caller, number)
        held.template = self._cloud.updated(caller, held.template, text, append, vm_restricted(self._cloud.version))
        return number

    @serves("one.template.clone", int, str, optional=(bool,))
    def clone(self, caller: User, number: int, name: str, _recursive: bool = False) -> int:
        """Copy a template, for the caller."""
        held = self._cloud.demand(caller, Right.USE, self._cloud.templates, number)
        self._cloud.rights.demand(caller, Right.CREATE, Kind.TEMPLATE, None)
        return self._new(caller, name, held.template.copy()).id

    @serves("one.template.rename", int, str)
    def rename(self, caller: User, number: int, name: str) -> int:
        """Rename a template."""
        held = self._managed(caller, number)
        self._demand_free(held.uid, name)
        held.name = name
        return number

    @serves("one.template.delete", int, optional=(bool,))
    def delete(self, caller: User, number: int, _recursive: bool = False) -> int:
        """Remove a template."""
        self._cloud.templates.drop(self._managed(caller, number))
        return number

    @serves("one.template.instantiate", int, str, optional=(bool, str, bool))
    def instantiate(
        self,
        caller: User,
        number: int,
        name: str,
        on_hold: bool = False,
        extra: str = "",
        persistent: bool = False,
    ) -> int:
        """Make a machine of a template; the attributes of `extra` replace the template's, name by name.

        oned does not ask here whether the caller may use the images that DISKs name by IMAGE_ID.
        """
        held = self._cloud.templates.get(number)
        base = held.template.copy()
        if extra:
            sent = self._cloud.read(extra)
            demand_unrestricted(self._cloud.version, caller, sent, base)
            base.merge(sent)
        self._cloud.rights.demand(caller, Right.USE, Kind.TEMPLATE, held)
        if extra:
            self._cloud.rights.demand(caller, Right.CREATE, Kind.TEMPLATE, None)
        if persistent:
            raise internal("The sandbox does not clone templates to instantiate them as persistent")
        base.replace("TEMPLATE_NAME", held.name)
        base.replace("TEMPLATE_ID", str(number))
        return self._assembly.make(caller, base, name, on_hold=on_hold, numbered_images=False).id
