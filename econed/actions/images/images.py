"""AMIs: images that are marked to start instances from (EC2 API Reference, DescribeImages, RegisterImage, …)."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, NotRequired, TypedDict

from econed.actions.accounts import is_owned_by, owner_alias, resolve_account
from econed.actions.action import Parts, action
from econed.actions.call import account_id
from econed.actions.disk_images.ami_facts import (
    AMI_NAME,
    IS_AMI,
    MAX_DESCRIPTION,
    description_text,
    new_description_text,
)
from econed.actions.disk_images.deleting import delete_image
from econed.actions.disk_images.finding import matching_images, visible_image
from econed.actions.disk_images.volume_facts import is_ami_snapshot, is_marked_deleted, is_snapshot, separate_tags_text
from econed.actions.images.announcements import check_name_available
from econed.actions.images.finding import amis_by_id
from econed.actions.images.names import check_name, name_text
from econed.actions.images.urls import image_from_url, is_url
from econed.actions.images.view import (
    ARCHITECTURES,
    IMAGE_FILTERS,
    ami,
    architecture,
    is_ami,
    is_public,
)
from econed.actions.inputs import Filter, TagSpecification, check_text
from econed.actions.listing import Page, in_parts, set_of
from econed.actions.paging import Listing, Paging
from econed.actions.tagging import check_tag_count, specified_tags, tag_text, tags_of, untag_text
from econed.errors import EC2Error
from econed.ids import IMAGE, SNAPSHOT
from econed.opennebula.documents import Right
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.states import ImageState, ImageType
from econed.opennebula.template import attribute, removal, template

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import DeleteSnapshotReturnCodeTypeDef, ImageTypeDef

    from econed.actions.call import Call
    from econed.opennebula.documents import Image


_LISTING = Listing("images", (int,))
_EVERYBODY = "all"
_BOOTABLE = frozenset({ImageType.OS, ImageType.CDROM, ImageType.DATABLOCK})
_UNFIT = frozenset({ImageState.ERROR, ImageState.DELETE})


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


# No AMI here is ever deprecated, and so there are none to leave out.
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

    A disabled image is listed only if it is named or IncludeDisabled is given. Of Amazon's aliases of owners `amazon`
    is the administrator, whose images are the provider's; the others have none here.
    """
    selection = IMAGE_FILTERS.selection(filters, call.budget)
    paging = Paging.of(_LISTING, max_results, next_token, least=1, ids=image_ids)
    accounts = {resolve_account(call, owner) for owner in owners}
    users = {user if user == _EVERYBODY else resolve_account(call, user) for user in executable_users}

    def is_meant(image: Image) -> bool:
        is_theirs = not owners or is_owned_by(call, image.uid, accounts)
        return is_theirs and (not users or _is_shared(call, image, users))

    def is_listed(image: Image) -> bool:
        return is_ami(image) and (include_disabled or image.state is not ImageState.DISABLED) and is_meant(image)

    async def shown(image: Image) -> ImageTypeDef | None:
        item = ami(image, owner_alias(call, image.uid))
        return item if await selection.matches(item) else None

    if image_ids:
        sets = set_of([image for image in await amis_by_id(call, image_ids) if is_meant(image)])
    else:
        sets = matching_images(
            call, is_listed, OwnerFilter.MINE if accounts == {call.owner_id} else OwnerFilter.VISIBLE
        )
    return in_parts("Images", sets, shown, Page(lambda image: (image.id,), paging))


# What an image is for, OpenNebula does not keep: x86_64 and hvm are what it is taken to be.
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
    """Make an AMI of an image that is in OpenNebula, or of one at a URL (EC2 RegisterImage).

    `ImageLocation` is an http or https URL, or `ami-…` or the image's number, as the Ruby server took it. Such
    an image keeps its own name, by which templates may refer to it: a Name that differs is the AMI's alone. Registering
    it once more gives it another name and description. All is done by one update, or nothing.

    What is at a URL is fetched before the answer, and only from addresses of the internet; from the hosts that
    `image_url_hosts` names oned fetches it behind the answer, and what cannot be fetched becomes an image whose state
    is `failed`. Files of the front-end are no ImageLocation.

    Raises `EC2Error` InvalidAMIID.NotFound for an image that the caller does not see, InvalidParameterValue,
    InvalidAMIName.Malformed and .Duplicate, IncorrectState for an image whose copy failed, and for a URL what an upload
    ends with.
    """
    added = specified_tags(tag_specifications, "image")["image"]
    check_text("Description", description or "", MAX_DESCRIPTION)
    if is_url(image_location):
        facts = template(
            attribute(IS_AMI, "YES"),
            _arch_text(architecture),
            new_description_text(description or ""),
            tag_text(added),
        )
        return {"ImageId": IMAGE.format(await image_from_url(call, image_location, name, facts))}
    number = _location(image_location)
    image = await visible_image(call, number)
    if image is None or is_marked_deleted(image):
        raise IMAGE.not_found(IMAGE.format(number))
    _demand_fit(image, architecture)
    if name:
        check_name(name)
    owned, user = await call.session.images(OwnerFilter.MINE), await call.session.current_user()
    check_name_available(call, owned, user, name or image.name, ignored_id=image.id)
    parted = "" if is_ami(image) else separate_tags_text(image, added)
    check_tag_count(() if parted else tags_of(image.template), added)
    text = template(
        attribute(IS_AMI, "YES"),
        parted,
        name_text(name or image.name, image.name),
        "" if description is None else description_text(description),
        tag_text(added),
    )
    await call.change_all(Right.MANAGE, (image,), lambda each: call.session.image_update(each.id, text))
    return {"ImageId": IMAGE.format(image.id)}


@action()
async def deregister_image(
    call: Call, *, image_id: str, delete_associated_snapshots: bool = False
) -> DeregisterImageResult:
    """Take the mark off an image: it is no AMI any more, and its name is free. The image itself stays.

    One that CreateImage or CopyImage made stays as the snapshot that the AMI had, and DeleteSnapshot removes it, or
    DeleteAssociatedSnapshots here, unless instances use it.
    """

    async def unmark(image: Image) -> None:
        of_ami = untag_text(tag["Key"] for tag in tags_of(image.template)) if is_ami_snapshot(image) else ""
        await call.session.image_update(image.id, template(attribute(IS_AMI, "NO"), removal(AMI_NAME), of_ami))

    (image,) = await amis_by_id(call, (image_id,))
    await call.change_all(Right.MANAGE, (image,), unmark)
    if not delete_associated_snapshots or not is_snapshot(image):
        return {"Return": True}
    deleted: DeleteSnapshotReturnCodeTypeDef = {
        "SnapshotId": SNAPSHOT.format(image.id),
        "ReturnCode": "success" if await delete_image(call, image) else "skipped",
    }
    return {"Return": True, "DeleteSnapshotResults": [deleted]}


def _is_shared(call: Call, image: Image, users: Container[str]) -> bool:
    """Whether ExecutableUsers lists an image under one of `users`: if it is public for `all`, else shared with one.

    Shared with the caller alone, by an access control list, is what he sees though it is neither his own nor public.
    What others see by such lists, only they see.
    """
    if is_public(image):
        return _EVERYBODY in users
    return call.owner_id in users and call.owner_id != account_id(image.uid)


def _location(text: str) -> int:
    image_id = text if text.startswith("ami-") else f"ami-{text}"
    if not (IMAGE.is_well_formed(text) or IMAGE.is_id(image_id)):
        raise EC2Error(
            "InvalidParameterValue",
            "The ImageLocation is invalid: give an image in OpenNebula, as ami-00000001 or its number, or a URL.",
        )
    return IMAGE.parse(image_id)


def _demand_fit(image: Image, said_architecture: str) -> None:
    if image.type not in _BOOTABLE:
        raise EC2Error("InvalidParameterValue", "An instance cannot be started from this image: it is no disk.")
    if image.state in _UNFIT:
        raise EC2Error("IncorrectState", "The image is not in a state in which it can be registered.")
    if said_architecture and said_architecture != architecture(image):
        raise EC2Error("InvalidParameterValue", f"The image is for the architecture {architecture(image)}.")


def _arch_text(said_architecture: str) -> str:
    if said_architecture not in ("", *ARCHITECTURES):
        raise EC2Error("InvalidParameterValue", f"Value ({said_architecture}) for parameter architecture is invalid.")
    return attribute("ARCH", ARCHITECTURES[said_architecture]) if said_architecture else ""
