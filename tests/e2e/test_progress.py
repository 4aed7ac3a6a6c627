"""The progress of a running command is stored, shown everywhere, and belongs to one attempt."""

import os
import signal

import pytest

from e2e.harness import Place
from e2e.test_serving import Server
from facts import eventually
from queuectl.domain.job import Job

SAY = 'echo "$QUEUECTL_ATTEMPT_ID progress %s" > "$QUEUECTL_PIPE"'
UNTIL_TOLD = "; while [ ! -e %s/go ]; do sleep 0.02; done"


def shown(place: Place, id: str) -> tuple[float, str | None] | None:
    found = place.job(id).progress
    return found and (found.percent, found.message)


def seconds_since(before: Job, after: Job) -> float:
    return (after.updated_at - before.updated_at).total_seconds()


def say(place: Place, id: str, percent: int, *, forever: str = "") -> None:
    place.enqueue("--id", id, SAY % f"{percent} of {id}" + forever + UNTIL_TOLD % place.root)


class TestOnEachStore:
    def test_a_running_job_shows_its_progress_and_keeps_the_last_one(self, place: Place) -> None:
        say(place, "j", 40)
        worker = place.start_worker()
        eventually(lambda: shown(place, "j") == (40, "of j"), within=10)
        first = place.json("show", "j")["job"]
        assert first["progress"].keys() >= {"percent", "message", "at"}
        assert first["state"] == "processing"
        (place.root / "go").touch()
        ended = place.until("j", "completed")
        assert ended.progress
        assert (ended.progress.percent, ended.progress.attempt_id) == (40, ended.history[-1].attempt_id)
        place.enqueue("--id", "quick", SAY % "100 all" + "; exit 1")
        assert place.until("quick", "failed", "dead").progress
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0


@pytest.mark.parametrize("kind", ["sqlite"])
class TestOnOneStore:
    def test_what_a_person_sees(self, place: Place) -> None:
        say(place, "j", 40)
        place.enqueue("--id", "other", "--queue", "none", "true")
        place.start_worker("--queue", "default")
        eventually(lambda: shown(place, "j"), within=10)
        assert "progress: 40% of j, " in " ".join(place.run("show", "j").split())
        listed = place.run("list", "--columns", "id,progress", "--sort", "number").splitlines()
        assert [line.split("\t") for line in listed[-2:]] == [["j", "40% of j"], ["other", ""]]
        assert ", 40% of j" in place.run("status")
        [worker] = place.json("status")["workers"]
        assert [slot["progress"]["percent"] for slot in worker["slots"] if slot["job"]] == [40]
        assert place.json("show", "other")["job"]["progress"] is None

    def test_many_lines_are_stored_once_a_second_and_the_last_one_is_kept(self, place: Place) -> None:
        count = f"i=0; while [ ! -e {place.root}/go ]; do i=$((i+1)); " + SAY % "$((i % 100)) line $i"
        place.enqueue("--id", "j", count + "; done; " + SAY % "100 end")
        place.start_worker()
        eventually(lambda: shown(place, "j"), within=10)
        begun = place.job("j")
        eventually(lambda: seconds_since(begun, place.job("j")) > 4, within=15)
        now = place.job("j")
        renewals = now.version - begun.version
        assert 2 <= renewals <= seconds_since(begun, now) + 2
        (place.root / "go").touch()
        ended = place.until("j", "completed")
        assert ended.progress
        assert (ended.progress.percent, ended.progress.message) == (100, "end")

    def test_an_idle_job_is_renewed_as_before(self, place: Place) -> None:
        say(place, "j", 40)
        place.start_worker("--count", "2")
        eventually(lambda: shown(place, "j") and place.job("j").started_at, within=10)
        version = place.job("j").version
        place.enqueue("--id", "later", "--delay", "3s", "true")
        place.until("later", "completed")
        assert place.job("j").version <= version + 1

    def test_the_agent_dies_and_the_progress_goes_on(self, place: Place) -> None:
        loop = f"; while [ ! -e {place.root}/more ]; do sleep 0.02; done; " + SAY % "60 more"
        say(place, "j", 40, forever=loop)
        worker = place.start_worker()
        eventually(lambda: shown(place, "j") == (40, "of j"), within=10)
        before = place.agent_pid(worker)
        os.kill(before, signal.SIGKILL)
        (place.root / "more").touch()
        eventually(lambda: shown(place, "j") == (60, "more"), within=15)
        place.run("worker", "reload")
        (place.root / "go").touch()
        assert place.until("j", "completed").attempts == 1
        assert shown(place, "j") == (60, "more")

    def test_after_the_death_of_the_worker_the_next_attempt_begins_without(self, place: Place) -> None:
        once = f"test -e {place.root}/twice || {{ touch {place.root}/twice; {SAY % '40 first'}; }}"
        place.enqueue("--id", "j", once + UNTIL_TOLD % place.root)
        worker = place.start_worker()
        eventually(lambda: shown(place, "j") == (40, "first"), within=10)
        worker.kill()
        place.start_worker()
        running = eventually(
            lambda: job if (job := place.job("j")).attempts == 2 and job.lease else None, within=15
        )
        assert running.progress is None
        (place.root / "go").touch()
        assert place.until("j", "completed").progress is None

    def test_a_server_shows_it_and_an_export_carries_it(self, place: Place) -> None:
        say(place, "j", 40)
        server = Server(place)
        eventually(lambda: shown(place, "j"), within=10)
        assert server.run("list", "--columns", "progress").splitlines()[-1] == "40% of j"
        assert '"percent":40' in server.run("show", "j", "--json")
        (place.root / "go").touch()
        place.until("j", "completed")
        place.run("export", str(place.root / "all.jsonl"))
        other = f"sqlite:///{place.root}/other.db"
        place.run("import", str(place.root / "all.jsonl"), "--store", other)
        assert place.run("list", "--columns", "progress", "--store", other).splitlines()[-1] == "40% of j"
