"""All actions, chores and finders. Actions are discovered; chores and finders are listed here."""

from __future__ import annotations

import econed.actions
from econed.actions.action import Action, actions_in
from econed.actions.addresses.findings import addresses_without_owner
from econed.actions.chores import Chore
from econed.actions.findings import Finder, users_left_out
from econed.actions.images.chores import finish_images, upload_chore
from econed.actions.instances.chores import terminate_left_over, terminate_marked, terminate_shut_down
from econed.actions.instances.findings import machines_left_over
from econed.actions.security_groups.chores import settle_groups
from econed.actions.volumes.chores import reconcile_volumes
from econed.actions.vpcs.chores import settle_vpcs
from econed.interfaces import IUploadedFiles


def all_actions() -> tuple[Action, ...]:
    """Return the actions of all modules in `econed.actions`, for the dispatcher."""
    return actions_in(econed.actions)


def all_chores(files: IUploadedFiles | None = None) -> tuple[Chore, ...]:
    """Return all chores, for the reconciler; `files` are the uploaded files, which a chore removes after use."""
    file_chores = () if files is None else (upload_chore(files),)
    of_machines = terminate_left_over, terminate_shut_down, terminate_marked
    return *of_machines, reconcile_volumes, finish_images, settle_groups, settle_vpcs, *file_chores


def all_finders() -> tuple[Finder, ...]:
    """Return all finders, for `econe-server doctor`."""
    return machines_left_over, addresses_without_owner, users_left_out
