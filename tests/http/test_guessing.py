"""How many wrong tokens an address may send, and how long it waits then."""

import pytest

from queuectl.http.guessing import KEYS, Guessing, address_key


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guessing(clock: Clock) -> Guessing:
    return Guessing(clock)


def fail(guessing: Guessing, times: int, *keys: str) -> None:
    for _ in range(times):
        guessing.note(*keys)


def test_ten_failures_in_a_minute_are_bounded(guessing: Guessing) -> None:
    fail(guessing, 9, "a")
    assert guessing.wait("a") == 0
    fail(guessing, 1, "a")
    assert guessing.wait("a", "b") == 60
    assert guessing.wait("b") == 0


def test_ten_failures_in_more_than_a_minute_are_not(guessing: Guessing, clock: Clock) -> None:
    for _ in range(50):
        fail(guessing, 1, "a")
        clock.time += 7
    assert guessing.wait("a") == 0


def test_the_wait_doubles_up_to_a_quarter_of_an_hour(guessing: Guessing, clock: Clock) -> None:
    waits = []
    for _ in range(7):
        fail(guessing, 10, "a")
        waits.append(guessing.wait("a"))
        clock.time += waits[-1]
    assert waits == [60, 120, 240, 480, 900, 900, 900]


def test_failures_while_it_waits_do_not_lengthen_the_wait(guessing: Guessing, clock: Clock) -> None:
    fail(guessing, 10, "a")
    clock.time += 30
    fail(guessing, 100, "a")
    assert guessing.wait("a") == 30


def test_after_a_quiet_quarter_of_an_hour_it_begins_again(guessing: Guessing, clock: Clock) -> None:
    fail(guessing, 10, "a")
    clock.time += 60 + 901
    fail(guessing, 10, "a")
    assert guessing.wait("a") == 60


def test_all_failures_are_counted_and_the_memory_is_bounded(guessing: Guessing) -> None:
    for n in range(KEYS + 50):
        guessing.note(str(n))
    guessing.note()
    assert guessing.failures == KEYS + 51
    assert len(guessing._known) == KEYS


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_the_addresses_of_one_ipv6_network_are_one_client(address: str, key: str) -> None:
    assert address_key(address).replace("::ffff:a00:1", "::ffff:10.0.0.1") == key
