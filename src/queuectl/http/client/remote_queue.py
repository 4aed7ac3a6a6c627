"""The implementation of `Queue` over HTTP, before a `queuectl serve`. `service/queue.py` documents the methods.

Modules are imported where they are used, so that a short command loads only what its one call needs.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from queuectl.clock import boottime
from queuectl.config import OPTIONS, Settings
from queuectl.domain.instant import format_instant, parse_instant
from queuectl.domain.job import Job
from queuectl.domain.names import check_name, is_name
from queuectl.domain.query import Counts, Found, Page
from queuectl.errors import InvalidInput, NotFound
from queuectl.http.client import credentials, reading
from queuectl.http.client.address import Address
from queuectl.http.client.channel import Channel, Patience, if_match, part
from queuectl.http.client.decoding import understood
from queuectl.http.client.operating import RemoteOperations
from queuectl.service import shapes
from queuectl.service.enqueueing import Enqueued
from queuectl.service.request.fields import JobRequest
from queuectl.service.settings import Sources

if TYPE_CHECKING:
    from queuectl.domain.queue import QueueChange
    from queuectl.domain.token import Issued, Token
    from queuectl.http.client.changing import Changes
    from queuectl.service.changing import Change
    from queuectl.service.doctor import Check
    from queuectl.service.events import Events
    from queuectl.service.explain import Explanation
    from queuectl.service.following import Output, Part, Position
    from queuectl.service.hooks.api import Hooks
    from queuectl.service.matching import Wanted
    from queuectl.service.operation import Operation, Selection
    from queuectl.service.queue import Queue
    from queuectl.service.queue_status import QueueStatus
    from queuectl.service.registry import Silence
    from queuectl.service.schedules.api import Schedules
    from queuectl.service.shapes.diagnosis import Description
    from queuectl.service.stats import Question, Stats
    from queuectl.service.status import Status
    from queuectl.service.transfer.running import Transfer
    from queuectl.service.worker_status import WorkerStatus

CLOCK_KEPT = 60.0
"""Seconds after which the time of the server is asked again."""


class RemoteQueue(RemoteOperations):
    """A `Queue` behind a server.

    token          the token for the server; None: look for it in the places of `credentials.find`
    insecure_http  send the token over plain HTTP to another host
    notice         gets a sentence when a stream breaks off, and this queue tries to go on with it
    """

    absent = False

    def __init__(
        self,
        address: Address,
        sources: Sources,
        *,
        patience: Patience,
        token: str | None = None,
        insecure_http: bool = False,
        notice: Callable[[str], None] = lambda text: None,
    ) -> None:
        def find_token() -> credentials.Credentials | None:
            return credentials.find(
                address.url, sources.environment, token=token, insecure_http=insecure_http
            )

        self._channel = Channel(address, find_token, patience)
        self._sources, self._notice = sources, notice
        self._clock: tuple[datetime, float] | None = None

    def now(self) -> datetime:
        if self._clock is None or boottime() - self._clock[1] > CLOCK_KEPT:
            document = self._channel.read("/v1")
            with understood(self._channel):
                self._clock = parse_instant(document["now"]), boottime()
        at, read_at = self._clock
        return at + timedelta(seconds=boottime() - read_at)

    def create(self) -> None:
        """Nothing to do: a server creates its store when it starts."""

    def enqueue(
        self,
        requests: Sequence[JobRequest],
        *,
        on_invalid: Callable[[InvalidInput], None] | None = None,
        dry_run: bool = False,
        whole: bool = False,
    ) -> Sequence[Enqueued]:
        from queuectl.http.client import sending
        from queuectl.service.request.spec import working_directory

        here = working_directory() if self._channel.address.is_here else None
        completion = sending.Completion(self._sources.local, here, self.now)
        how = sending.How(on_invalid, dry_run, whole)
        return sending.enqueue(self._channel, requests, completion, how)

    def parents(self, dependencies: Sequence[str]) -> Sequence[str]:
        return reading.parents(self._channel, dependencies)

    def resolve(self, references: Sequence[str]) -> Sequence[str]:
        return reading.resolve(self._channel, references)

    def show(self, reference: str) -> Job:
        return reading.show(self._channel, reference)

    def get(self, ids: Sequence[str]) -> dict[str, Job]:
        return reading.get(self._channel, ids)

    def list(self, wanted: "Wanted", page: Page) -> Found:
        return reading.page(self._channel, wanted, page)

    def ids(self, wanted: "Wanted") -> Sequence[str]:
        return reading.ids(self._channel, wanted)

    def counts(self, wanted: "Wanted") -> Counts:
        return reading.counts(self._channel, wanted)

    def status(self) -> "Status":
        document = self._channel.read("/v1/status")
        with understood(self._channel):
            return shapes.status_of(document)

    def stats(self, asked: "Question") -> "Stats":
        return reading.stats(self._channel, asked)

    def explain(self, reference: str) -> "Explanation":
        from queuectl.service.shapes.diagnosis import explanation_of

        document = self._channel.read(f"{reading.path_of(reference)}/explain")
        with understood(self._channel):
            return explanation_of(document)

    def output(self, reference: str, attempt: int | None = None) -> "Output":
        return reading.output(self._channel, reference, attempt)

    def follow(
        self,
        id: str,
        *,
        attempt: int | None = None,
        after: "Position | None" = None,
        look: Callable[[Job], None] = lambda job: None,
    ) -> "Iterator[Part]":
        from queuectl.http.client.following import Follower

        return Follower(self._channel, id, attempt, after, self._notice).parts(look)

    def wait(
        self,
        ids: Sequence[str],
        *,
        timeout: timedelta | None = None,
        any_one: bool = False,
        look: Callable[[Sequence[Job], int], None] = lambda jobs, count: None,
    ) -> dict[str, Job]:
        from queuectl.http.client import waiting

        return waiting.wait(self._channel, ids, timeout=timeout, any_one=any_one, look=look)

    def obstacles(self, jobs: Sequence[Job]) -> Sequence[str]:
        from queuectl.http.client import waiting

        return waiting.obstacles(self._channel, jobs)

    def running_job(self, id: str, attempt_id: str | None) -> Job | None:
        job = self.get([id]).get(id)
        return job if job and job.runs_as(attempt_id) else None

    def refuse_to_wait(self, own: Job, ids: Sequence[str], queues: Sequence[str] | None = None) -> None:
        from queuectl.http.client import waiting

        waiting.refuse(self._channel, own, ids, queues)

    def _changes(self, version: int | None = None) -> "Changes":
        from queuectl.http.client.changing import Changes

        return Changes(self._channel, version)

    def cancel(
        self,
        selection: "Selection",
        *,
        by: str | None = None,  # noqa: ARG002  the server stores the name of the token
        reason: str | None = None,
        version: int | None = None,
    ) -> "Operation[Sequence[Change]]":
        from queuectl.service.operation import not_ended

        return self._changes(version).post(not_ended(selection), "cancel", {"reason": reason})

    def retry(
        self,
        selection: "Selection",
        *,
        force: bool = False,
        alone: bool = False,
        version: int | None = None,
    ) -> "Operation[Sequence[Change]]":
        begun = self.now() + timedelta(microseconds=1)
        return self._changes(version).retry(selection, {"force": force, "alone": alone}, begun)

    def hold(self, selection: "Selection", *, version: int | None = None) -> "Operation[Sequence[Change]]":
        return self._changes(version).post(selection, "hold")

    def release(
        self, selection: "Selection", *, anyway: bool = False, version: int | None = None
    ) -> "Operation[Sequence[Change]]":
        return self._changes(version).post(selection, "release", {"anyway": anyway})

    def edit(
        self,
        selection: "Selection",
        *,
        priority: int | None = None,
        run_at: datetime | None = None,
        queue: str | None = None,
        version: int | None = None,
    ) -> "Operation[Sequence[Change]]":
        from queuectl.service.commands import check_priority

        check_priority(priority)
        given = {"priority": priority, "run_at": run_at and format_instant(run_at), "queue": queue}
        return self._changes(version).edit(
            selection, {key: value for key, value in given.items() if value is not None}
        )

    def delete(self, selection: "Selection", *, version: int | None = None) -> "Operation[Sequence[Change]]":
        return self._changes(version).delete(selection)

    def purge(self, wanted: "Wanted") -> "Operation[int]":
        from queuectl.http.client.purging import purge

        return purge(self, wanted)

    def transfer(self) -> "Transfer":
        from queuectl.http.client.transfer import RemoteTransfer

        return RemoteTransfer(self._channel)

    def queues(self) -> "Sequence[QueueStatus]":
        document = self._channel.read("/v1/queues")
        with understood(self._channel):
            return [shapes.queue_of(each) for each in document["queues"]]

    def check_queue(self, queue: str) -> str:
        if queue and not is_name(queue):
            with suppress(NotFound):
                self._channel.read(f"/v1/queues/{part(queue)}")
                return queue
        return check_name("queue", queue)

    def change_queue(self, queue: str, wanted: "QueueChange", *, version: int | None = None) -> bool:
        from msgspec import to_builtins

        from queuectl.domain.queue import QueueSettings
        from queuectl.service.commands import check_queue_change

        check_queue_change(queue, wanted)
        self.check_queue(queue)
        before = next((each for each in self.queues() if each.name == queue), None)
        self._channel.call(
            "PATCH", f"/v1/queues/{part(queue)}", body=to_builtins(wanted), headers=if_match(version)
        )
        known = QueueSettings(before.paused, before.limit, before.reason) if before else QueueSettings()
        return wanted.applied_to(known) != known

    def settings(self) -> Settings:
        document = self._channel.read("/v1/config")
        with understood(self._channel):
            theirs = shapes.settings_of(document)
        # What the server's own variables and file set has the same effect on jobs as a shared setting.
        shared = {
            key: theirs.text(key)
            for key, option in OPTIONS.items()
            if option.shared and theirs.origins[key] != "default"
        }
        return self._sources.resolve(shared)

    def set(self, key: str, text: str, *, version: int | None = None) -> Settings:
        self._channel.call("PUT", f"/v1/config/{part(key)}", body={"value": text}, headers=if_match(version))
        return self.settings()

    def unset(self, key: str, *, version: int | None = None) -> Settings:
        self._channel.call("DELETE", f"/v1/config/{part(key)}", headers=if_match(version))
        return self.settings()

    def workers(self, *, with_jobs: bool = False) -> "Sequence[WorkerStatus]":  # noqa: ARG002
        # The server always takes the jobs in the slots from the stored claims.
        document = self._channel.read("/v1/workers")
        with understood(self._channel):
            return [shapes.worker_of(each) for each in document["workers"]]

    def stop(self, ids: Sequence[str], *, at_once: bool = False) -> None:
        for id in ids:
            path = f"/v1/workers/{part(id)}/stop"
            answer = self._channel.call("POST", path, body={"now": at_once}, handled=(404,))
            if answer.refused and not answer.repeated:  # a repeated request finds no worker that has left
                raise answer.refused

    def leaving(self, ids: Sequence[str], *, at_once: bool = False) -> "Sequence[WorkerStatus]":
        # The server answers such a request even if it ends together with its last worker.
        deadline = boottime() + 1.0
        left = [id for id in ids if not self._has_left(id, at_once, wait=boottime() < deadline)]
        return [item for item in self.workers() if item.worker.id in left] if left else []

    def _has_left(self, id: str, at_once: bool, *, wait: bool) -> bool:
        """Whether a worker that was asked to exit has left; `wait`: within a second."""
        answer = self._channel.call(
            "POST",
            f"/v1/workers/{part(id)}/stop",
            body={"now": at_once},
            headers={"Prefer": "wait=1"} if wait else {},
            handled=(404,),
        )
        return answer.refused is not None or all(
            each["state"] == "gone" for each in answer.document["workers"]
        )

    def reload(self, ids: Sequence[str]) -> None:
        for id in ids:
            self._channel.call("POST", f"/v1/workers/{part(id)}/reload", body={})

    def silence(self, worker: "WorkerStatus") -> "Silence":
        document = self._channel.read(f"/v1/workers/{part(worker.worker.id)}/claims")
        with understood(self._channel):
            return shapes.silence_of(document)

    def forget(self, worker: "WorkerStatus") -> "tuple[Silence, Sequence[Job]]":
        from queuectl.service.registry import Silence

        path = f"/v1/workers/{part(worker.worker.id)}/forget"
        answer = self._channel.call("POST", path, body={}, handled=(404,))
        if answer.refused and answer.repeated:  # the first request has removed it, and its reply is lost
            return Silence(worker, []), []
        if answer.refused:
            raise answer.refused
        with understood(self._channel):
            [claims] = answer.document["claims"]
            return shapes.silence_of(claims), [shapes.job_of(each) for each in answer.document["jobs"]]

    def events(self) -> "Events":
        from queuectl.http.client.events import RemoteEvents

        return RemoteEvents(self._channel)

    def schedules(self) -> "Schedules":
        from queuectl.http.client.schedules import RemoteSchedules

        return RemoteSchedules(self._channel, self._sources.local, self.now)

    def hooks(self) -> "Hooks":
        from queuectl.http.client.hooks import RemoteHooks

        return RemoteHooks(self._channel, self._sources.local)

    def tokens(self) -> "Sequence[Token]":
        from queuectl.http.client import tokens

        return tokens.all_of(self._channel)

    def create_token(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        expires: timedelta | UnsetType | None = UNSET,
        queues: Sequence[str] | None = None,
        by: str | None = None,  # noqa: ARG002  the server stores the name of the token
    ) -> "Issued":
        from queuectl.http.client import tokens

        return tokens.create(self._channel, name, scopes, expires, queues)

    def revoke_token(self, name: str) -> None:
        from queuectl.http.client import tokens

        tokens.revoke(self._channel, name)

    def rotate_token(self, name: str, *, keep: timedelta | UnsetType = UNSET) -> "Issued":
        from queuectl.http.client import tokens

        return tokens.rotate(self._channel, name, keep)

    def describe(self) -> "Description":
        from queuectl.service.shapes.diagnosis import description_of

        document = self._channel.read("/v1")
        with understood(self._channel):
            return description_of({"url": self._channel.address.url, **document["store"]})

    def doctor(self) -> "Sequence[Check]":
        from queuectl.http.client import diagnosis

        return diagnosis.checks(self._channel)

    def close(self) -> None:
        self._channel.close()


if TYPE_CHECKING:
    _keeps_the_contract: type[Queue] = RemoteQueue
