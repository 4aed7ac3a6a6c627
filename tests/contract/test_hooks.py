"""Hooks: each event adds one job, whatever dies and whoever is faster."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from contract.grounds import Ground, race
from factories import LEASE, new_job, report
from queuectl.domain import lifecycle
from queuectl.domain.event import between
from queuectl.domain.hook import GONE, Hook
from queuectl.domain.job import Job
from queuectl.domain.query import Filter, Page
from queuectl.errors import Changed, Conflict, NotFound
from queuectl.service.hooks import changing, delivering, reading
from queuectl.service.hooks.definition import define
from queuectl.service.hooks.delivering import Delivering
from queuectl.service.hooks.retry_after import line
from queuectl.store.protocol import Store, Swap
from service.conftest import settings_of

FAR = timedelta(days=9999)


def add_hook(store: Store, name: str = "h", **given: Any) -> Hook:
    fields = {"on": "dead", "job": {"command": "cat"}} | given
    fields = {key: value for key, value in fields.items() if value is not None}
    return changing.add(store, name, define(fields, settings=settings_of(), cwd="/")).hook


def webhook(store: Store, **given: Any) -> Hook:
    return add_hook(store, job=None, url="http://127.0.0.1:9/", **given)


def enqueue(store: Store, *ids: str, **fields: Any) -> None:
    jobs = [new_job(id, now=store.now(), **{"max_retries": 0, **fields}) for id in ids]
    assert {each.status for each in store.add(jobs, [between(None, job) for job in jobs])} == {"added"}


def run(store: Store, queue: str = "default", **how: Any) -> list[str]:
    """Run all due jobs of a queue once; their ids. `exit_code` 1 kills them."""
    jobs = store.claim("w", [queue], 100, LEASE, tell=True)
    now = store.now()
    after = [lifecycle.finish(job, report(now=now, **how), now=now, random_number=0.5) for job in jobs]
    told = [between(*pair) for pair in zip(jobs, after, strict=True)]
    assert all(answer.status == "accepted" for answer in store.save(after, told))
    return [job.id for job in jobs]


def kill(store: Store, *ids: str, **fields: Any) -> None:
    """Let new jobs die."""
    enqueue(store, *ids, **fields)
    assert run(store, exit_code=1) == list(ids)


def serve(store: Store, now: float = 0.0) -> int:
    """Serve the hooks until all events are decided, as a new worker; the number of new jobs."""
    worker, jobs = Delivering(store), 0
    while True:
        step = worker.step(now)
        jobs += step.jobs
        if not step.more:
            return jobs


def hook_jobs(store: Store) -> list[Job]:
    return store.find(Filter(queue="hooks"), Page(limit=1000, sort="number")).jobs


def shown(store: Store, name: str = "h") -> Hook:
    return reading.one(store, name).hook


def event_of(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(job.spec.stdin or b"")
    return found


@pytest.mark.doubles
def test_each_matching_event_adds_one_job(store: Store) -> None:
    add_hook(store)
    kill(store, "a", "b")
    enqueue(store, "well")
    run(store)
    assert serve(store) == 2
    assert serve(store) == 0
    first, second = hook_jobs(store)
    assert [event_of(job)["job"] for job in (first, second)] == ["a", "b"]
    event = event_of(first)
    assert (event["schema"], event["event"], event["state"], event["exit_code"]) == (1, "job.dead", "dead", 1)
    assert first.id == f"hook.h.{event['id']}"
    assert first.spec.env == {
        "QUEUECTL_EVENT": "job.dead",
        "QUEUECTL_EVENT_JOB": "a",
        "QUEUECTL_EVENT_STATE": "dead",
        "QUEUECTL_EVENT_EXIT_CODE": "1",
        "QUEUECTL_EVENT_QUEUE": "default",
        "QUEUECTL_EVENT_BATCH": "",
        "QUEUECTL_EVENT_LABEL": "true",
    }
    assert first.spec.label == "hook.h"
    assert shown(store).matched == 2


def test_events_before_the_hook_add_nothing(store: Store) -> None:
    kill(store, "a")
    add_hook(store)
    assert serve(store) == 0


def test_a_filter_and_several_kinds(store: Store) -> None:
    add_hook(store, on="dead,completed", where="queue:mail tag:urgent")
    for n, (queue, tags) in enumerate([("mail", ("urgent",)), ("mail", ()), ("other", ("urgent",))]):
        enqueue(store, f"j{n}", queue=queue, tags=tags)
        run(store, queue, exit_code=n)
    assert serve(store) == 1
    assert [event_of(job)["job"] for job in hook_jobs(store)] == ["j0"]


def test_jobs_of_hooks_raise_no_hooks(store: Store) -> None:
    add_hook(store, "first", on="enqueued,dead,completed,failed")
    add_hook(store, "second", on="enqueued,dead,completed,failed")
    kill(store, "a")
    assert serve(store) == 4
    run(store, "hooks", exit_code=1)
    assert serve(store) == 0
    assert len(hook_jobs(store)) == 4


@pytest.mark.doubles
def test_two_workers_and_one_event_add_one_job(store: Store, other: Store) -> None:
    add_hook(store)
    for n in range(10):
        kill(store, f"j{n}")
        race(lambda: serve(store), lambda: serve(other))
    assert sorted(event_of(job)["job"] for job in hook_jobs(store)) == sorted(f"j{n}" for n in range(10))
    assert shown(store).matched == 10


def test_a_worker_that_read_an_entry_before_another_one_changed_it_adds_nothing(store: Store) -> None:
    add_hook(store)
    kill(store, "a")
    late = Delivering(store)
    swap = store.swap

    def overtaken(swaps: Any) -> list[bool]:
        store.swap = swap  # type: ignore[method-assign]
        assert serve(store) == 1
        return swap(swaps)

    store.swap = overtaken  # type: ignore[method-assign]
    step = late.step(0.0)
    assert (step.jobs, step.more) == (0, True)
    assert late.step(0.0).jobs == 0
    assert len(hook_jobs(store)) == 1


def test_a_worker_that_read_a_hook_before_its_removal_does_not_restore_it(store: Store) -> None:
    add_hook(store)
    kill(store, "a")
    swap = store.swap

    def replaced(swaps: Any) -> list[bool]:
        store.swap = swap  # type: ignore[method-assign]
        changing.remove(store, "h")
        add_hook(store, job={"command": "other"})
        return swap(swaps)

    store.swap = replaced  # type: ignore[method-assign]
    assert Delivering(store).step(0.0).jobs == 0
    job = shown(store).job
    assert job is not None
    assert job["command"] == "other"
    assert hook_jobs(store) == []


def test_an_idle_hook_writes_nothing(store: Store) -> None:
    add_hook(store)
    worker, before = Delivering(store), reading.one(store, "h").version
    enqueue(store, *[f"j{n}" for n in range(250)])
    while worker.step(0.0).more:
        pass
    for second in range(59):
        assert not worker.step(float(second)).more
    assert reading.one(store, "h").version == before
    worker.step(60.0)
    after = reading.one(store, "h")
    assert after.version == before + 1
    worker.step(1000.0)
    assert reading.one(store, "h").version == after.version
    assert after.hook.cursor == store.event_cursor(None)


def test_the_cursor_is_stored_after_a_thousand_events(store: Store) -> None:
    add_hook(store)
    enqueue(store, *[f"j{n}" for n in range(delivering.EVENTS + 50)])
    serve(store)
    assert reading.one(store, "h").version == 2


def test_more_matches_than_one_swap_may_add(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "at_once", lambda _: 3)
    add_hook(store, on="enqueued")
    enqueue(store, *[f"j{n}" for n in range(10)])
    assert serve(store) == 10
    assert len({event_of(job)["job"] for job in hook_jobs(store)}) == 10


def test_deliveries_are_counted_and_a_failure_is_remembered_until_the_next_success(
    ground: Ground, store: Store
) -> None:
    add_hook(store, job={"command": "cat", "max_retries": 1, "backoff_factor": 0})
    kill(store, "a")
    serve(store)
    run(store, "hooks", exit_code=1)
    serve(store)
    since = shown(store).failing_since
    assert since is not None
    ground.clock.step(seconds=10)
    run(store, "hooks", exit_code=1)
    serve(store)
    assert shown(store).failing_since == since
    kill(store, "b")
    serve(store)
    run(store, "hooks")
    serve(store)
    assert (shown(store).matched, shown(store).delivered, shown(store).failing_since) == (2, 1, None)


def test_a_receiver_that_is_gone_pauses_a_webhook(store: Store) -> None:
    webhook(store)
    kill(store, "a")
    serve(store)
    run(store, "hooks", exit_code=GONE)
    kill(store, "b")
    assert hook_jobs(store)[0].state == "dead"
    step = Delivering(store).step(0.0)
    assert step.notes == ("hook h is paused: the receiver answered 410 Gone",)
    paused = shown(store).paused
    assert paused is not None
    kill(store, "c")
    assert serve(store) == 0
    changing.resume(store, "h")
    assert serve(store) == 1  # "c": the step that paused the hook has decided "b"


def test_a_command_with_the_same_exit_code_pauses_nothing(store: Store) -> None:
    add_hook(store, job={"command": "cat", "max_retries": 0})
    kill(store, "a")
    serve(store)
    run(store, "hooks", exit_code=GONE)
    serve(store)
    assert shown(store).paused is None


def test_retry_after_is_obeyed(ground: Ground, store: Store) -> None:
    webhook(store)
    kill(store, "a")
    serve(store)
    run(store, "hooks", exit_code=1, output_tail=f"503 not accepted\n{line(timedelta(minutes=7))}\n")
    [job] = hook_jobs(store)
    assert job.run_at - store.now() == timedelta(seconds=5)
    serve(store)
    [job] = hook_jobs(store)
    assert (job.state, job.run_at - store.now()) == ("failed", timedelta(minutes=7))
    assert serve(store) == 0
    assert hook_jobs(store)[0].version == job.version


def test_the_retries_of_a_webhook(store: Store) -> None:
    webhook(store)
    kill(store, "a")
    serve(store)
    retry = hook_jobs(store)[0].spec.retry
    delays = [retry.delay(failures, 0.5).total_seconds() for failures in range(1, 13)]
    assert delays == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]
    assert (retry.allows(12, 1), retry.allows(13, 1), retry.allows(1, GONE)) == (True, False, False)


def test_a_hook_that_falls_behind_the_retention_notes_a_gap(store: Store) -> None:
    add_hook(store)
    kill(store, "lost")
    assert store.trim_events(store.now() + FAR, 0, 1000)
    kill(store, "kept")
    assert serve(store) == 1
    assert shown(store).gap is not None
    assert [event_of(job)["job"] for job in hook_jobs(store)] == ["kept"]
    gap = shown(store).gap
    assert serve(store) == 0
    assert shown(store).gap == gap


def test_a_paused_hook_goes_on_with_the_events_of_the_pause_or_skips_them(store: Store) -> None:
    add_hook(store)
    changing.pause(store, "h", by="ada", reason="holiday")
    kill(store, "a")
    assert serve(store) == 0
    changing.resume(store, "h")
    assert serve(store) == 1
    changing.pause(store, "h", by="ada")
    kill(store, "b")
    changing.resume(store, "h", skip=True)
    assert serve(store) == 0


def test_add_put_and_remove(store: Store) -> None:
    add_hook(store)
    made = define({"on": ["dead"], "job": {"command": "cat"}}, settings=settings_of(), cwd="/")
    assert changing.add(store, "h", made).existing
    other = define({"on": ["dead"], "job": {"command": "other"}}, settings=settings_of(), cwd="/")
    with pytest.raises(Conflict, match="other content"):
        changing.add(store, "h", other)
    kill(store, "a")
    serve(store)
    version = reading.one(store, "h").version
    with pytest.raises(Changed):
        changing.put(store, "h", other, version - 1)
    assert changing.put(store, "h", other, version).existing
    assert (shown(store).matched, shown(store).job) == (1, other.job)
    changing.remove(store, "h")
    assert reading.every(store) == ([], [])
    for act in (reading.one, changing.remove, changing.resume):
        with pytest.raises(NotFound):
            act(store, "h")
    assert hook_jobs(store)[0].state == "pending"
    assert changing.add(store, "h", made).hook.matched == 0


def test_a_test_adds_a_job_for_a_made_up_event(store: Store) -> None:
    add_hook(store, on="failed")
    id = changing.add_test(store, "h", "abc", None)
    assert changing.add_test(store, "h", "abc", None) == id == "hook.h.test-abc"
    [job] = hook_jobs(store)
    assert (event_of(job)["event"], event_of(job)["job"]) == ("job.failed", "test")
    changing.add_test(store, "h", "xyz", {"event": "dead", "job": "j7", "exit_code": 3})
    event = event_of(hook_jobs(store)[1])
    assert (event["event"], event["job"], event["exit_code"]) == ("job.dead", "j7", 3)


def test_the_event_of_a_deleted_job(store: Store) -> None:
    add_hook(store, on="dead", where="state:dead")
    kill(store, "a")
    store.purge(Filter(), 10)
    assert serve(store) == 1
    assert hook_jobs(store)[0].spec.env["QUEUECTL_EVENT_LABEL"] == ""


def test_a_hook_of_a_newer_program_is_left_alone(store: Store) -> None:
    add_hook(store)
    entry = store.read_table("hooks")["h"]
    assert store.swap([Swap("hooks", "h", {**entry.value, "newer": 1}, entry.version)]) == [True]
    kill(store, "a")
    assert serve(store) == 0
    assert reading.every(store) == ([], ["h"])
    changing.remove(store, "h")


def test_a_hook_with_the_cursor_of_another_store_does_not_stop_the_others(store: Store) -> None:
    add_hook(store)
    add_hook(store, "other")
    entry = store.read_table("hooks")["h"]
    value = {**entry.value, "cursor": "of another store"}
    assert store.swap([Swap("hooks", "h", value, entry.version)]) == [True]
    kill(store, "a")
    assert serve(store) == 1
    assert [job.id.split(".")[1] for job in hook_jobs(store)] == ["other"]
