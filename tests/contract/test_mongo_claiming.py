"""Concurrent claims and saves of a MongoDB store: the queue lock, many claimers, and batches that are refused in
part."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from pymongo.errors import ExecutionTimeout

from contract.grounds import MongoGround, race
from contract.mongo_steps import Actor
from factories import LEASE, NOW, new_job, report, statuses
from facts import eventually
from queuectl.domain import lifecycle, topics
from queuectl.store.driver.attempt_ids import AttemptIds
from queuectl.store.driver.set_aside import SetAside
from queuectl.store.mongo import MongoStore, claim, queue_lock, ready_index, write
from queuectl.store.mongo.store import _SERVER_NOW
from queuectl.store.protocol import ClaimRequest, Swap

Opener = Callable[[], MongoStore]


@pytest.fixture
def ground(mongo_ground: MongoGround) -> MongoGround:
    return mongo_ground


@pytest.fixture
def opened(ground: MongoGround) -> Iterator[Opener]:
    """Handles that go by the server's own clock."""
    stores: list[MongoStore] = []

    def open_store() -> MongoStore:
        stores.append(MongoStore(ground.url))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


def claiming_by_hand(ground: MongoGround, worker: str = "late", limit: int = 5) -> Actor:
    """A claim that is done step by step."""
    request, ids = ClaimRequest(worker, (), limit, LEASE), AttemptIds(lambda: f"{worker:x>32}")
    return Actor(
        ground.base, lambda base: claim.claim(base, request, _SERVER_NOW, ids, SetAside(), random=lambda: 0.0)
    )


class TestQueueLock:
    @pytest.fixture
    def short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(queue_lock, "TTL", 300_000)
        monkeypatch.setattr(queue_lock, "GUARD_INTERVAL", 300_000)

    def limit(self, store: MongoStore, limit: int) -> None:
        assert store.swap([Swap("queues", "default", {"paused": False, "limit": limit}, 0)])[0]

    def fill(self, store: MongoStore, count: int) -> None:
        now = store.now()
        store.add([new_job(f"j{n}", now=now, run_at=now) for n in range(count)])

    def processing(self, ground: MongoGround) -> int:
        return ground.base["jobs"].count_documents({"state": "processing"})

    def test_a_limit_is_respected_by_many_concurrent_claims(
        self, ground: MongoGround, opened: Opener
    ) -> None:
        first = opened()
        self.fill(first, 60)
        self.limit(first, 3)
        done: list[str] = []

        def work(store: MongoStore, name: str) -> None:
            while len(done) < 30:
                taken = store.claim(name, (), 2, LEASE)
                assert self.processing(ground) <= 3
                now = store.now()
                ended = [lifecycle.finish(job, report(now=now), now=now, random_number=0.5) for job in taken]
                assert set(statuses(store.save(ended) if ended else [])) <= {"accepted"}
                done.extend(job.id for job in taken)

        handles = [opened() for _ in range(5)]
        race(*[lambda s=store, n=f"w{place}": work(s, n) for place, store in enumerate(handles)])
        assert len(set(done)) == len(done) >= 30

    @pytest.mark.usefixtures("short")
    def test_a_claim_delayed_beyond_its_queue_lock_takes_no_job(
        self, ground: MongoGround, opened: Opener
    ) -> None:
        store = opened()
        self.fill(store, 2)
        self.limit(store, 1)
        late = claiming_by_hand(ground).until("shared.find_one_and_update").until("jobs.aggregate")
        taken = eventually(lambda: store.claim("w1", (), 5, LEASE))
        assert [job.id for job in taken] == ["j0"]
        assert late.finish() == []
        assert self.processing(ground) == 1

    def test_a_delayed_claim_succeeds_if_no_other_took_the_queue_lock(
        self, ground: MongoGround, opened: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(queue_lock, "TTL", 300_000)
        store = opened()
        self.fill(store, 2)
        self.limit(store, 1)
        late = claiming_by_hand(ground).until("jobs.update_many")
        until = ground.base["shared"].find_one({})["turn"]
        eventually(lambda: server_time(ground) > until)
        assert [job.id for job in late.finish()] == ["j0"]

    @pytest.mark.usefixtures("short")
    def test_a_claim_after_the_end_of_its_queue_lock_is_not_sent(
        self, ground: MongoGround, opened: Opener
    ) -> None:
        store = opened()
        self.fill(store, 2)
        self.limit(store, 1)
        late = claiming_by_hand(ground).until("jobs.update_many")
        assert [job.id for job in eventually(lambda: store.claim("w1", (), 5, LEASE))] == ["j0"]
        with pytest.raises(ExecutionTimeout):
            late.finish()
        assert self.processing(ground) == 1

    @pytest.mark.usefixtures("short")
    def test_the_queue_lock_of_a_dead_process_expires(self, ground: MongoGround, opened: Opener) -> None:
        store = opened()
        self.fill(store, 1)
        self.limit(store, 1)
        claiming_by_hand(ground).until("jobs.update_many").kill()
        entry = ground.base["shared"].find_one({})
        ground.base["shared"].update_one({}, {"$set": {"turn": entry["turn"]}})
        assert [job.id for job in eventually(lambda: store.claim("w1", (), 5, LEASE))] == ["j0"]

    def test_a_process_releases_only_its_own_queue_lock(self, ground: MongoGround, opened: Opener) -> None:
        self.limit(opened(), 1)
        with queue_lock.acquired(ground.base, ["default"], _SERVER_NOW) as taken:
            turn = taken["default"]
            queue_lock._release(ground.base, {"default": queue_lock.QueueLock(turn.until - 1, turn.settings)})
            assert ground.base["shared"].find_one({})["turn"] == turn.until
        assert ground.base["shared"].find_one({})["turn"] == 0

    def test_a_queue_whose_settings_were_removed_needs_no_queue_lock(
        self, ground: MongoGround, opened: Opener
    ) -> None:
        store = opened()
        self.fill(store, 1)
        self.limit(store, 1)
        late = claiming_by_hand(ground).until("shared.find_one_and_update")
        assert store.swap([Swap("queues", "default", None, 1)])[0]
        assert [job.id for job in late.finish()] == ["j0"]

    def test_a_claim_after_a_change_of_the_limit_uses_the_new_limit(
        self, ground: MongoGround, opened: Opener
    ) -> None:
        store = opened()
        self.fill(store, 5)
        self.limit(store, 5)
        late = claiming_by_hand(ground).until("shared.find_one_and_update")
        assert store.swap([Swap("queues", "default", {"paused": False, "limit": 2}, 1)])[0]
        assert len(late.finish()) == 2

    def test_the_queue_lock_is_taken_only_if_a_job_can_be_claimed(
        self, opened: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []
        ask = queue_lock._acquire
        monkeypatch.setattr(
            queue_lock, "_acquire", lambda base, queue, now: asked.append(queue) or ask(base, queue, now)
        )
        store = opened()
        now = store.now()
        for n in range(5):
            assert store.swap([Swap("queues", f"q{n}", {"paused": False, "limit": 1}, 0)])[0]
        store.add([new_job(f"free{n}", now=now, run_at=now) for n in range(2)])
        store.add([new_job(f"j{n}", now=now, run_at=now, queue=f"q{n % 5}") for n in range(20)])
        assert [job.id for job in store.claim("w1", (), 2, LEASE)] == ["free0", "free1"]
        assert asked == []
        assert [job.id for job in store.claim("w1", (), 2, LEASE)] == ["j0", "j1"]
        assert asked == ["q0", "q1"]
        assert [job.id for job in store.claim("w1", (), 9, LEASE)] == ["j2", "j3", "j4"]
        assert store.claim("w1", (), 9, LEASE) == []

    def test_the_queue_lock_of_a_dead_process_does_not_delay_other_queues(
        self, ground: MongoGround, opened: Opener
    ) -> None:
        store = opened()
        news = store.subscribe(topics.WORK)
        self.fill(store, 1)
        self.limit(store, 1)
        claiming_by_hand(ground).until("jobs.update_many").kill()
        now = store.now()
        store.add([new_job("free", now=now, run_at=now, queue="other")])
        assert [job.id for job in store.claim("w1", (), 1, LEASE)] == ["free"]
        assert store.claim("w1", (), 1, LEASE) == []
        assert news.wait(3)
        assert store.claim("w1", (), 1, LEASE) == []
        assert news.wait(0.5), "what others are at is looked at again in a moment"

    def test_a_late_claim_takes_no_job_of_a_queue_that_was_paused_meanwhile(
        self, ground: MongoGround, opened: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ready_index, "VALID_FOR", 300_000)
        store = opened()
        self.fill(store, 1)
        late = claiming_by_hand(ground).until("jobs.update_many")
        assert store.swap([Swap("queues", "default", {"paused": True, "limit": None}, 0)])[0]
        looked = server_time(ground)
        eventually(lambda: server_time(ground) > looked + 300_000)
        assert late.finish() == []


def server_time(ground: MongoGround) -> int:
    """Microseconds, by the server's clock."""
    return int(ground.base.command("hello")["localTime"].timestamp() * 1_000_000)


class TestConcurrentClaims:
    @pytest.mark.parametrize("handles", [1, 16])
    def test_every_concurrent_claim_gets_a_job_while_enough_jobs_exist(
        self, ground: MongoGround, handles: int
    ) -> None:
        stores = [ground.open() for _ in range(handles)] * (16 // handles)
        stores[0].add([new_job(f"j{n}") for n in range(400)])
        for round_ in range(4):
            taken = race(*[
                lambda s=store, n=f"w{place}": s.claim(n, (), 5, LEASE) for place, store in enumerate(stores)
            ])  # fmt: skip
            assert all(taken), round_
            ids = [job.id for jobs in taken for job in jobs]
            assert len(set(ids)) == len(ids)
            attempts = {job.attempt_id for jobs in taken for job in jobs}
            assert len(attempts) == len(ids)
        stored = ground.base["jobs"].count_documents({"state": "processing"})
        assert stored == ground.base["jobs"].count_documents({"attempts": 1, "version": 2})

    def test_a_claim_that_lost_all_chosen_jobs_chooses_others(self, ground: MongoGround) -> None:
        store = ground.open()
        store.add([new_job(f"j{n}", run_at=NOW) for n in range(20)])
        late = claiming_by_hand(ground, limit=2).until("jobs.update_many")
        assert len(store.claim("w1", (), 2, LEASE)) == 2
        assert [job.id for job in late.finish()] == ["j2", "j3"]

    def test_a_claim_that_lost_some_chosen_jobs_returns_the_rest(self, ground: MongoGround) -> None:
        store = ground.open()
        store.add([new_job(f"j{n}", run_at=NOW) for n in range(3)])
        late = claiming_by_hand(ground, limit=2).until("jobs.update_many")
        assert len(store.claim("w1", (), 1, LEASE)) == 1
        assert [job.id for job in late.finish()] == ["j1"]

    def test_two_concurrent_promotions_of_delayed_jobs_promote_each_once(self, ground: MongoGround) -> None:
        store = ground.open()
        later = NOW.replace(year=NOW.year - 1)
        store.add([new_job(f"j{n}", now=NOW, run_at=NOW.replace(hour=13)) for n in range(5)])
        ground.base["jobs"].update_many({}, {"$set": {"delayed": int(later.timestamp() * 1_000_000)}})
        late = claiming_by_hand(ground, limit=9).until("jobs.update_many")
        assert len(store.claim("w1", (), 2, LEASE)) == 2
        assert [job.id for job in late.finish()] == ["j2", "j3", "j4"]
        assert store.describe(thorough=True).faults == ()


class TestSaves:
    def test_of_concurrent_writers_each_version_belongs_to_one(self, ground: MongoGround) -> None:
        ids = [f"j{n}" for n in range(8)]
        stores = [ground.open() for _ in range(5)]
        stores[0].add([new_job(id) for id in ids])
        accepted, lock = Counter[str](), threading.Lock()

        def write(place: int) -> None:
            for turn in range(12):
                some = [stores[place].get([id])[id] for id in ids[(place + turn) % 3 :]]
                edited = [
                    lifecycle.edit(job, priority=place, run_at=None, queue=None, now=NOW) for job in some
                ]
                for job, answer in zip(edited, stores[place].save(edited), strict=True):
                    with lock:
                        accepted[job.id] += answer.status == "accepted"

        race(*[lambda p=place: write(p) for place in range(5)])
        assert {job.id: job.version - 1 for job in stores[0].get(ids).values()} == accepted

    def test_each_job_of_a_batch_gets_its_own_status(self, ground: MongoGround) -> None:
        store = ground.open()
        added = store.add([new_job("a", unique_key="k"), new_job("b"), new_job("c"), new_job("d")])
        jobs = {each.job.id: each.job for each in added}
        ended = lifecycle.cancel(jobs["a"], by="me", reason=None, now=NOW)
        assert statuses(store.save([ended])) == ["accepted"]
        store.add([new_job("e", unique_key="k")])
        risen = lifecycle.retry(store.get(["a"])["a"], now=NOW)
        held = [lifecycle.hold(jobs[id], now=NOW) for id in "bcd"]
        assert statuses(store.save([held[1]])) == ["accepted"]
        ghost = lifecycle.hold(new_job("ghost"), now=NOW)
        answers = store.save([held[0], risen, held[1], ghost, held[2]])
        assert statuses(answers) == ["accepted", "duplicate", "stale", "stale", "accepted"]
        assert store.describe(thorough=True).faults == ()

    def test_an_accepted_save_is_reported_although_others_saved_since(self, ground: MongoGround) -> None:
        store = ground.open()
        [a, b] = [each.job for each in store.add([new_job("a"), new_job("b")])]
        assert statuses(store.save([lifecycle.hold(a, now=NOW)])) == ["accepted"]
        batch = [lifecycle.hold(a, now=NOW), lifecycle.hold(b, now=NOW)]
        late = Actor(ground.base, lambda base: write.save(base, batch, NOW)).until("jobs.find")
        for change in (lifecycle.release, lifecycle.hold) * 6:
            assert statuses(store.save([change(store.get(["b"])["b"], now=NOW)])) == ["accepted"]
        assert late.finish() == ["stale", b.version + 1]
