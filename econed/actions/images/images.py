"""AMIs: images marked for launching instances (EC2 API Reference, DescribeImages, RegisterImage, …)."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, NotRequired, TypedDict

from econed.actions.accounts import is_owned_by, owner_alias, resolve_account
from econed.actions.action import Parts, action
from econed.actions.disk_images.ami_facts import (
    AMI_NAME,
    IS_AMI,
    MAX_DESCRIPTION,
    description_text,
    new_description_text,
)
from econed.actions.disk_images.deleting import delete_image
from econed.actions.disk_images.lookup import matching_images, visible_image
from econed.actions.disk_images.volume_facts import is_ami_snapshot, is_marked_deleted, is_snapshot, separate_tags_text
from econed.actions.images.announcements import check_name_available
from econed.actions.images.lookup import amis_by_id
from econed.actions.images.names import check_name, name_text
from econed.actions.images.urls import image_from_url, is_url
from econed.actions.images.view import (
    ARCHITECTURES,
    IMAGE_FILTERS,
    ami_view,
    architecture,
    is_ami,
    is_public,
)
from econed.actions.inputs import Filter, TagSpecification, check_text
from econed.actions.listing import Page, in_parts, set_of
from econed.actions.paging import Listing, Paging
from econed.actions.sharing import EVERYBODY
from econed.actions.tagging import check_tag_count, specified_tags, tag_text, tags_of, untag_text
from econed.errors import EC2Error
from econed.ids import IMAGE, SNAPSHOT, account_id
from econed.opennebula.documents import Right
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.states import ImageState, ImageType
from econed.opennebula.template import attribute, removal, template

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import DeleteSnapshotReturnCodeTypeDef, ImageTypeDef

    from econed.actions.call import Call
    from econed.opennebula.documents import Image


_LISTING = Listing("images", (int,))
_BOOTABLE_TYPES = frozenset({ImageType.OS, ImageType.CDROM, ImageType.DATABLOCK})
_UNREGISTRABLE_STATES = frozenset({ImageState.ERROR, ImageState.DELETE})


class DescribeImagesResult(TypedDict):
    """EC2 DescribeImagesResult."""

    Images: list[ImageTypeDef]
    NextToken: NotRequired[str]


class RegisterImageResult(TypedDict):
    """EC2 RegisterImageResult."""

    ImageId: str


class DeregisterImageResult(TypedDict):
    """EC2 DeregisterImageResult."""

    Return: bool
    DeleteSnapshotResults: NotRequired[list[DeleteSnapshotReturnCodeTypeDef]]


# AMIs are never deprecated here, so there are none to omit.
@action(ignores=("IncludeDeprecated",))
async def describe_images(
    call: Call,
    *,
    image_ids: Sequence[str] = (),
    owners: Sequence[str] = (),
    executable_users: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    include_disabled: bool = False,
    max_results: int | None = None,
    next_token: str | None = None,
) -> Parts[DescribeImagesResult]:
    """List the AMIs that the caller may see.

    A disabled image is listed only if its id or IncludeDisabled is given. Of Amazon's owner aliases, `amazon` means the
    administrator, who owns the provider's images; the others match nothing.
    """
    selection = IMAGE_FILTERS.selection(filters, call.budget)
    paging = Paging.of(_LISTING, max_results, next_token, minimum=1, ids=image_ids)
    accounts = {resolve_account(call, owner) for owner in owners}
    users = {user if user == EVERYBODY else resolve_account(call, user) for user in executable_users}

    def is_selected(image: Image) -> bool:
        is_owner_selected = not owners or is_owned_by(call, image.uid, accounts)
        return is_owner_selected and (not users or _is_executable_by(call, image, users))

    def is_listed(image: Image) -> bool:
        return is_ami(image) and (include_disabled or image.state is not ImageState.DISABLED) and is_selected(image)

    async def view(image: Image) -> ImageTypeDef | None:
        item = ami_view(image, owner_alias(call, image.uid))
        return item if await selection.matches(item) else None

    if image_ids:
        sets = set_of([image for image in await amis_by_id(call, image_ids) if is_selected(image)])
    else:
        sets = matching_images(
            call, is_listed, OwnerFilter.MINE if accounts == {call.owner_id} else OwnerFilter.VISIBLE
        )
    return in_parts("Images", sets, view, Page(lambda image: (image.id,), paging))


# OpenNebula does not store what an image is for: x86_64 and hvm are assumed.
@action(as_is={"VirtualizationType": "hvm"})
async def register_image(
    call: Call,
    *,
    image_location: str,
    name: str = "",
    description: str | None = None,
    architecture: str = "",
    tag_specifications: Sequence[TagSpecification] = (),
) -> RegisterImageResult:
    """Register an image in OpenNebula, or an image at a URL, as an AMI (EC2 RegisterImage).

    `ImageLocation` is an http or https URL, or, as for the Ruby server, `ami-…` or the image's id in OpenNebula. An
    existing image keeps its name, because templates may refer to it: a different Name applies to the AMI only.
    Registering it again changes the name and the description. All changes are made by one update.

    econed downloads the image from a URL before it sends the response, and only from public addresses. From the hosts
    in `image_url_hosts` oned downloads it after the response; if that fails, the state of the AMI is `failed`. A file
    on the front-end is not accepted as ImageLocation.

    Raises `EC2Error` InvalidAMIID.NotFound for an image that the caller may not see, InvalidParameterValue,
    InvalidAMIName.Malformed and .Duplicate, IncorrectState for an image whose copy failed, and for a URL the same
    errors as UploadImage.
    """
    new_tags = specified_tags(tag_specifications, "image")["image"]
    check_text("Description", description or "", MAX_DESCRIPTION)
    if is_url(image_location):
        facts = template(
            attribute(IS_AMI, "YES"),
            _arch_text(architecture),
            new_description_text(description or ""),
            tag_text(new_tags),
        )
        return {"ImageId": IMAGE.format(await image_from_url(call, image_location, name, facts))}
    image_id = _parse_location(image_location)
    image = await visible_image(call, image_id)
    if image is None or is_marked_deleted(image):
        raise IMAGE.not_found(IMAGE.format(image_id))
    _check_registrable(image, architecture)
    if name:
        check_name(name)
    owned_images, user = await call.session.images(OwnerFilter.MINE), await call.session.current_user()
    check_name_available(call, owned_images, user, name or image.name, ignored_id=image.id)
    separated_tags = "" if is_ami(image) else separate_tags_text(image, new_tags)
    check_tag_count(() if separated_tags else tags_of(image.template), new_tags)
    text = template(
        attribute(IS_AMI, "YES"),
        separated_tags,
        name_text(name or image.name, image.name),
        "" if description is None else description_text(description),
        tag_text(new_tags),
    )
    await call.change_all(Right.MANAGE, (image,), lambda image: call.session.image_update(image.id, text))
    return {"ImageId": IMAGE.format(image.id)}


@action()
async def deregister_image(
    call: Call, *, image_id: str, delete_associated_snapshots: bool = False
) -> DeregisterImageResult:
    """Unmark an image: it is no longer an AMI, and its name is free. The image itself is kept (EC2 DeregisterImage).

    An image that CreateImage or CopyImage created remains as the snapshot of the AMI. DeleteSnapshot deletes it, and so
    does DeleteAssociatedSnapshots, unless instances use it.
    """

    async def unmark(image: Image) -> None:
        removed_tags = untag_text(tag["Key"] for tag in tags_of(image.template)) if is_ami_snapshot(image) else ""
        await call.session.image_update(image.id, template(attribute(IS_AMI, "NO"), removal(AMI_NAME), removed_tags))

    (image,) = await amis_by_id(call, (image_id,))
    await call.change_all(Right.MANAGE, (image,), unmark)
    if not delete_associated_snapshots or not is_snapshot(image):
        return {"Return": True}
    deletion: DeleteSnapshotReturnCodeTypeDef = {
        "SnapshotId": SNAPSHOT.format(image.id),
        "ReturnCode": "success" if await delete_image(call, image) else "skipped",
    }
    return {"Return": True, "DeleteSnapshotResults": [deletion]}


def _is_executable_by(call: Call, image: Image, users: Container[str]) -> bool:
    """Whether ExecutableUsers selects an image: `all` selects public images, an account those shared with it.

    An image that the caller can see but does not own, and that is not public, is shared with the caller by an ACL rule.
    Images shared with other users by such rules are visible to those users only.
    """
    if is_public(image):
        return EVERYBODY in users
    return call.owner_id in users and call.owner_id != account_id(image.uid)


def _parse_location(text: str) -> int:
    image_id = text if text.startswith("ami-") else f"ami-{text}"
    if not (IMAGE.is_well_formed(text) or IMAGE.is_id(image_id)):
        raise EC2Error(
            "InvalidParameterValue",
            "The ImageLocation is invalid: it must be an image in OpenNebula, as ami-00000001 or its id, or a URL.",
        )
    return IMAGE.parse(image_id)


def _check_registrable(image: Image, requested_architecture: str) -> None:
    if image.type not in _BOOTABLE_TYPES:
        raise EC2Error("InvalidParameterValue", "An instance cannot be launched from this image: it is not a disk.")
    if image.state in _UNREGISTRABLE_STATES:
        raise EC2Error("IncorrectState", "The image is not in a state in which it can be registered.")
    if requested_architecture and requested_architecture != architecture(image):
        raise EC2Error("InvalidParameterValue", f"The image is for the architecture {architecture(image)}.")


def _arch_text(architecture: str) -> str:
    if architecture not in ("", *ARCHITECTURES):
        raise EC2Error("InvalidParameterValue", f"Value ({architecture}) for parameter architecture is invalid.")
    return attribute("ARCH", ARCHITECTURES[architecture]) if architecture else ""
