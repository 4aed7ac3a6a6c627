"""Workers by name, the name of a new worker, and the jobs of a worker that does not answer."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct

from queuectl.domain.job import Job
from queuectl.domain.names import LONGEST, is_name
from queuectl.errors import Conflict, InvalidInput, NotFound
from queuectl.service import maintenance, worker_status
from queuectl.service.worker_status import WorkerStatus
from queuectl.store.protocol import Store


class Silence(Struct, frozen=True):
    """A worker that does not answer, and the jobs that may still run there."""

    item: WorkerStatus
    jobs: list[Job]

    @property
    def taken_back_at(self) -> datetime | None:
        """When the last of its leases ends; live workers take the jobs back then."""
        ends = [job.lease.until for job in self.jobs if job.lease]
        return max(ends) if ends else None


def silence(store: Store, item: WorkerStatus) -> Silence:
    """The jobs that an unresponsive worker has claimed."""
    return Silence(item, worker_status.claimed_by(store, item.worker.id))


def address(item: WorkerStatus, among: Iterable[WorkerStatus]) -> str:
    """The shortest unique name of a worker: its name, `NAME@HOST`, or its id."""
    same = [other for other in among if other.worker.name == item.worker.name]
    hosts = {other.worker.host for other in same}
    if len(same) < 2:
        return item.worker.name
    return f"{item.worker.name}@{item.worker.host}" if len(hosts) == len(same) else item.worker.id


def chosen(found: Sequence[WorkerStatus], words: Sequence[str], *, lost: bool = False) -> list[WorkerStatus]:
    """The workers with these names, `NAME@HOST` or ids, each once.

    If several workers have the same name, the live one is meant, or with `lost` the lost ones. Raises NotFound, and
    InvalidInput for a name that several live workers share.
    """
    meant: dict[str, WorkerStatus] = {}
    for word in words:
        for item in _chosen(found, word, lost):
            meant[item.worker.id] = item
    return list(meant.values())


def _chosen(found: Sequence[WorkerStatus], word: str, lost: bool) -> list[WorkerStatus]:
    same = [item for item in found if word in _names(item)]
    if not same:
        known = ", ".join(address(item, found) for item in found) or "none"
        raise NotFound(f"there is no worker {word!r}", f"there are: {known}")
    likely = [item for item in same if (item.state == "lost") is lost] or same
    if len(likely) > 1 and not lost:
        names = ", ".join(address(item, found) for item in likely)
        raise InvalidInput(f"{len(likely)} workers are called {word!r}", f"name one of: {names}")
    return likely


def _names(item: WorkerStatus) -> tuple[str, str, str]:
    worker = item.worker
    return worker.name, f"{worker.name}@{worker.host}", worker.id


def free_name(wanted: str, taken: Iterable[str], *, host: str, pid: int, id: str) -> str:
    """The wanted name. If a live worker has this name, the host or the pid is added."""
    used = set(taken)
    for suffix in ("", f"-{_word(host)}", f"-{pid}"):
        name = wanted[: LONGEST - len(suffix)] + suffix
        if name not in used:
            return name
    return f"{wanted[: LONGEST - 9]}-{id[:8]}"


def _word(host: str) -> str:
    """The name of a host, with `-` for each character that a name must not contain."""
    return "".join(letter if is_name(f"a{letter}") else "-" for letter in host)[:64]


def forget(store: Store, silent: Silence, now: datetime) -> list[Job]:
    """Remove a lost worker from the registry, and take back its jobs whose lease has expired. Returns these jobs.

    A job whose lease has not expired stays claimed until then: the worker may still run it, cut off from the store.
    """
    worker = silent.item.worker
    if silent.item.state != "lost":
        raise Conflict(f"worker {worker.name} on {worker.host} lives", f"queuectl worker stop {worker.name}")
    over = [job for job in silent.jobs if job.lease and job.lease.until <= now]
    recovered = maintenance.recover(store, over, "a person removed its worker (worker forget)")
    store.forget(worker.id)
    return recovered
