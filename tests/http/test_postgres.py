"""The client of a server whose store is PostgreSQL: lost replies of the database, waits, and changes of one version."""

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from cli.acting import Actor
from cli.conftest import CommandLine, database, enter, front_door, server_sources  # noqa: F401  fixtures
from cli.postgres import Database
from facts import eventually
from http_cutter import MOMENTS, Cutter, Moment, cutting
from launcher import Launcher
from queuectl.domain.job import Job
from queuectl.domain.query import Filter, Page
from queuectl.errors import Conflict
from queuectl.http.client import waiting
from queuectl.http.client.address import address_of
from queuectl.http.client.channel import Patience
from queuectl.http.client.remote_queue import RemoteQueue
from queuectl.http.server_state import ServerState
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest
from queuectl.store.postgres import PostgresStore
from servers.proxy import Proxy

PATIENCE = 1.0


@pytest.fixture
def near(database: Database) -> Iterator[PostgresStore]:  # noqa: F811
    """A handle of another process on the same queue, that nothing disturbs."""
    with closing(PostgresStore(database.url())) as store:
        store.migrate()
        yield store


@pytest.fixture
def server(
    front_door: ServerState,  # noqa: F811
    near: PostgresStore,
    database: Database,  # noqa: F811
    proxy: Proxy,
) -> Iterator[ServerState]:
    """A server whose connections to the database go through `proxy`."""
    store = PostgresStore(database.url(host=proxy.host, port=proxy.port), patience=PATIENCE)
    with closing(LocalQueue(store, server_sources())) as front_door.queue:
        yield front_door
        proxy.pass_through()


@pytest.fixture
def cutter(server: ServerState) -> Iterator[Cutter]:
    """The way to the server, which a test can cut."""
    with cutting(int(server.public_url.rpartition(":")[2])) as cutter:
        yield cutter


@pytest.fixture
def remote(cutter: Cutter) -> Iterator[RemoteQueue]:
    with closing(RemoteQueue(address_of(cutter.url), server_sources(), patience=Patience(5, 5))) as queue:
        yield queue


@pytest.fixture
def queuectl(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    server: ServerState,
    launcher: Launcher | None,
) -> CommandLine:
    enter(tmp_path, monkeypatch)
    monkeypatch.setenv("QUEUECTL_STORE", server.public_url)
    return CommandLine(tmp_path, capsys, monkeypatch, launcher)


class TestUnknownResults:
    def test_an_enqueue_whose_commit_is_not_confirmed_is_repeated_and_stored_once(
        self, remote: RemoteQueue, near: PostgresStore, proxy: Proxy
    ) -> None:
        proxy.lose_reply(b".add_")
        [added] = remote.enqueue([JobRequest(command="true")])
        assert proxy.lost.is_set()
        assert added.status == "added"
        assert ids_in(near) == [added.stored.id]

    def test_a_database_that_confirms_nothing_more_gives_exit_code_75_and_the_id(
        self, queuectl: CommandLine, near: PostgresStore, proxy: Proxy
    ) -> None:
        queuectl("status")
        proxy.black_hole_reply(b".add_")
        printed = queuectl("--patience", "0.1s", "enqueue", "echo a", code=75).strip()
        assert queuectl.err.endswith(f"(repeating the same command with --id {printed} is safe)\n")
        assert ids_in(near) == [printed]
        proxy.pass_through()
        assert queuectl("enqueue", "--id", printed, "echo a").strip() == printed
        assert ids_in(near) == [printed]

    def test_a_change_that_is_not_confirmed_is_repeated_and_made_once(
        self, remote: RemoteQueue, near: PostgresStore, proxy: Proxy
    ) -> None:
        remote.enqueue([JobRequest(command="true", id="a")])
        proxy.lose_reply(b".save_")
        [[change]] = remote.hold(["a"])
        assert proxy.lost.is_set()
        assert change.changed
        assert (stored := near.get(["a"])["a"]).state == "held"
        assert (change.job, stored.version) == (stored, 2)


class TestVersions:
    @pytest.fixture(autouse=True)
    def dead(self, remote: RemoteQueue, near: PostgresStore) -> Job:
        remote.enqueue([JobRequest(command="false", id="a", retries=0)])
        return Actor(near).kills("a")

    @pytest.mark.parametrize("moment", MOMENTS)
    def test_a_job_is_retried_once(
        self, remote: RemoteQueue, near: PostgresStore, cutter: Cutter, dead: Job, moment: Moment
    ) -> None:
        cutter.cut(b"POST /v1/jobs/a/retry", moment)
        [[change]] = remote.retry(["a"])
        stored = near.get(["a"])["a"]
        assert (change.job, change.changed) == (stored, True)
        assert (stored.state, stored.version) == ("pending", dead.version + 1)

    def test_the_retry_of_a_job_that_has_run_again_meanwhile_is_not_repeated(
        self, queuectl: CommandLine, near: PostgresStore, cutter: Cutter
    ) -> None:
        cutter.meanwhile = lambda: Actor(near).kills("a")
        cutter.cut(b"POST /v1/jobs/a/retry", "after the request")
        queuectl("--store", cutter.url, "retry", "a", code=75)
        assert queuectl.err.endswith("(queuectl show a shows it)\n")
        assert near.get(["a"])["a"].attempts == 2

    def test_a_change_of_an_older_version_is_refused(self, remote: RemoteQueue, dead: Job) -> None:
        [[change]] = remote.retry(["a"], version=dead.version - 1)
        assert isinstance(change.refused, Conflict)


class TestWaits:
    def test_a_wait_ends_when_another_process_has_ended_the_job(
        self, remote: RemoteQueue, near: PostgresStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One request of the wait takes longer than the test may: the answer comes because the database tells."""
        monkeypatch.setattr(waiting, "FIRST_STEP", 50.0)
        remote.enqueue([JobRequest(command="true", id="a")])
        looked = threading.Event()
        found: list[Job] = []
        thread = threading.Thread(
            target=lambda: found.extend(
                remote.wait(["a"], timeout=timedelta(minutes=1), look=lambda *_: looked.set()).values()
            )
        )
        thread.start()
        assert looked.wait(10)
        Actor(near).runs("a")
        thread.join(20)
        assert [job.state for job in found] == ["completed"]

    def test_the_command_wait_exits_with_the_code_of_a_job_that_another_process_ends(
        self, queuectl: CommandLine, server: ServerState, near: PostgresStore
    ) -> None:
        queuectl("enqueue", "--id", "a", "--retries", "0", "exit 3")
        thread = threading.Thread(target=lambda: ended.append(queuectl.process("wait", "a").returncode))
        ended: list[int] = []
        thread.start()
        eventually(lambda: server.waiting > 0)
        Actor(near).runs("a", exit_code=3)
        thread.join(20)
        assert ended == [3]


def ids_in(store: PostgresStore) -> list[str]:
    """The ids of all jobs."""
    return [job.id for job in store.find(Filter(), Page()).jobs]
