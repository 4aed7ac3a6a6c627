"""Store health: since when the store answers, and the pauses between calls while it does not."""

import pytest

from queuectl.worker.agent import store_health
from queuectl.worker.agent.store_health import FIRST_PAUSE, LONGEST_PAUSE, StoreHealth

LEASE = 30.0


class Ticks:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def ticks(monkeypatch: pytest.MonkeyPatch) -> Ticks:
    ticks = Ticks()
    monkeypatch.setattr(store_health, "boottime", ticks)
    return ticks


def rounds(health: StoreHealth, ticks: Ticks, seconds: int) -> None:
    """So many rounds of a second each, in health."""
    for _ in range(seconds):
        ticks.now += 1.0
        health.begin_round(1.0, LEASE)


def test_a_new_agent_is_connected_but_not_yet_for_a_lease(ticks: Ticks) -> None:
    fresh = StoreHealth()
    assert not fresh.away
    assert not fresh.connected_for(LEASE)
    rounds(fresh, ticks, 29)
    assert not fresh.connected_for(LEASE)
    rounds(fresh, ticks, 1)
    assert fresh.connected_for(LEASE)


def test_only_the_first_failure_is_reported(ticks: Ticks) -> None:
    broken = StoreHealth()
    assert [broken.failed(), broken.failed(), broken.failed()] == [True, False, False]
    broken.recovered()
    assert broken.failed()


def test_a_permanent_failure_is_reported_once(ticks: Ticks) -> None:
    health = StoreHealth()
    assert health.failed()
    assert health.failed(permanent=True)
    assert not health.failed(permanent=True)
    health.recovered()
    assert health.failed(permanent=True)
    assert not health.failed()
    assert not health.failed(permanent=True)


def test_each_failure_doubles_the_pause_up_to_a_limit(ticks: Ticks) -> None:
    broken, pauses = StoreHealth(), []
    for _ in range(7):
        broken.failed()
        pauses.append(round(broken.away_until - ticks.now, 3))
    assert pauses == [FIRST_PAUSE, 0.4, 0.8, 1.6, 3.2, LONGEST_PAUSE, LONGEST_PAUSE]


def test_after_a_recovery_the_pauses_are_short_again(ticks: Ticks) -> None:
    broken = StoreHealth()
    for _ in range(5):
        broken.failed()
    broken.recovered()
    assert not broken.away
    broken.failed()
    assert broken.away_until == pytest.approx(ticks.now + FIRST_PAUSE)


def test_expired_leases_are_recovered_only_after_a_lease_of_connection(ticks: Ticks) -> None:
    broken = StoreHealth()
    rounds(broken, ticks, 60)
    broken.failed()
    assert not broken.connected_for(LEASE)
    rounds(broken, ticks, 60)
    assert not broken.connected_for(LEASE)
    broken.recovered()
    assert not broken.connected_for(LEASE)
    rounds(broken, ticks, 30)
    assert broken.connected_for(LEASE)


def test_an_unplanned_pause_restarts_the_time_of_connection(ticks: Ticks) -> None:
    stopped = StoreHealth()
    rounds(stopped, ticks, 60)
    ticks.now += LEASE
    stopped.begin_round(1.0, LEASE)
    assert not stopped.connected_for(LEASE)
    rounds(stopped, ticks, 30)
    assert stopped.connected_for(LEASE)


def test_an_unplanned_pause_in_a_round_restarts_the_time_of_connection(ticks: Ticks) -> None:
    stopped = StoreHealth()
    rounds(stopped, ticks, 60)
    ticks.now += LEASE
    assert not stopped.connected_for(LEASE)


def test_a_planned_long_wait_does_not_restart_the_time_of_connection(ticks: Ticks) -> None:
    idle = StoreHealth()
    rounds(idle, ticks, 60)
    ticks.now += 600.0
    idle.begin_round(600.0, LEASE)
    assert idle.connected_for(LEASE)


def test_an_outage_is_reported_again_each_minute(ticks: Ticks) -> None:
    health = StoreHealth()
    assert health.failed()
    ticks.now += 59
    assert not health.failed()
    ticks.now += 1
    assert health.failed()
    assert not health.failed()
