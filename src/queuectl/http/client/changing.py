"""Changes jobs over HTTP: one request for each job, in the order in which the store would do it."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from queuectl.domain import dependency
from queuectl.domain.job import Job
from queuectl.domain.query import Filter, Jobs, Page
from queuectl.domain.where import Where
from queuectl.errors import Conflict, NotFound, OutcomeUnknown, QueuectlError
from queuectl.http.client import reading
from queuectl.http.client.channel import Answer, Channel
from queuectl.http.client.decoding import understood
from queuectl.service import shapes
from queuectl.service.changing import TRIES, Change
from queuectl.service.matching import SAMPLE, Preview
from queuectl.service.operation import RETRYABLE, Operation, Selection, among

PAGE, STEP = 500, 20
"""Jobs that are read at once, and jobs between two moments at which a caller may stop."""

Act = Callable[[str, Job | None], list[Change]]
"""Changes one job, given by its id and as it was read; None if it cannot be decoded."""

DONE: Mapping[str, Callable[[Job], bool]] = {
    "cancel": lambda now: now.state == "cancelled" or now.cancel_requested is not None,
    "hold": lambda now: now.state == "held",
    "release": lambda now: now.state not in ("held", "cancelled"),
}
"""Whether a job is as a verb leaves it."""


class Changes:
    """The changes of jobs that one client makes. `version`: only jobs that have this version are changed."""

    def __init__(self, channel: Channel, version: int | None = None) -> None:
        self._channel, self._version = channel, version

    def post(
        self, selection: Selection, verb: str, body: Mapping[str, Any] | None = None
    ) -> "Operation[Sequence[Change]]":
        """`cancel`, `hold` or `release` the selected jobs. Repeating such a request changes nothing more.

        A job that was released is refused when the request is repeated: it is not held any more.
        """

        def act(id: str, job: Job | None) -> list[Change]:
            answer = self._call("POST", id, f"/{verb}", dict(body or {}))
            was_released = verb == "release" and answer.refused and job and job.state == "held"
            if answer.repeated and (answer.status == 412 or was_released):
                return self._decided(id, job, DONE[verb])
            return self._changes(id, job, answer)

        return self._operation(selection, act)

    def retry(
        self, selection: Selection, body: Mapping[str, Any], begun: datetime
    ) -> "Operation[Sequence[Change]]":
        """Retry the selected jobs. The request names the version of the job, so that it is not carried out twice.

        Of the jobs that match a filter, those that ended or failed before `begun`.
        """

        def act(id: str, job: Job | None) -> list[Change]:
            try:
                return self._versioned(
                    "POST", id, job, "/retry", body, lambda now: now.state in ("pending", "blocked")
                )
            except (
                OutcomeUnknown
            ) as unknown:  # a job that was retried, and has failed since, would run once more
                raise OutcomeUnknown(unknown.message, f"queuectl show {id} shows it") from unknown

        def in_time(job: Job) -> bool:
            return job.finished_at is None or job.finished_at < begun

        meant = among(selection, RETRYABLE) if isinstance(selection, Where) else selection
        return self._operation(meant, act, again=True, also=in_time)

    def edit(self, selection: Selection, fields: Mapping[str, Any]) -> "Operation[Sequence[Change]]":
        """Change fields of the selected jobs."""

        def is_done(now: Job) -> bool:
            shown = shapes.job(now)
            return all(shown[name] == value for name, value in fields.items())

        return self._operation(
            selection, lambda id, job: self._versioned("PATCH", id, job, "", fields, is_done)
        )

    def delete(self, selection: Selection) -> "Operation[Sequence[Change]]":
        """Delete the selected jobs."""
        return self._operation(selection, self._delete)

    def _operation(
        self,
        selection: Selection,
        act: Act,
        *,
        again: bool = False,
        also: Callable[[Job], bool] = lambda job: True,
    ) -> "Operation[Sequence[Change]]":
        if isinstance(selection, Where):
            walk = Walk(self._channel, selection, also)
            return Operation(walk.steps(act, again), walk.count, walk.preview, walk.reached)
        ids = reading.resolve(self._channel, selection)
        parts = (ids[start : start + PAGE] for start in range(0, len(ids), PAGE))
        steps = _steps((self._read(part) for part in parts), act, again)
        return Operation(steps, lambda: len(ids), lambda: self._preview(ids))

    def _preview(self, ids: Sequence[str]) -> Preview:
        states = Counter(job.state for job in self._read(ids).values())
        return Preview(len(ids), dict(states), list(ids[:SAMPLE]))

    def _read(self, ids: Sequence[str]) -> Jobs:
        return reading.get(self._channel, ids)

    def _delete(self, id: str, job: Job | None) -> list[Change]:
        answer = self._call("DELETE", id, "", None)
        if answer.refused and not (answer.repeated and answer.status == 404):
            return [Change(id, job, answer.refused)]
        return [Change(id, job, before=job)]

    def _versioned(
        self,
        method: str,
        id: str,
        job: Job | None,
        path: str,
        body: Mapping[str, Any],
        is_done: Callable[[Job], bool],
    ) -> list[Change]:
        """Change one job if it has the version that was read. After a lost race, read it and try again."""
        for _ in range(TRIES):
            version = {} if job is None else {"If-Match": f'"{job.version}"'}
            answer = self._call(method, id, path, dict(body), version)
            if answer.status == 412 and answer.repeated:
                return self._decided(id, job, is_done)
            if answer.status != 412 or self._version is not None:
                return self._changes(id, job, answer)
            job = self._read([id]).get(id)
            if job is None:
                return [Change(id, None, NotFound(f"there is no job {id}"))]
        return [
            Change(
                id, job, Conflict(f"other processes change job {id} too fast", "run the same command again")
            )
        ]

    def _decided(self, id: str, before: Job | None, is_done: Callable[[Job], bool]) -> list[Change]:
        """The change that a request has made whose reply is lost, by the job as it is now. Raises OutcomeUnknown.

        The version has risen since the first request was sent, probably by that very request.
        """
        now = self._read([id]).get(id)
        if now is not None and is_done(now):
            return [Change(id, now, before=before or now)]
        raise OutcomeUnknown(
            f"the reply is lost, and job {id} has changed meanwhile", f"queuectl show {id} shows it"
        )

    def _call(
        self, method: str, id: str, path: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> Answer:
        return self._channel.call(
            method,
            reading.path_of(id) + path,
            body=body,
            headers=headers if self._version is None else {"If-Match": f'"{self._version}"'},
            handled=(404, 409, 412),
        )

    def _changes(self, id: str, before: Job | None, answer: Answer) -> list[Change]:
        """What the answer says about the job, and about the jobs that wait for it again."""
        if answer.refused:
            return [Change(id, self._now(id, before, answer.refused), answer.refused)]
        with understood(self._channel):
            document = answer.document
            job = shapes.job_of(document["job"])
            own = Change(
                id,
                job,
                before=(before or job) if document["changed"] or _is_other(before, job, answer) else None,
            )
            revived = [shapes.job_of(each) for each in document.get("revived", ())]
            return [own, *(Change(each.id, each, before=each, revived=True) for each in revived)]

    def _now(self, id: str, before: Job | None, refused: QueuectlError) -> Job | None:
        """The job that was refused, as it is now."""
        return None if isinstance(refused, NotFound) else self._read([id]).get(id, before)


class Walk:
    """The jobs that match a filter, in the order of their numbers, up to the greatest number at the start."""

    def __init__(self, channel: Channel, where: Where, also: Callable[[Job], bool]) -> None:
        self._channel, self._where, self._also = channel, where, also
        self._done: int | None = max(where.numbers[0] - 1, 0)

    def steps(self, act: Act, again: bool) -> Generator[Sequence[Change]]:
        """Change the jobs step by step."""
        for changes in _steps((Jobs(jobs) for jobs in self._pages()), act, again):
            self._done = max((each.job.number for each in changes if each.job), default=self._done)
            yield changes
        self._done = None if self._where.limit is None else self._done

    def _pages(self) -> Iterator[list[Job]]:
        newest = reading.page(self._channel, Filter(), Page(limit=1)).jobs
        left, high = self._where.limit, newest[0].number if newest else 0
        for found in reading.pages(self._channel, self._where, PAGE, "number"):
            jobs = [job for job in found.jobs if job.number <= high and self._also(job)][:left]
            left = None if left is None else left - len(jobs)
            yield jobs
            if left == 0 or (found.jobs and found.jobs[-1].number >= high):
                return

    def count(self) -> int:
        """The number of jobs that match now."""
        if self._where.limit is not None:
            return self.preview().matched
        return reading.counts(self._channel, self._where).total()

    def preview(self) -> Preview:
        """The jobs that match now: how many in each state, and the first ones."""
        if self._where.limit is None:
            states = reading.counts(self._channel, self._where).states()
            first = next(self._pages(), [])
            return Preview(sum(states.values()), states, [job.id for job in first[:SAMPLE]])
        jobs = [job for page in self._pages() for job in page]
        return Preview(len(jobs), dict(Counter(job.state for job in jobs)), [job.id for job in jobs[:SAMPLE]])

    def reached(self) -> int | None:
        """The number up to which all jobs are done; None if the operation is complete."""
        return self._done


def _is_other(before: Job | None, job: Job, answer: Answer) -> bool:
    """Whether a first request, whose reply was lost, changed the job: the repeated one finds nothing to change."""
    return answer.repeated and before is not None and before.version != job.version


def _steps(pages: Iterator[Jobs], act: Act, again: bool) -> Generator[Sequence[Change]]:
    """Change page by page, in steps. Parents come before their children.

    `again`: a job that is refused and has parents is tried once more at the end, because a parent on a later page may
    be changed by then.
    """
    later = list[Job]()
    for page in pages:
        changes: list[Change] = []
        for id, job in _ordered(page):
            done = act(id, job)
            if again and done[0].refused and done[0].job and done[0].job.spec.after:
                later.append(done[0].job)
                continue
            changes += done
            if len(changes) >= STEP:
                yield changes
                changes = []
        if changes:
            yield changes
    for job in reversed(later):
        yield act(job.id, job)


def _ordered(page: Jobs) -> Iterator[tuple[str, Job | None]]:
    jobs = list(page.values())
    if any(job.spec.after for job in jobs):
        jobs = dependency.parents_first(jobs)
    yield from ((job.id, job) for job in jobs)
    yield from ((id, None) for id in page.unreadable)
