"""The `worker` commands for existing workers: stop, list, reload and forget."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from queuectl.cli.references import own_job
from queuectl.domain.ids import handle
from queuectl.domain.instant import format_age
from queuectl.domain.quantity import format_duration, of_option, parse_duration
from queuectl.errors import InvalidInput
from queuectl.service import registry, shapes
from queuectl.service.attention import SKEW_TOLERATED, worker_in_words
from queuectl.service.registry import Silence
from queuectl.service.worker_status import WorkerStatus
from queuectl.terminal import safe
from queuectl.this_host import processes

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session
    from queuectl.domain.job import Job

JOBS_NAMED = 5


def stop_options(parser: "Parser") -> None:
    """Add the arguments of `worker stop`: the workers, whether to end their commands, and a time limit."""
    _which(parser)
    parser.flag("--now", help="end running commands; their jobs go back to the queue")
    parser.add_argument("--timeout", metavar="D", help="stop waiting after this time")
    parser.example("queuectl worker stop", "all workers finish their running commands and exit")
    parser.example("queuectl worker stop --now", "end the running commands and give their jobs back")


def stop(session: "Session") -> int:
    """Ask workers to exit, and wait for this. A worker that does not answer is not reported as stopped."""
    args = session.args
    timeout = of_option("--timeout", parse_duration, args.timeout).total_seconds() if args.timeout else None
    items = _chosen(session)
    own = own_job(session)
    session.queue.stop([item.worker.id for item in items], at_once=args.now)
    session.did(f"asked {len(items)} worker{'' if len(items) == 1 else 's'} to exit")
    if own is not None:
        return _only_asked(session, items, own)
    parting = processes.await_end(
        session.queue, items, timeout, at_once=args.now, is_remote=session.is_remote
    )
    _tell_of_parting(session, parting)
    if not items:
        session.say("no worker is running")
    _tell_of_others(session, parting)
    return 1 if parting.remaining else 0


def _tell_of_parting(session: "Session", parting: processes.Parting) -> None:
    if not session.json:
        session.out.writelines(f"worker {safe(worker.name)} stopped\n" for worker in parting.stopped)
        return
    session.emit(
        shapes.document(
            stopped=[worker.id for worker in parting.stopped],
            remaining=parting.remaining,
            unanswered=[shapes.silence(silent) for silent in parting.silent],
        )
    )


def _only_asked(session: "Session", items: Sequence[WorkerStatus], own: "Job") -> int:
    """Inside a job: do not wait, because the worker of the job cannot exit before the job ends."""
    if session.json:
        ids = [item.worker.id for item in items]
        session.emit(shapes.document(stopped=[], remaining=ids, unanswered=[], asked=ids))
    else:
        session.out.writelines(f"worker {safe(item.worker.name)} is asked to exit\n" for item in items)
    session.say(f"queuectl: this command runs inside job {handle(own)}, so it does not wait for workers")
    return 0


def _tell_of_others(session: "Session", parting: processes.Parting) -> None:
    for silent in parting.silent:
        session.err.write(f"queuectl: {safe(_silence(session, silent))}\n")
    if parting.leaving:
        names = ", ".join(safe(worker.name) for worker in parting.leaving)
        session.err.write(
            f"queuectl: still running: {names} (wait longer, or end the running commands: queuectl worker stop --now)\n"
        )


def _silence(session: "Session", silent: Silence) -> str:
    """A message about a worker that does not answer: which jobs may still run there, and when they are taken back."""
    item, now = silent.item, session.queue.now()
    heard = item.worker.heartbeat
    age = f"sent its last heartbeat {format_age(now - heard)} ago" if heard else "never sent a heartbeat"
    dead = processes.has_died(item.worker)
    ended = ", and its process has ended" if dead else ""
    known = session.queue.workers()
    hint = f"if its host no longer exists: queuectl worker forget {registry.address(item, known)}"
    if dead:
        hint = "the next queuectl worker start on this host takes its jobs back at once"
    return f"{worker_in_words(item)} does not answer: it {age}{ended}; {_claims_in_words(silent, session)} ({hint})"


def _claims_in_words(silent: Silence, session: "Session") -> str:
    """The jobs of a worker that does not answer. If the worker died on this host, its guard has ended them."""
    at, jobs = silent.taken_back_at, silent.jobs
    if at is None:
        return "it has no job"
    names = ", ".join(handle(job) for job in jobs[:JOBS_NAMED])
    more = f" and {len(jobs) - JOBS_NAMED} more" if len(jobs) > JOBS_NAMED else ""
    left = at - session.queue.now()
    when = (
        f"in {format_duration(left)}" if left.total_seconds() > 0 else "now, because its leases have expired"
    )
    noun, verb = ("job", "is") if len(jobs) == 1 else ("jobs", "are")
    runs = "began there" if processes.has_died(silent.item.worker) else "may still run there"
    return f"{noun} {names}{more} {runs}, and {verb} taken back by a live worker {when}"


def list__options(parser: "Parser") -> None:
    """Add an example only: `worker list` has no arguments."""
    parser.example("queuectl worker list", "workers and what they run")


def list_(session: "Session") -> int:
    """Print the workers and their running jobs."""
    found, now = session.queue.workers(with_jobs=True), session.queue.now()
    if session.json:
        session.emit(shapes.all_workers(found))
        return 0
    from queuectl.cli.render import table

    table(session, COLUMNS, [_row(item, now) for item in found], ("id", "host", "pid", "queues", "uptime"))
    for item in found:
        skew = item.worker.skew
        if skew is not None and abs(skew) > SKEW_TOLERATED:
            session.say(f"queuectl: the clock of host {safe(item.worker.host)} differs by {skew:+.1f} s")
    return 0


COLUMNS = ("name", "host", "pid", "is", "busy", "queues", "uptime", "id")


def _row(item: WorkerStatus, now: datetime) -> list[str]:
    worker, busy = item.worker, sum(1 for slot in item.slots if slot.job)
    return [
        worker.name,
        worker.host,
        str(worker.holder_pid),
        item.state,
        f"{busy}/{worker.count}",
        ",".join(worker.queues) or "all",
        format_age(now - worker.started_at),
        worker.id,
    ]


def reload_options(parser: "Parser") -> None:
    """Add the arguments of `worker reload`: the workers."""
    _which(parser)
    parser.example(
        "queuectl worker reload", "after an upgrade: start the new version while the commands continue"
    )


def reload(session: "Session") -> int:
    """Ask workers to start an agent of the installed version."""
    workers = [
        item.worker for item in _chosen(session) if item.state != "lost" or processes.is_here(item.worker)
    ]
    session.queue.reload([worker.id for worker in workers])
    session.did(f"asked {len(workers)} worker{'' if len(workers) == 1 else 's'} to reload")
    if session.json:
        session.emit(shapes.document(reloaded=[worker.id for worker in workers]))
    else:
        session.out.writelines(f"worker {safe(worker.name)} is asked to reload\n" for worker in workers)
    if not workers:
        session.say("no worker is running")
    return 0


def forget_options(parser: "Parser") -> None:
    """Add the arguments of `worker forget`: the lost workers."""
    parser.add_argument("worker", nargs="*", metavar="NAME", help="names, NAME@HOST or ids of lost workers")
    parser.flag("--all", help="all lost workers")
    parser.example("queuectl worker forget --all", "all lost workers, if their hosts no longer exist")


def forget(session: "Session") -> int:
    """Remove lost workers whose host no longer exists, and take back their jobs with expired leases."""
    args = session.args
    if bool(args.worker) == args.all:
        raise InvalidInput("no worker is given", "give names, or --all")
    items = processes.to_forget(session.queue.workers(), None if args.all else args.worker)
    forgotten = [session.queue.forget(item) for item in items]
    session.did(f"{len(items)} worker{' is' if len(items) == 1 else 's are'} forgotten")
    if session.json:
        session.emit(shapes.forgotten(forgotten))
        return 0
    for each, jobs in forgotten:
        session.print(f"worker {safe(each.item.worker.name)} forgotten{_taken_back(session, each, jobs)}")
    if not items:
        session.say("no worker is lost")
    return 0


def _taken_back(session: "Session", silent: Silence, jobs: "Sequence[Job]") -> str:
    taken = f", {len(jobs)} {'job' if len(jobs) == 1 else 'jobs'} taken back" if jobs else ""
    gone = {job.id for job in jobs}
    rest = [job for job in silent.jobs if job.id not in gone]
    return taken + (f"; {_claims_in_words(Silence(silent.item, rest), session)}" if rest else "")


def _which(parser: "Parser") -> None:
    text = "names, NAME@HOST or ids of workers (default: all)"
    parser.add_argument("worker", nargs="*", metavar="NAME", help=text)
    parser.flag("--all", help="all workers")


def _chosen(session: "Session") -> Sequence[WorkerStatus]:
    found = session.queue.workers()
    return registry.chosen(found, session.args.worker) if session.args.worker else found
