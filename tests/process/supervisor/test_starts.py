"""The start of the workers, and of the daemon with them."""

from __future__ import annotations

from twisted.logger import Logger, LogLevel
from zope.interface.verify import verifyObject

from econed.process.generations import FIRST_SOCKET, MIN_RESTART_DELAY, IWorker
from econed.process.interfaces import IWatched
from econed.process.listening import BoundSocket
from econed.process.messages import Begin, Failed, Ready
from econed.process.supervisor import Supervisor
from tests.process.supervisor.supervising import SupervisorHarness, plan


def test_the_supervisor_and_the_stand_in_for_workers_provide_their_interfaces(
    harness: SupervisorHarness,
) -> None:
    """`IWatched` and `IWorker`."""
    harness.serve()
    assert verifyObject(IWatched, harness.supervisor)
    assert verifyObject(IWorker, harness.fake_workers[0])


def test_every_worker_is_sent_the_configuration_its_index_and_its_sockets(
    harness: SupervisorHarness, listener: BoundSocket
) -> None:
    """The text, not the path: a changed file is for the next generation."""
    harness.supervisor = Supervisor(
        plan(2, ":workers: 2\n", (listener,)),
        harness.spawn,
        harness.load,
        harness.clock,
        jitter=lambda: 1.0,
        notifier=harness.notifier,
        metrics=harness.metrics,
        on_exit=harness.exit_codes.append,
        log=Logger(observer=harness.events.append),  # type: ignore[arg-type]
    )
    harness.supervisor.start()
    begins = [command for worker in harness.fake_workers for command in worker.commands if isinstance(command, Begin)]
    assert [(begin.index, begin.of, begin.text, begin.path) for begin in begins] == [
        (index, 2, ":workers: 2\n", "/etc/one/econe.conf") for index in (0, 1)
    ]
    assert [[passed.descriptor for passed in begin.sockets] for begin in begins] == [[FIRST_SOCKET]] * 2
    assert all(fake_worker.sockets == (listener,) for fake_worker in harness.fake_workers)


def test_systemd_is_notified_when_all_workers_listen_and_not_before(harness: SupervisorHarness) -> None:
    """By READY."""
    harness.start()
    harness.fake_workers[0].reports(Ready())
    assert "READY=1" not in harness.notifier.lines
    assert harness.supervisor.unready_reason() is None, "one worker serves"
    harness.fake_workers[1].reports(Ready())
    assert harness.notifier.lines[-2:] == ["READY=1", "STATUS=2 of 2 workers serve"]


def test_if_no_worker_can_start_the_daemon_exits_with_1(harness: SupervisorHarness) -> None:
    """The log has the reason of each."""
    harness.start()
    for fake_worker in list(harness.fake_workers):
        fake_worker.reports(Failed("/etc/one/ec2query_templates/m1.small.erb: cannot be read"))
        fake_worker.exits("exit code 1")
    assert harness.exit_codes == [1]
    assert sum("m1.small.erb: cannot be read" in line for line in harness.logged(LogLevel.error)) == 2
    assert len(harness.fake_workers) == 2, "no worker is started again"
    assert "READY=1" not in harness.notifier.lines


def test_a_process_that_cannot_be_started_is_a_worker_that_cannot_start(harness: SupervisorHarness) -> None:
    """Without a traceback."""
    harness.cannot_spawn = True
    harness.start()
    assert harness.exit_codes == [1]
    assert "starting the process failed: Resource temporarily unavailable" in harness.logged(LogLevel.error)[0]


def test_if_only_some_workers_can_start_the_daemon_serves_and_the_others_are_started_again(
    harness: SupervisorHarness,
) -> None:
    """Systemd is notified of the number of workers."""
    harness.start()
    harness.fake_workers[0].reports(Ready())
    harness.fake_workers[1].exits("signal SIGSEGV")
    assert harness.exit_codes == []
    assert harness.notifier.lines[-1] == "STATUS=1 of 2 workers serve"
    harness.clock.advance(MIN_RESTART_DELAY)
    assert len(harness.fake_workers) == 3
