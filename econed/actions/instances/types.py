"""Instance types: OpenNebula templates with EC2_INSTANCE_TYPE, or files if configured.

Both create a machine from the text of `econed.actions.instances.plan`, by the same rule: an attribute in that text
replaces all attributes of the same name in the type.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from econed.actions.machines.facts import INSTANCE_TYPE
from econed.errors import EC2Error, NotStorable
from econed.ids import IMAGE
from econed.opennebula.access import ONEADMIN
from econed.opennebula.attributes import Attributes, Vector
from econed.opennebula.template import attribute, render, template
from econed.opennebula.template_reader import read_template

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import Image, VMTemplate
    from econed.opennebula.session import Session


class InstanceType(Protocol):
    """What a machine is created from, without what a RunInstances call adds."""

    @property
    def attributes(self) -> Attributes:
        """The attributes of its machines."""

    @property
    def is_of_user(self) -> bool:
        """Whether it belongs to a user rather than to administrators."""

    def root_disk(self, image: Image) -> Vector:
        """Return the members of the DISK of the AMI."""

    def other_disks(self, image: Image) -> Attributes:
        """Return the other DISKs of its machines."""

    async def create_machine(self, session: Session, name: str, text: str) -> int:
        """Create a machine on HOLD and return its id.

        The attributes in `text` replace those of the type; with an empty `name`, oned chooses the name.
        """


@dataclass(frozen=True)
class TemplateType:
    """An instance type that is an OpenNebula template: its own DISKs follow the AMI's."""

    template: VMTemplate

    @property
    def attributes(self) -> Attributes:
        """The attributes of the template."""
        return self.template.template

    @property
    def is_of_user(self) -> bool:
        """Whether the template does not belong to oneadmin."""
        return self.template.uid != ONEADMIN

    def root_disk(self, image: Image) -> Vector:
        """Return a DISK of the image without other members."""
        return {"IMAGE_ID": str(image.id)}

    def other_disks(self, image: Image) -> Attributes:
        """Return all DISKs of the template."""
        return self.attributes.only("DISK")

    async def create_machine(self, session: Session, name: str, text: str) -> int:
        """Instantiate the template (one.template.instantiate)."""
        return await session.instantiate(self.template.id, name, True, text)


@dataclass(frozen=True)
class FileType:
    """An instance type that is a file, rendered for one call; its DISK for the AMI is the file's."""

    name: str
    attributes: Attributes
    is_of_user: bool = field(default=False, init=False)

    def root_disk(self, image: Image) -> Vector:
        """Return the file's DISK of the image with all its members, or a plain one if the file has none."""
        return next((disk for disk in self.attributes.vectors("DISK") if _is_disk_of(disk, image)), _plain_disk(image))

    def other_disks(self, image: Image) -> Attributes:
        """Return the file's DISKs except the one that `root_disk` returns."""
        root = self.root_disk(image)
        return Attributes(("DISK", disk) for disk in self.attributes.vectors("DISK") if disk is not root)

    async def create_machine(self, session: Session, name: str, text: str) -> int:
        """Create a machine from the file (one.vm.allocate)."""
        added = template(attribute("NAME", name) if name else "", attribute(INSTANCE_TYPE, self.name), text)
        replaced = {attribute_name for attribute_name, _ in read_template(added)}
        return await session.vm_allocate(template(render(self.attributes.without(*replaced)), added), True)


async def type_templates(call: Call) -> tuple[VMTemplate, ...]:
    """Return the templates that may be instance types; none if the types are files."""
    return await call.session.templates() if call.file_types is None else ()


async def all_types(call: Call) -> Mapping[str, Attributes]:
    """Return the attributes of the instance types that the caller can run, by name in alphabetical order."""
    if call.file_types is not None:
        plain = {name: {"img_id": "", "ec2_img_id": "", "instance_type": name} for name in sorted(call.file_types)}
        return {name: call.file_types[name].attributes(values) for name, values in plain.items()}
    by_name: dict[str, list[VMTemplate]] = {}
    for vm_template in await call.session.templates():
        if name := vm_template.template.text(INSTANCE_TYPE):
            by_name.setdefault(name, []).append(vm_template)
    return {name: _preferred(call, by_name[name]).template for name in sorted(by_name)}


def instance_type_named(
    call: Call,
    name: str,
    templates: Iterable[VMTemplate],
    image: Image,
    *,
    key_name: str | None,
    public_key: str | None,
    user_data: str | None,
) -> InstanceType:
    """Return the instance type with this name, for machines from this image with this key pair and user data.

    `templates` are those of `type_templates`. Raises `EC2Error` InvalidParameterValue if there is none, or if its file
    cannot store one of these texts.
    """
    if call.file_types is None:
        return TemplateType(_template(call, name, templates))
    file = call.file_types.get(name)
    if file is None:
        raise _unknown_type(name)
    values = {
        "img_id": str(image.id),
        "ec2_img_id": IMAGE.format(image.id),
        "instance_type": name,
        "user_data": user_data,
        "public_key": public_key,
        "key_name": key_name,
    }
    try:
        attributes = file.attributes({key: value for key, value in values.items() if value is not None})
    except NotStorable as error:
        raise EC2Error(
            "InvalidParameterValue",
            f"OpenNebula cannot store a text of this request in instances of type '{name}' ({error.name}).",
        ) from None
    return FileType(name, attributes)


def _template(call: Call, name: str, templates: Iterable[VMTemplate]) -> VMTemplate:
    """Return the template of an instance type."""
    named = [vm_template for vm_template in templates if vm_template.template.text(INSTANCE_TYPE) == name]
    if not named:
        raise _unknown_type(name)
    return _preferred(call, named)


def _preferred(call: Call, named: Iterable[VMTemplate]) -> VMTemplate:
    """Return the one of several templates of a type that counts: the caller's own come first, then the oldest."""
    return min(named, key=lambda vm_template: (vm_template.uid != call.caller.id, vm_template.id))


def _unknown_type(name: str) -> EC2Error:
    return EC2Error("InvalidParameterValue", f"Invalid value '{name}' for InstanceType.")


def _plain_disk(image: Image) -> Vector:
    return MappingProxyType({"IMAGE_ID": str(image.id)})


def _is_disk_of(disk: Vector, image: Image) -> bool:
    return disk.get("IMAGE_ID") == str(image.id)
