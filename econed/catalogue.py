"""The actions that econed carries out, by the modules they are in: a new module is named here, a new action is not."""

from __future__ import annotations

from econed.actions import images, instances, key_pairs, power, regions, run_instances, tags, zones
from econed.actions.action import Action, actions_of


def all_actions() -> tuple[Action, ...]:
    """Return every action, for the dispatcher."""
    return actions_of(regions, zones, images, run_instances, instances, power, key_pairs, tags)
