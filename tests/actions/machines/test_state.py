"""The mapping of OpenNebula's machine states to EC2's instance states."""

from __future__ import annotations

import pytest

from econed.actions.machines.state import (
    BY_LCM_STATE,
    BY_STATE,
    InstanceState,
    instance_state,
    is_busy,
    is_failure,
)
from econed.opennebula.states import LcmState, VmState


def test_every_state_of_opennebula_has_an_ec2_state() -> None:
    assert set(BY_STATE) == set(VmState) - {VmState.ACTIVE}
    assert set(BY_LCM_STATE) == set(LcmState)


@pytest.mark.parametrize("lcm", [LcmState.PROLOG, LcmState.BOOT, LcmState.BOOT_POWEROFF, LcmState.PROLOG_RESUME])
def test_a_machine_that_has_not_booted_is_pending_and_not_running(lcm: LcmState) -> None:
    assert instance_state(VmState.ACTIVE, lcm) is InstanceState.PENDING


@pytest.mark.parametrize("state", [VmState.STOPPED, VmState.SUSPENDED, VmState.POWEROFF, VmState.UNDEPLOYED])
def test_every_resumable_state_is_stopped(state: VmState) -> None:
    assert instance_state(state, LcmState.LCM_INIT) is InstanceState.STOPPED
    assert state.is_resumable


def test_the_lcm_state_is_used_only_in_state_active() -> None:
    assert instance_state(VmState.DONE, LcmState.RUNNING) is InstanceState.TERMINATED


@pytest.mark.parametrize(
    "lcm", [lcm for lcm in LcmState if lcm.name.startswith(("HOTPLUG", "DISK_")) and lcm.name.endswith(("OFF", "ED"))]
)
def test_a_disk_operation_on_a_machine_that_is_off_leaves_it_stopped(lcm: LcmState) -> None:
    assert instance_state(VmState.ACTIVE, lcm) is InstanceState.STOPPED


def test_an_unknown_lcm_state_is_running_and_an_unknown_state_pending() -> None:
    assert instance_state(VmState.ACTIVE, LcmState(999)) is InstanceState.RUNNING
    assert instance_state(VmState(99), LcmState.LCM_INIT) is InstanceState.PENDING


@pytest.mark.parametrize("lcm", [lcm for lcm in LcmState if "FAILURE" in lcm.name])
def test_a_failure_is_recognized_and_not_busy(lcm: LcmState) -> None:
    assert is_failure(VmState.ACTIVE, lcm)
    assert not is_busy(VmState.ACTIVE, lcm)


@pytest.mark.parametrize(
    ("lcm", "busy"),
    [
        (LcmState.RUNNING, False),
        (LcmState.UNKNOWN, False),
        (LcmState.HOTPLUG, True),
        (LcmState.HOTPLUG_NIC, True),
        (LcmState.MIGRATE, True),
        (LcmState.DISK_RESIZE_POWEROFF, True),
        (LcmState.BOOT, False),
        (LcmState.SHUTDOWN_POWEROFF, False),
    ],
)
def test_only_transitional_states_of_running_and_stopped_machines_are_busy(lcm: LcmState, busy: bool) -> None:
    assert is_busy(VmState.ACTIVE, lcm) is busy


def test_the_codes_and_names_are_those_of_ec2() -> None:
    assert {state.value: state.ec2_name for state in InstanceState} == {
        0: "pending",
        16: "running",
        32: "shutting-down",
        48: "terminated",
        64: "stopping",
        80: "stopped",
    }
