"""MongoDB falls silent, loses a reply or goes, and what a person at the terminal has of it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cli.conftest import CommandLine
from cli.mongo import MongoPlace
from cli.postgres import PASSWORD, secret_of
from facts import eventually
from servers.endpoint import free_port
from servers.proxy import Proxy

NOISE = {"PYTHONWARNINGS": "default"}
"""Has Python say what it else keeps to itself."""


@pytest.fixture
def url(place: MongoPlace, mongo_proxy: Proxy) -> str:
    """A queue that is there already, by way of a network that does what the test says."""
    return place.url(host=mongo_proxy.host, port=mongo_proxy.port)


class TestLostReply:
    INSERT = b"insert\0\5\0\0\0jobs"

    def test_it_is_75_and_the_same_command_once_more_finds_the_job(
        self, queuectl: CommandLine, url: str, mongo_proxy: Proxy
    ) -> None:
        queuectl("--store", url, "doctor", "--create")
        mongo_proxy.lose_reply(self.INSERT)
        id = queuectl("--store", url, "enqueue", "echo a", code=75).strip()
        assert mongo_proxy.lost.is_set()
        shown = url.replace(":open%2Fsesame", "").partition("?")[0]
        said = f"{shown} did not answer: whether it was done is not known"
        hint = f"repeating the same command with --id {id} is safe"
        assert queuectl.err == f"queuectl: {said} ({hint})\n"
        again = queuectl.json("--store", url, "enqueue", "--id", id, "echo a")["jobs"][0]
        assert (again["id"], again["existing"]) == (id, True)
        assert queuectl.json("--store", url, "status")["jobs"]["total"] == 1

    def test_of_a_file_too(self, queuectl: CommandLine, url: str, mongo_proxy: Proxy) -> None:
        queuectl("--store", url, "doctor", "--create")
        mongo_proxy.lose_reply(self.INSERT)
        lines = "\n".join(f'{{"id": "job-{n}", "command": "true"}}' for n in range(3))
        queuectl("--store", url, "enqueue", "-", code=75, input=lines)
        assert queuectl.err.count("\n") == 1
        queuectl("--store", url, "enqueue", "-", input=lines)
        assert queuectl.json("--store", url, "status")["jobs"]["total"] == 3

    @pytest.mark.parametrize("question", [b"find\0\x09\0\0\0counters", b"find\0\7\0\0\0shared"])
    def test_a_connection_that_breaks_before_changes_nothing_and_nobody_notices(
        self, queuectl: CommandLine, url: str, mongo_proxy: Proxy, question: bytes
    ) -> None:
        queuectl("--store", url, "doctor", "--create")
        mongo_proxy.lose_reply(question)
        assert queuectl("--store", url, "enqueue", "--id", "a", "true") == "a\n"
        assert mongo_proxy.lost.is_set()

    @pytest.mark.parametrize("step", [b"create\0\5\0\0\0jobs", b"update\0\x09\0\0\0counters"])
    def test_nor_one_that_breaks_while_the_collections_are_made(
        self, queuectl: CommandLine, url: str, mongo_proxy: Proxy, step: bytes
    ) -> None:
        mongo_proxy.lose_reply(step)
        assert queuectl("--store", url, "enqueue", "--id", "a", "true") == "a\n"
        assert mongo_proxy.lost.is_set()


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command line in a process that may be interrupted."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **NOISE}
    command = [sys.executable, "-m", "queuectl", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


class TestInterrupt:
    """Ctrl+C ends a command at once, whatever the server does."""

    @staticmethod
    def interrupted(process: subprocess.Popen[bytes], said: str = "") -> None:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=8)  # patience is ten
        assert (process.returncode, out) == (130, b"")
        assert err.decode() in ("", said)  # nothing where it has not got as far as what it would say

    @pytest.mark.usefixtures("queuectl")
    @pytest.mark.parametrize("words", [("status",), ("enqueue", "true")])
    def test_before_the_server_has_said_a_word(
        self, url: str, mongo_proxy: Proxy, words: tuple[str, ...]
    ) -> None:
        mongo_proxy.black_hole()
        with running("--store", url, *words) as process:
            eventually(lambda: mongo_proxy.held, what="a question")
            self.interrupted(process)

    def test_a_server_that_falls_silent(self, queuectl: CommandLine, url: str, mongo_proxy: Proxy) -> None:
        queuectl("--store", url, "enqueue", "--id", "a", "true")
        eventually(lambda: not mongo_proxy.connections, what="the last one gone")
        with running("--store", url, "wait", "1") as process:
            eventually(lambda: mongo_proxy.connections >= 3, what="a connected command")
            assert process.stderr
            assert process.stderr.readline() == (
                b"queuectl: no worker serves queue default: queuectl worker start\n"
            )
            mongo_proxy.black_hole()
            eventually(lambda: mongo_proxy.held, what="a question that is not answered")
            said = "no longer waiting; the job goes on. To end it: queuectl cancel a"
            self.interrupted(process, f"\nqueuectl: {said}\n")


class TestTerminal:
    """The driver warns, logs and has threads; none of that is for a person."""

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (("enqueue", "--id", "a", "true"), 0, ""),
            (("status",), 0, "no worker runs; start one with: queuectl worker start\n"),
            (("doctor",), 0, ""),
            (("list",), 0, ""),
        ],
    )
    def test_nothing_but_ours_is_on_stderr(
        self, queuectl: CommandLine, place: MongoPlace, words: tuple[str, ...], code: int, said: str
    ) -> None:
        url = place.url(compressors="snappy,zlib", appName="x")
        queuectl("--store", url, "doctor", "--create")
        done = queuectl.process("--store", url, *words, **NOISE)
        assert (done.returncode, done.stderr.decode()) == (code, said)

    @pytest.mark.parametrize("what", ["refused", "password", "option"])
    def test_nor_where_something_is_wrong(self, queuectl: CommandLine, place: MongoPlace, what: str) -> None:
        url = {
            "refused": place.url(port=free_port(), password=PASSWORD),
            "password": place.url(password=PASSWORD),
            "option": place.url(foo="1"),
        }[what]
        done = queuectl.process("--store", url, "status", **NOISE)
        assert done.stderr.startswith(b"queuectl: mongodb://root@127.0.0.1:")
        assert (done.stdout, done.stderr.count(b"\n")) == (b"", 1)
        assert secret_of(url, done.stderr.decode(), place) is None

    def test_nor_of_a_worker_whose_server_goes(
        self, queuectl: CommandLine, url: str, mongo_proxy: Proxy, place: MongoPlace
    ) -> None:
        queuectl("--store", place.url(), "enqueue", "--id", "a", "true")
        with running("--store", url, "worker", "start") as worker:
            self.completed(place, "a")
            mongo_proxy.refuse()
            mongo_proxy.pass_through()
            queuectl("--store", place.url(), "enqueue", "--id", "b", "true")
            self.completed(place, "b")
            worker.send_signal(signal.SIGTERM)
            out, err = worker.communicate(timeout=20)
        said = (out + err).decode()
        assert worker.returncode == 0, said
        assert "Traceback" not in said
        assert "pymongo" not in said
        assert secret_of(url, said, place) is None

    @staticmethod
    def completed(place: MongoPlace, job: str) -> None:
        query = {"id": job, "state": "completed"}
        eventually(lambda: place.here["jobs"].find_one(query), within=20, what=f"{job} completed")
