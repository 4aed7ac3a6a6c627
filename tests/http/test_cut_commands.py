"""Each command that changes something, through a server whose connections are cut: before, within and after its
request, and after the head of the reply. The command ends and says as without the cut, and the store has the same.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest

from cli.acting import Actor
from cli.comparing import ELSEWHERE, lines
from cli.conftest import CommandLine, enter, front_door, server_sources  # noqa: F401  a fixture
from contract.grounds import SteppedClock
from exported import segment
from factories import NOW, in_state
from http_cutter import MOMENTS, Cutter, Moment, cutting
from queuectl.cli import act
from queuectl.cli.commands import COMMANDS
from queuectl.domain.job import Job
from queuectl.domain.query import Filter, Page
from queuectl.domain.queue import QueueChange
from queuectl.http.server_state import ServerState
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest
from queuectl.store.memory import MemoryStore
from queuectl.store.protocol import Table

Jobs = dict[str, tuple[object, ...]]
Tables = dict[str, dict[str, object]]
Orders = dict[str, object]


class Case(NamedTuple):
    """A command line, and how the request begins whose connection is cut."""

    words: tuple[str, ...]
    request: bytes


def of(words: str, request: str) -> Case:
    return Case(tuple(words.split()), request.encode())


CASES = (
    of("enqueue --id new echo", "POST /v1/jobs "),
    of("enqueue --file jobs", "POST /v1/jobs "),
    of("enqueue --unique k echo", "POST /v1/jobs "),
    of("cancel waits", "POST /v1/jobs/waits/cancel"),
    of("cancel runs", "POST /v1/jobs/runs/cancel"),
    of("cancel --all --yes", "POST /v1/operations "),
    of("hold --where state:pending --limit 1 --yes", "POST /v1/operations "),
    of("operation cancel op", "POST /v1/operations/op/stop"),
    of("retry dead", "POST /v1/jobs/dead/retry"),
    of("requeue dead", "POST /v1/jobs/dead/retry"),
    of("hold waits", "POST /v1/jobs/waits/hold"),
    of("hold waits held", "POST /v1/jobs/waits/hold"),
    of("release held", "POST /v1/jobs/held/release"),
    of("edit waits --priority 7 --queue mail", "PATCH /v1/jobs/waits"),
    of("delete done", "DELETE /v1/jobs/done"),
    of("delete done dead --yes", "DELETE /v1/jobs/done"),
    of("dlq retry dead", "POST /v1/jobs/dead/retry"),
    of("dlq purge --yes", "POST /v1/operations "),
    of("purge --older-than 0s --yes", "POST /v1/operations "),
    of("worker stop w1 --timeout 0.1s", "POST /v1/workers/id-w1/stop"),
    of("worker reload w1", "POST /v1/workers/id-w1/reload"),
    of("worker forget lost", "POST /v1/workers/id-lost/forget"),
    of("queue pause mail", "PATCH /v1/queues/mail"),
    of("queue resume paused", "PATCH /v1/queues/paused"),
    of("queue limit mail 2", "PATCH /v1/queues/mail"),
    of("config set lease 1m", "PUT /v1/config/lease"),
    of("config unset timeout", "DELETE /v1/config/timeout"),
    of("schedule add new @hourly true", "POST /v1/schedules "),
    of("schedule add new @daily --paused true", "POST /v1/schedules "),
    of("schedule edit night --when @weekly --priority 7", "PATCH /v1/schedules/night"),
    of("schedule pause night --reason repair", "POST /v1/schedules/night/pause"),
    of("schedule resume paused --catch-up", "POST /v1/schedules/paused/resume"),
    of("schedule run night", "POST /v1/schedules/night/run"),
    of("schedule run busy --force", "POST /v1/schedules/busy/run"),
    of("schedule remove night", "DELETE /v1/schedules/night"),
    of("schedule remove busy --cancel", "DELETE /v1/schedules/busy"),
    of("schedule remove busy --cancel", "POST /v1/jobs/busy"),
    of("schedule apply schedules.toml", "POST /v1/schedules/apply"),
    of("hook add new --on dead cat", "PUT /v1/hooks/new"),
    of("hook pause note --reason repair", "POST /v1/hooks/note/pause"),
    of("hook resume still --skip", "POST /v1/hooks/still/resume"),
    of("hook test note", "POST /v1/hooks/note/test"),
    of("hook remove note", "DELETE /v1/hooks/note"),
    of("hook apply hooks.toml", "PUT /v1/hooks/note"),
    of("import f", "POST /v1/import"),
    of("token create wall --scope view", "POST /v1/tokens"),
    of("token revoke old", "DELETE /v1/tokens/old"),
    of("token rotate old", "POST /v1/tokens/old/rotate"),
)

ENQUEUE, IMPORT, CREATE, ROTATE = CASES[0], CASES[-4], CASES[-3], CASES[-1]
OTHERWISE = (ENQUEUE, IMPORT, CREATE, ROTATE)
"""Commands that say something else if the first reply was lost."""

READ = {
    "status", "show", "list", "logs", "wait", "explain", "dlq list", "dlq show", "worker list", "queue list",
    "config list", "config get", "token list", "doctor", "schedule list", "schedule show", "schedule history",
    "schedule diff", "schedule export", "export", "operation list", "hook list", "hook show",
    "operation show", "operation wait", "stats", "events",
}  # fmt: skip
"""Commands that change nothing."""


NAMED = ("waits", "runs", "dead", "held", "done", "new")
"""Jobs whose ids are given. The ids of other jobs are made."""


class Told(NamedTuple):
    """How a command ended, and what the store has then."""

    code: int
    out: Sequence[str]
    err: Sequence[str]
    jobs: Jobs
    tables: Tables
    orders: Orders


class Scene:
    """A server in whose store each command has something to change, behind a cutter."""

    def __init__(self, server: ServerState, cutter: Cutter, line: CommandLine) -> None:
        self._server, self._cutter, self._line = server, cutter, line

    def told(self, case: Case, moment: Moment | None, times: int = 1, patience: str = "10s") -> Told:
        """Run the command on a new store. `moment`: when the connection of its request is cut."""
        clock = SteppedClock(datetime.now(UTC) - timedelta(hours=1))
        store = MemoryStore(clock)
        queue = LocalQueue(store, server_sources())
        self._server.queue = queue
        before = self._cutter.cuts
        self._prepare(store, clock)
        if moment:
            self._cutter.cut(case.request, moment, times)
        code, out = self._line.run(("--patience", patience, *case.words))
        assert self._cutter.cuts > before or moment is None, "no connection was cut"
        self._cutter.cut(b"", "before the request", 0)
        return Told(code, lines(out), lines(self._line.err), *state(store))

    def _prepare(self, store: MemoryStore, clock: SteppedClock) -> None:
        queue, actor = self._server.queue, Actor(store)
        actor.enters("lost")
        clock.step(hours=1)
        for id in ("waits", "runs", "done", "dead", "held"):
            queue.enqueue([JobRequest(command="true", id=id, retries=0)])
        list(queue.hold(["held"]))
        actor.take("runs")
        actor.runs("done")
        actor.kills("dead")
        actor.enters("w1")
        queue.operate("hold", "queue:none", id="op")
        queue.change_queue("paused", QueueChange(paused=True))
        queue.set("timeout", "1h")
        queue.create_token("old", ["view"])
        for name, paused in (("night", False), ("paused", True), ("busy", False)):
            given = {"when": "@daily", "job": {"command": f"make {name}"}}
            queue.schedules().add(name, given, timezone="UTC", paused=paused)
        for name in ("note", "still"):
            queue.hooks().add(name, {"on": "dead", "job": {"command": f"cat {name}"}})
        queue.hooks().pause("still")
        queue.schedules().run("busy")
        queue.schedules().edit("busy", {}, {"command": "make more"})  # a second run is another job to `state`


def facts(job: Job) -> tuple[object, ...]:
    """What a command may change of a job. A running job may be told twice that it is to be cancelled."""
    asked = job.cancel_requested is not None
    return job.state, job.priority, job.queue, job.attempts, asked, None if asked else job.version


def settled(schedule: object) -> object:
    """What a command may change of a schedule, without times and made ids."""
    assert isinstance(schedule, dict)
    shown = ("when", "overlap", "job")
    return [schedule.get(name) for name in shown], bool(schedule.get("paused")), len(schedule.get("open", ()))


def opened(hook: object) -> object:
    """What a command may change of a hook, without times and cursors."""
    assert isinstance(hook, dict)
    return hook.get("on"), hook.get("job"), bool(hook.get("paused")), "removed" in hook


def state(store: MemoryStore) -> tuple[Jobs, Tables, Orders]:
    """The jobs, the versions of the shared entries, and the instructions to workers."""
    found = store.find(Filter(), Page(limit=100)).jobs
    jobs = {job.id if job.id in NAMED else job.spec.command: facts(job) for job in found}
    assert len(jobs) == len(found), "a job is stored twice"
    tables: Tables = {
        name: {key: entry.value for key, entry in store.read_table(name).items()} for name in get_args(Table)
    }
    tables["schedules"] = {key: settled(value) for key, value in tables["schedules"].items()}
    tables["hooks"] = {key: opened(value) for key, value in tables["hooks"].items()}
    tables["tokens"] = {key: len(value["secrets"]) for key, value in tables["tokens"].items()}  # type: ignore[index]
    begun: list[Any] = list(tables["operations"].values())
    known = sorted((each["request"]["verb"], each["state"], each["tally"]["changed"]) for each in begun)
    tables["operations"] = {str(n): each for n, each in enumerate(known)}
    return jobs, tables, {worker.name: store.pending_instruction(worker.id) for worker in store.workers()}


@pytest.fixture
def scene(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    front_door: ServerState,  # noqa: F811
) -> Iterator[Scene]:
    enter(tmp_path, monkeypatch)
    monkeypatch.setattr(act, "FEW", 0)
    Path("jobs").write_text("echo 1\necho 2\n")
    Path("schedules.toml").write_text('[schedule.night]\nwhen = "@daily"\ncommand = "make tea"\n')
    Path("hooks.toml").write_text('[hook.note]\non = ["failed"]\ncommand = "cat note"\n')
    Path("f").write_bytes(segment([in_state("completed", "new")], at=NOW))
    with cutting(int(front_door.public_url.rpartition(":")[2])) as cutter:
        monkeypatch.setenv("QUEUECTL_STORE", cutter.url)
        yield Scene(front_door, cutter, CommandLine(tmp_path, capsys, monkeypatch))


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case.words))
class TestCuts:
    def test_a_command_has_the_same_result_whenever_its_connection_is_cut(
        self, scene: Scene, case: Case
    ) -> None:
        usual = scene.told(case, None)
        assert usual.code == (1 if "--timeout" in case.words else 0), usual
        for moment in MOMENTS:
            if moment.startswith(("before", "within")) or case not in OTHERWISE:
                assert scene.told(case, moment) == usual, moment

    @pytest.mark.parametrize("moment", ["after the request", "502 instead of the reply"])
    def test_a_command_whose_reply_never_comes_exits_with_75_and_a_hint(
        self, scene: Scene, case: Case, moment: Moment
    ) -> None:
        found = scene.told(case, moment, times=1000, patience="0.1s")
        assert found.code == 75
        assert found.err[-1].startswith("queuectl: the request was sent, and its reply is lost: ")
        assert found.err[-1].endswith((" is safe)", " shows it)", " shows which of them exist)"))


LOST: tuple[Moment, ...] = ("after the request", "after the head of the reply", "502 instead of the reply")


@pytest.mark.parametrize("moment", LOST)
class TestLostReplies:
    """Commands that say something else if the first reply was lost."""

    def test_a_job_with_a_given_id_is_enqueued_once(self, scene: Scene, moment: Moment) -> None:
        found = scene.told(ENQUEUE, moment)
        assert (found.code, found.out) == (0, ["new"])
        assert found.err == ["queuectl: job new already existed (pending), unchanged"]
        assert found.jobs == scene.told(ENQUEUE, None).jobs

    def test_a_new_token_whose_secret_is_lost_gets_a_new_secret_by_the_command_in_the_hint(
        self, scene: Scene, moment: Moment
    ) -> None:
        found = scene.told(CREATE, moment)
        assert (found.code, found.out) == (75, [])
        assert found.err == [
            "queuectl: the reply with the secret of token wall is lost (queuectl token rotate wall gives it a new one)"
        ]
        assert found.tables["tokens"] == {"old": 1, "wall": 1}

    def test_a_rotated_token_keeps_its_old_secret_and_the_printed_one(
        self, scene: Scene, moment: Moment
    ) -> None:
        found = scene.told(ROTATE, moment)
        assert found.code == 0
        assert found.tables["tokens"] == {"old": 3}


def test_the_cases_have_all_commands_that_change_something() -> None:
    begun = {
        command for command in COMMANDS if any(" ".join(case.words).startswith(command) for case in CASES)
    }
    assert begun == COMMANDS.keys() - ELSEWHERE.keys() - READ
