"""`make load`, or `python -m bench.load [STORE]`: many commands through real processes, none lost, none repeated.

Clients enqueue side by side, in files, through pipes and one by one, while workers run what is there. Each command
writes its id into one file; at the end that file, the store and `queuectl status` must tell the same. The exit code is
1 if they do not. It ends by itself: when nothing has been done for a minute, something is lost.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple, get_args

from bench.place import QUEUECTL, Kind, Place, place
from queuectl.domain.query import Filter
from queuectl.service import matching
from queuectl.store.protocol import Store

SLOTS = 4
SINGLES = 25
"""So many of a client's commands are enqueued by a process each."""
BATCH = 250
PATIENCE = 60.0
COMMAND = 'echo "$QUEUECTL_JOB_ID" >> ran'


class Load(NamedTuple):
    """What is put on a queue, by how many, for how many."""

    jobs: int
    clients: int
    workers: int

    def shares(self) -> list[list[str]]:
        """The ids of each client's commands."""
        ids = [f"load-{number}" for number in range(self.jobs)]
        return [ids[client :: self.clients] for client in range(self.clients)]


class Run(NamedTuple):
    """How it went: seconds until all was enqueued and until all was done, and what is wrong."""

    enqueued: float
    done: float
    faults: list[str]


def main() -> int:
    """Run it once, and say how it went in a line."""
    options = _options()
    load = Load(options.jobs, options.clients, options.workers)
    with place(options.store) as here:
        run = put(load, here)
    for fault in run.faults:
        print(f"load: {fault}", file=sys.stderr)
    print(summary(options.store, load, run))
    return 1 if run.faults else 0


def put(load: Load, here: Place) -> Run:
    """Put the load on the store of a place."""
    store = here.store()
    with ExitStack() as workers:
        for _ in range(load.workers):
            workers.enter_context(here.worker("--count", str(SLOTS), "--quiet"))
        start = time.monotonic()
        with ThreadPoolExecutor(load.clients) as clients:
            list(clients.map(lambda share: _enqueue(here, *share), enumerate(load.shares())))
        enqueued = time.monotonic() - start
        _until_ended(store, load.jobs)
        done = time.monotonic() - start
        _until_archived(store)
    faults = list(wrong(load, _ran(here), _attempts(store), _counts(here)))
    store.close()
    return Run(enqueued, done, faults)


def summary(kind: str, load: Load, run: Run) -> str:
    """The line at the end."""
    who = f"{load.clients} clients, {load.workers} workers of {SLOTS} slots"
    times = f"enqueued in {run.enqueued:.1f} s, done in {run.done:.1f} s, {load.jobs / run.done:.0f}/s"
    verdict = "something is wrong" if run.faults else "none lost, none repeated"
    return f"load: {load.jobs} commands on {kind}, {who}: {times}; {verdict}"


def wrong(load: Load, ran: list[str], attempts: dict[str, int], counts: dict[str, int]) -> Iterator[str]:
    """What is not as it must be, a sentence each."""
    expected = {id for share in load.shares() for id in share}
    times = Counter(ran)
    if lost := expected - times.keys():
        yield f"never run: {_some(lost)}"
    if repeated := {id for id, count in times.items() if count > 1}:
        yield f"run more than once: {_some(repeated)}"
    if strange := times.keys() - expected:
        yield f"run though nobody enqueued them: {_some(strange)}"
    if missing := expected - attempts.keys():
        yield f"not in the store: {_some(missing)}"
    if odd := {id for id, count in attempts.items() if count != 1}:
        yield f"not one attempt: {_some(odd)}"
    if {state: n for state, n in counts.items() if n} != {"total": load.jobs, "completed": load.jobs}:
        yield f"status counts {counts}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make load", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("store", nargs="?", default="sqlite", choices=get_args(Kind))
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--workers", type=int, default=4)
    return parser.parse_args()


def _enqueue(here: Place, client: int, ids: list[str]) -> None:
    """A client's share: some by a process each, the rest by turns through a file and a pipe."""
    singles, rest = ids[:SINGLES], ids[SINGLES:]
    for id in singles:
        here.run("enqueue", "--id", id, COMMAND)
    for number, start in enumerate(range(0, len(rest), BATCH)):
        lines = "".join(
            json.dumps({"id": id, "command": COMMAND}) + "\n" for id in rest[start : start + BATCH]
        )
        if number % 2:
            _pipe(here, lines)
        else:
            listing = here.root / f"client-{client}"
            listing.write_text(lines)
            here.run("enqueue", "--file", str(listing))


def _pipe(here: Place, lines: str) -> None:
    command = [str(QUEUECTL), "enqueue", "-"]
    subprocess.run(
        command, env=here.env, cwd=here.root, input=lines, stdout=subprocess.DEVNULL, text=True, check=True
    )


def _until_ended(store: Store, jobs: int) -> None:
    """Wait while there is progress."""
    ended, deadline = 0, time.monotonic() + PATIENCE
    while ended < jobs and time.monotonic() < deadline:
        states = store.counts(Filter()).states()
        now = sum(states.get(state, 0) for state in ("completed", "dead", "cancelled"))
        if now > ended:
            ended, deadline = now, time.monotonic() + PATIENCE
        threading.Event().wait(0.05)


def _until_archived(store: Store) -> None:
    """Where there is an archive, let the workers move what they have ended."""
    deadline = time.monotonic() + PATIENCE
    while store.describe().details.get("to_archive", "0") != "0" and time.monotonic() < deadline:
        threading.Event().wait(0.05)


def _ran(here: Place) -> list[str]:
    file = here.root / "ran"
    return file.read_text().split() if file.exists() else []


def _attempts(store: Store) -> dict[str, int]:
    jobs = (store.get(ids).values() for ids in matching.select(store, Filter()))
    return {job.id: job.attempts for batch in jobs for job in batch}


def _counts(here: Place) -> dict[str, int]:
    counts: dict[str, int] = json.loads(here.run("status", "--json"))["jobs"]
    return counts


def _some(ids: Iterable[str]) -> str:
    found = sorted(ids)
    return f"{len(found)}, such as {', '.join(found[:3])}"


if __name__ == "__main__":
    sys.exit(main())
