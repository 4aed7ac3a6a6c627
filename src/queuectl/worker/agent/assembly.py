"""Creates the parts of an agent, and defines the order of its duties."""

from pathlib import Path

from msgspec import Struct

from queuectl import bootstrap
from queuectl.clock import random_bytes
from queuectl.service.figures import Writer
from queuectl.worker.agent.circuit_breaker import CircuitBreaker, FailureStreak
from queuectl.worker.agent.claim import ClaimJobs
from queuectl.worker.agent.claim_policy import ClaimPolicy
from queuectl.worker.agent.clock_watch import ClockWatch
from queuectl.worker.agent.connection import Connection
from queuectl.worker.agent.context import Context, open_context
from queuectl.worker.agent.dead_workers import DeadWorkers
from queuectl.worker.agent.due_entries import DueEntries
from queuectl.worker.agent.duty import Duty
from queuectl.worker.agent.figures import WriteFigures
from queuectl.worker.agent.heartbeat import Heartbeat
from queuectl.worker.agent.hooks import ServeHooks
from queuectl.worker.agent.inbox import Inbox
from queuectl.worker.agent.maintenance import Maintenance
from queuectl.worker.agent.monitor import AttemptMonitor
from queuectl.worker.agent.output import OutputShipper
from queuectl.worker.agent.recording import RecordResults
from queuectl.worker.agent.renewal import Renewal
from queuectl.worker.agent.results import OpenAttempts, ResultRecorder
from queuectl.worker.agent.session import Session
from queuectl.worker.agent.set_aside import SetAsideReport
from queuectl.worker.agent.shared_settings import SharedSettings
from queuectl.worker.agent.shipping import OutputFaultReport, ShipOutput
from queuectl.worker.agent.shutdown import Shutdown
from queuectl.worker.agent.store_time import StoreTime
from queuectl.worker.agent.wakeup import FollowWakeUps, WakeUps
from queuectl.worker.protocol import Welcome


class Parts(Struct, kw_only=True, eq=False):
    """The parts that the loop uses. If several duties are due, they run in the order of `duties`."""

    context: Context
    session: Session
    inbox: Inbox
    renewal: Renewal
    wakeups: WakeUps
    monitor: AttemptMonitor
    claiming: ClaimJobs
    figures: WriteFigures
    duties: tuple[Duty, ...]


def assemble(connection: Connection, welcome: Welcome) -> Parts:
    """The parts of an agent for this welcome message. Raises StoreError if the URL is invalid."""
    context = open_context(connection, welcome)
    clock, watch = StoreTime(context.store), ClockWatch()
    policy, breaker, shutdown = ClaimPolicy(context.count), CircuitBreaker(), Shutdown(context)
    figures = Writer(f"{context.worker_id}.{random_bytes(4).hex()}")
    outputs, recorder = OutputShipper(context.store), ResultRecorder(context.store, context.log, figures)
    attempts = OpenAttempts(context.claims, recorder)
    renewal = Renewal(context, attempts.refs)
    settings, set_aside = SharedSettings(context, renewal), SetAsideReport(context.store, context.log)
    dead_workers = _dead_workers(context, clock, figures)
    write_figures = WriteFigures(context, figures)
    wakeups, monitor = WakeUps(context), AttemptMonitor(context)
    heartbeat = Heartbeat(context, welcome, clock, watch, breaker, settings, shutdown)
    claiming = ClaimJobs(context, policy, breaker, outputs, recorder, set_aside, shutdown)
    session = Session(
        context, welcome, recorder, outputs, attempts, policy, renewal, settings, heartbeat, shutdown, clock,
        dead_workers,
    )  # fmt: skip
    duties = (
        FollowWakeUps(context, wakeups, monitor, policy, shutdown),
        ShipOutput(context, outputs, heartbeat),
        RecordResults(context, recorder, outputs, policy, breaker),
        FailureStreak(context, breaker),
        monitor,
        heartbeat,
        Maintenance(context, policy, attempts, dead_workers, set_aside, watch, figures),
        DueEntries(context, policy),
        ServeHooks(context, policy),
        claiming,
        OutputFaultReport(context, outputs),
        write_figures,
    )
    return Parts(
        context=context,
        session=session,
        inbox=Inbox(context, outputs, recorder, breaker, shutdown, clock, renewal, session.leave),
        renewal=renewal,
        wakeups=wakeups,
        monitor=monitor,
        claiming=claiming,
        figures=write_figures,
        duties=duties,
    )


def _dead_workers(context: Context, clock: StoreTime, figures: Writer) -> DeadWorkers:
    directory = Path(context.config["directory"])
    one_host = bootstrap.is_local(context.config["url"])
    return DeadWorkers(context.store, directory, context.log, clock, figures, one_host=one_host)
