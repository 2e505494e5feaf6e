"""Instance types: OpenNebula templates with EC2_INSTANCE_TYPE, or files where the configuration says so.

Either can make a machine of the text that `econed.actions.instances.plan` writes, by the same rule: an attribute that
is sent replaces all of that name in the type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from econed.actions.machines.facts import INSTANCE_TYPE
from econed.config.loading import TEMPLATE_DIRECTORY, ConfigError, ConfigProblem
from econed.config.settings import Settings
from econed.errors import EC2Error, NotStorable
from econed.ids import IMAGE
from econed.opennebula.attributes import Attributes, Vector
from econed.opennebula.file_templates import FileTemplate, FileTemplateError, FileTypes
from econed.opennebula.template import attribute, is_storable, render, template
from econed.opennebula.template_reader import read_template

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import Image, VMTemplate
    from econed.opennebula.session import Session


class InstanceType(Protocol):
    """What a machine is made of, but for what a RunInstances call adds."""

    @property
    def attributes(self) -> Attributes:
        """What it says of its machines."""

    def root_disk(self, image: Image) -> Vector:
        """Return the members of the DISK that the AMI is on."""

    def other_disks(self, image: Image) -> Attributes:
        """Return the DISKs that its machines have besides."""

    async def make(self, session: Session, name: str, text: str) -> int:
        """Make a machine on HOLD and return its id.

        `text` goes over what the type has; an empty `name` leaves the name to oned.
        """


@dataclass(frozen=True)
class TemplateType:
    """An instance type that is an OpenNebula template: its own DISKs come behind the AMI's."""

    template: VMTemplate

    @property
    def attributes(self) -> Attributes:
        """What the template holds."""
        return self.template.template

    def root_disk(self, image: Image) -> Vector:
        """Return a DISK of the image, and nothing else."""
        return {"IMAGE_ID": str(image.id)}

    def other_disks(self, image: Image) -> Attributes:
        """Return all DISKs of the template."""
        return self.attributes.only("DISK")

    async def make(self, session: Session, name: str, text: str) -> int:
        """Instantiate the template (one.template.instantiate)."""
        return await session.instantiate(self.template.id, name, True, text)


@dataclass(frozen=True)
class FileType:
    """An instance type that is a file, filled in for one call: the DISK for the AMI is the file's own."""

    name: str
    attributes: Attributes

    def root_disk(self, image: Image) -> Vector:
        """Return the file's DISK of the image with all that it says of it, or a plain one if it has none."""
        return next((disk for disk in self.attributes.vectors("DISK") if _holds(disk, image)), _disk_of(image))

    def other_disks(self, image: Image) -> Attributes:
        """Return the file's DISKs but that one."""
        root = self.root_disk(image)
        return Attributes(("DISK", disk) for disk in self.attributes.vectors("DISK") if disk is not root)

    async def make(self, session: Session, name: str, text: str) -> int:
        """Make a machine of the file (one.vm.allocate)."""
        named = template(attribute("NAME", name) if name else "", attribute(INSTANCE_TYPE, self.name), text)
        sent = {sent for sent, _ in read_template(named)}
        return await session.vm_allocate(template(render(self.attributes.without(*sent)), named), True)


def configured_file_types(conf: Path, settings: Settings) -> FileTypes | None:
    """Return the files of the instance types beside econe.conf (`conf`); None where the types are OpenNebula templates.

    Raises `ConfigError`.
    """
    if not settings.use_file_templates:
        return None
    return read_file_types(conf.parent / TEMPLATE_DIRECTORY, settings.instance_types)


def read_file_types(directory: Path, files: Mapping[str, str]) -> FileTypes:
    """Read the files of the instance types, given by type, that lie in a directory.

    Raises one `ConfigError` for all that cannot be read or understood, with file and line.
    """
    problems: list[ConfigProblem] = []
    found: dict[str, FileTemplate] = {}
    for name, file in files.items():
        path = directory / file
        if not is_storable(name):
            problems.append(
                ConfigProblem(str(path), "its instance type has a name that OpenNebula does not keep", key=name)
            )
        try:
            found[name] = FileTemplate.parse(path.read_text("utf-8"))
        except OSError as error:
            problems.append(ConfigProblem(str(path), f"cannot be read: {error.strerror}", key=name))
        except UnicodeDecodeError:
            problems.append(ConfigProblem(str(path), "is not UTF-8 text", key=name))
        except FileTemplateError as error:
            problems.append(ConfigProblem(str(path), error.text, error.line, name))
    if problems:
        raise ConfigError(tuple(problems))
    return MappingProxyType(found)


async def instance_type_named(
    call: Call, name: str, image: Image, *, key_name: str | None, public_key: str | None, user_data: str | None
) -> InstanceType:
    """Return the instance type of this name, for a machine from this image with this key pair and user data.

    Raises `EC2Error` InvalidParameterValue where there is none, or where its file has no place for one of these texts.
    """
    if call.file_types is None:
        return TemplateType(await _template(call, name))
    file = call.file_types.get(name)
    if file is None:
        raise _unknown(name)
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
            f"Instances of type '{name}' cannot keep the name of this key pair or another text ({error.name}).",
        ) from None
    return FileType(name, attributes)


async def _template(call: Call, name: str) -> VMTemplate:
    """Return the template of an instance type; of several one's own, then the oldest."""
    found = [each for each in await call.session.templates() if each.template.text(INSTANCE_TYPE) == name]
    if not found:
        raise _unknown(name)
    return min(found, key=lambda each: (each.uid != call.caller.id, each.id))


def _unknown(name: str) -> EC2Error:
    return EC2Error("InvalidParameterValue", f"Invalid value '{name}' for InstanceType.")


def _disk_of(image: Image) -> Vector:
    return MappingProxyType({"IMAGE_ID": str(image.id)})


def _holds(disk: Vector, image: Image) -> bool:
    return disk.get("IMAGE_ID") == str(image.id)
