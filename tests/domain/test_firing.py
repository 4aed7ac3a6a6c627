"""Decides the instants of a schedule: each policy for overlaps with each one for missed instants, and any history."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise, takewhile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from queuectl.domain import schedule as schedules
from queuectl.domain.firing import Plan, plan, run_at, run_now
from queuectl.domain.schedule import COUNTED, DECISIONS_KEPT, OPEN_KEPT, Pause, Schedule, job_id
from queuectl.domain.schedule_definition import define
from queuectl.errors import Conflict, InvalidInput

NOW = datetime(2026, 11, 30, 8, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def new(when: str = "0 * * * *", *, now: datetime = NOW, **given: Any) -> Schedule:
    definition = define({"when": when, "job": {"command": "true"}, **given}, timezone="UTC")
    return schedules.new("b", definition, now)


def with_open(entry: Schedule, *ids: str) -> Schedule:
    return replace(entry, open=ids)


def verdicts(planned: Plan) -> list[tuple[str, int]]:
    return [(each.decision, each.count) for each in planned.decisions]


def jobs(planned: Plan) -> dict[str, tuple[str, ...]]:
    """The hour of each job with the jobs that it waits for."""
    return {f"{job.instant:%H}": job.after for job in planned.jobs}


def test_nothing_happens_before_the_next_instant() -> None:
    entry = with_open(new(), "ended")
    assert plan(entry, NOW + 29 * MINUTE, []) == Plan(entry)


def test_an_instant_in_time_adds_one_job_and_moves_next_in_one_step() -> None:
    planned = plan(new(), NOW + 31 * MINUTE, [])
    [job] = planned.jobs
    assert (job.id, job.instant, job.run_at, job.after) == (
        "b:20261130T090000Z",
        job.instant,
        NOW + 30 * MINUTE,
        (),
    )
    assert planned.entry.next == NOW + 90 * MINUTE
    assert planned.entry.open == (job.id,)
    [decision] = planned.entry.decisions
    assert (decision.instant, decision.decided_at, decision.job) == (job.instant, NOW + 31 * MINUTE, job.id)


@pytest.mark.parametrize(
    ("late", "in_time"), [(60 * SECOND, True), (60 * SECOND + timedelta(microseconds=1), False)]
)
def test_an_instant_up_to_sixty_seconds_late_fires_as_if_in_time(late: timedelta, in_time: bool) -> None:
    planned = plan(new(catchup="skip"), NOW + 30 * MINUTE + late, [])
    assert verdicts(planned) == [("fired" if in_time else "missed", 1)]


IN_TIME = [
    ("skip", [], [("fired", 1)], {"09": ()}, ()),
    ("skip", ["x"], [("skipped", 1)], {}, ()),
    ("queue", [], [("fired", 1)], {"09": ()}, ()),
    ("queue", ["x"], [("fired", 1)], {"09": ("x",)}, ()),
    ("queue", ["x", "y"], [("skipped", 1)], {}, ()),
    ("replace", [], [("fired", 1)], {"09": ()}, ()),
    ("replace", ["x", "y"], [("replaced", 1)], {"09": ("x", "y")}, ("x", "y")),
    ("allow", [], [("fired", 1)], {"09": ()}, ()),
    ("allow", ["x", "y"], [("fired", 1)], {"09": ()}, ()),
]


@pytest.mark.parametrize("catchup", ["last", "skip", "all"])
@pytest.mark.parametrize(("overlap", "before", "expected", "added", "replaced"), IN_TIME)
def test_in_time_the_overlap_policy_decides_whatever_the_catch_up_policy_is(
    catchup: str,
    overlap: str,
    before: list[str],
    expected: list[tuple[str, int]],
    added: dict[str, tuple[str, ...]],
    replaced: tuple[str, ...],
) -> None:
    entry = with_open(new(overlap=overlap, catchup=catchup), *before)
    planned = plan(entry, NOW + 30 * MINUTE, before)
    assert (verdicts(planned), jobs(planned), planned.replaced) == (expected, added, replaced)


# The instants from 09:00 to 12:00 are missed at 12:30; 13:00 is in time at 13:00:30.
IDS = [job_id("b", NOW + 30 * MINUTE + n * HOUR) for n in range(4)]
CHAIN = {"09": ("x",), "10": (IDS[0],), "11": (IDS[1],), "12": (IDS[2],)}
MISSED = [
    ("skip", "last", [("missed", 3), ("skipped", 1)], {}, ()),
    ("queue", "last", [("missed", 3), ("fired", 1)], {"12": ("x",)}, ()),
    ("replace", "last", [("missed", 3), ("replaced", 1)], {"12": ("x",)}, ("x",)),
    ("allow", "last", [("missed", 3), ("fired", 1)], {"12": ()}, ()),
    ("skip", "skip", [("missed", 4)], {}, ()),
    ("queue", "skip", [("missed", 4)], {}, ()),
    ("replace", "skip", [("missed", 4)], {}, ()),
    ("allow", "skip", [("missed", 4)], {}, ()),
    ("skip", "all", [("fired", 1)] * 4, CHAIN, ()),
    ("queue", "all", [("fired", 1)] * 4, CHAIN, ()),
    ("replace", "all", [("fired", 1)] * 4, CHAIN, ()),
    ("allow", "all", [("fired", 1)] * 4, CHAIN, ()),
]


@pytest.mark.parametrize(("overlap", "catchup", "expected", "added", "replaced"), MISSED)
def test_each_overlap_policy_with_each_catch_up_policy_while_a_job_is_open(
    overlap: str,
    catchup: str,
    expected: list[tuple[str, int]],
    added: dict[str, tuple[str, ...]],
    replaced: tuple[str, ...],
) -> None:
    entry = with_open(new(overlap=overlap, catchup=catchup), "x")
    planned = plan(entry, NOW + 4 * HOUR, ["x"])
    assert (verdicts(planned), jobs(planned), planned.replaced) == (expected, added, replaced)
    assert planned.entry.next == NOW + 4 * HOUR + 30 * MINUTE


@pytest.mark.parametrize("overlap", ["skip", "queue", "replace", "allow"])
@pytest.mark.parametrize(
    ("catchup", "expected", "hours"),
    [
        ("last", [("missed", 3), ("fired", 1)], ["12"]),
        ("skip", [("missed", 4)], []),
        ("all", [("fired", 1)] * 4, ["09", "10", "11", "12"]),
    ],
)
def test_each_catch_up_policy_with_each_overlap_policy_while_no_job_is_open(
    overlap: str, catchup: str, expected: list[tuple[str, int]], hours: list[str]
) -> None:
    planned = plan(with_open(new(overlap=overlap, catchup=catchup), "ended"), NOW + 4 * HOUR, [])
    assert (verdicts(planned), list(jobs(planned))) == (expected, hours)
    assert not planned.replaced


def test_the_newest_missed_instant_does_not_run_if_a_newer_one_fires_in_time() -> None:
    now = NOW + 4 * HOUR + 31 * MINUTE
    missed = plan(new(), now, [])
    assert (verdicts(missed), jobs(missed)) == ([("missed", 4)], {})
    in_time = plan(missed.entry, now, [])
    assert (verdicts(in_time), jobs(in_time)) == ([("fired", 1)], {"13": ()})
    assert in_time.entry.due == NOW + 5 * HOUR + 30 * MINUTE


@pytest.mark.parametrize(
    ("catchup", "window", "expected"),
    [
        ("last", "20m", [("missed", 4)]),
        ("last", "30m", [("missed", 3), ("fired", 1)]),
        ("all", "2h", [("missed", 2), ("fired", 1), ("fired", 1)]),
        ("all", "0s", [("missed", 4)]),
    ],
)
def test_an_instant_older_than_the_window_does_not_run(
    catchup: str, window: str, expected: list[tuple[str, int]]
) -> None:
    assert verdicts(plan(new(catchup=catchup, catchup_window=window), NOW + 4 * HOUR, [])) == expected


def drained(entry: Schedule, now: datetime, open_jobs: Sequence[str] = ()) -> list[Plan]:
    """The plans until nothing is due, with every job open."""
    plans: list[Plan] = []
    while entry.due is not None and entry.due <= now:
        plans.append(plan(entry, now, [*open_jobs, *entry.open]))
        entry = plans[-1].entry
    return plans


def test_all_runs_at_most_a_thousand_the_newest_in_steps_of_a_hundred_each_after_the_one_before() -> None:
    now = NOW + 2000 * MINUTE + 30 * SECOND
    entry = new("* * * * *", catchup="all", catchup_window="10d")
    plans = drained(entry, now)
    steps = [each for each in plans if len(each.jobs) > 1]
    assert [len(each.jobs) for each in steps] == [100] * 10
    assert verdicts(steps[0])[0] == ("missed", 999)
    caught_up = [job for each in steps for job in each.jobs]
    assert caught_up[0].after == ()
    assert all(job.after == (before.id,) for before, job in pairwise(caught_up))
    assert [job.instant for job in caught_up] == [now - 30 * SECOND - n * MINUTE for n in range(1000, 0, -1)]
    assert [verdicts(each) for each in plans[10:]] == [[("skipped", 1)]]
    assert all(len(each.entry.open) <= OPEN_KEPT for each in plans)
    assert all(len(each.entry.decisions) <= DECISIONS_KEPT for each in plans)


def test_after_a_long_catch_up_every_open_job_is_replaced() -> None:
    now = NOW + 200 * MINUTE + 30 * SECOND
    entry = new("* * * * *", catchup="all", catchup_window="10d", overlap="replace")
    *_, last = drained(entry, now)
    caught_up = last.entry.open
    assert len(caught_up) == 200
    planned = plan(last.entry, now + MINUTE, caught_up)
    assert planned.replaced == caught_up
    assert [job.after for job in planned.jobs] == [caught_up]


def test_a_catch_up_in_steps_is_not_reduced_by_its_window_while_it_goes_on() -> None:
    now = NOW + 500 * MINUTE
    entry = plan(new("* * * * *", catchup="all", catchup_window="500m"), now, []).entry
    count = 100
    while entry.backlog:
        now += 30 * SECOND
        step = plan(entry, now, [])
        assert {each.decision for each in step.decisions} == {"fired"}
        entry, count = step.entry, count + len(step.jobs)
    assert count == 498  # the 499th is a minute late: in time


def test_a_worker_that_stops_between_two_steps_for_a_day_misses_no_chosen_instant() -> None:
    entry = plan(new("* * * * *", catchup="all"), NOW + 300 * MINUTE, []).entry
    plans = drained(entry, NOW + 300 * MINUTE + 2 * DAY)
    instants = [job.instant for each in plans[:2] for job in each.jobs]
    assert instants == [NOW + n * MINUTE for n in range(101, 299)]


def test_the_count_of_missed_instants_is_bounded_but_their_span_is_exact() -> None:
    now = NOW + 30 * DAY + timedelta(microseconds=5)
    [planned, in_time] = drained(new("* * * * * *", catchup="skip"), now)
    [missed] = planned.decisions
    assert (missed.count, missed.first, missed.instant) == (
        COUNTED,
        NOW + SECOND,
        now.replace(microsecond=0) - 60 * SECOND,
    )
    assert verdicts(in_time) == [("fired", 1), ("skipped", 59)]


def test_of_several_instants_in_time_the_overlap_policy_treats_each_as_the_one_before() -> None:
    now = NOW + 5 * SECOND
    planned = {
        policy: plan(new("* * * * * *", overlap=policy), now, [])
        for policy in ("skip", "queue", "replace", "allow")
    }
    assert verdicts(planned["skip"]) == [("fired", 1), ("skipped", 4)]
    assert verdicts(planned["queue"]) == [("fired", 1), ("fired", 1), ("skipped", 3)]
    assert verdicts(planned["replace"]) == [("skipped", 4), ("fired", 1)]
    assert verdicts(planned["allow"]) == [("fired", 1)] * 5
    assert planned["queue"].jobs[1].after == (planned["queue"].jobs[0].id,)
    skipped = planned["skip"].decisions[1]
    assert (skipped.first, skipped.instant) == (NOW + 2 * SECOND, NOW + 5 * SECOND)


def test_a_replacing_job_waits_for_all_jobs_that_are_still_ending() -> None:
    first = plan(with_open(new(overlap="replace"), "x"), NOW + 30 * MINUTE, ["x"])
    second = plan(first.entry, NOW + 90 * MINUTE, ["x", IDS[0]])
    assert second.replaced == ("x", IDS[0])
    assert second.jobs[0].after == ("x", IDS[0])


def test_a_job_that_ended_is_no_longer_open() -> None:
    planned = plan(with_open(new(), "ended", "running"), NOW + 30 * MINUTE, ["running", "of-nobody"])
    assert planned.entry.open == ("running",)


def test_the_jitter_is_the_same_for_every_worker_and_within_its_bound() -> None:
    entry = new("* * * * *", jitter="10m", overlap="allow")
    planned = plan(entry, NOW + MINUTE, [])
    assert plan(entry, NOW + 2 * MINUTE, []).jobs[0].run_at == planned.jobs[0].run_at
    offsets = [run_at(entry, instant) - instant for instant in (NOW + n * MINUTE for n in range(200))]
    assert all(timedelta(0) <= offset < 10 * MINUTE for offset in offsets)
    assert max(offsets) - min(offsets) > 9 * MINUTE
    assert planned.jobs[0].id == job_id("b", NOW + MINUTE)


@pytest.mark.parametrize("overlap", ["skip", "replace"])
def test_a_refused_template_fails_the_instant_and_the_schedule_goes_on(overlap: str) -> None:
    planned = plan(
        with_open(new(overlap=overlap), "x"), NOW + 30 * MINUTE, ["x"] if overlap == "replace" else []
    )
    refused = planned.refused("queue 'a b' is not allowed")
    assert (refused.jobs, refused.replaced) == ((), ())
    assert [(d.decision, d.reason, d.job) for d in refused.entry.decisions] == [
        ("failed", "queue 'a b' is not allowed", None)
    ]
    assert refused.entry.open == (("x",) if overlap == "replace" else ())
    assert refused.entry.next == planned.entry.next
    assert schedules.schedule_of("b", schedules.entry_of(refused.entry)) == refused.entry


def test_an_entry_with_an_unknown_zone_is_left_alone() -> None:
    entry = replace(new(), timezone="Mars/Base")
    with pytest.raises(InvalidInput, match=r"^timezone: "):
        plan(entry, NOW + HOUR, [])
    assert plan(entry, NOW, []) == Plan(entry)


class TestRunNow:
    def test_a_run_decides_no_instant(self) -> None:
        entry = new()
        planned = run_now(entry, "b:run-1", NOW, [])
        assert (planned.entry.next, planned.entry.decisions, planned.entry.open) == (
            entry.next,
            (),
            ("b:run-1",),
        )
        assert planned.jobs[0].run_at == NOW

    def test_the_overlap_policy_refuses_it(self) -> None:
        with pytest.raises(Conflict, match="x has not ended"):
            run_now(with_open(new(), "x"), "b:run-1", NOW, ["x"])

    def test_force_goes_past_the_policy(self) -> None:
        planned = run_now(with_open(new(), "x"), "b:run-1", NOW, ["x"], force=True)
        assert (planned.jobs[0].after, planned.entry.open) == ((), ("x", "b:run-1"))

    def test_replace_cancels_what_runs(self) -> None:
        planned = run_now(with_open(new(overlap="replace"), "x"), "b:run-1", NOW, ["x"])
        assert (planned.replaced, planned.jobs[0].after) == (("x",), ("x",))


class World:
    """A store with one schedule: what was decided of each instant, and which jobs exist."""

    def __init__(self, entry: Schedule) -> None:
        self.now, self.entry, self.jobs = NOW, entry, set[str]()
        self.verdicts: dict[datetime, str] = {}

    def fire(self, data: st.DataObject) -> None:
        """Plan until nothing is due. Between two plans, jobs end."""
        while self.entry.due is not None and self.entry.due <= self.now:
            running = data.draw(st.sampled_from([(), self.entry.open]))
            before, planned = self.entry, plan(self.entry, self.now, running)
            self.entry = planned.entry
            self.check(before, planned)

    def check(self, before: Schedule, planned: Plan) -> None:
        """Each instant between the old and the new `next` was decided, and only once."""
        assert before.next is not None
        stop = self.entry.next or self.now + timedelta(microseconds=1)
        instants = takewhile(
            lambda instant: instant < stop, chain((before.next,), before.forward(before.next))
        )
        spans = [(each.first or each.instant, each.instant, each.count) for each in planned.decisions]
        decided = 0
        for instant in instants:
            assert sum(first <= instant <= last for first, last, _ in spans) == 1, instant
            assert instant not in self.verdicts, f"{instant} is decided twice"
            self.verdicts[instant] = next(e.decision for e in planned.decisions if instant <= e.instant)
            decided += 1
        assert decided == sum(count for _, _, count in spans)
        ids = {job.id for job in planned.jobs}
        assert len(ids) == len(planned.jobs) <= 100
        assert not ids & self.jobs, "an instant has two jobs"
        self.jobs |= ids

    def edit(self, field: str, value: str) -> None:
        """Edit a field. An edit of the rule decides overdue instants as missed."""
        before = self.entry
        self.entry = schedules.edited(before, define({field: value}, timezone="UTC", base=before), self.now)
        if self.entry.decisions[-1:] != before.decisions[-1:]:
            missed, first = self.entry.decisions[-1], before.next
            assert first is not None
            assert (missed.decision, missed.first or missed.instant) == ("missed", first)
            span = [
                *takewhile(lambda instant: instant <= missed.instant, chain((first,), before.forward(first)))
            ]
            assert not self.verdicts.keys() & set(span)
            self.verdicts |= dict.fromkeys(span, "missed")


WHENS = ["0 * * * *", "*/20 * * * *", "30 2 * * *", "@every 50m", "@every 7h"]
STEPS = st.one_of(
    st.tuples(
        st.just("clock"),
        st.sampled_from([1, 30, 59, 61, 600, 3600, 5 * 3600, 3 * 86400, -1, -90, -7200, -86400]),
    ),
    st.tuples(st.just("edit"), st.sampled_from(WHENS)),
    st.tuples(st.just("policy"), st.sampled_from(["skip", "queue", "replace", "allow"])),
    st.tuples(st.sampled_from(["pause", "resume", "catch up", "remove and add"]), st.none()),
)


@given(
    st.data(),
    st.sampled_from(WHENS),
    st.sampled_from(["last", "skip", "all"]),
    st.sampled_from(["UTC", "Europe/Berlin"]),
    st.lists(STEPS, max_size=25),
)
@settings(deadline=None)
def test_each_instant_is_decided_once_whatever_happens(
    data: st.DataObject, when: str, catchup: str, timezone: str, steps: list[tuple[str, Any]]
) -> None:
    world = World(new(when, catchup=catchup, timezone=timezone, catchup_window="2d"))
    for action, value in steps:
        before = world.entry
        if action == "clock":
            world.now += value * SECOND
        elif action in ("edit", "policy"):
            world.edit("when" if action == "edit" else "overlap", value)
        elif action == "pause":
            world.entry = schedules.paused(before, Pause(by="ada", at=world.now))
        elif action in ("resume", "catch up"):
            world.entry = schedules.resumed(before, world.now, catch_up=action == "catch up")
        else:
            known = max((at for id in world.jobs if (at := schedules.instant_of(id))), default=None)
            world.entry = schedules.new(
                "b", define({}, timezone="UTC", base=before), world.now, decided=known
            )
            # What became of instants without a job went with the entry.
            world.verdicts = {at: "fired" for at in world.verdicts if job_id("b", at) in world.jobs}
        if data.draw(st.booleans()):
            world.fire(data)
    world.now += 4 * DAY
    world.fire(data)
    assert world.entry.paused or world.entry.due is None or world.entry.due > world.now
