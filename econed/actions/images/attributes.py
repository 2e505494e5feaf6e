"""Single attributes of AMIs: launch permissions and the description (EC2 …ImageAttribute)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypedDict

from econed.actions.action import action
from econed.actions.disk_images.ami_facts import MAX_DESCRIPTION, description, description_text
from econed.actions.images.lookup import amis_by_id
from econed.actions.images.view import ami_view, is_public
from econed.actions.inputs import AttributeValue, check_text
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


class ImageAttribute(TypedDict, total=False):
    """EC2 ImageAttribute: the id and the requested attribute."""

    ImageId: str
    BlockDeviceMappings: list[BlockDeviceMappingTypeDef]
    Description: AttributeValueTypeDef
    LaunchPermissions: list[LaunchPermissionTypeDef]
    ProductCodes: list[ProductCodeTypeDef]


# No image here has a kernel, a ramdisk or SR-IOV: the response then has the id only, as on Amazon.
_VIEWS: Mapping[str, Callable[[Image], ImageAttribute]] = MappingProxyType(
    {
        _DESCRIPTION: lambda image: {"Description": {"Value": description(image)}},
        _LAUNCH_PERMISSION: lambda image: {
            "LaunchPermissions": [{"Group": EVERYBODY}] if is_public(image) else [],
        },
        "blockDeviceMapping": lambda image: {"BlockDeviceMappings": ami_view(image).get("BlockDeviceMappings", [])},
        "productCodes": lambda _: {"ProductCodes": []},
        "kernel": lambda _: {},
        "ramdisk": lambda _: {},
        "sriovNetSupport": lambda _: {},
    }
)


@action()
async def describe_image_attribute(call: Call, *, image_id: str, attribute: str) -> ImageAttribute:
    """Show one attribute of an AMI; launchPermission only to users with MANAGE permission on it."""
    view = _VIEWS.get(attribute)
    if view is None:
        raise _invalid_attribute(attribute)
    (image,) = await amis_by_id(call, (image_id,))
    if attribute == _LAUNCH_PERMISSION and not image.allows(call.caller.id, call.caller.groups, Right.MANAGE):
        raise EC2Error("AuthFailure", f"Not authorized for image:{image_id}", 403)
    return {**view(image), "ImageId": image_id}


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
    """Share an AMI with everybody, stop sharing it, or change its description.

    Accepts the newer form (LaunchPermission, Description) and the older one (Attribute with OperationType and
    UserGroup, or with Value). Raises `EC2Error` as `requested_sharing` does if the AMI cannot be shared as requested.
    """
    new_description = description.get("Value", "") if description is not None else None
    if attribute == _DESCRIPTION and new_description is None:
        new_description = value or ""
    is_shared = await requested_sharing(call, launch_permission, operation_type, user_groups, user_ids)
    if attribute not in ("", _DESCRIPTION, _LAUNCH_PERMISSION):
        raise _invalid_attribute(attribute)
    if new_description is None and is_shared is None:
        raise EC2Error("InvalidParameterCombination", "No attributes specified.")
    if new_description is not None and is_shared is not None:
        raise EC2Error("InvalidParameterCombination", "Only one attribute can be modified at a time.")
    images = await amis_by_id(call, (image_id,))
    if new_description is not None:
        await call.change_all(Right.MANAGE, images, _description_change(call, new_description))
    elif is_shared is not None:
        await call.change_all(Right.MANAGE, images, lambda image: call.session.image_share(image.id, is_shared))


@action()
async def reset_image_attribute(call: Call, *, image_id: str, attribute: str) -> None:
    """Stop sharing an AMI: only its owner may launch instances from it."""
    if attribute != _LAUNCH_PERMISSION:
        raise _invalid_attribute(attribute)
    images = await amis_by_id(call, (image_id,))
    await call.change_all(Right.MANAGE, images, lambda image: call.session.image_share(image.id, False))


def _description_change(call: Call, text: str) -> Callable[[Image], Any]:
    check_text("Description", text, MAX_DESCRIPTION)
    return lambda image: call.session.image_update(image.id, description_text(text))


def _invalid_attribute(attribute: str) -> EC2Error:
    return EC2Error("InvalidParameterValue", f"Value ({attribute}) for parameter attribute is invalid or unsupported.")
