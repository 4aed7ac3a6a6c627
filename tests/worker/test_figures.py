"""The figures of an agent: when they are written, and what remains of them when the agent dies or is replaced."""

from pathlib import Path

import pytest
from unstarted import Unstarted

from factories import LEASE
from queuectl.errors import StoreUnavailable
from queuectl.service import figures
from queuectl.store.memory import MemoryStore
from queuectl.worker.agent.figures import WriteFigures
from queuectl.worker.agent.maintenance import Maintenance
from service.scenes import put


def counted(agent: Unstarted) -> int:
    """The attempts in the store."""
    return sum(tally.attempts for _, tally in figures.since_ever(agent.store))


def settle(agent: Unstarted, *ids: str) -> None:
    """Let jobs run and end."""
    for id in ids:
        [job] = agent.claims(id)
        agent.ends(job, seconds=0.5)
        agent.round()


def test_figures_are_written_every_ten_seconds_if_something_ended(unstarted: Unstarted) -> None:
    settle(unstarted, "a", "b")
    assert (counted(unstarted), unstarted.is_due(WriteFigures)) == (0, False)
    unstarted.now += figures.WRITE_EVERY
    unstarted.round()
    assert counted(unstarted) == 2
    unstarted.now += 10 * figures.WRITE_EVERY
    assert not unstarted.is_due(WriteFigures)
    settle(unstarted, "c")
    assert counted(unstarted) == 3
    assert len(unstarted.store.read_table("figures")) == 1


def test_the_rest_is_written_at_the_end(unstarted: Unstarted) -> None:
    settle(unstarted, "a")
    unstarted.parts.figures.finish()
    assert counted(unstarted) == 1
    unstarted.parts.figures.finish()
    assert counted(unstarted) == 1


def test_the_end_does_not_fail_without_a_store(unstarted: Unstarted) -> None:
    settle(unstarted, "a")

    def fail(*_: object) -> list[bool]:
        raise StoreUnavailable("away")

    unstarted.store.swap = fail  # type: ignore[method-assign]
    unstarted.parts.figures.finish()


def test_the_next_agent_of_a_worker_that_was_killed_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    first = Unstarted(tmp_path, monkeypatch, store)
    settle(first, "a")
    first.now += figures.WRITE_EVERY
    first.round()
    settle(first, "lost with the agent")
    second = Unstarted(tmp_path, monkeypatch, store)
    settle(second, "b", "c")
    second.now += figures.WRITE_EVERY
    second.round()
    assert counted(second) == 3
    assert {key[16:19] for key in store.read_table("figures")} == {"/w1"}


def test_a_recovered_claim_counts_as_lost(unstarted: Unstarted) -> None:
    put(unstarted.store, "a")
    unstarted.store.claim("w9", [], 1, 0 * LEASE)
    unstarted.now += 100
    monitor = unstarted.duty(Maintenance)
    unstarted.context.health.connected_for = lambda _: True  # type: ignore[method-assign,assignment]
    monitor._recover_expired()
    unstarted.parts.figures.finish()
    [(_, tally)] = figures.since_ever(unstarted.store)
    assert tally.outcomes == {"lost": 1}
