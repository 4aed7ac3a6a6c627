"""Workers by name: finding a worker, naming a new worker, and forgetting a lost worker."""

import pytest

from contract.grounds import SteppedClock
from queuectl.config import Settings
from queuectl.domain.names import LONGEST, is_name
from queuectl.errors import Conflict, InvalidInput, NotFound
from queuectl.service import registry, worker_status
from queuectl.store.memory import MemoryStore
from service.scenes import get, heartbeat, put


def named(store: MemoryStore, settings: Settings, *words: str, lost: bool = False) -> list[str]:
    found = registry.chosen(worker_status.workers(store, settings), words, lost=lost)
    return [item.worker.id for item in found]


class TestFindByName:
    def test_a_worker_is_found_by_name_by_name_and_host_or_by_id(
        self, store: MemoryStore, settings: Settings
    ) -> None:
        heartbeat(store, "night", id="1", host="atlas")
        heartbeat(store, "day", id="2", host="beta")
        for words in (("night",), ("night@atlas",), ("1",), ("night", "1", "night@atlas")):
            assert named(store, settings, *words) == ["1"]
        assert named(store, settings, "day", "night") == ["2", "1"]

    def test_a_name_on_several_hosts_is_refused_with_the_full_names(
        self, store: MemoryStore, settings: Settings
    ) -> None:
        heartbeat(store, "queue", id="1", host="atlas")
        heartbeat(store, "queue", id="2", host="beta")
        with pytest.raises(InvalidInput, match="2 workers are called 'queue'") as refused:
            named(store, settings, "queue")
        assert refused.value.hint == "name one of: queue@atlas, queue@beta"
        assert named(store, settings, "queue@beta") == ["2"]

    def test_two_workers_of_one_name_and_host_are_named_by_id(
        self, store: MemoryStore, settings: Settings
    ) -> None:
        heartbeat(store, "queue", id="1", host="atlas")
        heartbeat(store, "queue", id="2", host="atlas")
        with pytest.raises(InvalidInput) as refused:
            named(store, settings, "queue@atlas")
        assert refused.value.hint == "name one of: 1, 2"

    def test_a_name_finds_the_live_worker_or_on_request_the_lost_workers(
        self, store: MemoryStore, settings: Settings, clock: SteppedClock
    ) -> None:
        heartbeat(store, "queue", id="1")
        heartbeat(store, "queue", id="2")
        clock.step(minutes=1)
        heartbeat(store, "queue", id="3")
        assert named(store, settings, "queue") == ["3"]
        assert named(store, settings, "queue", lost=True) == ["1", "2"]

    def test_the_error_for_an_unknown_worker_lists_the_known_workers(
        self, store: MemoryStore, settings: Settings
    ) -> None:
        heartbeat(store, "queue", id="1")
        with pytest.raises(NotFound) as missing:
            named(store, settings, "night")
        assert missing.value.hint == "there are: queue"


class TestNames:
    def test_a_free_name_is_used_unchanged(self) -> None:
        assert registry.free_name("queue", {"other"}, host="atlas", pid=7, id="abcdef0123") == "queue"

    @pytest.mark.parametrize(
        ("taken", "name"),
        [
            (("queue",), "queue-atlas.example"),
            (("queue", "queue-atlas.example"), "queue-7"),
            (("queue", "queue-atlas.example", "queue-7"), "queue-abcdef01"),
        ],
    )
    def test_a_taken_name_gets_the_host_pid_or_id_as_a_suffix(
        self, taken: tuple[str, ...], name: str
    ) -> None:
        assert registry.free_name("queue", taken, host="atlas.example", pid=7, id="abcdef0123") == name

    def test_the_name_is_valid_for_any_host_name(self) -> None:
        long = "q" * LONGEST
        for host in ("münchen host", "x" * 300, ""):
            name = registry.free_name(long, {long}, host=host, pid=7, id="abcdef0123")
            assert is_name(name)
            assert name != long


class TestForgetting:
    def test_forgetting_a_worker_recovers_jobs_with_expired_leases(
        self, store: MemoryStore, settings: Settings, clock: SteppedClock
    ) -> None:
        heartbeat(store, "w1")
        put(store, "early", state="processing")
        clock.step(seconds=20)
        put(store, "late", state="processing")
        clock.step(seconds=15)
        [item] = worker_status.workers(store, settings)
        silent = registry.silence(store, item)
        assert [job.id for job in silent.jobs] == ["late", "early"]
        assert silent.taken_back_at == get(store, "late").lease.until  # type: ignore[union-attr]
        assert [job.id for job in registry.forget(store, silent, store.now())] == ["early"]
        assert store.workers() == []
        assert get(store, "early").state == "pending"
        assert get(store, "early").losses == 1
        assert get(store, "late").state == "processing"

    def test_a_live_worker_is_not_forgotten(self, store: MemoryStore, settings: Settings) -> None:
        heartbeat(store, "w1")
        [item] = worker_status.workers(store, settings)
        with pytest.raises(Conflict, match="worker w1 on h lives") as refused:
            registry.forget(store, registry.silence(store, item), store.now())
        assert refused.value.hint == "queuectl worker stop w1"
        assert len(store.workers()) == 1
