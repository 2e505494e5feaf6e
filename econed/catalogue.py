"""What econed carries out: the actions by their modules, so that a new action needs no line here, and the chores."""

from __future__ import annotations

from econed.actions import images, instances, key_pairs, power, regions, run_instances, tags, zones
from econed.actions.action import Action, actions_of
from econed.actions.chores import Chore
from econed.actions.ending import end_shut_down, end_terminating
from econed.actions.launch import end_left_over


def all_actions() -> tuple[Action, ...]:
    """Return every action, for the dispatcher."""
    return actions_of(regions, zones, images, run_instances, instances, power, key_pairs, tags)


def all_chores() -> tuple[Chore, ...]:
    """Return every chore, for the reconciler."""
    return end_left_over, end_shut_down, end_terminating
