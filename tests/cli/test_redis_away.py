"""Redis falls silent, loses a reply or hangs, and what a person at the terminal has of it."""

import signal
import subprocess

import pytest

from cli.conftest import CommandLine
from cli.redis import ArchivedPlace, RedisPlace
from cli.test_mongo_away import NOISE, running
from facts import eventually
from queuectl.store.redis.scripts import script
from servers.endpoint import free_port
from servers.proxy import Proxy


@pytest.fixture
def url(queue: RedisPlace, redis_proxy: Proxy) -> str:
    """A queue by way of a network that does what the test says."""
    queue.server.call("SCRIPT", "LOAD", script("add").text)  # else the first reply is that it is not known
    return queue.url(host=redis_proxy.host, port=redis_proxy.port)


class TestLostReply:
    ADD = script("add").digest.encode()

    def test_it_is_75_and_the_same_command_once_more_finds_the_job(
        self, queuectl: CommandLine, url: str, redis_proxy: Proxy
    ) -> None:
        redis_proxy.lose_reply(self.ADD)
        id = queuectl("--store", url, "enqueue", "echo a", code=75).strip()
        assert redis_proxy.lost.is_set()
        assert "did not answer: whether it was done is not known" in queuectl.err
        assert queuectl.err.endswith(f" (repeating the same command with --id {id} is safe)\n")
        again = queuectl.json("--store", url, "enqueue", "--id", id, "echo a")["jobs"][0]
        assert (again["id"], again["existing"]) == (id, True)
        assert queuectl.json("--store", url, "status")["jobs"]["total"] == 1

    def test_of_a_file_too(self, queuectl: CommandLine, url: str, redis_proxy: Proxy) -> None:
        queuectl("--store", url, "doctor", "--create")
        redis_proxy.lose_reply(self.ADD)
        lines = "\n".join(f'{{"id": "job-{n}", "command": "true"}}' for n in range(3))
        queuectl("--store", url, "enqueue", "-", code=75, input=lines)
        assert queuectl.err.count("\n") == 1
        queuectl("--store", url, "enqueue", "-", input=lines)
        assert queuectl.json("--store", url, "status")["jobs"]["total"] == 3


class TestInterrupt:
    """Ctrl+C ends a command at once, whatever the servers do."""

    @staticmethod
    def interrupted(process: "subprocess.Popen[bytes]", said: str = "") -> None:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=5)  # patience is ten
        assert (process.returncode, out) == (130, b"")
        assert err.decode() in ("", said)  # nothing where it has not got as far as what it would say

    @pytest.mark.usefixtures("queuectl")
    @pytest.mark.parametrize("words", [("status",), ("enqueue", "true"), ("worker", "start")])
    def test_before_the_server_has_said_a_word(
        self, url: str, redis_proxy: Proxy, words: tuple[str, ...]
    ) -> None:
        redis_proxy.black_hole()
        with running("--store", url, *words) as process:
            eventually(lambda: redis_proxy.held, what="a question")
            self.interrupted(process)

    def test_a_server_that_falls_silent(self, queuectl: CommandLine, url: str, redis_proxy: Proxy) -> None:
        queuectl("--store", url, "enqueue", "--id", "a", "true")
        eventually(lambda: not redis_proxy.connections, what="the last one gone")
        with running("--store", url, "wait", "1") as process:
            eventually(lambda: redis_proxy.connections >= 2, what="one that asks and one that listens")
            assert process.stderr
            assert process.stderr.readline() == (
                b"queuectl: no worker serves queue default: queuectl worker start\n"
            )
            redis_proxy.black_hole()
            eventually(lambda: redis_proxy.held, what="a question that is not answered")
            said = "no longer waiting; the job goes on. To end it: queuectl cancel a"
            self.interrupted(process, f"\nqueuectl: {said}\n")

    def test_an_archive_that_falls_silent(
        self, queuectl: CommandLine, archived: ArchivedPlace, mongo_proxy: Proxy
    ) -> None:
        queuectl("--store", archived.url(), "list")
        mongo_proxy.black_hole()
        with running("--store", archived.url(), "list") as process:
            eventually(lambda: mongo_proxy.held, what="a question")
            self.interrupted(process)


class TestTerminal:
    """The library warns and has threads; none of that is for a person."""

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("enqueue", "--id", "a", "true"), ""),
            (("status",), "no worker runs; start one with: queuectl worker start\n"),
            (("doctor",), ""),
            (("list",), ""),
        ],
    )
    def test_nothing_but_ours_is_on_stderr(
        self, queuectl: CommandLine, archived: ArchivedPlace, words: tuple[str, ...], said: str
    ) -> None:
        done = queuectl.process("--store", archived.url(), *words, **NOISE)
        assert (done.returncode, done.stderr.decode()) == (0, said)

    def test_nor_where_something_is_wrong(self, queuectl: CommandLine, queue: RedisPlace) -> None:
        for url in (queue.url(port=free_port()), queue.url(password="s3cret"), queue.url(foo="1")):
            done = queuectl.process("--store", url, "status", **NOISE)
            assert (done.stdout, done.stderr.count(b"\n")) == (b"", 1)
            assert done.stderr.startswith(b"queuectl: ")

    def test_nor_of_a_worker_whose_server_goes(
        self, queuectl: CommandLine, queue: RedisPlace, url: str, redis_proxy: Proxy
    ) -> None:
        queuectl("--store", queue.url(), "enqueue", "--id", "a", "true")
        with running("--store", url, "worker", "start") as worker:
            eventually(lambda: self.completed(queuectl, queue) == 1, within=20, what="the first")
            redis_proxy.refuse()
            redis_proxy.pass_through()
            queuectl("--store", queue.url(), "enqueue", "--id", "b", "true")
            eventually(lambda: self.completed(queuectl, queue) == 2, within=20, what="the second")
            worker.send_signal(signal.SIGTERM)
            out, err = worker.communicate(timeout=20)
        said = (out + err).decode()
        assert worker.returncode == 0, said
        assert "Traceback" not in said

    def test_nor_of_one_that_is_cut_off_before_it_listens(
        self, queuectl: CommandLine, queue: RedisPlace, url: str, redis_proxy: Proxy
    ) -> None:
        redis_proxy.lose_reply(b"SUBSCRIBE")
        with running("--store", url, "worker", "start") as worker:
            assert redis_proxy.lost.wait(10)
            queuectl("--store", queue.url(), "enqueue", "true")
            eventually(lambda: self.completed(queuectl, queue) == 1, within=20, what="the job")
            worker.send_signal(signal.SIGTERM)
            out, err = worker.communicate(timeout=20)
        assert (worker.returncode, b"Traceback" in out + err) == (0, False), (out + err).decode()

    @staticmethod
    def completed(queuectl: CommandLine, queue: RedisPlace) -> int:
        return int(queuectl.json("--store", queue.url(), "status")["jobs"]["completed"])


class TestArchiveAtTheStart:
    """A worker's queue works without its archive: so what is wrong with that is said before the worker starts."""

    @pytest.mark.parametrize("words", [("--drain",), ()])
    def test_a_wrong_password_is_refused_with_the_reason(
        self, queuectl: CommandLine, archived: ArchivedPlace, words: tuple[str, ...]
    ) -> None:
        user, _, rest = archived.archive.partition("@")
        wrong = archived.url(archive=f"{user}-wrong@{rest}")
        queuectl("--store", archived.url(), "enqueue", "true")
        done = queuectl.process("--store", wrong, "worker", "start", *words)
        assert (done.returncode, done.stdout) == (5, b"")
        assert b"password" in done.stderr
        assert done.stderr.count(b"\n") == 1
        assert queuectl.json("--store", archived.url(), "status")["jobs"]["pending"] == 1

    def test_one_that_is_away_is_said_and_the_worker_works(
        self, queuectl: CommandLine, archived: ArchivedPlace, mongo_proxy: Proxy
    ) -> None:
        queuectl("--store", archived.url(), "enqueue", "true")
        mongo_proxy.refuse()
        done = queuectl.process("--store", archived.url(), "worker", "start", "--drain")
        assert done.returncode == 0
        assert b"what has ended waits in the queue" in done.stderr
        assert queuectl.json("--store", archived.url(), "status")["jobs"]["completed"] == 1
