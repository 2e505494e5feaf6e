"""Creating and describing the images of users, for the tests of actions."""

from __future__ import annotations

from typing import Any

from lxml import etree

from econed.opennebula.documents import Image
from tests.support.cloud import Cloud

UBUNTU, DEBIAN = "ami-00000000", "ami-00000001"


def image_ids(cloud: Cloud, user: str = "alice", **parameters: Any) -> list[str]:
    return [image["ImageId"] for image in cloud.run(user, "DescribeImages", **parameters)["Images"]]


def describe_image(cloud: Cloud, image_id: str, user: str = "alice") -> dict[str, Any]:
    (image,) = cloud.run(user, "DescribeImages", ImageIds=[image_id])["Images"]
    return dict(image)


def filtered_ids(cloud: Cloud, name: str, *values: str) -> list[str]:
    return image_ids(cloud, Filters=[{"Name": name, "Values": list(values)}])


def create_image(cloud: Cloud, user: str, name: str, extra: str = 'EC2_AMI="YES"') -> str:
    """Create an image that only `user` may see, with the attributes `extra`; by default an AMI."""
    text = f'NAME="{name}"\nTYPE="OS"\nPATH="/var/tmp/x"\n{extra}'
    image_id = cloud.as_user(user, "one.image.allocate", text, 1)
    cloud.wait(10)
    return f"ami-{image_id:08d}"


def image_attributes(cloud: Cloud, image_id: str) -> dict[str, Any]:
    """Return all free attributes of an image, as oned stores them."""
    document = etree.fromstring(cloud.oneadmin("one.image.info", int(image_id[4:]), False))
    return dict(Image(document).template)
