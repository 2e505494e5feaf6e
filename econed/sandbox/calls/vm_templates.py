"""The calls on VM templates, including instantiation."""

from __future__ import annotations

from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.allocation import MachineAllocator
from econed.sandbox.machines.restrictions import check_restricted_attributes, restricted_vm_attributes
from econed.sandbox.objects.base import Kind, Right, check_name
from econed.sandbox.objects.pools import page
from econed.sandbox.objects.users import User
from econed.sandbox.objects.vm_templates import VmTemplate
from econed.sandbox.refusals import internal
from econed.sandbox.template import Template


class TemplateCalls:
    """`one.template.*`, `one.templatepool.info`. Names are unique per owner."""

    def __init__(self, cloud: Cloud, allocator: MachineAllocator) -> None:
        self._cloud = cloud
        self._allocator = allocator

    @serves("one.template.allocate", str)
    def allocate(self, caller: User, text: str) -> int:
        """Allocate a template."""
        template = self._cloud.parse(text)
        check_restricted_attributes(self._cloud.version, caller, template)
        self._cloud.rights.check(caller, Right.CREATE, Kind.TEMPLATE, None)
        return self._create(caller, template.get("NAME"), template).id

    def _create(self, caller: User, name: str, template: Template) -> VmTemplate:
        self._check_free_name(caller.id, name)
        template.pop("NAME")
        vm_template = VmTemplate(
            self._cloud.templates.allocate_id(),
            caller.id,
            caller.gid,
            caller.name,
            caller.gname,
            check_name(name),
            template=template,
            registered=self._cloud.now(),
        )
        self._cloud.templates.add(vm_template)
        return vm_template

    def _check_free_name(self, uid: int, name: str) -> None:
        namesake = self._cloud.templates.find_by_name(uid, name)
        if namesake:
            raise internal(f"NAME is already taken by TEMPLATE {namesake.id}.")
        check_name(name)

    @serves("one.template.info", int, optional=(bool, bool))
    def info(self, caller: User, template_id: int, _extended: bool = False, _decrypt: bool = False) -> str:
        """Return the document of a template."""
        return self._cloud.get_authorized(caller, Right.USE, self._cloud.templates, template_id, locks=False).xml()

    @serves("one.templatepool.info", int, int, int)
    def pool(self, caller: User, owner: int, start: int, end: int) -> str:
        """Return the document of the templates that the caller may use."""
        templates = self._cloud.visible(caller, self._cloud.templates.newest_first(), Kind.TEMPLATE, owner)
        elements = "".join(vm_template.xml() for vm_template in page(templates, start, end))
        return f"<VMTEMPLATE_POOL>{elements}</VMTEMPLATE_POOL>"

    def _managed(self, caller: User, template_id: int) -> VmTemplate:
        return self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.templates, template_id)

    @serves("one.template.update", int, str, optional=(int,))
    def update(self, caller: User, template_id: int, text: str, append: int = 0) -> int:
        """Replace a template's attributes (0), or merge into them (1)."""
        vm_template = self._managed(caller, template_id)
        vm_template.template = self._cloud.updated_template(
            caller, vm_template.template, text, append, restricted_vm_attributes(self._cloud.version)
        )
        return template_id

    @serves("one.template.clone", int, str, optional=(bool,))
    def clone(self, caller: User, template_id: int, name: str, _recursive: bool = False) -> int:
        """Copy a template to a template of the caller."""
        vm_template = self._cloud.get_to_clone(caller, self._cloud.templates, template_id)
        self._cloud.rights.check(caller, Right.CREATE, Kind.TEMPLATE, None)
        return self._create(caller, name, vm_template.template.copy()).id

    @serves("one.template.delete", int, optional=(bool,))
    def delete(self, caller: User, template_id: int, _recursive: bool = False) -> int:
        """Delete a template."""
        self._cloud.templates.remove(self._managed(caller, template_id))
        return template_id

    @serves("one.template.instantiate", int, str, optional=(bool, str, bool))
    def instantiate(
        self,
        caller: User,
        template_id: int,
        name: str,
        on_hold: bool = False,
        extra: str = "",
        persistent: bool = False,
    ) -> int:
        """Allocate a machine from a template; the attributes of `extra` replace the template's, name by name.

        oned does not check here whether the caller may use the images of DISKs with an IMAGE_ID.
        """
        vm_template = self._cloud.templates.get(template_id)
        template = vm_template.template.copy()
        if extra:
            extra_template = self._cloud.parse(extra)
            check_restricted_attributes(self._cloud.version, caller, extra_template, template)
            template.merge(extra_template)
        self._cloud.rights.check(caller, Right.USE, Kind.TEMPLATE, vm_template)
        if extra:
            self._cloud.rights.check(caller, Right.CREATE, Kind.TEMPLATE, None)
        if persistent:
            raise internal("The sandbox does not clone templates to instantiate them as persistent")
        template.replace("TEMPLATE_NAME", vm_template.name)
        template.replace("TEMPLATE_ID", str(template_id))
        machine = self._allocator.allocate(caller, template, name, on_hold=on_hold, checks_image_ids=False)
        return machine.id
