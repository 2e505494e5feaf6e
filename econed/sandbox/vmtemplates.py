"""VM templates: what they are, the calls on them, and instantiation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from econed.sandbox.assembly import Assembly
from econed.sandbox.calls import serves
from econed.sandbox.objects import Kind, PoolObject, Right, demand_name
from econed.sandbox.pools import page
from econed.sandbox.refusals import internal, unauthorized
from econed.sandbox.template import Restricted, Template, restricted_attributes

if TYPE_CHECKING:
    from econed.sandbox.state import Cloud
    from econed.sandbox.users import User
    from econed.sandbox.versions import Version

_NIC = (
    *("MAC", "VLAN_ID", "BRIDGE", "FILTER", "INBOUND_AVG_BW", "INBOUND_PEAK_BW", "INBOUND_PEAK_KB"),
    *("OUTBOUND_AVG_BW", "OUTBOUND_PEAK_BW", "OUTBOUND_PEAK_KB", "OPENNEBULA_MANAGED", "EXTERNAL"),
)
_DISK_LIMITS = [
    f"{what}_{unit}_SEC{bound}"
    for what in ("TOTAL", "READ", "WRITE")
    for unit in ("BYTES", "IOPS")
    for bound in ("", "_MAX", "_MAX_LENGTH")
]
_RESTRICTED = (
    "CONTEXT/FILES",
    *(f"NIC/{name}" for name in _NIC),
    *(f"NIC_ALIAS/{name}" for name in _NIC),
    *(f"NIC_DEFAULT/{name}" for name in ("MAC", "VLAN_ID", "BRIDGE", "FILTER", "EXTERNAL")),
    *(f"DISK/{name}" for name in (*_DISK_LIMITS, "OPENNEBULA_MANAGED", "ORIGINAL_SIZE", "SIZE_PREV")),
    *("DEPLOY_ID", "CPU_COST", "MEMORY_COST", "DISK_COST", "PCI", "EMULATOR", "USER_PRIORITY"),
    *("USER_INPUTS/CPU", "USER_INPUTS/MEMORY", "USER_INPUTS/VCPU", "TOPOLOGY/PIN_POLICY", "TOPOLOGY/HUGEPAGE_SIZE"),
)
_RESTRICTED_OLD = restricted_attributes(*_RESTRICTED, "RAW")
_RESTRICTED_NEW = restricted_attributes(
    *_RESTRICTED,
    *("RAW/DATA", "NIC/FILTER_IP_SPOOFING", "NIC/FILTER_MAC_SPOOFING", "NIC/VLAN_TAGGED_ID", "DISK/SIZE_IOPS_SEC"),
)


@dataclass(eq=False)
class VmTemplate(PoolObject):
    """A VM template; `registered` in epoch seconds."""

    registered: int = 0

    kind = Kind.TEMPLATE

    def xml(self) -> str:
        """Return the element as oned shows it."""
        return (
            f"<VMTEMPLATE>{self.head()}{self.lock_xml()}<REGTIME>{self.registered}</REGTIME>"
            f"{self.template.xml()}</VMTEMPLATE>"
        )


def vm_restricted(version: Version) -> Restricted:
    """Return what only oneadmin's group may set in machines (oned.conf, VM_RESTRICTED_ATTR)."""
    return _RESTRICTED_NEW if version.modern else _RESTRICTED_OLD


def demand_unrestricted(version: Version, caller: User, template: Template, base: Template | None = None) -> None:
    """Refuse (512) restricted attributes of machines, or with `base` those that are not as there."""
    if caller.is_oneadmin:
        return
    names = vm_restricted(version)
    found = template.restricted(names) if base is None else template.restricted_against(base, names)
    if found:
        which = "Template" if base is None else "User Template"
        raise unauthorized(f"User [{caller.id}] : {which} includes a restricted attribute {found}.")


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
