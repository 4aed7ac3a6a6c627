"""`queuectl demo`: shows the main functions, from enqueue to a repaired dead job, on a temporary store.

The demo runs each command as a process, as a person would. The results are read back from the store and compared with
checksums that this process computes itself.
"""

import hashlib
import json
import shlex
import subprocess
import sys
import tempfile
import threading
from argparse import Namespace
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import queuectl
from queuectl import interrupt
from queuectl.cli.session import Session
from queuectl.clock import boottime
from queuectl.domain.job import Job
from queuectl.domain.query import Filter, Page
from queuectl.errors import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from queuectl.cli.parser import Parser

SLOTS = 3
MOST_FILES = 110
DEADLINE = 28.0


def demo_options(parser: "Parser") -> None:
    """Add an example only: `demo` has no arguments."""
    parser.example(
        "queuectl demo", "a worker with three slots runs some hundred commands; takes a few seconds"
    )


def demo(session: Session) -> int:
    """Run the demo, and print a summary."""
    session.refuse_remote("demo", "leave out --store: the demo makes a store of its own")
    directory = Path(tempfile.mkdtemp(prefix="queuectl-demo-"))
    # A session of its own: the first look at `session` has fixed the store of the call.
    session = Session(Namespace(**{**vars(session.args), "store": f"sqlite:///{directory / 'queue.db'}"}))
    show = Show(session, directory)
    show.run()
    if session.json:
        session.emit({"schema": 1, "demo": show.summary()})
    else:
        show.print_summary()
    if not show.sound:
        raise CommandFailed("the demo did not end as expected", f"see {directory}")
    return 0


class Show:
    """Runs the demo once."""

    def __init__(self, session: Session, directory: Path) -> None:
        self._session = session
        self._directory = directory
        self._url = session.args.store
        self._log = directory / "worker.log"
        self._repaired = directory / "repaired"
        self._files = sorted(path for path in _root().rglob("*") if path.is_file() and path.suffix in _TEXT)[
            :MOST_FILES
        ]
        self._idle = threading.Event()  # is never set
        self._seconds = 0.0
        self._checked = 0
        self.sound = False

    def run(self) -> None:
        """Run all steps: enqueue, start a worker, cancel, repair and retry, wait, stop the worker, check."""
        self._say(f"store {self._url}")
        self._enqueue_work()
        policy = ("--max-retries", "2", "--backoff-base", "1", "--backoff-factor", "300ms")
        cause = f"test -f {shlex.quote(str(self._repaired))}"
        failing = self._queuectl("enqueue", *policy, "--batch", "demo", cause)
        self._queuectl("enqueue", "--in", "2s", "--batch", "demo", "echo delayed by two seconds")
        endless = self._queuectl("enqueue", "--priority", "5", "--batch", "demo", "sleep 600")
        start = boottime()
        with self._worker():
            self._until(endless, "processing")
            self._say("cancelling the job that would run for ten minutes")
            self._queuectl("cancel", endless, "--reason", "shown in the demo")
            self._until(failing, "dead")
            self._say("one command failed three times and is in the DLQ; repairing its cause and retrying it")
            self._repaired.touch()
            self._queuectl("dlq", "retry", failing)
            self._until_all_ended(start)
            self._seconds = boottime() - start
        self._check(failing, endless)

    def summary(self) -> dict[str, Any]:
        """The results as numbers, for the JSON document."""
        counts = self._session.queue.counts(Filter()).states()
        attempts = sum(job.attempts for job in self._jobs())
        return {
            "jobs": counts,
            "attempts": attempts,
            "retries": attempts - sum(1 for job in self._jobs() if job.attempts),
            "seconds": round(self._seconds, 2),
            "attempts_per_second": round(attempts / self._seconds, 1) if self._seconds else None,
            "checksums_compared": self._checked,
            "store": self._url,
            "worker_log": str(self._log),
        }

    def print_summary(self) -> None:
        """Print the results for a person."""
        said = self.summary()
        write = self._session.print
        write("")
        write("jobs         " + ", ".join(f"{count} {state}" for state, count in said["jobs"].items()))
        write(f"attempts     {said['attempts']}, {said['retries']} of them retries")
        write(
            f"time         {said['seconds']} s with {SLOTS} slots, {said['attempts_per_second']} attempts a second"
        )
        write(f"checked      {said['checksums_compared']} stored outputs equal to checksums computed here")
        write(f"store        {said['store']}")
        write(f"worker log   {said['worker_log']}")
        write(f"look         queuectl --store {said['store']} list")
        write(f"remove       rm -r {shlex.quote(str(self._directory))}")

    def _enqueue_work(self) -> None:
        """Enqueue two commands for each file. Like a script, pass them as the lines of a file."""
        lines = []
        for path in self._files:
            quoted = shlex.quote(str(path))
            lines.append(
                json.dumps({"argv": ["sha256sum", str(path)], "tags": ["checksum"], "batch": "demo"})
            )
            lines.append(
                json.dumps({"command": f"gzip -9 -c {quoted} | wc -c", "tags": ["compress"], "batch": "demo"})
            )
        listing = self._directory / "jobs.jsonl"
        listing.write_text("\n".join(lines) + "\n")
        ids = self._queuectl("enqueue", "--file", str(listing)).split()
        self._say(f"enqueued {len(ids)} checksums and compressions of {len(self._files)} files")

    @contextmanager
    def _worker(self) -> "Iterator[None]":
        """Run a worker for the demo. The worker is stopped even if the demo fails."""
        with self._log.open("w") as log:
            command = [
                *_QUEUECTL,
                "--store",
                self._url,
                "worker",
                "start",
                "--count",
                str(SLOTS),
                "--name",
                "demo",
            ]
            interrupt.answer()
            worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._say(f"started a worker with {SLOTS} slots, pid {worker.pid}")
        try:
            yield
        finally:
            worker.terminate()
            worker.wait(timeout=15)
        self._say("the worker has drained and exited")

    def _until(self, id: str, state: str) -> None:
        """Wait until a job is in a state. Raises CommandFailed if the job ends in another state."""
        deadline = boottime() + DEADLINE
        while (job := self._job(id)).state != state:
            if boottime() > deadline or (job.ended and job.state != state):
                raise CommandFailed(f"job {id} is {job.state}, not {state}", f"see {self._log}")
            self._idle.wait(0.05)

    def _until_all_ended(self, start: float) -> None:
        """Show progress until all jobs have ended."""
        with _progress(self._session) as advance:
            while True:
                counts = self._session.queue.counts(Filter())
                left = counts.of("pending", "processing", "failed", "blocked")
                advance(counts.total() - left, counts.total())
                if not left:
                    return
                if boottime() - start > DEADLINE:
                    raise CommandFailed(
                        f"{left} jobs are not done after {DEADLINE:.0f} s", f"see {self._log}"
                    )
                self._idle.wait(0.05)

    def _check(self, failing: str, endless: str) -> None:
        """Check that stored outputs have the checksums computed here, and that the special jobs ended as expected."""
        for job in self._jobs():
            if "checksum" in job.spec.tags and job.spec.argv:
                expected = hashlib.sha256(Path(job.spec.argv[1]).read_bytes()).hexdigest()
                self._checked += (
                    job.state == "completed" and self._output(job).split()[0].decode() == expected
                )
        wrong = self._checked != len(self._files)
        special = (self._job(failing).state, self._job(failing).attempts, self._job(endless).state)
        self.sound = not wrong and special == ("completed", 4, "cancelled")

    def _output(self, job: Job) -> bytes:
        return b"".join(piece.data for piece in self._session.queue.output(job.id).pieces)

    def _jobs(self) -> list[Job]:
        return self._session.queue.list(Filter(batch="demo"), Page(limit=1000)).jobs

    def _job(self, id: str) -> Job:
        return self._session.queue.show(id)

    def _queuectl(self, *words: str) -> str:
        """Run one command as a person would type it, and return its output."""
        done = subprocess.run(
            [*_QUEUECTL, "--store", self._url, *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise CommandFailed(f"queuectl {' '.join(words[:2])} failed: {done.stderr.strip()}")
        return done.stdout.strip()

    def _say(self, sentence: str) -> None:
        self._session.say(f"demo: {sentence}")


_QUEUECTL = (sys.executable, "-m", "queuectl")
_TEXT = frozenset((".py", ".sql", ".md", ".toml", ".txt", ".typed"))


def _root() -> Path:
    """The directory with the files that the demo compresses: the source of queuectl."""
    return Path(queuectl.__file__).parent


@contextmanager
def _progress(session: Session) -> "Iterator[Any]":
    """Show a progress bar if stderr is a terminal."""
    if session.args.quiet or not session.err.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("working"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=session.err.stream)) as bar:
        task = bar.add_task("jobs", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
