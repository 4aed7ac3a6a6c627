"""The methods of `Queue` for queues, settings, workers and the store."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec import UNSET

from queuectl import bootstrap, config
from queuectl.domain.quantity import format_duration
from queuectl.domain.queue import QueueChange
from queuectl.python.arguments import Duration, since_of, span_of
from queuectl.python.errors import WaitTimeout
from queuectl.python.opening import Opening
from queuectl.python.system_values import (
    Diagnosis,
    QueueStatus,
    Setting,
    Status,
    Worker,
    queue_of,
    setting_of,
    status_of,
    worker_of,
)
from queuectl.service import queue_status, registry, worker_status
from queuectl.service.stats import By, Question, Stats, check_by


class Administration(Opening):
    """Queues, settings, workers and the store."""

    def status(self) -> Status:
        """The whole system at a glance: counts, queues, workers, and what needs a person."""
        return status_of(self._open().status())

    def stats(
        self,
        *,
        since: Duration | datetime = "1h",
        until: Duration | datetime | None = None,
        by: By = "queue",
        queue: str | None = None,
        label: str | None = None,
    ) -> Stats:
        """How many jobs ended, how long they waited and ran, in groups.

        `since`, `until`: times, or durations before now. `by`: "queue", "label", "worker" or "hour". `queue`, `label`:
        count only these. Raises `InvalidInput`.
        """
        opened = self._open()
        now = opened.now()
        begin, end = since_of("since", since, now), None if until is None else since_of("until", until, now)
        return opened.stats(Question(since=begin, until=end, by=check_by(by), queue=queue, label=label))

    def queues(self) -> list[QueueStatus]:
        """All queues that have jobs or settings of their own."""
        return [queue_of(queue) for queue in self._open().queues()]

    def pause(self, queue: str, *, reason: str | None = None) -> QueueStatus:
        """Start no more jobs from a queue; running jobs go on. A queue without jobs can be paused too.

        `reason` is stored with the pause.
        """
        wanted = QueueChange(paused=True, reason=UNSET if reason is None else reason)
        self._open().change_queue(queue, wanted)
        return self._queue(queue)

    def resume(self, queue: str) -> QueueStatus:
        """Start jobs from a queue again."""
        self._open().change_queue(queue, QueueChange(paused=False))
        return self._queue(queue)

    def limit(self, queue: str, at_most: int | None) -> QueueStatus:
        """Run at most this many jobs of a queue at once, over all workers; None removes the limit."""
        self._open().change_queue(queue, QueueChange(limit=at_most))
        return self._queue(queue)

    def settings(self) -> dict[str, Setting]:
        """The settings in force here, by key, each with its origin."""
        opened = self._open()
        found, url = opened.settings(), opened.describe().url
        return {key: setting_of(key, found, url) for key in config.OPTIONS}

    def set(self, key: str, value: float | str | timedelta | None) -> Setting:
        """Write a shared setting, for all clients and workers of the store; return the setting in force here.

        `value`: a number, a `timedelta`, text as for `queuectl config set` (`"5m"`, `"1MiB"`), or None for `none`. A
        variable or a configuration file here overrides the stored value: see `origin`. Raises `NotFound` for an
        unknown key, and `InvalidInput`.
        """
        text = (
            format_duration(value)
            if isinstance(value, timedelta)
            else "none"
            if value is None
            else str(value)
        )
        opened, option = self._open(), config.option(key)
        return setting_of(option.key, opened.set(key, text), "")

    def unset(self, key: str) -> Setting:
        """Reset a shared setting to its default; return the setting in force here. Raises `NotFound`."""
        opened, option = self._open(), config.option(key)
        return setting_of(option.key, opened.unset(key), "")

    def workers(self) -> list[Worker]:
        """All workers, with the jobs in their slots."""
        return [worker_of(worker) for worker in self._open().workers(with_jobs=True)]

    def stop(
        self,
        workers: str | Worker | Iterable[str | Worker] | None = None,
        *,
        now: bool = False,
        wait: Duration | None = None,
    ) -> list[Worker]:
        """Ask workers to finish their running jobs and exit; with `now` to end them and give their jobs back.

        `workers`: names, `NAME@HOST`, ids or `Worker` values; None means all. Returns the workers that were asked, as
        they were before. Raises `NotFound` for an unknown worker; then no worker is asked.

        wait    wait at most this long until they have exited; raises `WaitTimeout` if one still runs then, or does not
                answer. Without it nothing is waited for: a worker that has exited is no longer in `workers()`
        """
        from queuectl.this_host import processes

        opened, span = self._open(), span_of("wait", wait)
        chosen = _chosen(opened.workers(with_jobs=True), workers)
        opened.stop([each.worker.id for each in chosen], at_once=now)
        if span is not None:
            is_remote = bootstrap.is_server(bootstrap.store_url(self._sources))
            seconds = span.total_seconds()
            parting = processes.await_end(opened, chosen, seconds, at_once=now, is_remote=is_remote)
            _refuse_remaining(
                [worker.name for worker in parting.leaving], "still runs", "with now=True it ends its jobs"
            )
            lost = [silent.item.worker.name for silent in parting.silent]
            _refuse_remaining(lost, "does not answer", "if its host no longer exists: forget it")
        return [worker_of(each) for each in chosen]

    def reload(
        self, workers: str | Worker | Iterable[str | Worker] | None = None, *, wait: Duration | None = None
    ) -> list[Worker]:
        """Ask workers to change to the newly installed version while their commands go on.

        `workers` as for `stop`; None means all that are not lost. Returns the workers that were asked. `wait`: wait at
        most this long until they have changed; raises `WaitTimeout` if one has not.
        """
        from queuectl.this_host import processes

        opened, span = self._open(), span_of("wait", wait)
        found = opened.workers(with_jobs=True)
        living = [each for each in found if each.state != "lost"]
        chosen = living if workers is None else _chosen(found, workers)
        opened.reload([each.worker.id for each in chosen])
        if span is not None:
            old = processes.await_reload(opened, chosen, span.total_seconds())
            _refuse_remaining([worker.name for worker in old], "has not reloaded", "wait longer")
        return [worker_of(each) for each in chosen]

    def forget(self, workers: str | Worker | Iterable[str | Worker] | None = None) -> list[Worker]:
        """Remove lost workers whose host no longer exists, and take back their jobs with expired leases.

        `workers` as for `stop`; None means all lost ones that are no process of this host. Returns them. Raises
        `Conflict` for a worker that lives, or that is a process of this host.
        """
        from queuectl.this_host import processes

        opened = self._open()
        found = opened.workers(with_jobs=True)
        chosen = processes.to_forget(found, None if workers is None else _words(workers))
        for each in chosen:
            opened.forget(each)
        return [worker_of(each) for each in chosen]

    def doctor(self) -> Diagnosis:
        """Check the store, its settings, its queues and its workers, and the files of the workers of this host.

        Reads all data. Through a server, its store is checked, and the way to the server.
        """
        from queuectl.this_host.checks import diagnosis

        checks = tuple(diagnosis(self._open(), bootstrap.store_url(self._sources)))
        return Diagnosis(all(check.ok for check in checks), checks)

    def _queue(self, name: str) -> QueueStatus:
        """A queue by its name; without jobs if it has none."""
        found = next((queue for queue in self._open().queues() if queue.name == name), None)
        return queue_of(found or queue_status.QueueStatus(name, False, None, {}))


def _chosen(
    found: Iterable[worker_status.WorkerStatus], workers: str | Worker | Iterable[str | Worker] | None
) -> list[worker_status.WorkerStatus]:
    """The workers that are meant, all of them for None."""
    known = list(found)
    return known if workers is None else registry.chosen(known, _words(workers))


def _words(workers: str | Worker | Iterable[str | Worker]) -> list[str]:
    """The names, or ids, of one worker or of several."""
    named = [workers] if isinstance(workers, str | Worker) else workers
    return [each.id if isinstance(each, Worker) else each for each in named]


def _refuse_remaining(names: Iterable[str], what: str, hint: str) -> None:
    """Raise WaitTimeout if there are workers that did not do in time what was asked of them."""
    if said := ", ".join(names):
        raise WaitTimeout(f"worker {said} {what}", hint)
