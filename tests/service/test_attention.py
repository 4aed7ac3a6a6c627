"""Reports that need a person: each kind appears in its situation and not in others."""

from datetime import timedelta

import pytest

from contract.grounds import SteppedClock
from factories import NOW
from queuectl.config import Settings
from queuectl.domain.queue import QueueChange
from queuectl.domain.worker import Slot
from queuectl.service import commands, status, worker_status
from queuectl.service.attention import Attention, attention, serving
from queuectl.service.settings import unused
from queuectl.store.memory import MemoryStore
from service.scenes import heartbeat, put


class Looks:
    """The present reports that need a person."""

    def __init__(self, store: MemoryStore, settings: Settings) -> None:
        self._store, self._settings = store, settings

    def __call__(self, **variables: str) -> list[Attention]:
        return attention(self._store, status.status(self._store, self._settings), unused(variables))

    def kinds(self) -> list[str]:
        return [thing.kind for thing in self()]


@pytest.fixture
def look(store: MemoryStore, settings: Settings) -> Looks:
    return Looks(store, settings)


def test_an_idle_queue_reports_nothing(store: MemoryStore, look: Looks) -> None:
    assert look() == []
    put(store, "done", state="completed")
    put(store, "tomorrow", run_at=NOW + timedelta(days=1))
    put(store, "held", state="held")
    assert look() == []


def test_due_jobs_without_a_live_worker_are_reported(
    store: MemoryStore, look: Looks, clock: SteppedClock
) -> None:
    for n in range(5):
        put(store, f"j{n}")
    clock.step(minutes=3)
    [thing] = look()
    assert thing == Attention(
        "no_worker", "no live worker serves queue default, and 5 jobs wait, one of them for 3m",
        "queuectl worker start",
    )  # fmt: skip
    heartbeat(store, queues=("mail",))
    [thing] = look()
    assert thing.hint == "queuectl worker start --queue default"
    heartbeat(store, "w2")
    assert look() == []
    clock.step(minutes=5)
    assert look.kinds() == ["no_worker", "lost_worker", "lost_worker"]


@pytest.mark.parametrize(("state", "serves"), [("running", True), ("paused", True), ("draining", False)])
def test_the_state_of_a_worker_decides_whether_its_queue_is_served(
    store: MemoryStore, look: Looks, settings: Settings, state: str, serves: bool
) -> None:
    put(store, "a")
    heartbeat(store, state=state)
    assert ("no_worker" not in look.kinds()) is serves
    assert bool(serving(worker_status.workers(store, settings), "default")) is serves


def test_a_paused_queue_with_waiting_jobs_is_reported(store: MemoryStore, look: Looks) -> None:
    heartbeat(store)
    commands.change_queue(store, "default", QueueChange(paused=True))
    assert look() == []
    put(store, "a")
    [thing] = look()
    assert (thing.kind, thing.hint, thing.fault) == ("paused_queue", "queuectl queue resume default", True)
    assert thing.text == "queue default is paused, and 1 job has waited for 0s"


def test_a_lost_worker_is_reported_with_the_number_of_its_jobs(
    store: MemoryStore, look: Looks, clock: SteppedClock
) -> None:
    heartbeat(store, "w1", busy=("a",))
    put(store, "a", state="processing")
    clock.step(seconds=20)
    [thing] = look()
    assert thing.text == (
        "worker w1 on h sent its last heartbeat 20s ago; it still has 1 job; if its host no longer exists, forget it"
    )
    assert thing.hint == "queuectl worker forget w1"
    clock.step(seconds=11)
    assert look.kinds() == ["lost_worker", "lapsed_lease"]
    assert look()[1].text == (
        "job a was started by worker w1 on h; its lease expired 1s ago and no worker has taken it back"
    )
    assert look()[1].hint == "queuectl worker start"
    heartbeat(store, "w2")
    assert look.kinds() == ["lost_worker"]  # w2 takes it back in a moment
    clock.step(seconds=10)
    heartbeat(store, "w2")
    assert look.kinds() == ["lost_worker", "lapsed_lease"]


def test_many_expired_leases_are_counted(store: MemoryStore, look: Looks, clock: SteppedClock) -> None:
    for n in range(9):
        put(store, f"j{n}", state="processing")
    clock.step(minutes=1)
    assert look.kinds() == ["lapsed_lease"] * 6
    assert look()[-1].text == "and 4 more with an expired lease"


def test_a_paused_worker_is_reported_with_its_reason(store: MemoryStore, look: Looks) -> None:
    heartbeat(store, state="paused", note="cannot start commands")
    [thing] = look()
    assert thing.text == "worker w1 on h pauses: cannot start commands"


@pytest.mark.parametrize(("skew", "said"), [(7200.0, "7200.0 s ahead of"), (-2.5, "2.5 s behind")])
def test_a_host_clock_that_differs_from_the_store_is_reported(
    store: MemoryStore, look: Looks, skew: float, said: str
) -> None:
    heartbeat(store, skew=skew)
    [thing] = look()
    assert thing.kind == "clock_skew"
    assert f"the clock of host h is {said} the store's" in thing.text


def test_a_stopped_command_is_reported(store: MemoryStore, look: Looks) -> None:
    put(store, "a", state="processing")
    heartbeat(store, slots=(Slot(slot=0, job="a", stopped=True),))
    [thing] = look()
    assert (thing.kind, thing.fault, thing.hint) == ("stopped_command", False, "queuectl explain a")
    assert thing.text == "job a does not continue: a process of it on host h is stopped (SIGSTOP)"


@pytest.mark.parametrize(("jump", "said"), [(30 * 86400.0, "30d ahead"), (-7200.0, "2h back")])
def test_a_jump_of_the_store_clock_is_reported(
    store: MemoryStore, look: Looks, jump: float, said: str
) -> None:
    heartbeat(store, clock_jump=jump)
    [thing] = look()
    assert (thing.kind, thing.fault) == ("clock_jump", True)
    assert (
        thing.text
        == f"the store's clock jumped {said}; nothing is purged for an hour (worker w1 on h saw it)"
    )


@pytest.mark.parametrize("skew", [None, 0.0, 1.9, -1.9])
def test_a_small_clock_difference_is_not_reported(
    store: MemoryStore, look: Looks, skew: float | None
) -> None:
    heartbeat(store, skew=skew)
    assert look() == []


def test_unused_variables_that_name_a_store_are_reported(look: Looks) -> None:
    [thing] = look(MONGODB_URI="mongodb://h/d", REDIS_URL="redis://h")
    assert thing == Attention(
        "unused_variables", "MONGODB_URI and REDIS_URL are set and not used: jobs are in memory:",
        "export QUEUECTL_STORE=redis", fault=False,
    )  # fmt: skip
    [thing] = look(SUPABASE_URL="https://x.supabase.co")
    assert thing.hint is None


def test_a_queue_name_is_quoted_in_the_suggested_command(store: MemoryStore, look: Looks) -> None:
    put(store, "a", queue="old name")
    commands.change_queue(store, "old name", QueueChange(paused=True))
    assert look()[0].hint == "queuectl queue resume 'old name'"
