"""A filter selects the same jobs on every store: each field on 2,000 random jobs, and operations during changes."""

import random
import threading
from contextlib import closing
from datetime import timedelta

import pytest
from msgspec.structs import replace

from circles import its_turn
from factories import NOW, in_state, statuses
from queuectl.domain.job import STATES, Job
from queuectl.domain.query import Filter, Page
from queuectl.domain.where import EVERY_JOB, Where, parse
from queuectl.service import commands, matching, operation
from queuectl.service.changing import Change
from queuectl.store.protocol import Store

JOBS = 2000
TEXTS = (
    EVERY_JOB,
    "state:dead",
    "state:dead,failed queue:mail",
    "-state:pending",
    "queue:mail",
    "queue:m*",
    "queue:mail,web",
    "tag:a",
    "tag:a tag:b",
    "tag:a*",
    "batch:b1",
    "batch:b1 -state:dead",
    "schedule:s1",
    "id:s1:*",
    "id:j-7",
    "id:j-7*",
    "worker:w1",
    "cause:person",
    "outcome:exited",
    "number:1-5,9",
    "number:>1990",
    "number:<3",
    "number:500-520 state:held",
    "number:700",
    "attempts:>0",
    "priority:<0",
    "priority:-3-3 queue:web",
    "exit:1",
    "exit:>0 queue:mail",
    "signal:9",
    "since:3h",
    "before:3h",
    "ended:2h",
    "older:2h",
    "older:2h since:9h queue:mail",
    "cmd:~7",
    'cmd:"echo 7, x"',
    "error:~exit",
    "after:parent",
    "meta.team:web",
    "meta.n:>1",
    "state:dead state:failed",
    "queue:mail queue:web",
    "number:-5",
    "priority:-5--3",
    "id:j_7*",
    "id:J-7*",
    "schedule:s1 id:j-7",
)


def random_jobs() -> list[Job]:
    chance = random.Random(7)
    jobs = []
    for n in range(JOBS):
        state = chance.choice(STATES)
        scheduled = n % 10 == 0
        job = in_state(
            state,
            f"s1:{n}" if scheduled else f"j-{n}",
            now=NOW - timedelta(minutes=chance.randrange(1, 600)),
            queue=chance.choice(("mail", "web", "default")),
            priority=chance.randrange(-5, 6),
            command=f"echo {n}, x",
            tags=tuple(chance.sample(("a", "b", "ab"), chance.randrange(3))),
            batch=chance.choice((None, "b1", "b2")),
            schedule="s1" if scheduled else None,
            meta=chance.choice(({}, {"team": "web"}, {"n": n})),
        )
        jobs.append(job)
    return jobs


def stored(store: Store, jobs: list[Job]) -> list[Job]:
    """The jobs in their states, stored, as a store returns them."""
    for start in range(0, len(jobs), 500):
        step = jobs[start : start + 500]
        added = [each.job for each in store.add([replace(job, version=1) for job in step])]
        changed = [
            replace(job, number=each.number, version=each.version)
            for job, each in zip(step, added, strict=True)
        ]
        assert set(statuses(store.save(changed))) == {"accepted"}
    found = store.get([job.id for job in jobs])
    return sorted(found.values(), key=lambda job: job.number)


def where(text: str) -> Where:
    return parse(text, NOW)


@pytest.mark.waits
def test_each_field_selects_the_jobs_that_match(store: Store, thorough: bool) -> None:
    """`make test` reads the pages of a third of the filters each day: the pages of all filters share their code."""
    jobs = stored(store, random_jobs())
    for n, text in enumerate(TEXTS):
        wanted = where(text)
        expected = [job.id for job in jobs if wanted.matches(job)]
        assert matching.ids(store, wanted) == expected[::-1], text
        assert [job.id for found, _ in matching.walk(store, wanted) for job in found] == expected, text
        assert matching.counts(store, wanted).total() == len(expected), text
        preview = matching.preview(store, wanted)
        assert (preview.matched, preview.sample) == (len(expected), expected[:5]), text
        if thorough or its_turn(n, 3):
            assert paged(store, wanted, "number", 300) == expected, text
            assert paged(store, wanted, "created", 300) == expected[::-1], text
    assert len(matching.ids(store, where("exit:1"))) > 100
    assert len(matching.ids(store, where("number:700"))) == 1


@pytest.mark.parametrize("sort", ["updated", "next", "ended"])
def test_each_order_lists_the_jobs_that_match_once(store: Store, sort: str, thorough: bool) -> None:
    jobs = stored(store, random_jobs()[: 600 if thorough else 200])
    for text in ("exit:1", "queue:mail -state:dead", "tag:a*"):
        expected = {job.id for job in jobs if where(text).matches(job)}
        found = paged(store, where(text), sort, 7)
        assert (len(found), set(found)) == (len(expected), expected), text


def paged(store: Store, wanted: Where, sort: str, limit: int) -> list[str]:
    """The ids on all pages of a list."""
    ids, after = list[str](), None
    while True:
        found = matching.page(store, wanted, Page(limit=limit, sort=sort, after=after))  # type: ignore[arg-type]
        ids += [job.id for job in found.jobs]
        if (after := found.next) is None:
            return ids


class TestOperations:
    """Operations by filter while other processes change the same jobs."""

    def fill(self, store: Store, count: int, **fields: object) -> None:
        for start in range(0, count, 500):
            size = min(500, count - start)
            ids = (f"{fields.get('queue', 'q')}-{start + n}" for n in range(size))
            store.add([in_state("pending", id, now=store.now(), **fields) for id in ids])

    def cancel(self, store: Store, text: str) -> list[Change]:
        def act(ids: object) -> list[Change]:
            return commands.cancel(store, ids, by="test")  # type: ignore[arg-type]

        return [change for step in operation.over(store, where(text), act) for change in step]

    def test_exactly_the_matching_jobs_up_to_the_bound_are_changed(
        self, store: Store, thorough: bool
    ) -> None:
        count = 50_000 if thorough else 3000
        self.fill(store, count, queue="mail")
        self.fill(store, 100, queue="web")
        ended, claimed = threading.Event(), list[Job]()

        def works() -> None:
            while not ended.is_set():
                claimed.extend(store.claim("w1", ["mail"], 5, timedelta(minutes=5)))

        def enqueues() -> None:
            n = 0
            while not ended.is_set():
                store.add([in_state("pending", f"late-{n}", now=store.now(), queue="mail")])
                n += 1

        threads = [threading.Thread(target=act) for act in (works, enqueues)]
        for thread in threads:
            thread.start()
        try:
            bound = store.last_number()
            changes = self.cancel(store, "queue:mail state:pending")
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        changed = {change.id for change in changes if change.changed}
        assert len(changed) == len(changes)
        taken = {job.id for job in claimed}
        for found, _ in matching.walk(store, where("queue:mail")):
            for job in found:
                assert (job.state == "cancelled") == (job.id in changed)
                assert job.id not in taken or job.state == "processing"
                if job.number <= bound:
                    assert job.state in ("cancelled", "processing")
        assert store.counts(Filter(queue="web")).states() == {"pending": 100}

    def test_two_opposite_operations_end(self, store: Store) -> None:
        self.fill(store, 1000, queue="mail")

        def acts(text: str, act: object) -> None:
            for _ in operation.over(store, where(text), lambda ids: act(store, ids)):  # type: ignore[operator]
                pass

        threads = [
            threading.Thread(target=acts, args=("state:pending", commands.hold)),
            threading.Thread(target=acts, args=("state:held", commands.release)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=50)
        assert not any(thread.is_alive() for thread in threads)
        assert set(store.counts(Filter()).states()) <= {"pending", "held"}

    @pytest.mark.doubles
    def test_an_operation_stops_between_two_steps_and_resumes_behind_its_number(self, store: Store) -> None:
        self.fill(store, 1200, queue="mail")

        def hold(ids: object) -> list[Change]:
            return commands.hold(store, ids)  # type: ignore[arg-type]

        with closing(operation.over(store, where("queue:mail"), hold)) as steps:
            for _ in steps:
                break
            reached = steps.reached
        assert store.counts(Filter()).states() == {"pending": 700, "held": 500}
        rest = operation.over(store, where(f"queue:mail number:>{reached}"), hold)
        assert sum(len(step) for step in rest) == 700
        assert rest.reached is None
