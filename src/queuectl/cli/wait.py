"""`queuectl wait`: waits until jobs have ended, and exits with the command's exit code."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from queuectl import interrupt
from queuectl.cli.live import Live, Rest
from queuectl.cli.references import JOBS_HELP, own_job, references
from queuectl.cli.selecting import WHERE_HELP, wanted_of
from queuectl.clock import boottime
from queuectl.domain.ids import handle
from queuectl.domain.job import STATES, TERMINAL, Job
from queuectl.domain.quantity import format_duration, of_option, parse_duration
from queuectl.domain.query import Counts, Filter
from queuectl.errors import InvalidInput, NotFound, QueuectlError, UnreadableJob
from queuectl.service import shapes

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session

NO_CODE = 125
TIMED_OUT = 124
NAMED = 5
"""Maximum number of jobs, or of obstacles, that are named one by one."""
AGAIN = 2.0
"""Seconds between two checks of the reasons why the jobs wait."""


def wait_options(parser: "Parser") -> None:
    """Add the arguments of `wait`: the jobs, a time limit, and whether one ended job is enough."""
    parser.add_argument("job", nargs="*", metavar="JOB", help=JOBS_HELP)
    parser.add_argument("--batch", metavar="B", help="all of this batch, also those that have ended")
    parser.flag("--all", help="all that have not ended")
    parser.add_argument("--where", metavar="FILTER", help=WHERE_HELP)
    parser.add_argument("--timeout", metavar="D", help="stop waiting after this time (the jobs continue)")
    parser.flag("--any", help="until the first of them has ended")
    parser.example(
        "queuectl enqueue --wait --retries 0 'exit 3'; echo $?", "the same for a new job: prints 3 at the end"
    )
    parser.example("queuectl wait @last --timeout 10m", "until it has ended; exits with its code")


def wait(session: "Session") -> int:
    """Wait for jobs. Returns the exit code of a single job; for several jobs 0 if all completed, otherwise 1."""
    args = session.args
    if sum((bool(args.job), bool(args.batch) or args.where is not None, args.all)) != 1:
        raise InvalidInput(
            "exactly one selection of jobs is expected", "give jobs, or --batch, --where or --all"
        )
    timeout = of_option("--timeout", parse_duration, args.timeout) if args.timeout else None
    try:
        ids = _meant(session)
    except NotFound as error:
        return _nobody(session, error)
    if own := own_job(session):
        _refuse_for_itself(session, own, ids)
    if len(ids) == 1 and args.job:
        return wait_for_one(session, ids[0], timeout)
    return _wait_for_many(session, ids, timeout)


def _refuse_for_itself(session: "Session", own: Job, ids: Sequence[str]) -> None:
    """Inside a job: refuse to wait for jobs that can only end after this command, unless --any allows another job."""
    if session.args.any and set(ids) != {own.id}:
        return
    session.queue.refuse_to_wait(own, ids)


def wait_for_one(session: "Session", id: str, timeout: timedelta | None = None) -> int:
    """Wait for one job; return its exit code, and report on stderr if it has none."""
    jobs = _wait(session, [id], timeout)
    if (job := jobs.get(id)) is None:
        return _nobody(session, _why_missing(session, id))
    if session.json:
        session.emit(shapes.document(jobs=[shapes.job(job)]))
    if not job.ended:
        session.err.write(
            f"queuectl: job {handle(job)} is still {job.state} after {format_duration(timeout or timedelta())}\n"
        )
        return NO_CODE
    code, why = exit_code_of(job)
    if why:
        session.err.write(f"queuectl: job {handle(job)} {why}\n")
    return code


def _why_missing(session: "Session", id: str) -> QueuectlError:
    """The reason why a job is missing in the answer: it was deleted, or cannot be decoded."""
    try:
        session.queue.show(id)
    except UnreadableJob as error:
        return error
    except NotFound:
        pass
    return NotFound(f"job {id} was deleted")


def exit_code_of(job: Job) -> tuple[int, str | None]:
    """The exit code for an ended job, and a message about it."""
    if job.state == "completed":
        return 0, None
    if job.state == "cancelled":
        return NO_CODE, f"was cancelled ({job.last_error})"
    last = job.history[-1] if job.history else None
    if last is None:
        return NO_CODE, f"is {job.state} and never ran"
    if last.outcome == "exited" and last.exit_code is not None:
        return last.exit_code, f"ended with exit code {last.exit_code}"
    if last.outcome == "signalled" and last.signal is not None:
        return 128 + last.signal, f"was killed by signal {last.signal}"
    if last.outcome == "timed_out":
        return TIMED_OUT, "ran longer than its timeout"
    return NO_CODE, f"has no exit code: {job.last_error}"


def _meant(session: "Session") -> Sequence[str]:
    """The jobs to wait for. For a batch these are all its jobs, so that jobs that have already failed count too."""
    args = session.args
    if args.job:
        return session.queue.resolve(references(args.job))
    if args.all:
        return session.queue.ids(Filter(states=frozenset(STATES) - TERMINAL))
    ids = session.queue.ids(wanted_of(session, names=("batch",)))
    if not ids and args.where is None:
        raise NotFound(f"there is no job in batch {args.batch!r}")
    return ids


def _nobody(session: "Session", error: QueuectlError) -> int:
    if session.json:
        session.emit(shapes.error(error))
    hint = f" ({error.hint})" if error.hint else ""
    session.err.write(f"queuectl: {error.message}{hint}\n")
    return NO_CODE


def _wait_for_many(session: "Session", ids: Sequence[str], timeout: timedelta | None) -> int:
    args = session.args
    found = _wait(session, ids, timeout)
    jobs = {id: found[id] for id in ids if id in found}
    ended = [job for job in jobs.values() if job.ended]
    if session.json:
        session.emit(shapes.document(jobs=[shapes.job(job) for job in jobs.values()]))
    elif not args.quiet:
        if args.job or args.any:
            session.out.writelines(f"{job.id} {job.state}\n" for job in ended)
        else:
            session.print(_totals(ended) if ids else "nothing to wait for")
    still = len(ids) - len(ended)
    if still and not args.any:
        session.err.write(f"queuectl: {still} of {len(ids)} jobs have not ended\n")
    judged = ended if args.any else [jobs[id] for id in ids if id in jobs]
    complete = bool(judged or not ids) and all(job.state == "completed" for job in judged)
    return 0 if complete and (args.any or len(judged) == len(ids)) else 1


def _totals(ended: list[Job]) -> str:
    """How many jobs ended, by state."""
    counts = {state: sum(1 for job in ended if job.state == state) for state in STATES if state in TERMINAL}
    parts = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return f"{len(ended)} job{'' if len(ended) == 1 else 's'}: {parts}" if ended else "no job has ended"


def _wait(session: "Session", ids: Sequence[str], timeout: timedelta | None) -> dict[str, Job]:
    interrupt.answer()
    watcher = Watcher(session, ids)
    try:
        any_one = bool(getattr(session.args, "any", False))
        return session.queue.wait(ids, timeout=timeout, any_one=any_one, look=watcher.look)
    except KeyboardInterrupt:
        watcher.live.clear()
        session.say(f"\nqueuectl: no longer waiting; {_goes_on(session, ids, watcher.names)}")
        raise
    finally:
        watcher.live.clear()


def _goes_on(session: "Session", ids: Sequence[str], names: list[str]) -> str:
    """The hint after Ctrl+C: the jobs continue, and how to end them. The hint is short even for ten thousand jobs.

    The hint does not use the store, because a slow store may be the reason for the Ctrl+C.
    """
    args = session.args
    batch = (
        getattr(args, "batch", None) if getattr(args, "job", None) == [] else None
    )  # `enqueue` has a --batch too
    if batch:
        from shlex import quote

        return f"the jobs continue. To end them: queuectl cancel --batch {quote(batch)}"
    if len(ids) > NAMED:
        return "the jobs continue. See with: queuectl status"
    words = ("the job continues. To end it", "the jobs continue. To end them")[len(ids) > 1]
    return f"{words}: queuectl cancel {' '.join(names or ids)}"


class Watcher:
    """Reports during a wait why the jobs do not run, and on a terminal the progress."""

    def __init__(self, session: "Session", ids: Sequence[str]) -> None:
        self._session, self._count = session, len(ids)
        self.live, self._rest = Live(session), Rest()
        self.names: list[str] = []
        self._said: list[str] = []
        self._next = self._next_count = 0.0
        self._counts: Counts | None = None

    def look(self, jobs: Sequence[Job], left: int) -> None:
        """Check the jobs once. `jobs`: some jobs that have not ended. `left`: the number of all such jobs."""
        self.names = [handle(job) for job in jobs[:NAMED]]
        if not self._session.args.quiet and boottime() >= self._next:
            self._next = boottime() + AGAIN
            self._say(list(self._session.queue.obstacles(jobs))[:NAMED])
        if self._count > 1 and self.live.wanted:
            self.live.show(self._progress(left))

    def _say(self, found: list[str]) -> None:
        """Report each new obstacle, and report once when no obstacle is left."""
        if found == self._said:
            return
        self.live.clear()
        for text in found:
            if text not in self._said:
                self._session.say(f"queuectl: {text}")
        if not found:
            self._session.say("queuectl: nothing prevents the jobs from running any more")
        self._said = found

    def _progress(self, left: int) -> str:
        args = self._session.args
        if args.job:
            return f"{self._count - left} of {self._count} have ended"
        if self._counts is None or boottime() >= self._next_count:
            begun = boottime()
            self._counts = self._session.queue.counts(wanted_of(self._session, names=("batch",), quiet=True))
            self._next_count = boottime() + max((boottime() - begun) * 200, 1.0)
        counts = self._counts
        running, failed = counts.of("processing"), counts.of("dead", "cancelled")
        waiting = counts.of("pending", "failed", "blocked", "held")
        done = self._count - running - waiting
        parts = [f"{max(done, 0)} done", f"{running} running", f"{waiting} waiting"]
        parts += [f"{failed} failed"] if failed and (args.batch or args.where) else []
        return ", ".join(parts) + self._rest.words(running + waiting)
