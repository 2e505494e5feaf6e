"""Which attributes of a virtual machine keep which EC2 facts; the first five are those of the Ruby server."""

from __future__ import annotations

INSTANCE_TYPE = "EC2_INSTANCE_TYPE"
IMAGE_ID = "IMAGE_ID"
KEY_NAME = "EC2_KEYNAME"
"""In CONTEXT, as are the next two."""
PUBLIC_KEY = "EC2_PUBLIC_KEY"
USER_DATA = "EC2_USER_DATA"

RESERVATION = "EC2_RESERVATION_ID"
"""On every machine of a RunInstances call but the first, from whose id it is made."""
LAUNCH_INDEX = "EC2_LAUNCH_INDEX"
LAUNCH_COUNT = "EC2_LAUNCH_COUNT"
"""How many instances a RunInstances call with a client token is to have. The word of its lowest id counts."""
ZONE = "EC2_AVAILABILITY_ZONE"
"""The cluster that was asked for, by its OpenNebula id."""
SHUTDOWN_BEHAVIOR = "EC2_SHUTDOWN_BEHAVIOR"
DISCARDED = "EC2_DISCARDED"
"""A machine that RunInstances made and took back: it was never an instance to anybody."""

TERMINATING = "EC2_TERMINATING"
"""A machine that is to end as soon as oned takes it: it was told so while it was being deployed."""

TERMINATE = "terminate"

TO_RELEASE = "EC2_TO_RELEASE"
"""A machine that is to be released as soon as it is on HOLD: it waits for its volumes, its request is over."""

DEVICE = "EC2_DEVICE"
"""On a disk, as are the next two: the Device that the client gave, which he wants to read again."""
ATTACH_TIME = "EC2_ATTACH_TIME"
DELETE_ON_TERMINATION = "EC2_DELETE_ON_TERMINATION"
"""YES or NO; only RunInstances says it. A volume that is detached loses it with the disk."""
