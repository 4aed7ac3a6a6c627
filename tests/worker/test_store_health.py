"""Whether the store answers: since when, and how long it is left alone when it does not."""

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


def rounds(contact: StoreHealth, ticks: Ticks, seconds: int) -> None:
    """So many rounds of a second each, in contact."""
    for _ in range(seconds):
        ticks.now += 1.0
        contact.round(1.0, LEASE)


def test_a_new_one_is_in_contact_but_has_not_lasted(ticks: Ticks) -> None:
    fresh = StoreHealth()
    assert not fresh.away
    assert not fresh.lasts(LEASE)
    rounds(fresh, ticks, 29)
    assert not fresh.lasts(LEASE)
    rounds(fresh, ticks, 1)
    assert fresh.lasts(LEASE)


def test_only_the_first_failure_is_news(ticks: Ticks) -> None:
    broken = StoreHealth()
    assert [broken.lost(), broken.lost(), broken.lost()] == [True, False, False]
    broken.regained()
    assert broken.lost()


def test_what_waiting_will_not_mend_is_news_once(ticks: Ticks) -> None:
    contact = StoreHealth()
    assert contact.lost()
    assert contact.lost(needs_a_person=True)
    assert not contact.lost(needs_a_person=True)
    contact.regained()
    assert contact.lost(needs_a_person=True)
    assert not contact.lost()
    assert not contact.lost(needs_a_person=True)


def test_each_failure_leaves_it_alone_for_twice_as_long_up_to_a_limit(ticks: Ticks) -> None:
    broken, pauses = StoreHealth(), []
    for _ in range(7):
        broken.lost()
        pauses.append(round(broken.away_until - ticks.now, 3))
    assert pauses == [FIRST_PAUSE, 0.4, 0.8, 1.6, 3.2, LONGEST_PAUSE, LONGEST_PAUSE]


def test_back_again_the_pauses_begin_anew(ticks: Ticks) -> None:
    broken = StoreHealth()
    for _ in range(5):
        broken.lost()
    broken.regained()
    assert not broken.away
    broken.lost()
    assert broken.away_until == pytest.approx(ticks.now + FIRST_PAUSE)


def test_others_leases_are_judged_only_after_a_whole_one_of_contact(ticks: Ticks) -> None:
    broken = StoreHealth()
    rounds(broken, ticks, 60)
    broken.lost()
    assert not broken.lasts(LEASE)
    rounds(broken, ticks, 60)
    assert not broken.lasts(LEASE)
    broken.regained()
    assert not broken.lasts(LEASE)
    rounds(broken, ticks, 30)
    assert broken.lasts(LEASE)


def test_a_pause_that_nobody_meant_begins_the_lease_anew(ticks: Ticks) -> None:
    stopped = StoreHealth()
    rounds(stopped, ticks, 60)
    ticks.now += LEASE
    stopped.round(1.0, LEASE)
    assert not stopped.lasts(LEASE)
    rounds(stopped, ticks, 30)
    assert stopped.lasts(LEASE)


def test_a_pause_in_the_middle_of_a_round_does_so_too(ticks: Ticks) -> None:
    stopped = StoreHealth()
    rounds(stopped, ticks, 60)
    ticks.now += LEASE
    assert not stopped.lasts(LEASE)


def test_a_long_wait_that_was_meant_is_no_gap(ticks: Ticks) -> None:
    idle = StoreHealth()
    rounds(idle, ticks, 60)
    ticks.now += 600.0
    idle.round(600.0, LEASE)
    assert idle.lasts(LEASE)


def test_an_absence_is_news_again_each_minute(ticks: Ticks) -> None:
    contact = StoreHealth()
    assert contact.lost()
    ticks.now += 59
    assert not contact.lost()
    ticks.now += 1
    assert contact.lost()
    assert not contact.lost()
