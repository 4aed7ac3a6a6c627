"""Schedules as a person changes and reads them."""

from datetime import timedelta
from typing import Any, cast

import pytest

from contract.grounds import SteppedClock
from factories import NOW, new_job
from queuectl.domain.query import Filter, Page
from queuectl.domain.schedule import Pause
from queuectl.errors import Changed, CommandFailed, Conflict, InvalidInput, NotFound
from queuectl.service import firing
from queuectl.service.schedules import changing, files, reading
from queuectl.service.schedules.changing import add, define_completed
from queuectl.store.memory import MemoryStore
from queuectl.store.protocol import Store, Swap
from service.conftest import Overtaken, settings_of
from service.scenes import change, end, get, take

SECOND = timedelta(seconds=1)


def definition(**given: Any) -> Any:
    given = {"when": "@every 10s", "job": {"command": "true"}} | given
    return define_completed(given, timezone="UTC", settings=settings_of(), cwd="/here")


def fire(store: Store) -> firing.Fired:
    """Fire what is due."""
    return firing.fire(store, [each for each in store.upcoming(100) if each.due <= store.now()])


def ids(store: Store) -> list[str]:
    return sorted(job.id for job in store.find(Filter(), Page(limit=1000)).jobs)


def key(number: int) -> str:
    return f"{number:026x}"


def at(seconds: int, name: str = "s") -> str:
    return f"{name}:{NOW + timedelta(seconds=seconds):%Y%m%dT%H%M%SZ}"


class TestAdd:
    def test_a_schedule_fires_after_now(self, store: MemoryStore) -> None:
        added = add(store, "s", definition())
        assert added.schedule.next == NOW + 10 * SECOND
        [entry] = store.upcoming(10)
        assert (entry.key, entry.due) == ("s", NOW + 10 * SECOND)

    def test_the_same_again_is_the_same_schedule(self, store: MemoryStore, clock: SteppedClock) -> None:
        first = add(store, "s", definition())
        clock.step(seconds=3)
        again = add(store, "s", definition())
        assert again.existing
        assert again.schedule == first.schedule

    def test_other_content_is_a_conflict_that_names_edit(self, store: MemoryStore) -> None:
        add(store, "s", definition())
        with pytest.raises(Conflict) as refused:
            add(store, "s", definition(when="@every 11s"))
        assert "queuectl schedule edit" in str(refused.value.hint)

    def test_the_template_is_checked_as_a_request(self) -> None:
        for job in ({"command": " "}, {"command": "x", "priority": 9999}, {"command": "x", "nonsense": 1}):
            with pytest.raises(InvalidInput):
                definition(job=job)

    def test_the_template_has_the_directory_and_the_policy_of_the_client(self) -> None:
        from queuectl.config import resolve

        own = resolve({}, {"QUEUECTL_MAX_RETRIES": "7"}, {}, {"kill_grace": "20s"})
        made = define_completed(
            {"when": "@daily", "job": {"command": "x", "cwd": "sub"}},
            timezone="UTC",
            settings=own,
            cwd="/here",
        )
        assert made.job == {"command": "x", "cwd": "/here/sub", "max_retries": 7}

    def test_a_name_of_a_removed_schedule_does_not_fire_its_instants_again(
        self, store: MemoryStore, clock: SteppedClock
    ) -> None:
        add(store, "s", definition())
        clock.step(seconds=10)
        fire(store)
        changing.remove(store, "s")
        clock.step(seconds=-8)
        assert add(store, "s", definition(when="*/10 * * * * *")).schedule.next == NOW + 20 * SECOND

    @pytest.mark.parametrize("instant", ["88881231T000000Z", "99991231T235959Z"])
    def test_an_id_that_a_person_gave_is_no_instant(self, store: MemoryStore, instant: str) -> None:
        store.add([new_job(f"s:{instant}")])
        assert add(store, "s", definition()).schedule.next == NOW + 10 * SECOND

    def test_a_decision_about_a_removed_schedule_is_not_stored_over_a_new_one(
        self, store: MemoryStore, clock: SteppedClock
    ) -> None:
        add(store, "s", definition())
        clock.step(seconds=10)
        [old] = store.upcoming(1)
        changing.remove(store, "s")
        new = add(store, "s", definition(when="@hourly")).schedule
        assert firing.fire(store, [old]).decisions == []
        assert reading.one(store, "s").schedule == new
        assert ids(store) == []


class TestChange:
    def test_an_edit_keeps_the_rest_of_the_template(self, store: MemoryStore) -> None:
        add(store, "s", definition(job={"command": "a", "queue": "q"}))
        edited = changing.edit(store, "s", {"overlap": "allow"}, {"argv": ["b"], "priority": 3})
        assert edited.job == {"cwd": "/here", "queue": "q", "argv": ["b"], "priority": 3}
        assert (edited.overlap, edited.next) == ("allow", NOW + 10 * SECOND)

    def test_an_edit_is_refused_for_another_version(self, store: MemoryStore) -> None:
        add(store, "s", definition())
        with pytest.raises(Changed):
            changing.edit(store, "s", {"overlap": "allow"}, {}, version=7)

    def test_a_wrong_edit_changes_nothing(self, store: MemoryStore) -> None:
        first = add(store, "s", definition()).schedule
        for given, job in (({"when": "x"}, {}), ({}, {"priority": 5000}), ({}, {"queue": "a b"})):
            with pytest.raises(InvalidInput):
                changing.edit(store, "s", given, job)
        assert reading.one(store, "s").schedule == first

    def test_a_change_is_repeated_if_a_worker_fires_meanwhile(
        self, overtaken: Overtaken, store: MemoryStore, clock: SteppedClock
    ) -> None:
        add(store, "s", definition())
        clock.step(seconds=10)
        overtaken.before("swap", lambda: fire(store))
        edited = changing.edit(cast(Store, overtaken), "s", {"overlap": "allow"}, {})
        assert (edited.overlap, edited.next, ids(store)) == ("allow", NOW + 20 * SECOND, [at(10)])

    def test_a_change_gives_up_after_many_lost_races(self, overtaken: Overtaken, store: MemoryStore) -> None:
        add(store, "s", definition())
        overtaken.replace("swap", lambda swaps: [False for _ in swaps])
        for act in (
            lambda s: changing.edit(s, "s", {"overlap": "allow"}, {}),
            lambda s: changing.remove(s, "s"),
            lambda s: changing.run(s, "s", key(1)),
            lambda s: changing.add(s, "t", definition()),
        ):
            with pytest.raises(CommandFailed):
                act(cast(Store, overtaken))

    def test_a_paused_schedule_fires_nothing_and_misses_nothing(
        self, store: MemoryStore, clock: SteppedClock
    ) -> None:
        add(store, "s", definition())
        changing.pause(store, "s", by="eve", reason="repair")
        assert reading.one(store, "s").next is None
        clock.step(hours=5)
        assert store.upcoming(1) == []
        resumed = changing.resume(store, "s")
        assert (resumed.next, resumed.decisions) == (clock.now() + 10 * SECOND, ())

    def test_a_resume_can_catch_up(self, store: MemoryStore, clock: SteppedClock) -> None:
        add(store, "s", definition(catchup="all"))
        changing.pause(store, "s", by="eve")
        clock.step(seconds=35)
        changing.resume(store, "s", catch_up=True)
        fire(store)
        assert ids(store) == [at(10), at(20), at(30)]

    def test_unknown_names_are_reported(self, store: MemoryStore) -> None:
        for act in (changing.remove, reading.one, changing.resume):
            with pytest.raises(NotFound):
                act(store, "s")

    def test_an_entry_of_a_newer_program_is_left_alone_but_can_be_removed(
        self, store: MemoryStore, clock: SteppedClock
    ) -> None:
        store.swap([Swap("schedules", "new", {"when": "@lunar", "moon": 1}, 0, due=NOW)])
        add(store, "s", definition())
        clock.step(seconds=10)
        fired = fire(store)
        assert [each.key for each in fired.left_alone] == ["new"]
        assert ids(store) == [at(10)]
        assert reading.every(store)[1] == ["new"]
        with pytest.raises(CommandFailed):
            changing.pause(store, "new", by="eve")
        changing.remove(store, "new")
        assert reading.every(store)[1] == []


class TestRun:
    def test_it_runs_now_and_decides_no_instant(self, store: MemoryStore) -> None:
        add(store, "s", definition())
        id = changing.run(store, "s", key(1))
        job = get(store, id)
        assert (job.state, job.spec.schedule, job.spec.instant) == ("pending", "s", NOW)
        assert reading.one(store, "s").schedule.next == NOW + 10 * SECOND

    def test_a_repeated_run_with_the_same_key_adds_no_second_job(self, store: MemoryStore) -> None:
        add(store, "s", definition())
        assert changing.run(store, "s", key(1)) == changing.run(store, "s", key(1))
        change(store, take_and_end(store, f"s:{key(1)}"))
        assert changing.run(store, "s", key(1)) == f"s:{key(1)}"
        assert len(ids(store)) == 1
        with pytest.raises(InvalidInput, match="is not a key"):
            changing.run(store, "s", "20261130T023000Z")

    def test_it_obeys_the_overlap_policy_unless_forced(self, store: MemoryStore) -> None:
        add(store, "s", definition())
        changing.run(store, "s", key(1))
        with pytest.raises(Conflict):
            changing.run(store, "s", key(2))
        assert changing.run(store, "s", key(3), force=True) in ids(store)
        assert len(ids(store)) == 2

    def test_a_removed_schedule_leaves_its_jobs_unless_they_are_cancelled(self, store: MemoryStore) -> None:
        add(store, "s", definition(overlap="allow"))
        first, second = changing.run(store, "s", key(1)), changing.run(store, "s", key(2))
        change(store, take_and_end(store, first))
        changing.remove(store, "s")
        assert get(store, second).state == "pending"
        assert changing.cancel_jobs(store, "s", by="eve") == 1
        assert [get(store, id).state for id in (first, second)] == ["completed", "cancelled"]

    def test_a_job_that_only_has_the_name_in_its_id_is_not_cancelled(self, store: MemoryStore) -> None:
        add(store, "s", definition())
        own = changing.run(store, "s", key(1))
        store.add([new_job("s:by-hand")])
        changing.remove(store, "s")
        assert changing.cancel_jobs(store, "s", by="eve") == 1
        assert [get(store, id).state for id in (own, "s:by-hand")] == ["cancelled", "pending"]

    def test_an_entry_of_a_removed_schedule_is_deleted_after_a_week(
        self, store: MemoryStore, clock: SteppedClock
    ) -> None:
        add(store, "s", definition())
        changing.remove(store, "s")
        clock.step(days=8)
        fire(store)
        assert store.read_table("schedules") == {}


def take_and_end(store: MemoryStore, id: str) -> Any:
    take(store, id)
    return end(store, id)


class TestFire:
    def test_a_step_after_a_long_outage_ends_early(self, store: MemoryStore, clock: SteppedClock) -> None:
        for name in ("a", "b", "c"):
            add(store, name, definition(when="* * * * *", catchup="skip"))
        clock.step(days=30)
        assert [name for name, _ in fire(store).decisions] == ["a"]
        assert [name for name, _ in fire(store).decisions] == ["b"]


class TestFiles:
    def test_an_apply_adds_changes_and_prunes_only_what_its_owner_has(
        self, store: MemoryStore, clock: SteppedClock
    ) -> None:
        add(store, "by-hand", definition())
        files.apply(store, self.file(a="@every 10s", b="@every 10s"), by="eve")
        changing.pause(store, "a", by="eve")
        clock.step(seconds=4)
        found = files.apply(store, self.file(a="@every 10s", c="@every 20s"), prune=True, by="eve")
        assert (found.added, found.removed, found.unchanged) == (("c",), ("b",), ("a",))
        stored = {each.schedule.name: each.schedule for each in reading.every(store)[0]}
        assert list(stored) == ["a", "by-hand", "c"]
        assert stored["a"].paused
        assert stored["a"].next == NOW + 10 * SECOND
        assert files.compare(store, self.file(a="@every 10s", c="@every 20s"), prune=True).empty

    def test_one_wrong_entry_keeps_all_from_being_written(self) -> None:
        with pytest.raises(InvalidInput, match=r"schedule\.b"):
            self.file(a="@every 10s", b="@every x")
        with pytest.raises(InvalidInput, match=r"schedule\.b"):
            files.completed_file(
                {"schedule": {"b": {"when": "@daily", "command": "x", "priority": 9999}}},
                timezone="UTC",
                settings=settings_of(),
                cwd="/",
            )

    @staticmethod
    def file(**rules: str) -> Any:
        table = {name: {"when": when, "command": "true"} for name, when in rules.items()}
        return files.completed_file(
            {"owner": "ops", "schedule": table}, timezone="UTC", settings=settings_of(), cwd="/"
        )


class TestHistory:
    def test_decisions_are_listed_newest_first_with_the_state_of_their_jobs(
        self, store: MemoryStore, clock: SteppedClock
    ) -> None:
        add(store, "s", definition(), Pause(by="eve", at=NOW))
        changing.resume(store, "s")
        for _ in range(2):
            clock.step(seconds=10)
            fire(store)
        found = reading.history(store, "s", 20)
        assert [(each.decision.decision, each.decision.job, each.state) for each in found] == [
            ("skipped", None, None),
            ("fired", at(10), "pending"),
        ]
        last = reading.one(store, "s").last
        assert last == reading.LastRun(NOW + 10 * SECOND, at(10), "pending")


def test_a_file_with_a_thousand_schedules_is_applied_and_applied_again(store: MemoryStore) -> None:
    """`contract/test_firing.py` has the same for each store, in `make proof`."""
    tables = {f"s{n}": {"when": f"{n % 60} {n % 24} * * *", "command": f"echo {n}"} for n in range(1000)}
    file = files.completed_file({"schedule": tables}, timezone="UTC", settings=settings_of(), cwd="/")
    assert len(files.apply(store, file, by="me").added) == 1000
    assert len(files.apply(store, file, by="me").unchanged) == 1000
    assert len(store.upcoming(2000)) == 1000
