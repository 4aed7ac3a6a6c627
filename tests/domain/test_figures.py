"""Figures: bins, percentiles, the bounds of histograms, sums, and the number of groups."""

import json
import random
from datetime import timedelta
from itertools import pairwise

import pytest

from factories import NOW, processing, report
from queuectl.domain import lifecycle
from queuectl.domain.figures import (
    BOUNDS,
    LIMITS,
    OTHER,
    Durations,
    Group,
    Sheet,
    Tally,
    hour_of,
    minute_of,
    rows_of,
)
from queuectl.domain.job import Job


def ended(seconds: float = 1, *, wait: float = 0, exit_code: int = 0, **fields: object) -> Job:
    """A job that was due at NOW, started after `wait` and ran for `seconds`."""
    started = NOW + timedelta(seconds=wait)
    finished = started + timedelta(seconds=seconds)
    said = report(exit_code=exit_code, now=finished, started_at=started, user_cpu=0.5, system_cpu=0.25)
    return lifecycle.finish(processing(**fields), said, now=finished, random_number=0)  # type: ignore[arg-type]


def counted(*jobs: Job) -> Tally:
    """The figures of jobs of one queue with one label."""
    sheet = Sheet()
    for job in jobs:
        sheet.count(job.history[-1], job, NOW)
    [tally] = sheet.rows.values()
    return tally


def test_bins_grow_by_at_most_a_tenth_and_end_at_the_bounds() -> None:
    assert all(1 < upper / lower <= 1.1 + 1e-9 for lower, upper in pairwise(LIMITS))
    assert set(BOUNDS) <= set(LIMITS)


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99, 1])
@pytest.mark.parametrize("sigma", [0.1, 1, 3])
def test_percentiles_are_within_a_tenth(share: float, sigma: float) -> None:
    chance = random.Random(7)
    given = sorted(min(max(chance.lognormvariate(1, sigma), 0.002), 2e6) for _ in range(2000))
    durations = Durations()
    for each in given:
        durations.add(each)
    true = given[round(share * len(given)) - 1]
    assert durations.percentile(share) == pytest.approx(true, rel=0.1)
    assert durations.longest == given[-1]
    assert durations.total == pytest.approx(sum(given))


def test_the_histogram_counts_a_duration_at_a_bound_below_it() -> None:
    durations = Durations()
    for seconds in (0, 0.01, 0.010001, 1, 1.0001, 14400, 14401):
        durations.add(seconds)
    assert dict(durations.cumulative()) == {
        0.01: 2, 0.05: 3, 0.1: 3, 0.5: 3, 1: 4, 5: 5, 10: 5, 30: 5, 60: 5, 300: 5, 900: 5, 3600: 5, 14400: 6,
    }  # fmt: skip
    assert durations.count == 7


def test_no_durations_have_no_percentile() -> None:
    assert Durations().percentile(0.5) is None


def test_what_an_attempt_counts() -> None:
    jobs = [ended(), ended(exit_code=3, max_retries=0), ended(exit_code=3, max_retries=5, wait=2)]
    tally = counted(*jobs)
    assert tally.outcomes == {"exited": 3}
    assert tally.ended == {"completed": 1, "dead": 1}
    assert (tally.failed, tally.codes, tally.cpu) == (2, {3: 2}, 2.25)
    assert (tally.wait.count, tally.wait.total, tally.run.total) == (3, 2, 3)


def test_a_lost_attempt_is_no_failure_and_has_no_times() -> None:
    lost = lifecycle.lose(processing(max_losses=0), report("lost", now=NOW), now=NOW)
    tally = counted(lost)
    assert (tally.outcomes, tally.ended, tally.failed) == ({"lost": 1}, {"dead": 1}, 0)
    assert tally.wait.count == tally.run.count == 0


def test_a_start_that_seems_to_be_before_it_was_due_waited_no_time() -> None:
    sheet, job = Sheet(), ended()
    sheet.count(job.history[-1], job, NOW + timedelta(milliseconds=3))
    [tally] = sheet.rows.values()
    assert (tally.wait.count, tally.wait.total) == (1, 0)


def test_an_entry_gives_the_same_figures() -> None:
    sheet = Sheet()
    for n in range(50):
        job = ended(n / 7, exit_code=n % 3, queue=f"q{n % 4}")
        sheet.count(job.history[-1], job, NOW)
    value = json.loads(json.dumps(sheet.encode()))
    assert dict(rows_of(value)) == sheet.rows


@pytest.mark.parametrize(
    "value", [{}, {"paused": True}, {"rows": 3}, {"rows": '[["w","q"]]'}, {"rows": ""}, {"rows": "\x00"}]
)
def test_a_damaged_entry_has_no_figures(value: dict[str, object]) -> None:
    assert rows_of(value) == []


def test_merged_figures_are_those_of_all_attempts() -> None:
    jobs = [ended(n / 9, wait=n / 5, exit_code=n % 2) for n in range(100)]
    merged = counted(*jobs[:30])
    merged.merge(counted(*jobs[30:]))
    whole = counted(*jobs)
    assert merged.run.total == pytest.approx(whole.run.total)
    assert merged.wait.total == pytest.approx(whole.wait.total)
    assert (merged.run.bins, merged.wait.bins) == (whole.run.bins, whole.wait.bins)
    assert (merged.outcomes, merged.ended, merged.codes) == (whole.outcomes, whole.ended, whole.codes)


def test_a_thousand_labels_become_two_hundred_and_other() -> None:
    sheet = Sheet()
    for n in range(1000):
        job = ended(command=f"program-{n}")
        sheet.count(job.history[-1], job, NOW)
    assert len(sheet.rows) == 201
    assert sheet.rows[Group("w1", "default", OTHER)].attempts == 800
    assert sum(tally.attempts for tally in sheet.rows.values()) == 1000


def test_the_number_of_queues_is_bounded_too() -> None:
    sheet = Sheet()
    for n in range(3000):
        job = ended(queue=f"q{n}")
        sheet.count(job.history[-1], job, NOW)
    assert len(sheet.rows) == 1001
    assert sheet.rows[Group("w1", OTHER, OTHER)].attempts == 2000


def test_names_of_minutes_and_hours_sort_by_time() -> None:
    assert (minute_of(NOW), hour_of(NOW)) == ("2026-11-22T12:00", "2026-11-22T12")
