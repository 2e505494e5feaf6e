"""Workers that die or hang are replaced."""

from __future__ import annotations

from twisted.logger import LogLevel

from econed.process.generations import MAX_RESTART_DELAY, MIN_RESTART_DELAY, STABLE_AFTER
from econed.process.messages import Draining, Heartbeat, Ready
from econed.process.supervisor import MAX_MISSED_REPORTS, MAX_START_CHECKS
from tests.process.supervisor.supervising import SupervisorHarness, plan


def test_a_worker_that_dies_is_replaced_on_the_same_configuration(harness: SupervisorHarness) -> None:
    """Also if the file has changed without a reload."""
    harness.serve()
    harness.next_plan = plan(2, ":port: 1\n")
    harness.run_checks(STABLE_AFTER)
    harness.fake_workers[1].exits("signal SIGKILL")
    harness.clock.advance(MIN_RESTART_DELAY)
    (begin,) = harness.fake_workers[2].commands
    assert begin == harness.fake_workers[1].commands[0]


def test_the_restart_delay_of_a_worker_that_dies_repeatedly_doubles_up_to_a_limit(harness: SupervisorHarness) -> None:
    """So the daemon does not spend its time on starting processes."""
    harness.serve()
    delays = []
    for _ in range(12):
        count = len(harness.fake_workers)
        harness.fake_workers[-1].exits("exit code 1")
        delay = 0.0
        while len(harness.fake_workers) == count:
            harness.clock.advance(0.25)
            harness.fake_workers[0].reports(Heartbeat())
            delay += 0.25
        delays.append(delay)
    assert delays[:4] == [MIN_RESTART_DELAY, 2 * MIN_RESTART_DELAY, 4 * MIN_RESTART_DELAY, 8 * MIN_RESTART_DELAY]
    assert delays[-1] == MAX_RESTART_DELAY
    assert delays == sorted(delays)


def test_the_restart_delay_is_reset_when_a_worker_has_served_for_a_while(harness: SupervisorHarness) -> None:
    """A worker that dies once a day is replaced quickly."""
    harness.serve(1)
    for _ in range(3):
        harness.fake_workers[-1].exits("exit code 1")
        harness.clock.advance(MAX_RESTART_DELAY)
    harness.fake_workers[-1].reports(Ready())
    harness.run_checks(STABLE_AFTER)
    count = len(harness.fake_workers)
    harness.fake_workers[-1].exits("exit code 1")
    harness.clock.advance(MIN_RESTART_DELAY)
    assert len(harness.fake_workers) == count + 1


def test_the_restart_delay_has_jitter(harness: SupervisorHarness) -> None:
    """From half of the delay to the full delay, so that workers do not start at the same time."""
    harness.serve()
    harness.supervisor._jitter = lambda: 0.0
    harness.fake_workers[0].exits("exit code 1")
    harness.clock.advance(MIN_RESTART_DELAY / 2)
    assert len(harness.fake_workers) == 3


def test_a_worker_that_does_not_report_is_killed_and_replaced(harness: SupervisorHarness) -> None:
    """Its reactor hangs. A worker that reports is not killed."""
    harness.serve()
    harness.run_checks(MAX_MISSED_REPORTS, harness.fake_workers[1])
    assert [fake_worker.was_killed for fake_worker in harness.fake_workers[:2]] == [False, True]
    expected = f"killing worker 2 of 2 (pid 1001): no report for {MAX_MISSED_REPORTS} s"
    assert harness.logged(LogLevel.error)[0] == expected
    harness.clock.advance(MIN_RESTART_DELAY)
    assert len(harness.fake_workers) == 3


def test_no_worker_is_killed_when_the_machine_was_suspended(harness: SupervisorHarness) -> None:
    """Nor when the clock was set: missed reports are counted in health checks, not in seconds."""
    harness.serve()
    harness.clock.advance(MAX_MISSED_REPORTS * 100)
    assert not any(fake_worker.was_killed for fake_worker in harness.fake_workers)


def test_a_worker_that_never_listens_is_killed(harness: SupervisorHarness) -> None:
    """It has more time than a serving worker has between reports."""
    harness.start(1)
    harness.run_checks(MAX_START_CHECKS - 1, harness.fake_workers[0])
    assert not harness.fake_workers[0].was_killed
    harness.run_checks(1, harness.fake_workers[0])
    assert harness.fake_workers[0].was_killed
    assert harness.exit_codes == [1]


def test_a_worker_that_received_a_stop_signal_is_replaced_at_once(harness: SupervisorHarness) -> None:
    """It reports that it drains; its exit is not an error."""
    harness.serve()
    harness.fake_workers[0].reports(Draining())
    assert len(harness.fake_workers) == 3
    harness.fake_workers[2].reports(Ready())
    harness.fake_workers[0].exits("exit code 0")
    harness.clock.advance(MAX_RESTART_DELAY)
    assert len(harness.fake_workers) == 3
    assert harness.logged(LogLevel.error) == []


def test_without_a_serving_worker_the_daemon_is_not_ready(harness: SupervisorHarness) -> None:
    """As /readyz reports; the supervisor need not be restarted."""
    harness.serve(1)
    harness.fake_workers[0].exits("signal SIGKILL")
    assert harness.supervisor.unready_reason() == "no worker accepts connections"
    assert harness.notifier.lines[-1] == "STATUS=0 of 1 workers serve"
