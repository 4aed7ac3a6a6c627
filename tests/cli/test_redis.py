"""Rights, kinds of servers, durability and the archive of Redis: each error is one line with a hint and an exit
code."""

import shlex
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cli.acting import Actor
from cli.conftest import CommandLine, Refused
from cli.doors import OTHER_STORE, direct
from cli.mongo import MongoPlace
from cli.postgres import PASSWORD, secret_of
from cli.redis import ArchivedPlace, RedisPlace
from e2e.databases import RIGHTS
from queuectl import bootstrap
from queuectl.store.mongo import connect
from queuectl.store.redis_archive import ArchivedStore
from servers.proxy import Proxy
from servers.redis import RedisServer, replica_of

pytestmark = direct(OTHER_STORE)

AWAY = "store_unavailable"


class TestRights:
    def test_the_page_lists_exactly_the_required_rights(self) -> None:
        page = Path(__file__).parents[2] / "docs" / "redis.md"
        text = page.read_text("utf-8").replace(" \\\n>    ", "").replace("'", "")
        assert f" {' '.join(RIGHTS)}\n" in text

    def test_a_read_only_user_can_read_the_archive(
        self, archived: ArchivedPlace, queuectl: CommandLine
    ) -> None:
        queuectl("--store", archived.url(), "enqueue", "--id", "a", "echo x")
        assert queuectl.process("--store", archived.url(), "worker", "start", "--drain").returncode == 0
        rights = (
            "-@all +@read -@dangerous +eval +evalsha +subscribe +ping +time +info +config|get +client|setname"
        )
        user, reader = archived.user(*rights.split()), archived.past.user("read")
        past = urlsplit(archived.archive)
        place = {"host": past.hostname, "port": past.port}
        url = archived.as_user(user, archive=archived.past.as_user(reader, **place))
        assert queuectl("--store", url, "list", "--columns", "id").split() == ["a"]
        assert queuectl("--store", url, "logs", "a") == "x\n"
        queuectl("--store", url, "delete", "a", code=5)

    def test_a_user_without_rights_is_refused(self, queue: RedisPlace, rejected: Refused) -> None:
        user = queue.user()
        rejected(queue.as_user(user), says=queue.at(user), hint="ACL SETUSER")

    def test_the_hint_for_a_user_without_rights_works(self, queue: RedisPlace, queuectl: CommandLine) -> None:
        url = queue.as_user(queue.user())
        hint = queuectl.json("--store", url, "status", code=5)["error"]["hint"]
        queue.server.call(*shlex.split(hint.partition("let an administrator run: ")[2]))
        assert queuectl("--store", url, "enqueue", "--id", "a", "true") == "a\n"

    def test_a_user_with_the_required_rights_can_use_the_queue(
        self, queue: RedisPlace, queuectl: CommandLine
    ) -> None:
        url = queue.as_user(queue.user(*RIGHTS))
        assert queuectl("--store", url, "enqueue", "--id", "a", "echo x") == "a\n"
        done = queuectl.process("--store", url, "worker", "start", "--drain")
        assert (done.returncode, done.stdout.count(b" done ")) == (0, 1), done
        assert queuectl("--store", url, "doctor").count("unseen") == 0

    def test_a_user_of_other_keys_is_refused(self, queue: RedisPlace, rejected: Refused) -> None:
        url = queue.as_user(queue.user("resetkeys", "~{other}*", *RIGHTS))
        rejected(url, "enqueue", "--env", "TOKEN=t0k3n", "true", says=queue.name, hint="ACL SETUSER")

    def test_a_user_that_cannot_read_settings_needs_durability_fast(
        self, queue: RedisPlace, queuectl: CommandLine, rejected: Refused
    ) -> None:
        user = queue.user(*(right for right in RIGHTS if right != "+config|get"))
        rejected(queue.as_user(user), says="appendfsync", hint="+config|get")
        url = queue.as_user(user, durability="fast")
        assert queuectl.json("--store", url, "status")["store"]["durability"] == "memory-safe"


class TestKinds:
    def test_a_replica_is_refused(self, queue: RedisPlace, own_redis: RedisServer, rejected: Refused) -> None:
        with closing(replica_of(own_redis)) as replica:
            for words in (("status",), ("enqueue", "true")):
                rejected(replica.url(name=queue.name), *words, says="replica", hint="primary")

    def test_a_queue_of_a_newer_version_is_refused(self, queue: RedisPlace, rejected: Refused) -> None:
        queue.server.call("SET", f"{queue.tag}:schema", 99)
        rejected(queue.url(), says="has schema 99", hint="a newer queuectl has used it: upgrade this one")


class TestDoctor:
    def test_doctor_shows_durability_version_and_settings(
        self, queue: RedisPlace, queuectl: CommandLine
    ) -> None:
        found = checks(queuectl, queue.url())
        assert found["store"] == queue.at()
        assert (found["durability"], found["redis"]) == ("power-safe", "6.2.14")
        assert (found["appendonly"], found["appendfsync"]) == ("yes", "always")
        assert found["wake_up"] == "messages"
        assert checks(queuectl, queue.url(listen="no"))["wake_up"] == "polling"

    def test_doctor_shows_the_archive(self, archived: ArchivedPlace, queuectl: CommandLine) -> None:
        found = checks(queuectl, archived.url())
        assert archived.past.name in found["archive"]
        assert found["to_archive"] == "0"


def checks(queuectl: CommandLine, url: str, code: int = 0) -> dict[str, str]:
    """The checks of doctor."""
    document = queuectl.json("--store", url, "doctor", code=code)
    assert document["ok"] is (code == 0)
    return {check["name"]: check["detail"] for check in document["checks"]}


class TestArchive:
    """The archive is another server and can fail independently of Redis."""

    def test_a_wrong_password_of_the_archive_is_reported(
        self, archived: ArchivedPlace, rejected: Refused, place: MongoPlace
    ) -> None:
        url = archived.url(archive=place.url(user="nobody", password=PASSWORD))
        for words in (("list",), ("show", "a")):
            rejected(url, *words, says=f"{place.at('nobody')}: Authentication failed", hint="authSource")

    def test_the_archive_of_another_queue_is_refused(
        self, archived: ArchivedPlace, queuectl: CommandLine, rejected: Refused
    ) -> None:
        queuectl("--store", archived.url(), "list")
        url = archived.url(name=f"{archived.name}-2")
        rejected(url, "list", says="is the archive of another queue", hint="name another database")
        archived.server.delete(f"{{{archived.name}-2}}")

    def test_a_queue_with_an_archive_cannot_be_opened_without_it(
        self, archived: ArchivedPlace, queuectl: CommandLine, rejected: Refused
    ) -> None:
        queuectl("--store", archived.url(), "list")
        rejected(archived.live(), says="has an archive", hint="archive=")

    @pytest.mark.parametrize("words", [("list", "--state", "pending"), ("status",), ("enqueue", "true")])
    def test_the_queue_works_while_the_archive_cannot_be_reached(
        self, away: str, queuectl: CommandLine, words: tuple[str, ...]
    ) -> None:
        queuectl("--store", away, *words)

    def test_status_does_not_wait_for_the_archive(
        self, archived: ArchivedPlace, mongo_proxy: Proxy, queuectl: CommandLine
    ) -> None:
        queuectl("--store", archived.url(), "enqueue", "true")
        mongo_proxy.black_hole()
        queuectl("--store", archived.url(), "status")
        assert not mongo_proxy.held
        mongo_proxy.pass_through()

    @pytest.mark.parametrize(
        "words",
        [("list", "--state", "completed"), ("list",), ("show", "old"), ("logs", "old"), ("retry", "old")],
    )
    def test_archived_jobs_cannot_be_read_while_the_archive_is_down(
        self, away: str, rejected: Refused, words: tuple[str, ...]
    ) -> None:
        rejected(away, *words, kind=AWAY, says="mongodb://", hint="does MongoDB run there?")

    def test_ended_jobs_that_are_not_archived_yet_can_be_read(
        self, away: str, live: Actor, queuectl: CommandLine
    ) -> None:
        queuectl("--store", away, "enqueue", "--id", "new", "echo fresh")
        live.runs("new", b"fresh\n")
        assert "state:     completed" in queuectl("--store", away, "show", "new")
        assert queuectl("--store", away, "logs", "new") == "fresh\n"
        assert queuectl.json("--store", away, "status")["jobs"]["completed"] == 2

    def test_doctor_shows_the_archive_and_the_number_of_waiting_jobs(
        self, away: str, live: Actor, archived: ArchivedPlace, queuectl: CommandLine
    ) -> None:
        queuectl("--store", away, "enqueue", "--id", "new", "true")
        live.runs("new")
        found = checks(queuectl, away, code=1)
        assert (found["to_archive"], archived.past.name in found["archive"]) == ("1", True)
        assert found["store fault"].startswith("1 job waits for the archive: ")
        assert secret_of(away, str(found), archived) is None

    @pytest.fixture
    def live(self, archived: ArchivedPlace, mongo_proxy: Proxy) -> Iterator[Actor]:
        """A worker that archives only the jobs that the test selects."""
        store = bootstrap.open_store(archived.url())
        yield Actor(store)
        mongo_proxy.pass_through()
        store.close()

    @pytest.fixture
    def away(
        self,
        archived: ArchivedPlace,
        live: Actor,
        queuectl: CommandLine,
        mongo_proxy: Proxy,
        monkeypatch: pytest.MonkeyPatch,
    ) -> str:
        """The URL of a queue whose job `old` is archived, and whose archive cannot be reached any more."""
        queuectl("--store", archived.url(), "enqueue", "--id", "old", "echo old")
        live.runs("old", b"old\n")
        assert isinstance(live.store, ArchivedStore)
        assert live.store.archiver.archive_batch() == 1
        monkeypatch.setattr(connect, "FIRST_LOOK", 0.1)
        mongo_proxy.refuse()
        return archived.url()
