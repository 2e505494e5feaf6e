"""Single attributes of AMIs: who may start instances from one, and its description (EC2 …ImageAttribute)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypedDict

from econed.actions.action import action
from econed.actions.disk_images.ami_facts import MAX_DESCRIPTION, description, description_text
from econed.actions.images.finding import amis_by_id
from econed.actions.images.view import ami, is_public
from econed.actions.inputs import check_text
from econed.actions.sharing import EVERYBODY, PermissionChanges, requested_sharing
from econed.errors import EC2Error
from econed.opennebula.documents import Right

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        AttributeValueTypeDef,
        BlockDeviceMappingTypeDef,
        LaunchPermissionTypeDef,
        ProductCodeTypeDef,
    )

    from econed.actions.call import Call
    from econed.opennebula.documents import Image

_DESCRIPTION, _LAUNCH_PERMISSION = "description", "launchPermission"


class AttributeValue(TypedDict, total=False):
    """A text that may be an empty one (EC2 AttributeValue)."""

    Value: str


class ImageAttribute(TypedDict, total=False):
    """EC2 ImageAttribute: the id, and of the rest what was asked for."""

    ImageId: str
    BlockDeviceMappings: list[BlockDeviceMappingTypeDef]
    Description: AttributeValueTypeDef
    LaunchPermissions: list[LaunchPermissionTypeDef]
    ProductCodes: list[ProductCodeTypeDef]


# What is not shown is what no image here has; an image answers with its id alone then, as on Amazon.
_SHOWN: Mapping[str, Callable[[Image], ImageAttribute]] = MappingProxyType(
    {
        _DESCRIPTION: lambda image: {"Description": {"Value": description(image)}},
        _LAUNCH_PERMISSION: lambda image: {
            "LaunchPermissions": [{"Group": EVERYBODY}] if is_public(image) else [],
        },
        "blockDeviceMapping": lambda image: {"BlockDeviceMappings": ami(image).get("BlockDeviceMappings", [])},
        "productCodes": lambda _: {"ProductCodes": []},
        "kernel": lambda _: {},
        "ramdisk": lambda _: {},
        "sriovNetSupport": lambda _: {},
    }
)


@action()
async def describe_image_attribute(call: Call, *, image_id: str, attribute: str) -> ImageAttribute:
    """Show one attribute of an AMI; launchPermission only to those who manage it."""
    show = _SHOWN.get(attribute)
    if show is None:
        raise _unknown(attribute)
    (image,) = await amis_by_id(call, (image_id,))
    if attribute == _LAUNCH_PERMISSION and not image.allows(call.caller.id, call.caller.groups, Right.MANAGE):
        raise EC2Error("AuthFailure", f"Not authorized for image:{image_id}", 403)
    return {**show(image), "ImageId": image_id}


@action()
async def modify_image_attribute(
    call: Call,
    *,
    image_id: str,
    attribute: str = "",
    operation_type: str = "",
    user_groups: Sequence[str] = (),
    user_ids: Sequence[str] = (),
    value: str | None = None,
    launch_permission: PermissionChanges | None = None,
    description: AttributeValue | None = None,
) -> None:
    """Let everybody start instances from an AMI, or its owner alone; or describe it.

    Takes the newer form (LaunchPermission, Description) and the older one (Attribute with OperationType and UserGroup,
    or with Value). Raises `EC2Error` as `requested_sharing` does for whom it cannot be shared with.
    """
    text = description.get("Value", "") if description is not None else None
    if attribute == _DESCRIPTION and text is None:
        text = value or ""
    public = await requested_sharing(call, launch_permission, operation_type, user_groups, user_ids)
    if attribute not in ("", _DESCRIPTION, _LAUNCH_PERMISSION):
        raise _unknown(attribute)
    if text is None and public is None:
        raise EC2Error("InvalidParameterCombination", "No attributes specified.")
    if text is not None and public is not None:
        raise EC2Error("InvalidParameterCombination", "Only one attribute can be modified at a time.")
    found = await amis_by_id(call, (image_id,))
    if text is not None:
        await call.change_all(Right.MANAGE, found, _description_change(call, text))
    elif public is not None:
        await call.change_all(Right.MANAGE, found, lambda image: call.session.image_share(image.id, public))


@action()
async def reset_image_attribute(call: Call, *, image_id: str, attribute: str) -> None:
    """Let nobody but its owner start instances from an AMI."""
    if attribute != _LAUNCH_PERMISSION:
        raise _unknown(attribute)
    found = await amis_by_id(call, (image_id,))
    await call.change_all(Right.MANAGE, found, lambda image: call.session.image_share(image.id, False))


def _description_change(call: Call, text: str) -> Callable[[Image], Any]:
    check_text("Description", text, MAX_DESCRIPTION)
    return lambda image: call.session.image_update(image.id, description_text(text))


def _unknown(attribute: str) -> EC2Error:
    return EC2Error("InvalidParameterValue", f"Value ({attribute}) for parameter attribute is invalid or unsupported.")
