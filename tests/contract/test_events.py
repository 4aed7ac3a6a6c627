"""Events: written with the change or not at all, in the order of the changes, and read by cursor without a gap."""

import tracemalloc
from collections.abc import Sequence
from datetime import timedelta

import pytest
from msgspec.structs import replace

from contract.grounds import Ground, SteppedClock, race
from factories import LEASE, NOW, in_state, new_job, report
from queuectl.domain import lifecycle
from queuectl.domain.event import Actor, Event, between
from queuectl.domain.job import Job
from queuectl.domain.query import Filter
from queuectl.errors import InvalidInput
from queuectl.store.driver import codec
from queuectl.store.protocol import EventPage, Saved, Store, Swap

FAR = timedelta(days=9999)


def add(store: Store, *jobs: Job) -> list[Job]:
    """Add the jobs with their events."""
    return [added.job for added in store.add(jobs, [between(None, job) for job in jobs])]


def save(store: Store, before: Job, after: Job) -> Saved:
    """Save one change with its event."""
    return store.save([after], [between(before, after)])[0]


def claim(store: Store, count: int = 1) -> list[Job]:
    return store.claim("w", [], count, LEASE, tell=True)


def finished(job: Job, exit_code: int = 0) -> Job:
    return lifecycle.finish(job, report(exit_code=exit_code), now=NOW, random_number=0.5)


def read(store: Store, after: str | None = None) -> list[tuple[str, Event]]:
    """All events behind a cursor."""
    found = list[tuple[str, Event]]()
    while True:
        page = store.read_events(after, 100)
        assert not page.gap
        if not page.events:
            return found
        assert page.next == page.events[-1][0]
        found += page.events
        after = page.next


def told(store: Store, after: str | None = None) -> list[tuple[str, str]]:
    """The events behind a cursor as kind and job."""
    return [(event.event.removeprefix("job."), event.job) for _, event in read(store, after)]


@pytest.mark.doubles
def test_a_new_store_has_no_events(store: Store) -> None:
    end = store.event_cursor(None)
    assert store.read_events(None, 10) == EventPage([], end)
    assert store.read_events(end, 10) == EventPage([], end)
    assert store.event_cursor(NOW - FAR) == end
    assert store.trim_events(NOW + FAR, 0, 100) == 0


@pytest.mark.doubles
def test_the_changes_of_a_job_are_told_in_their_order(store: Store, clock: SteppedClock) -> None:
    [job] = add(store, new_job("a", queue="q", batch="b"))
    clock.step(seconds=1)
    [job] = claim(store)
    clock.step(seconds=1)
    assert save(store, job, finished(job)).status == "accepted"
    events = [event for _, event in read(store)]
    same = {"job": "a", "number": job.number, "queue": "q", "batch": "b"}
    run = {"attempt": 1, "attempt_id": job.attempt_id, "worker": "w"}
    assert events == [
        Event(event="job.enqueued", at=NOW, state="pending", **same),  # type: ignore[arg-type]
        Event(
            event="job.started", at=NOW + timedelta(seconds=1), state="processing", before="pending", **same, **run  # type: ignore[arg-type]
        ),
        Event(
            event="job.completed", at=NOW + timedelta(seconds=2), state="completed", before="processing",
            exit_code=0, **same, **run,  # type: ignore[arg-type]
        ),
    ]  # fmt: skip


@pytest.mark.doubles
def test_the_number_of_a_new_job_is_in_its_event(store: Store) -> None:
    jobs = add(store, *(new_job(f"j{n}") for n in range(5)))
    events = [event for _, event in read(store)]
    assert [(event.job, event.number) for event in events] == [(job.id, job.number) for job in jobs]


@pytest.mark.doubles
def test_an_event_is_written_only_if_the_caller_gives_one(store: Store) -> None:
    store.add([new_job("a"), new_job("b")], [None, between(None, new_job("b"))])
    jobs = store.claim("w", [], 2, LEASE)
    store.save([finished(job) for job in jobs])
    assert told(store) == [("enqueued", "b")]


@pytest.mark.doubles
def test_a_refused_new_job_has_no_event(store: Store) -> None:
    add(store, new_job("a", unique_key="k", content="1"))
    add(store, new_job("a", content="1"), new_job("b", unique_key="k"), new_job("c"))
    add(store, new_job("a", content="2"), new_job("c"))
    assert told(store) == [("enqueued", "a"), ("enqueued", "c")]


@pytest.mark.doubles
def test_a_refused_change_has_no_event(store: Store) -> None:
    [a, b, c] = add(store, new_job("a"), new_job("b"), new_job("c"))
    end = store.event_cursor(None)
    held = [lifecycle.hold(job, now=NOW) for job in (a, b, c)]
    held[1] = replace(held[1], version=7)
    events = [between(before, after) for before, after in zip((a, b, c), held, strict=True)]
    assert [saved.status for saved in store.save(held, events)] == ["accepted", "stale", "accepted"]
    assert told(store, end) == [("held", "a"), ("held", "c")]


@pytest.mark.doubles
def test_a_change_that_is_refused_for_its_key_has_no_event(store: Store) -> None:
    [first] = add(store, in_state("cancelled", "a", unique_key="k"))
    add(store, new_job("b", unique_key="k"))
    end = store.event_cursor(None)
    assert save(store, first, lifecycle.retry(first, now=NOW)).status == "duplicate"
    assert told(store, end) == []


@pytest.mark.doubles
def test_a_repeated_call_after_a_lost_reply_writes_no_second_event(store: Store) -> None:
    job = new_job("a")
    add(store, job)
    [stored] = add(store, job)
    held = lifecycle.hold(stored, now=NOW)
    assert [save(store, stored, held).status for _ in range(2)] == ["accepted", "stale"]
    fresh = store.get(["a"])["a"]
    cancelled = lifecycle.cancel(fresh, by="me", reason=None, now=NOW)
    save(store, fresh, cancelled)
    for _ in range(2):
        store.purge(Filter(id_prefix="a"), 1, tell=Actor())
    swap = Swap("schedules", "s", {}, 0, adding=(new_job("b"),), telling=(between(None, new_job("b")),))
    assert [store.swap([swap]) for _ in range(2)] == [[True], [False]]
    kinds = [("enqueued", "a"), ("held", "a"), ("cancelled", "a"), ("deleted", "a"), ("enqueued", "b")]
    assert told(store) == kinds


def test_of_two_changes_of_one_version_one_has_an_event(store: Store, other: Store) -> None:
    jobs = add(store, *(new_job(f"j{n}") for n in range(20)))
    end = store.event_cursor(None)

    def hold(handle: Store) -> int:
        after = [lifecycle.hold(job, now=NOW) for job in jobs]
        events = [between(a, b) for a, b in zip(jobs, after, strict=True)]
        return sum(saved.status == "accepted" for saved in handle.save(after, events))

    assert sum(race(lambda: hold(store), lambda: hold(other))) == 20
    assert sorted(told(store, end)) == sorted(("held", job.id) for job in jobs)


@pytest.mark.doubles
def test_a_claim_tells_the_start_of_each_job(store: Store, clock: SteppedClock) -> None:
    add(store, new_job("a"), new_job("b"), new_job("c", priority=9))
    end = store.event_cursor(None)
    clock.step(seconds=3)
    jobs = claim(store, 2)
    events = [event for _, event in read(store, end)]
    for event, job in zip(events, jobs, strict=True):
        assert job.lease
        assert (event.event, event.state, event.before) == ("job.started", "processing", "pending")
        assert (event.job, event.number, event.queue) == (job.id, job.number, "default")
        assert (event.attempt, event.attempt_id, event.worker) == (1, job.lease.attempt_id, "w")
        assert event.at == clock.now()
    assert told(store, end) == [("started", "c"), ("started", "a")]


@pytest.mark.doubles
def test_a_claim_of_a_failed_job_names_the_state_before(store: Store, clock: SteppedClock) -> None:
    add(store, new_job("a"))
    [job] = claim(store)
    save(store, job, finished(job, exit_code=1))
    clock.step(days=1)
    claim(store)
    events = [event for _, event in read(store)]
    assert [(event.event, event.before, event.attempt) for event in events] == [
        ("job.enqueued", None, None),
        ("job.started", "pending", 1),
        ("job.failed", "processing", 1),
        ("job.started", "failed", 2),
    ]


@pytest.mark.doubles
def test_a_swap_tells_the_jobs_that_it_adds(store: Store) -> None:
    add(store, new_job("known"))
    end = store.event_cursor(None)
    jobs = (new_job("known"), new_job("a", hold=True), new_job("b"), new_job("quiet"))
    events = (*(between(None, job) for job in jobs[:3]), None)
    assert store.swap([Swap("schedules", "s", {}, 5, adding=jobs, telling=events)]) == [False]
    assert told(store, end) == []
    assert store.swap([Swap("schedules", "s", {}, 0, adding=jobs, telling=events)]) == [True]
    assert told(store, end) == [("held", "a"), ("enqueued", "b")]
    assert {event.number for _, event in read(store, end)} == {store.get([i])[i].number for i in "ab"}


@pytest.mark.doubles
def test_a_deletion_tells_the_deleted_jobs_if_it_is_asked_to(store: Store) -> None:
    add(store, in_state("completed", "a", queue="q"), in_state("dead", "b"), new_job("c"))
    end = store.event_cursor(None)
    assert store.purge(Filter(queue="q"), 9) == ["a"]
    assert told(store, end) == []
    assert store.purge(Filter(), 9, tell=Actor("me@host", "cli")) == ["b"]
    [(_, event)] = read(store, end)
    assert (event.event, event.job, event.state) == ("job.deleted", "b", "dead")
    assert (event.by, event.via) == ("me@host", "cli")


@pytest.mark.doubles
def test_a_reader_goes_on_from_the_cursor_of_every_event(store: Store) -> None:
    add(store, *(new_job(f"j{n}") for n in range(7)))
    claim(store, 3)
    everything = read(store)
    assert len({cursor for cursor, _ in everything}) == 10
    for place, (cursor, _) in enumerate(everything, 1):
        assert read(store, cursor) == everything[place:]
        page = store.read_events(cursor, 2)
        assert page.events == everything[place : place + 2]
    assert read(store, everything[-1][0]) == []
    assert store.event_cursor(None) == everything[-1][0]


@pytest.mark.doubles
def test_the_cursor_of_a_time_is_behind_the_older_events(store: Store, clock: SteppedClock) -> None:
    times = []
    for n in range(9):
        times.append(clock.now())
        add(store, new_job(f"j{n}"), new_job(f"k{n}"))
        clock.step(minutes=1)
    for n, at in enumerate(times):
        assert len(read(store, store.event_cursor(at))) == 18 - 2 * n
        assert len(read(store, store.event_cursor(at + timedelta(seconds=1)))) == 16 - 2 * n
    assert len(read(store, store.event_cursor(NOW - FAR))) == 18
    assert read(store, store.event_cursor(NOW + FAR)) == []


@pytest.mark.doubles
@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "9" * 30, "\u0661", "1 ", "9" * 5000, "0x10", "a-b"])
def test_a_text_that_is_no_cursor_is_refused(store: Store, text: str) -> None:
    add(store, new_job("a"))
    with pytest.raises(InvalidInput, match="is no cursor"):
        store.read_events(text, 10)


@pytest.mark.doubles
def test_old_events_are_trimmed_in_steps(store: Store, clock: SteppedClock) -> None:
    for n in range(6):
        add(store, new_job(f"j{n}"))
        clock.step(hours=1)
    assert store.trim_events(NOW + timedelta(hours=4), 1000, 3) == 3
    assert store.trim_events(NOW + timedelta(hours=4), 1000, 3) == 1
    assert store.trim_events(NOW + timedelta(hours=4), 1000, 3) == 0
    assert told(store) == [("enqueued", "j4"), ("enqueued", "j5")]


@pytest.mark.doubles
def test_events_beyond_the_greatest_number_are_trimmed(store: Store) -> None:
    add(store, *(new_job(f"j{n}") for n in range(10)))
    assert store.trim_events(NOW - FAR, 4, 5) == 5
    assert store.trim_events(NOW - FAR, 4, 5) == 1
    assert store.trim_events(NOW - FAR, 4, 5) == 0
    assert told(store) == [("enqueued", f"j{n}") for n in range(6, 10)]


@pytest.mark.doubles
def test_a_cursor_of_a_trimmed_event_has_a_gap(store: Store) -> None:
    add(store, *(new_job(f"j{n}") for n in range(10)))
    cursors = [cursor for cursor, _ in read(store)]
    assert store.trim_events(NOW - FAR, 4, 100) == 6
    for cursor in cursors[:5]:
        page = store.read_events(cursor, 2)
        assert page.gap
        assert [event.job for _, event in page.events] == ["j6", "j7"]
        assert store.read_events(page.next, 2).gap is False
    assert told(store, cursors[5]) == told(store)
    assert store.read_events(None, 1).gap is False


@pytest.mark.doubles
def test_a_cursor_has_a_gap_when_every_event_was_trimmed(store: Store) -> None:
    add(store, *(new_job(f"j{n}") for n in range(4)))
    cursors = [cursor for cursor, _ in read(store)]
    assert store.trim_events(NOW + FAR, 0, 100) == 4
    page = store.read_events(cursors[1], 10)
    assert (page.events, page.gap) == ([], True)
    assert store.read_events(page.next, 10) == EventPage([], page.next)
    assert store.read_events(cursors[3], 10) == EventPage([], cursors[3])
    add(store, new_job("later"))
    assert told(store, cursors[3]) == told(store, page.next) == [("enqueued", "later")]
    assert read(store)[0][0] not in cursors


def test_a_reader_sees_each_kept_event_once_while_others_write_and_trim(store: Store, other: Store) -> None:
    rounds, keep = 40, 50

    def write() -> list[str]:
        for n in range(rounds):
            add(other, *(new_job(f"j{n}-{k}") for k in range(5)))
            other.trim_events(NOW - FAR, keep, 10)
        return []

    def follow() -> list[str]:
        seen, after, gaps = list[str](), store.read_events(None, 1).next, 0
        while not seen or seen[-1] != f"j{rounds - 1}-4":
            page = store.read_events(after, 7)
            gaps += page.gap
            seen += [event.job for _, event in page.events]
            after = page.next
        return [*seen, f"gaps {gaps}"]

    _, [*seen, gaps] = race(write, follow)
    wanted = [f"j{n}-{k}" for n in range(rounds) for k in range(5)]
    assert seen == [job for job in wanted if job in set(seen)]
    if gaps == "gaps 0":
        assert seen[1:] == wanted[wanted.index(seen[1]) :]


def test_a_reader_misses_no_event_of_several_writers(ground: Ground, store: Store) -> None:
    handles = [ground.open() for _ in range(3)]

    def write(place: int) -> list[str]:
        for n in range(30):
            [job] = add(handles[place], new_job(f"w{place}-{n}"))
            save(handles[place], job, lifecycle.hold(job, now=NOW))
        return []

    def follow() -> Sequence[tuple[str, str]]:
        seen, after = list[tuple[str, str]](), store.event_cursor(NOW - FAR)
        while len(seen) < 180:
            page = store.read_events(after, 11)
            seen += [(event.event, event.job) for _, event in page.events]
            after = page.next
        return seen

    *_, seen = race(*(lambda place=place: write(place) for place in range(3)), follow)  # type: ignore[misc]
    assert len(set(seen)) == 180
    for job in {job for _, job in seen}:
        assert [kind for kind, other in seen if other == job] == ["job.enqueued", "job.held"]


def test_reading_many_events_needs_little_memory(store: Store) -> None:
    job = new_job("a")
    event = between(None, job)
    for start in range(0, 20_000, 500):
        jobs = [replace(job, id=f"{n}") for n in range(start, start + 500)]
        store.add(jobs, [event] * 500)
    tracemalloc.start()
    count, after = 0, None
    while (page := store.read_events(after, 1000)).events:
        count, after = count + len(page.events), page.next
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert most < 4 << 20, f"{most} bytes"


def test_an_event_that_cannot_be_decoded_is_omitted() -> None:
    line = codec.event_line(Event(event="job.held", job="a", queue="q", state="held"))
    newer = line.replace("job.held", "job.dreamt")
    rows = [("1", 5, 7, line), ("2", 5, 7, newer), ("3", 5, 7, "{"), ("4", 5, None, line)]
    assert [(cursor, event.number) for cursor, event in codec.events(rows)] == [("1", 7), ("4", 0)]
