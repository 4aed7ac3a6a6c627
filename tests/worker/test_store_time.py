"""Times of a host are converted to the clock of the store, also if the clock of the host is wrong or changes."""

from datetime import timedelta

import pytest

from contract.grounds import SteppedClock
from factories import NOW
from queuectl.store.memory import MemoryStore
from queuectl.worker.agent.store_time import StoreTime
from queuectl.worker.protocol import Exited, KnownAttempt, Output


class Host:
    """A host whose wall clock is `ahead` of the store's by so many seconds."""

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead
        self.clock = SteppedClock()
        self.store = MemoryStore(clock=self.clock)
        self.time = StoreTime(self.store, self.wall, self.boot)

    def wall(self) -> float:
        return self.clock.now().timestamp() + self.ahead

    def boot(self) -> float:
        return (self.clock.now() - NOW).total_seconds() + 1000

    def exited(self, started: tuple[float, float], seconds: float, *, knows_boot: bool = True) -> Exited:
        """The message `exited` of a command with this start and run time."""
        born, wall = started
        told = Exited("a" * 32, "job", "exited", started_at=wall, finished_at=wall + seconds)
        return told._replace(born=born) if knows_boot else told

    def now(self) -> tuple[float, float]:
        return self.boot(), self.wall()


@pytest.mark.parametrize("ahead", [0.0, 7200.0, -7200.0])
@pytest.mark.parametrize("knows_boot", [True, False])
def test_start_and_end_are_converted_to_the_clock_of_the_store(ahead: float, knows_boot: bool) -> None:
    host = Host(ahead)
    host.time.measure()
    assert host.time.skew == ahead
    host.clock.step(seconds=5)
    started = host.now()
    host.clock.step(seconds=10)
    told = host.time.convert_end(host.exited(started, 10.0, knows_boot=knows_boot))
    assert told.started_at == pytest.approx((NOW + timedelta(seconds=5)).timestamp())
    assert (told.finished_at or 0) - (told.started_at or 0) == pytest.approx(10.0)


def test_a_clock_that_is_set_while_a_command_runs_changes_nothing() -> None:
    host = Host(7200.0)
    host.time.measure()
    started = host.now()
    host.clock.step(seconds=3)
    host.ahead = 0.0
    host.time.measure()
    assert host.time.skew == 0.0
    told = host.time.convert_end(host.exited(started, 3.0))
    assert told.started_at == pytest.approx(NOW.timestamp())


def test_before_the_first_measurement_times_are_not_converted() -> None:
    host = Host(7200.0)
    message = host.exited(host.now(), 1.0)
    assert host.time.convert_end(message) == message
    assert host.time.skew is None


def test_the_times_of_an_adopted_start_and_a_chunk_are_converted() -> None:
    host = Host(7200.0)
    host.time.measure()
    born, wall = host.now()
    known = KnownAttempt("a" * 32, "job", "running", started_at=wall, born=born)
    assert host.time.convert_start(known).started_at == pytest.approx(NOW.timestamp())
    chunk = Output("a" * 32, "job", 1, 0, wall, 0)
    assert host.time.convert_output(chunk).at == pytest.approx(NOW.timestamp())


def test_an_attempt_that_never_started_has_no_times_to_convert() -> None:
    host = Host(7200.0)
    host.time.measure()
    never = Exited("a" * 32, "job", "spawn_error")
    assert host.time.convert_end(never) == never
    assert host.time.convert_start(KnownAttempt("a" * 32, "job", "queued")).started_at is None


def test_half_of_the_round_trip_is_added_to_the_answer() -> None:
    host = Host(0.0)
    really = host.store.now

    def slow() -> object:
        said = really()
        host.clock.step(seconds=4)
        return said

    host.store.now = slow  # type: ignore[method-assign, assignment]
    host.time.measure()
    assert host.time.skew == 2.0
