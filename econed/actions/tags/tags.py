"""Adding and removing tags (EC2 API Reference, CreateTags, DeleteTags).

Instances, their network interfaces, AMIs, volumes, snapshots, key pairs, elastic IPs, subnets, VPCs, security groups
and their rules, and placement groups can be tagged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from econed.actions.action import action
from econed.actions.addresses.store import address_store
from econed.actions.inputs import Tag
from econed.actions.keys.store import key_pair_tag_prefix
from econed.actions.object_limits import MAX_ON_ADDRESS_NETWORK, MAX_ON_USER, check_size
from econed.actions.pacing import ITEM_COST
from econed.actions.tagging import check_tag_count, tag_text, too_many_tags, untag_text, validated_tags
from econed.actions.tags.tagged_resources import Resources, ResourceTags, find_resources
from econed.errors import EC2Error
from econed.opennebula.documents import OwnedView, Right
from econed.opennebula.template import template

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import TagTypeDef

    from econed.actions.call import Call

_TextFor: TypeAlias = Callable[[ResourceTags], str]
"""Returns the template text of a change of a resource's tags."""


@action()
async def create_tags(call: Call, *, resources: Sequence[str], tags: Sequence[Tag]) -> None:
    """Add tags to resources; a tag with the same key is replaced (EC2 CreateTags)."""
    added = validated_tags(tags)
    tagged_resources = await find_resources(call, resources)
    for present in tagged_resources.tags():
        await call.budget.spend(ITEM_COST)
        check_tag_count(present, added)
    await _check_sizes(call, tagged_resources, added)
    await _change(call, tagged_resources, lambda resource_tags: tag_text(added, resource_tags.prefix))


@action()
async def delete_tags(call: Call, *, resources: Sequence[str], tags: Sequence[Tag] | None = None) -> None:
    """Remove tags from resources (EC2 DeleteTags): by key, or by key and value, which may be empty; without Tags, all.

    A tag that does not exist is no error.
    """
    if any(not tag.get("Key") for tag in tags or ()):
        raise EC2Error("InvalidParameterValue", "Tag keys cannot be empty.")

    values_by_key = None if tags is None else _values_by_key(tags)

    def is_named(tag: TagTypeDef) -> bool:
        if values_by_key is None:
            return True
        values = values_by_key.get(tag["Key"], set())
        return values is None or tag["Value"] in values

    def untag_text_for(resource_tags: ResourceTags) -> str:
        return untag_text(
            (tag["Key"] for tag in resource_tags.present if is_named(tag)),
            resource_tags.prefix,
            legacy=resource_tags.legacy,
        )

    await _change(call, await find_resources(call, resources), untag_text_for)


async def _check_sizes(call: Call, resources: Resources, added: Mapping[str, str]) -> None:
    """Raise `EC2Error` TagLimitExceeded if an object would exceed its size limit with these tags on all resources."""
    for tagged in resources.objects():
        await call.budget.spend(ITEM_COST)
        text = template(*(tag_text(added, resource_tags.prefix) for resource_tags in tagged.resource_tags()))
        check_size(tagged.attributes, text, tagged.max_bytes, too_many_tags())
    if resources.key_pairs:
        user = await call.session.current_user()
        text = template(
            *(tag_text(added, key_pair_tag_prefix(call.caller.id, pair.name)) for pair in resources.key_pairs)
        )
        await call.in_thread(lambda: check_size(user.template, text, MAX_ON_USER, too_many_tags()))
    if resources.pool is not None:
        text = template(*(tag_text(added, address.tag_prefix) for address in resources.addresses))
        check_size(resources.pool.attributes_of(call.caller.id), text, MAX_ON_ADDRESS_NETWORK, too_many_tags())


def _values_by_key(tags: Sequence[Tag]) -> Mapping[str, set[str] | None]:
    """Return the values that DeleteTags names for each key; None for any value."""
    by_key: dict[str, set[str] | None] = {}
    for tag in tags:
        if "Value" not in tag:
            by_key[tag["Key"]] = None
        elif (values := by_key.setdefault(tag["Key"], set())) is not None:
            values.add(tag["Value"])
    return by_key


async def _change(call: Call, resources: Resources, text_for: _TextFor) -> None:
    """Append the attributes that `text_for` returns for each resource; an object without any is not changed.

    The text for an object, which may be long, is built when it is sent, so that only a few texts are in memory.
    """
    tagged_objects = {tagged.view: tagged for tagged in resources.objects()}

    async def change(target: OwnedView) -> None:
        await call.budget.spend(ITEM_COST)
        tagged = tagged_objects[target]
        if update := template(*map(text_for, tagged.resource_tags())):
            await tagged.append(call.session, update)

    await call.change_all(Right.MANAGE, tagged_objects, change)
    user_text = await _texts(
        call,
        text_for,
        (ResourceTags(pair.tags, key_pair_tag_prefix(call.caller.id, pair.name)) for pair in resources.key_pairs),
    )
    if user_text:
        await call.session.user_update(call.caller.id, user_text)
    if resources.pool is not None:
        pool = resources.pool
        pool_text = await _texts(
            call, text_for, (ResourceTags(pool.tags(address), address.tag_prefix) for address in resources.addresses)
        )
        if pool_text:
            await address_store(call).write(pool_text)


async def _texts(call: Call, text_for: _TextFor, resources: Iterable[ResourceTags]) -> str:
    """Return the attributes of resources whose tags are kept on the same object."""
    texts = []
    for resource_tags in resources:
        await call.budget.spend(ITEM_COST)
        texts.append(text_for(resource_tags))
    return template(*texts)
