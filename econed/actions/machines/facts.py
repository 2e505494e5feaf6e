"""The attributes of a virtual machine that store EC2 facts; the first five are those of the Ruby server."""

from __future__ import annotations

INSTANCE_TYPE = "EC2_INSTANCE_TYPE"
IMAGE_ID = "IMAGE_ID"
KEY_NAME = "EC2_KEYNAME"
"""In CONTEXT, as are the next two."""
PUBLIC_KEY = "EC2_PUBLIC_KEY"
USER_DATA = "EC2_USER_DATA"

RESERVATION = "EC2_RESERVATION_ID"
"""On every machine of a RunInstances call except the first, whose id it is derived from."""
LAUNCH_INDEX = "EC2_LAUNCH_INDEX"
LAUNCH_COUNT = "EC2_LAUNCH_COUNT"
"""The number of instances of a RunInstances call with a client token; the machine with the lowest id is decisive."""
AVAILABILITY_ZONE = "EC2_AVAILABILITY_ZONE"
"""The OpenNebula id of the requested cluster."""
SHUTDOWN_BEHAVIOR = "EC2_SHUTDOWN_BEHAVIOR"
DISCARDED = "EC2_DISCARDED"
"""Marks a machine that RunInstances created and discarded: no client has ever seen it as an instance."""

TERMINATING = "EC2_TERMINATING"
"""Marks a machine that was to be terminated during its deployment: to be terminated as soon as oned allows it."""

TERMINATE = "terminate"

TO_RELEASE = "EC2_TO_RELEASE"
"""Marks a machine to be released as soon as it is on HOLD: its volumes were not ready when its request ended."""

DEVICE = "EC2_DEVICE"
"""On a disk, as are the next two: the Device as the client spelled it, which responses repeat."""
ATTACH_TIME = "EC2_ATTACH_TIME"
DELETE_ON_TERMINATION = "EC2_DELETE_ON_TERMINATION"
"""YES or NO; set only by RunInstances. Detaching a volume removes it, with the disk."""
