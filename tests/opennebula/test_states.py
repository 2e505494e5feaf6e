"""The states of oned's objects have OpenNebula's names and numbers."""

from __future__ import annotations

import pytest

from econed.opennebula.states import ImageState, LcmState, VmState, state_name


def test_every_documented_number_has_a_name() -> None:
    assert [state.value for state in VmState] == list(range(12))
    assert [state.value for state in LcmState] == list(range(72))
    assert [state.value for state in ImageState] == list(range(11))


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, "LCM_INIT"),
        (3, "RUNNING"),
        (16, "UNKNOWN"),
        (36, "BOOT_FAILURE"),
        (65, "HOTPLUG_NIC_POWEROFF"),
        (71, "RESTORE"),
    ],
)
def test_lcm_states_are_named_as_in_the_states_reference(number: int, name: str) -> None:
    assert LcmState(number).name == name


def test_a_number_that_only_a_newer_oned_has_is_kept_and_marked_as_unknown() -> None:
    unknown = LcmState(72)
    assert (unknown, unknown.name, unknown.is_known) == (72, "LCMSTATE_72", False)
    assert LcmState(71).is_known
    assert not unknown.is_failure


def test_a_negative_number_is_not_a_state() -> None:
    with pytest.raises(ValueError, match="is not a valid"):
        VmState(-1)


def test_failures_are_the_states_that_need_recovery_by_an_administrator() -> None:
    failures = {state.name for state in LcmState if state.is_failure}
    assert failures == {
        "FAILURE",
        "BOOT_FAILURE",
        "BOOT_MIGRATE_FAILURE",
        "PROLOG_MIGRATE_FAILURE",
        "PROLOG_FAILURE",
        "EPILOG_FAILURE",
        "EPILOG_STOP_FAILURE",
        "EPILOG_UNDEPLOY_FAILURE",
        "PROLOG_MIGRATE_POWEROFF_FAILURE",
        "PROLOG_MIGRATE_SUSPEND_FAILURE",
        "BOOT_UNDEPLOY_FAILURE",
        "BOOT_STOPPED_FAILURE",
        "PROLOG_RESUME_FAILURE",
        "PROLOG_UNDEPLOY_FAILURE",
        "PROLOG_MIGRATE_UNKNOWN_FAILURE",
    }


def test_machines_can_be_resumed_from_four_states() -> None:
    resumable = {state.name for state in VmState if state.is_resumable}
    assert resumable == {"STOPPED", "SUSPENDED", "POWEROFF", "UNDEPLOYED"}


def test_the_lcm_state_is_used_only_while_the_machine_is_active() -> None:
    assert state_name(VmState.ACTIVE, LcmState.BOOT) == "BOOT"
    assert state_name(VmState.POWEROFF, LcmState.BOOT) == "POWEROFF"


def test_an_image_is_being_written_until_it_is_ready() -> None:
    assert ImageState.LOCKED.is_being_written
    assert not ImageState.READY.is_being_written
    assert not ImageState.USED_PERS.is_being_written
