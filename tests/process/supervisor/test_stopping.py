"""Stop signals: workers drain, or are killed, and the daemon exits."""

from __future__ import annotations

from econed.process.generations import MAX_RESTART_DELAY
from econed.process.interfaces import DRAINING
from econed.process.messages import Ready
from econed.process.supervisor import EXIT_GRACE
from tests.process.supervisor.supervising import DRAIN_TIMEOUT, SupervisorHarness, plan, reloaded


def test_on_a_stop_signal_all_workers_drain_and_the_daemon_exits_with_0_after_the_last_one(
    harness: SupervisorHarness,
) -> None:
    """Systemd is notified first."""
    harness.serve()
    harness.supervisor.stop()
    assert "STOPPING=1" in harness.notifier.lines
    assert f"EXTEND_TIMEOUT_USEC={round((DRAIN_TIMEOUT + 20) * 1e6)}" in harness.notifier.lines, (
        "includes the time until the workers are killed"
    )
    assert all(fake_worker.was_told_to_drain for fake_worker in harness.fake_workers)
    assert harness.supervisor.unready_reason() == DRAINING
    assert "draining" in str(harness.supervisor.unready_reason())
    harness.fake_workers[0].exits("exit code 0")
    assert harness.exit_codes == []
    harness.fake_workers[1].exits("exit code 0")
    assert harness.exit_codes == [0]


def test_a_second_stop_signal_kills_the_workers(harness: SupervisorHarness) -> None:
    """And the daemon exits."""
    harness.serve()
    harness.supervisor.stop()
    harness.supervisor.stop()
    assert all(fake_worker.was_killed for fake_worker in harness.fake_workers)
    assert harness.exit_codes == [0]


def test_a_draining_worker_that_does_not_exit_in_time_is_killed(harness: SupervisorHarness) -> None:
    """It has `EXIT_GRACE` seconds beyond drain_timeout."""
    harness.serve(1)
    harness.supervisor.stop()
    harness.run_checks(int(DRAIN_TIMEOUT + EXIT_GRACE) - 1)
    assert not harness.fake_workers[0].was_killed
    harness.run_checks(1)
    assert harness.fake_workers[0].was_killed
    assert harness.exit_codes == [0]


def test_no_worker_is_started_after_a_stop_signal(harness: SupervisorHarness) -> None:
    """Neither as a replacement nor on a new configuration, whose workers drain too."""
    harness.serve()
    harness.fake_workers[0].exits("signal SIGKILL")
    new = reloaded(harness, plan())
    harness.supervisor.stop()
    for fake_worker in new:
        assert fake_worker.was_told_to_drain
        fake_worker.reports(Ready())
        fake_worker.exits("exit code 0")
    harness.fake_workers[1].exits("exit code 0")
    harness.supervisor.reload()
    harness.clock.advance(MAX_RESTART_DELAY)
    assert len(harness.fake_workers) == 4
    assert harness.exit_codes == [0]


def test_after_the_exit_no_delayed_call_is_left(harness: SupervisorHarness) -> None:
    """Also no health check."""
    harness.serve(1)
    harness.supervisor.stop()
    harness.fake_workers[0].exits("exit code 0")
    harness.clock.advance(DRAIN_TIMEOUT + EXIT_GRACE)
    assert harness.clock.getDelayedCalls() == []
