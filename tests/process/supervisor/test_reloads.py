"""A new configuration and a log file that is opened again, while the old workers serve."""

from __future__ import annotations

import socket

import pytest
from twisted.logger import LogLevel

from econed.config.loading import ConfigError, ConfigProblem
from econed.process.generations import MAX_RESTART_DELAY, MIN_RESTART_DELAY
from econed.process.listening import BoundSocket, CannotListen
from econed.process.messages import Begin, Draining, Failed, Ready, ReopenLog
from tests.process.supervisor.supervising import SupervisorHarness, plan, reloaded


def test_the_old_workers_drain_when_all_new_workers_listen_and_not_before(harness: SupervisorHarness) -> None:
    """There is always a worker that listens."""
    old = list(harness.serve().fake_workers)
    new = reloaded(harness, plan(3, ":workers: 3\n"))
    texts = [command.text for worker in new for command in worker.commands if isinstance(command, Begin)]
    assert texts == [":workers: 3\n"] * 3
    for fake_worker in new[:2]:
        fake_worker.reports(Ready())
    assert not any(fake_worker.was_told_to_drain for fake_worker in old)
    new[2].reports(Ready())
    assert all(fake_worker.was_told_to_drain for fake_worker in old)
    assert not any(fake_worker.was_told_to_drain for fake_worker in new)
    assert harness.plans_in_use == [harness.next_plan]
    for fake_worker in old:
        fake_worker.exits("exit code 0")
    harness.clock.advance(MAX_RESTART_DELAY)
    assert len(harness.fake_workers) == 5, "workers that drained are not replaced"


def test_systemd_is_notified_of_the_begin_and_the_end_of_a_reload(harness: SupervisorHarness) -> None:
    """RELOADING with the time, then READY (Type=notify-reload)."""
    harness.serve()
    harness.notifier.lines.clear()
    new = reloaded(harness, plan())
    assert harness.notifier.lines[0] == "RELOADING=1"
    assert harness.notifier.lines[1].startswith("MONOTONIC_USEC=")
    assert "READY=1" not in harness.notifier.lines
    for fake_worker in new:
        fake_worker.reports(Ready())
    assert "READY=1" in harness.notifier.lines


@pytest.mark.parametrize(
    "error",
    [
        ConfigError((ConfigProblem("/etc/one/econe.conf", "expected a number", 3, "port"),)),
        CannotListen("nothing can listen on 0.0.0.0:80: Permission denied"),
        RecursionError("an unexpected error"),
    ],
)
def test_an_invalid_configuration_is_refused_and_the_old_workers_go_on(
    harness: SupervisorHarness, error: Exception
) -> None:
    """The log has the error."""
    harness.serve()
    harness.next_plan = error
    harness.supervisor.reload()
    assert len(harness.fake_workers) == 2
    assert not any(fake_worker.was_told_to_drain for fake_worker in harness.fake_workers)
    assert str(error) in harness.logged(LogLevel.error)[-1]
    assert harness.notifier.lines[-2:] == ["READY=1", "STATUS=2 of 2 workers serve"]
    assert harness.supervisor.unready_reason() is None


def test_a_configuration_on_which_one_worker_cannot_start_is_not_used(harness: SupervisorHarness) -> None:
    """The workers that did start on it drain, and the old workers go on."""
    old = list(harness.serve().fake_workers)
    new = reloaded(harness, plan())
    new[0].reports(Ready())
    new[1].reports(Failed("no such file"))
    new[1].exits("exit code 1")
    assert new[0].was_told_to_drain
    assert not any(fake_worker.was_told_to_drain for fake_worker in old)
    expected = "new configuration refused, keeping the old one: not all workers can start with it"
    assert expected in harness.logged(LogLevel.error)
    new[0].exits("exit code 0")
    harness.clock.advance(MAX_RESTART_DELAY)
    assert len(harness.fake_workers) == 4


def test_a_new_worker_that_dies_before_all_others_listen_counts_as_failed_to_start(harness: SupervisorHarness) -> None:
    """There is no replacement for it yet."""
    old = list(harness.serve().fake_workers)
    new = reloaded(harness, plan())
    new[0].reports(Ready())
    new[0].exits("signal SIGKILL")
    new[1].reports(Ready())
    assert new[1].was_told_to_drain
    assert not any(fake_worker.was_told_to_drain for fake_worker in old)


def test_an_old_worker_that_dies_during_a_reload_is_replaced_until_the_new_workers_listen(
    harness: SupervisorHarness,
) -> None:
    """A replacement that is due later is not started."""
    old = list(harness.serve().fake_workers)
    new = reloaded(harness, plan(2, ":workers: 2\n"))
    old[0].exits("signal SIGKILL")
    harness.clock.advance(MIN_RESTART_DELAY)
    replacement = harness.fake_workers[-1]
    assert replacement.commands == [old[0].commands[0]]
    old[1].exits("signal SIGKILL")
    for fake_worker in new:
        fake_worker.reports(Ready())
    count = len(harness.fake_workers)
    harness.clock.advance(MAX_RESTART_DELAY)
    assert replacement.was_told_to_drain
    assert len(harness.fake_workers) == count


def test_a_second_reload_during_the_first_is_carried_out_after_it(harness: SupervisorHarness) -> None:
    """So the last content of the file is used."""
    harness.serve()
    first = reloaded(harness, plan(1, "first\n"))
    assert reloaded(harness, plan(1, "second\n")) == []
    first[0].reports(Ready())
    (begin,) = harness.fake_workers[-1].commands
    assert isinstance(begin, Begin)
    assert begin.text == "second\n"


def test_sockets_that_the_new_configuration_does_not_have_are_closed(harness: SupervisorHarness) -> None:
    """In the supervisor; the old workers close theirs when they drain. Also those of a refused configuration."""
    first, second, third = (BoundSocket(socket.create_server(("127.0.0.1", 0)), False) for _ in range(3))
    harness.serve()
    for fake_worker in reloaded(harness, plan(1, sockets=(first, second))):
        fake_worker.reports(Ready())
    (fake_worker,) = reloaded(harness, plan(1, sockets=(first, third)))
    fake_worker.exits("exit code 1")
    assert third.socket.fileno() == -1
    (fake_worker,) = reloaded(harness, plan(1, sockets=(first,)))
    fake_worker.reports(Ready())
    assert second.socket.fileno() == -1
    assert first.socket.fileno() != -1
    harness.supervisor.stop()
    assert first.socket.fileno() == -1


def test_all_workers_reopen_the_log_file(harness: SupervisorHarness) -> None:
    """Also draining workers: they log until they exit."""
    harness.serve()
    harness.fake_workers[0].reports(Draining())
    harness.supervisor.reopen_log()
    assert all(ReopenLog() in fake_worker.commands for fake_worker in harness.fake_workers)
