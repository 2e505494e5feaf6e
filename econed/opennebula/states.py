"""The states of oned's objects, with OpenNebula's own names and numbers (5.12 to 7.4).

Source: OpenNebula's "Virtual Machine States Reference" and the enumerations of oned (VirtualMachine.h, Image.h,
Datastore.h, VirtualNetwork.h). Names that a version has removed stay: an old machine may still have such a state.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class _OnedNumber(IntEnum):
    """A number in an oned document. A number that only newer versions of oned have becomes a member, not an error."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int) or value < 0:
            return None
        member = int.__new__(cls, value)
        member._name_ = f"{cls.__name__.upper()}_{value}"
        member._value_ = value
        return member

    @property
    def is_known(self) -> bool:
        """Whether this number has a name in the OpenNebula versions that econed supports."""
        return self.value in type(self)._value2member_map_


class VmState(_OnedNumber):
    """VM/STATE: the main state of a machine. Only while it is ACTIVE does `LcmState` refine it."""

    INIT = 0
    PENDING = 1
    HOLD = 2
    ACTIVE = 3
    STOPPED = 4
    SUSPENDED = 5
    DONE = 6
    FAILED = 7
    POWEROFF = 8
    UNDEPLOYED = 9
    CLONING = 10
    CLONING_FAILURE = 11

    @property
    def is_resumable(self) -> bool:
        """Whether the action `resume` starts the machine again from this state."""
        return self in _RESUMABLE


_RESUMABLE = frozenset({VmState.STOPPED, VmState.SUSPENDED, VmState.POWEROFF, VmState.UNDEPLOYED})


class LcmState(_OnedNumber):
    """VM/LCM_STATE: the state of a machine within ACTIVE. It has no meaning in any other STATE."""

    LCM_INIT = 0
    PROLOG = 1
    BOOT = 2
    RUNNING = 3
    MIGRATE = 4
    SAVE_STOP = 5
    SAVE_SUSPEND = 6
    SAVE_MIGRATE = 7
    PROLOG_MIGRATE = 8
    PROLOG_RESUME = 9
    EPILOG_STOP = 10
    EPILOG = 11
    SHUTDOWN = 12
    CANCEL = 13
    FAILURE = 14
    CLEANUP_RESUBMIT = 15
    UNKNOWN = 16
    HOTPLUG = 17
    SHUTDOWN_POWEROFF = 18
    BOOT_UNKNOWN = 19
    BOOT_POWEROFF = 20
    BOOT_SUSPENDED = 21
    BOOT_STOPPED = 22
    CLEANUP_DELETE = 23
    HOTPLUG_SNAPSHOT = 24
    HOTPLUG_NIC = 25
    HOTPLUG_SAVEAS = 26
    HOTPLUG_SAVEAS_POWEROFF = 27
    HOTPLUG_SAVEAS_SUSPENDED = 28
    SHUTDOWN_UNDEPLOY = 29
    EPILOG_UNDEPLOY = 30
    PROLOG_UNDEPLOY = 31
    BOOT_UNDEPLOY = 32
    HOTPLUG_PROLOG_POWEROFF = 33
    HOTPLUG_EPILOG_POWEROFF = 34
    BOOT_MIGRATE = 35
    BOOT_FAILURE = 36
    BOOT_MIGRATE_FAILURE = 37
    PROLOG_MIGRATE_FAILURE = 38
    PROLOG_FAILURE = 39
    EPILOG_FAILURE = 40
    EPILOG_STOP_FAILURE = 41
    EPILOG_UNDEPLOY_FAILURE = 42
    PROLOG_MIGRATE_POWEROFF = 43
    PROLOG_MIGRATE_POWEROFF_FAILURE = 44
    PROLOG_MIGRATE_SUSPEND = 45
    PROLOG_MIGRATE_SUSPEND_FAILURE = 46
    BOOT_UNDEPLOY_FAILURE = 47
    BOOT_STOPPED_FAILURE = 48
    PROLOG_RESUME_FAILURE = 49
    PROLOG_UNDEPLOY_FAILURE = 50
    DISK_SNAPSHOT_POWEROFF = 51
    DISK_SNAPSHOT_REVERT_POWEROFF = 52
    DISK_SNAPSHOT_DELETE_POWEROFF = 53
    DISK_SNAPSHOT_SUSPENDED = 54
    DISK_SNAPSHOT_REVERT_SUSPENDED = 55
    DISK_SNAPSHOT_DELETE_SUSPENDED = 56
    DISK_SNAPSHOT = 57
    DISK_SNAPSHOT_REVERT = 58
    DISK_SNAPSHOT_DELETE = 59
    PROLOG_MIGRATE_UNKNOWN = 60
    PROLOG_MIGRATE_UNKNOWN_FAILURE = 61
    DISK_RESIZE = 62
    DISK_RESIZE_POWEROFF = 63
    DISK_RESIZE_UNDEPLOYED = 64
    HOTPLUG_NIC_POWEROFF = 65
    HOTPLUG_RESIZE = 66
    HOTPLUG_SAVEAS_UNDEPLOYED = 67
    HOTPLUG_SAVEAS_STOPPED = 68
    BACKUP = 69
    BACKUP_POWEROFF = 70
    RESTORE = 71

    @property
    def is_failure(self) -> bool:
        """Whether the machine stays in this state until it is recovered or terminated."""
        return self.name.endswith("FAILURE")


class ImageState(_OnedNumber):
    """IMAGE/STATE."""

    INIT = 0
    READY = 1
    USED = 2
    DISABLED = 3
    LOCKED = 4
    ERROR = 5
    CLONE = 6
    DELETE = 7
    USED_PERS = 8
    LOCKED_USED = 9
    LOCKED_USED_PERS = 10

    @property
    def is_being_written(self) -> bool:
        """Whether its content is still being written (copied, uploaded or saved), so that nothing can use it."""
        return self in _BEING_WRITTEN


_BEING_WRITTEN = frozenset({ImageState.INIT, ImageState.LOCKED, ImageState.LOCKED_USED, ImageState.LOCKED_USED_PERS})


class ImageType(_OnedNumber):
    """IMAGE/TYPE."""

    OS = 0
    CDROM = 1
    DATABLOCK = 2
    KERNEL = 3
    RAMDISK = 4
    CONTEXT = 5
    BACKUP = 6
    FILESYSTEM = 7


class DatastoreType(_OnedNumber):
    """DATASTORE/TYPE."""

    IMAGE_DS = 0
    SYSTEM_DS = 1
    FILE_DS = 2
    BACKUP_DS = 3


class NetworkState(_OnedNumber):
    """VNET/STATE, since 6.4. Before, networks had no state and were ready immediately."""

    INIT = 0
    READY = 1
    LOCK_CREATE = 2
    LOCK_DELETE = 3
    DONE = 4
    ERROR = 5
    UPDATE_FAILURE = 6


class LockLevel(_OnedNumber):
    """LOCK/LOCKED: the actions that a lock prevents ("XML-RPC API", one.vm.lock)."""

    NONE = 0
    USE = 1
    MANAGE = 2
    ADMIN = 3
    ALL = 4


def state_name(state: VmState, lcm_state: LcmState) -> str:
    """Return the name of a machine's state as OpenNebula's own tools show it."""
    return lcm_state.name if state is VmState.ACTIVE else state.name
