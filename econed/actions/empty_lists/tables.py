"""All empty lists as actions."""

from __future__ import annotations

from typing import Final

from econed.actions.empty_lists.account import OF_ACCOUNT
from econed.actions.empty_lists.networks import OF_NETWORKS
from econed.actions.empty_lists.row import action_of
from econed.actions.empty_lists.storage import OF_STORAGE

EMPTY_LISTS: Final = (*OF_ACCOUNT, *OF_NETWORKS, *OF_STORAGE)
"""All of them. A new row is a new action."""

ACTIONS: Final = tuple(map(action_of, EMPTY_LISTS))
