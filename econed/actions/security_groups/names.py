"""Names of security groups in OpenNebula, from which the names in EC2 can be read.

OpenNebula's names are unique per owner, and EC2's per owner and VPC, so a group of another VPC than the default VPC
has its VPC in its name. OpenNebula refuses some characters that EC2 allows: they are escaped. A machine has the names
of its groups in their rules, and DescribeInstances shows them without reading the groups.
"""

from __future__ import annotations

import hashlib
import re

from econed.ids import DEFAULT_VPC_NUMBER, VPC

_MAX_LENGTH = 128
"""Characters of a name in OpenNebula; EC2 allows 255."""

_DIGITS = 16
_ESCAPED = re.compile(r"""["#$&'/:;<>{|}%]""")
"""Characters that oned refuses in the name of a security group (recordings of 5.12 and 7.4), and the escape itself."""

_ESCAPE = re.compile(r"%([0-9A-F]{2})", re.ASCII)
_VPC_SUFFIX = re.compile(r" \(vpc-[0-9]{8,10}\)\Z", re.ASCII)


def opennebula_name(name: str, vpc_number: int) -> str:
    """Return the name in OpenNebula of the group with a name in a VPC: the same in every process.

    A name that OpenNebula cannot have even so, because it is too long or has blanks at an end, becomes a part of it and
    a digest.
    """
    suffix = "" if vpc_number == DEFAULT_VPC_NUMBER else f" ({VPC.format(vpc_number)})"
    if name == name.strip() and len(escaped := _escaped(name) + suffix) <= _MAX_LENGTH:
        return escaped
    suffix = f" ({hashlib.sha256(f'{vpc_number} {name}'.encode()).hexdigest()[:_DIGITS]}){suffix}"
    return _ESCAPED.sub("_", name.strip())[: _MAX_LENGTH - len(suffix)] + suffix


def ec2_name(name: str) -> str:
    """Return the name in EC2 of the group with a name in OpenNebula; any other name is returned as it is."""
    without_vpc = _VPC_SUFFIX.sub("", name)
    unescaped = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), without_vpc)
    return unescaped if _escaped(unescaped) == without_vpc else name


def _escaped(name: str) -> str:
    """Return a name with escapes; one that ends like a name with a VPC is escaped there."""
    escaped = _ESCAPED.sub(lambda character: f"%{ord(character[0]):02X}", name)
    return escaped.replace("(", "%28") if _VPC_SUFFIX.search(name) else escaped
