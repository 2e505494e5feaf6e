"""The mapping of OpenNebula's machine states to EC2's instance states, and which states are failures."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

from econed.actions.constants import constant
from econed.actions.machines.facts import TERMINATING
from econed.opennebula.states import LcmState, VmState

if TYPE_CHECKING:
    from types_boto3_ec2.literals import InstanceStateNameType
    from types_boto3_ec2.type_defs import InstanceStateTypeDef

    from econed.opennebula.documents import VirtualMachine


class InstanceState(Enum):
    """The states of an EC2 instance with EC2's numbers (EC2 API Reference, InstanceState)."""

    PENDING = 0
    RUNNING = 16
    SHUTTING_DOWN = 32
    TERMINATED = 48
    STOPPING = 64
    STOPPED = 80

    @property
    def ec2_name(self) -> InstanceStateNameType:
        """The name in requests and responses (`shutting-down`)."""
        return self.name.lower().replace("_", "-")  # type: ignore[return-value]

    @cached_property
    def member(self) -> InstanceStateTypeDef:
        """The state as a member of a result, the same mapping for all instances in this state."""
        member: InstanceStateTypeDef = {"Code": self.value, "Name": self.ec2_name}
        return constant(member)


_P, _R, _SD, _SG, _S, _T = (
    InstanceState.PENDING,
    InstanceState.RUNNING,
    InstanceState.SHUTTING_DOWN,
    InstanceState.STOPPING,
    InstanceState.STOPPED,
    InstanceState.TERMINATED,
)

BY_STATE: Mapping[VmState, InstanceState] = MappingProxyType(
    {
        VmState.INIT: _P,
        VmState.PENDING: _P,
        VmState.HOLD: _P,
        VmState.STOPPED: _S,
        VmState.SUSPENDED: _S,
        VmState.DONE: _T,
        VmState.FAILED: _T,
        VmState.POWEROFF: _S,
        VmState.UNDEPLOYED: _S,
        VmState.CLONING: _P,
        VmState.CLONING_FAILURE: _P,
    }
)
"""For every STATE except ACTIVE."""

# A machine that has not booted is pending; one whose guest runs during an operation of oned is running; one whose disks
# are moved while it is powered off is stopped. A failed transition has the state of the transition.
BY_LCM_STATE: Mapping[LcmState, InstanceState] = MappingProxyType(
    {
        LcmState.LCM_INIT: _P,
        LcmState.PROLOG: _P,
        LcmState.BOOT: _P,
        LcmState.RUNNING: _R,
        LcmState.MIGRATE: _R,
        LcmState.SAVE_STOP: _SG,
        LcmState.SAVE_SUSPEND: _SG,
        LcmState.SAVE_MIGRATE: _R,
        LcmState.PROLOG_MIGRATE: _R,
        LcmState.PROLOG_RESUME: _P,
        LcmState.EPILOG_STOP: _SG,
        LcmState.EPILOG: _SD,
        LcmState.SHUTDOWN: _SD,
        LcmState.CANCEL: _SD,
        LcmState.FAILURE: _SD,
        LcmState.CLEANUP_RESUBMIT: _P,
        LcmState.UNKNOWN: _R,
        LcmState.HOTPLUG: _R,
        LcmState.SHUTDOWN_POWEROFF: _SG,
        LcmState.BOOT_UNKNOWN: _P,
        LcmState.BOOT_POWEROFF: _P,
        LcmState.BOOT_SUSPENDED: _P,
        LcmState.BOOT_STOPPED: _P,
        LcmState.CLEANUP_DELETE: _SD,
        LcmState.HOTPLUG_SNAPSHOT: _R,
        LcmState.HOTPLUG_NIC: _R,
        LcmState.HOTPLUG_SAVEAS: _R,
        LcmState.HOTPLUG_SAVEAS_POWEROFF: _S,
        LcmState.HOTPLUG_SAVEAS_SUSPENDED: _S,
        LcmState.SHUTDOWN_UNDEPLOY: _SG,
        LcmState.EPILOG_UNDEPLOY: _SG,
        LcmState.PROLOG_UNDEPLOY: _P,
        LcmState.BOOT_UNDEPLOY: _P,
        LcmState.HOTPLUG_PROLOG_POWEROFF: _S,
        LcmState.HOTPLUG_EPILOG_POWEROFF: _S,
        LcmState.BOOT_MIGRATE: _R,
        LcmState.BOOT_FAILURE: _P,
        LcmState.BOOT_MIGRATE_FAILURE: _R,
        LcmState.PROLOG_MIGRATE_FAILURE: _R,
        LcmState.PROLOG_FAILURE: _P,
        LcmState.EPILOG_FAILURE: _SD,
        LcmState.EPILOG_STOP_FAILURE: _SG,
        LcmState.EPILOG_UNDEPLOY_FAILURE: _SG,
        LcmState.PROLOG_MIGRATE_POWEROFF: _S,
        LcmState.PROLOG_MIGRATE_POWEROFF_FAILURE: _S,
        LcmState.PROLOG_MIGRATE_SUSPEND: _S,
        LcmState.PROLOG_MIGRATE_SUSPEND_FAILURE: _S,
        LcmState.BOOT_UNDEPLOY_FAILURE: _P,
        LcmState.BOOT_STOPPED_FAILURE: _P,
        LcmState.PROLOG_RESUME_FAILURE: _P,
        LcmState.PROLOG_UNDEPLOY_FAILURE: _P,
        LcmState.DISK_SNAPSHOT_POWEROFF: _S,
        LcmState.DISK_SNAPSHOT_REVERT_POWEROFF: _S,
        LcmState.DISK_SNAPSHOT_DELETE_POWEROFF: _S,
        LcmState.DISK_SNAPSHOT_SUSPENDED: _S,
        LcmState.DISK_SNAPSHOT_REVERT_SUSPENDED: _S,
        LcmState.DISK_SNAPSHOT_DELETE_SUSPENDED: _S,
        LcmState.DISK_SNAPSHOT: _R,
        LcmState.DISK_SNAPSHOT_REVERT: _R,
        LcmState.DISK_SNAPSHOT_DELETE: _R,
        LcmState.PROLOG_MIGRATE_UNKNOWN: _R,
        LcmState.PROLOG_MIGRATE_UNKNOWN_FAILURE: _R,
        LcmState.DISK_RESIZE: _R,
        LcmState.DISK_RESIZE_POWEROFF: _S,
        LcmState.DISK_RESIZE_UNDEPLOYED: _S,
        LcmState.HOTPLUG_NIC_POWEROFF: _S,
        LcmState.HOTPLUG_RESIZE: _R,
        LcmState.HOTPLUG_SAVEAS_UNDEPLOYED: _S,
        LcmState.HOTPLUG_SAVEAS_STOPPED: _S,
        LcmState.BACKUP: _R,
        LcmState.BACKUP_POWEROFF: _S,
        LcmState.RESTORE: _S,
    }
)
"""For STATE ACTIVE, every LCM_STATE of OpenNebula 5.12 to 7.4."""


def instance_state(state: VmState, lcm_state: LcmState) -> InstanceState:
    """Return the EC2 state for oned's state. An unknown LCM_STATE is running, an unknown STATE pending."""
    if state is VmState.ACTIVE:
        return BY_LCM_STATE.get(lcm_state, InstanceState.RUNNING)
    return BY_STATE.get(state, InstanceState.PENDING)


def is_failure(state: VmState, lcm_state: LcmState) -> bool:
    """Whether the machine remains in a failure until an administrator recovers it or its owner terminates it."""
    if state is VmState.ACTIVE:
        return lcm_state.is_failure
    return state in (VmState.FAILED, VmState.CLONING_FAILURE)


def is_busy(state: VmState, lcm_state: LcmState) -> bool:
    """Whether a running or stopped machine is in a transitional state, in which oned refuses actions.

    Attaching, saving, resizing, migrating and similar operations end without intervention, so waiting is useful.
    """
    if state is not VmState.ACTIVE or lcm_state in (LcmState.RUNNING, LcmState.UNKNOWN) or lcm_state.is_failure:
        return False
    return instance_state(state, lcm_state) in (InstanceState.RUNNING, InstanceState.STOPPED)


def state_of(machine: VirtualMachine) -> InstanceState:
    """Return the EC2 state of a machine; a machine marked to be terminated is already shutting down."""
    if TERMINATING in machine.user_template and machine.state is not VmState.DONE:
        return InstanceState.SHUTTING_DOWN
    return instance_state(machine.state, machine.lcm_state)
