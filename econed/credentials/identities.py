"""How IAM and STS name users and groups of OpenNebula: by ARNs and by unique ids.

A user is an IAM user of an account of their own, whose number is the user's id. A group is a role of each of its users.
"""

from __future__ import annotations

import base64
import hashlib

from econed.ids import account_id

_UNIQUE_CHARACTERS = 16


def user_arn(user_id: int, name: str) -> str:
    """Return the ARN of a user."""
    return f"arn:aws:iam::{account_id(user_id)}:user/{name}"


def user_unique_id(user_id: int) -> str:
    """Return the unique id of a user: `AIDA` and 16 characters, which depend on the user's id alone."""
    return f"AIDA{_unique(f'user {user_id}')}"


def assumed_role_arn(user_id: int, group: str, session_name: str) -> str:
    """Return the ARN of a user who has assumed a group, named by name, as a role."""
    return f"arn:aws:sts::{account_id(user_id)}:assumed-role/{group}/{session_name}"


def assumed_role_id(group_id: int, session_name: str) -> str:
    """Return the unique id of a group, `AROA` and 16 characters, with the name of a session in it."""
    return f"AROA{_unique(f'group {group_id}')}:{session_name}"


def _unique(text: str) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode("ascii")[:_UNIQUE_CHARACTERS]
