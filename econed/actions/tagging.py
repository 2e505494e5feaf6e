"""Tags on OpenNebula objects: each is an attribute of its own, so that two clients never overwrite each other's tags.

A tag is `EC2_TAG_<hex of key>=[KEY, VALUE]`, added by one atomic append and removed by another. Tags of the Ruby
server, `EC2_TAGS=[…]`, are read too. They are changed by an attribute of the new form, which takes precedence, and
removed by an empty one.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from econed.actions.inputs import Tag, check_text
from econed.errors import EC2Error
from econed.opennebula.template import attribute, decode_member, encode_member, hex_name, removal, template, vector

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import TagTypeDef

    from econed.actions.inputs import TagSpecification
    from econed.opennebula.documents import Attributes

MAX_TAGS = 50
"""Tags on one resource (EC2, "Tag restrictions")."""

PREFIX = "EC2_TAG_"
"""The prefix of the attributes of tags on an object that is the resource itself."""

_DISK_PREFIX = "EC2_DISK{}_TAG_"
_RUBY_SERVER_TAGS = "EC2_TAGS"
_MAX_KEY = 128
_MAX_VALUE = 256


def tags_of(attributes: Attributes) -> list[TagTypeDef]:
    """Return the tags among an object's free attributes, ordered by key, the Ruby server's too."""
    return _tags(attributes, PREFIX, attributes.vector(_RUBY_SERVER_TAGS))


def tags_under(attributes: Attributes, prefix: str) -> list[TagTypeDef]:
    """Return the tags whose attributes have a prefix, ordered by key: of a resource that is kept on another object."""
    return _tags(attributes, prefix, {})


def disk_tag_prefix(disk_id: int) -> str:
    """Return the prefix of the attributes of tags of a disk, which its machine keeps."""
    return _DISK_PREFIX.format(disk_id)


def tag_text(tags: Mapping[str, str], prefix: str = PREFIX) -> str:
    """Return the template text that adds these tags to an object."""
    return template(
        *(
            vector(hex_name(prefix, key), {**encode_member("KEY", key), **encode_member("VALUE", value)})
            for key, value in tags.items()
        )
    )


def legacy_keys(attributes: Attributes) -> frozenset[str]:
    """Return the keys of the Ruby server's tags on an object, changed and removed ones too."""
    return frozenset(attributes.vector(_RUBY_SERVER_TAGS))


def untag_text(keys: Iterable[str], prefix: str = PREFIX, *, legacy: Container[str] = ()) -> str:
    """Return the template text that removes the tags with these keys from an object.

    Tags in `legacy` (`legacy_keys`) would reappear without an empty attribute in their place.
    """
    names = ((hex_name(prefix, key), key in legacy) for key in keys)
    return template(*(attribute(name, "") if is_legacy else removal(name) for name, is_legacy in names))


def validated_tags(tags: Sequence[Tag]) -> dict[str, str]:
    """Return the tags of a request, by key; a missing value is an empty one.

    Raises `EC2Error` for what EC2 refuses too: keys that are empty, longer than 128 characters, duplicate or reserved
    by Amazon (`aws:`), values longer than 256 characters, more than 50 tags (EC2 User Guide, "Tag restrictions").
    """
    by_key: dict[str, str] = {}
    for tag in tags:
        key, value = tag.get("Key", ""), tag.get("Value", "")
        if not key:
            raise EC2Error("InvalidParameterValue", "Tag keys cannot be empty.")
        if key in by_key:
            raise EC2Error("InvalidParameterValue", f"Duplicate tag key '{key}' specified.")
        check_text("Tag key", key, _MAX_KEY)
        check_text("Tag value", value, _MAX_VALUE)
        if key.lower().startswith("aws:"):
            raise EC2Error("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use.")
        by_key[key] = value
    if len(by_key) > MAX_TAGS:
        raise too_many_tags()
    return by_key


def specified_tags(specifications: Sequence[TagSpecification], *resource_types: str) -> dict[str, dict[str, str]]:
    """Return the tags for each of the `resource_types` that an action creates, by type; empty if the request has none.

    Raises `EC2Error` as EC2 does: InvalidParameterValue for a type that is missing, is specified twice, or is not
    created by the action, InvalidTagKey.Malformed for a specification without tags, and what `validated_tags` raises.
    """
    tags: dict[str, dict[str, str]] = {}
    for specification in specifications:
        resource_type = specification.get("ResourceType", "")
        if not resource_type:
            raise EC2Error("InvalidParameterValue", "Tag specification resource type must have a value")
        if resource_type not in resource_types:
            raise EC2Error(
                "InvalidParameterValue", f"'{resource_type}' is not a valid taggable resource type for this operation."
            )
        if resource_type in tags:
            raise EC2Error("InvalidParameterValue", f"Duplicate tag specification for resource type '{resource_type}'.")
        tags[resource_type] = validated_tags(specification.get("Tags", ()))
        if not tags[resource_type]:
            raise EC2Error("InvalidTagKey.Malformed", "Tag specification must have at least one tag")
    return {resource_type: tags.get(resource_type, {}) for resource_type in resource_types}


def check_tag_count(present: Iterable[TagTypeDef], added: Mapping[str, str]) -> None:
    """Raise `EC2Error` TagLimitExceeded if a resource would have more tags than EC2 allows with those added."""
    if len({tag["Key"] for tag in present} | added.keys()) > MAX_TAGS:
        raise too_many_tags()


def too_many_tags() -> EC2Error:
    """Return the error for more tags on a resource than EC2 allows."""
    return EC2Error("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")


def _tags(attributes: Attributes, prefix: str, legacy: Mapping[str, str]) -> list[TagTypeDef]:
    tags = dict(legacy)
    for name in attributes.names_starting_with(prefix):
        if legacy:
            tags.pop(_key(name, prefix), None)
        members = attributes.vector(name)
        key, value = decode_member(members, "KEY"), decode_member(members, "VALUE")
        if key is not None:
            tags[key] = value or ""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def _key(name: str, prefix: str) -> str:
    try:
        return bytes.fromhex(name.removeprefix(prefix)).decode("utf-8")
    except ValueError:
        return ""
