"""A server becomes silent, its reply is lost, or it ends; the tests check the output on the terminal."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cli.conftest import CommandLine
from cli.postgres import PASSWORD, secret_of
from cli.redis import ArchivedPlace
from facts import eventually
from queuectl.store.redis.scripts import script
from servers.endpoint import free_port
from servers.proxy import Proxy
from stores.rows import DRIVERS, each

NOISE = {"PYTHONWARNINGS": "default"}
"""Makes Python print warnings that it usually suppresses."""
ADD = {
    "postgres": b".add_",
    "mongodb": b"insert\0\5\0\0\0jobs",
    "redis": script("add").digest.encode(),
}
"""A part of the request that adds a job."""
IDLE = {"postgres": 2, "mongodb": 3, "redis": 2}
"""The connections of a waiting command: one for requests, the others for notifications."""


@pytest.fixture
def url(plain: Any, network: Proxy, kind: str) -> str:
    """A queue behind a network that the test controls."""
    if kind == "redis":
        plain.server.call(
            "SCRIPT", "LOAD", script("add").text
        )  # otherwise the first reply reports an unknown script
    found: str = plain.url(host=network.host, port=network.port)
    return found


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command line in a process that can be interrupted."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **NOISE}
    command = [sys.executable, "-m", "queuectl", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("kind", DRIVERS)
class TestLostReply:
    def test_an_enqueue_exits_with_75_and_repeating_it_finds_the_job(
        self, queuectl: CommandLine, url: str, network: Proxy, plain: Any, kind: str
    ) -> None:
        queuectl("--store", url, "doctor", "--create")
        network.lose_reply(ADD[kind])
        id = queuectl("--store", url, "enqueue", "echo a", code=75).strip()
        assert network.lost.is_set()
        said = "did not answer: it is unknown whether the change was made"
        hint = f"repeating the same command with --id {id} is safe"
        assert queuectl.err.endswith(f" {said} ({hint})\n")
        assert queuectl.err.count("\n") == 1
        assert secret_of(url, queuectl.err, plain) is None
        again = queuectl.json("--store", url, "enqueue", "--id", id, "echo a")["jobs"][0]
        assert (again["id"], again["existing"]) == (id, True)
        assert queuectl.json("--store", url, "status")["jobs"]["total"] == 1

    def test_an_enqueue_of_many_lines_exits_with_75_and_can_be_repeated(
        self, queuectl: CommandLine, url: str, network: Proxy, kind: str
    ) -> None:
        queuectl("--store", url, "doctor", "--create")
        network.lose_reply(ADD[kind])
        lines = "\n".join(f'{{"id": "job-{n}", "command": "true"}}' for n in range(3))
        queuectl("--store", url, "enqueue", "-", code=75, input=lines)
        assert queuectl.err.count("\n") == 1
        queuectl("--store", url, "enqueue", "-", input=lines)
        assert queuectl.json("--store", url, "status")["jobs"]["total"] == 3


HARMLESS: dict[str, list[tuple[bytes, bool]]] = {
    "postgres": [],
    "mongodb": [
        (b"find\0\x09\0\0\0counters", True),
        (b"find\0\7\0\0\0shared", True),
        (b"create\0\5\0\0\0jobs", False),
        (b"update\0\x09\0\0\0counters", False),
    ],
    "redis": [],
}
"""Requests before the one that adds, in a queue that is there already or not yet."""


@pytest.mark.parametrize(("kind", "request_part", "there"), each(HARMLESS))
def test_a_reply_lost_before_the_write_has_no_effect(
    queuectl: CommandLine, url: str, network: Proxy, kind: str, request_part: bytes, there: bool
) -> None:
    if there:
        queuectl("--store", url, "doctor", "--create")
    network.lose_reply(request_part)
    assert queuectl("--store", url, "enqueue", "--id", "a", "true") == "a\n"
    assert network.lost.is_set()


class TestInterrupt:
    """Ctrl+C ends a command at once in every state of the servers."""

    @staticmethod
    def interrupted(process: "subprocess.Popen[bytes]", said: str = "") -> None:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=8)  # patience is ten
        assert (process.returncode, out) == (130, b"")
        assert err.decode() in ("", said)  # no output if the command was interrupted before its message

    @pytest.mark.usefixtures("queuectl")
    @pytest.mark.parametrize("kind", DRIVERS)
    @pytest.mark.parametrize("words", [("status",), ("enqueue", "true"), ("worker", "start")], ids=" ".join)
    def test_ctrl_c_before_the_first_answer_ends_the_command(
        self, url: str, network: Proxy, words: tuple[str, ...]
    ) -> None:
        network.black_hole()
        with running("--store", url, *words) as process:
            eventually(lambda: network.held, what="a request")
            self.interrupted(process)

    @pytest.mark.parametrize("kind", DRIVERS)
    def test_ctrl_c_ends_a_command_whose_server_became_silent(
        self, queuectl: CommandLine, url: str, network: Proxy, kind: str
    ) -> None:
        queuectl("--store", url, "enqueue", "--id", "a", "true")
        eventually(lambda: not network.connections, what="the last one gone")
        with running("--store", url, "wait", "1") as process:
            eventually(lambda: network.connections >= IDLE[kind], what="a connected command")
            assert process.stderr
            assert process.stderr.readline() == (
                b"queuectl: no worker serves queue default: queuectl worker start\n"
            )
            network.black_hole()
            eventually(lambda: network.held, what="a request that is not answered")
            said = "no longer waiting; the job continues. To end it: queuectl cancel a"
            self.interrupted(process, f"\nqueuectl: {said}\n")

    def test_ctrl_c_ends_a_command_whose_archive_became_silent(
        self, queuectl: CommandLine, archived: ArchivedPlace, mongo_proxy: Proxy
    ) -> None:
        queuectl("--store", archived.url(), "list")
        mongo_proxy.black_hole()
        with running("--store", archived.url(), "list") as process:
            eventually(lambda: mongo_proxy.held, what="a request")
            self.interrupted(process)


SAID = {("status",): "no worker is running; start one with: queuectl worker start\n"}


class TestTerminal:
    """Client libraries print warnings and logs and start threads; none of this appears on the terminal."""

    @pytest.mark.parametrize("kind", [*DRIVERS, "archived"])
    @pytest.mark.parametrize(
        "words", [("enqueue", "--id", "a", "true"), ("status",), ("doctor",), ("list",)], ids=" ".join
    )
    def test_stderr_contains_only_messages_of_queuectl(
        self, queuectl: CommandLine, request: pytest.FixtureRequest, kind: str, words: tuple[str, ...]
    ) -> None:
        given = {"compressors": "snappy,zlib", "appName": "x"} if kind == "mongodb" else {}
        url = request.getfixturevalue("archived" if kind == "archived" else "plain").url(**given)
        queuectl("--store", url, "doctor", "--create")
        done = queuectl.process("--store", url, *words, **NOISE)
        assert (done.returncode, done.stderr.decode()) == (0, SAID.get(words, ""))

    @pytest.mark.parametrize("kind", DRIVERS)
    @pytest.mark.parametrize("what", ["refused", "password", "option"])
    def test_an_error_prints_only_messages_of_queuectl(
        self, queuectl: CommandLine, plain: Any, what: str
    ) -> None:
        url = {
            "refused": plain.url(port=free_port(), password=PASSWORD),
            "password": plain.url(password=PASSWORD),
            "option": plain.url(foo="1"),
        }[what]
        done = queuectl.process("--store", url, "status", **NOISE)
        assert (done.stdout, done.stderr.count(b"\n")) == (b"", 1)
        assert done.stderr.startswith(b"queuectl: ")
        assert secret_of(url, done.stderr.decode(), plain) is None

    @pytest.mark.parametrize("kind", DRIVERS)
    def test_a_worker_without_its_server_prints_only_messages_of_queuectl(
        self, queuectl: CommandLine, url: str, network: Proxy, plain: Any
    ) -> None:
        queuectl("--store", plain.url(), "enqueue", "--id", "a", "true")
        with running("--store", url, "worker", "start") as worker:
            eventually(lambda: completed(queuectl, plain) == 1, within=20, what="the first job")
            network.refuse()
            network.pass_through()
            queuectl("--store", plain.url(), "enqueue", "--id", "b", "true")
            eventually(lambda: completed(queuectl, plain) == 2, within=20, what="the second job")
            worker.send_signal(signal.SIGTERM)
            out, err = worker.communicate(timeout=20)
        said = (out + err).decode()
        assert worker.returncode == 0, said
        assert [word for word in ("Traceback", "pymongo", "psycopg") if word in said] == []
        assert secret_of(url, said, plain) is None

    @pytest.mark.parametrize("kind", ["redis"])
    def test_a_worker_that_cannot_subscribe_prints_only_its_own_messages(
        self, queuectl: CommandLine, url: str, network: Proxy, plain: Any
    ) -> None:
        network.lose_reply(b"SUBSCRIBE")
        with running("--store", url, "worker", "start") as worker:
            assert network.lost.wait(10)
            queuectl("--store", plain.url(), "enqueue", "true")
            eventually(lambda: completed(queuectl, plain) == 1, within=20, what="the job")
            worker.send_signal(signal.SIGTERM)
            out, err = worker.communicate(timeout=20)
        assert (worker.returncode, b"Traceback" in out + err) == (0, False), (out + err).decode()


def completed(queuectl: CommandLine, place: Any) -> int:
    """The number of completed jobs."""
    return int(queuectl.json("--store", place.url(), "status")["jobs"]["completed"])


class TestArchiveAtTheStart:
    """A queue works without its archive, so a worker reports a fault of the archive before it starts."""

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

    def test_an_unreachable_archive_is_reported_and_the_worker_works(
        self, queuectl: CommandLine, archived: ArchivedPlace, mongo_proxy: Proxy
    ) -> None:
        queuectl("--store", archived.url(), "enqueue", "true")
        mongo_proxy.refuse()
        done = queuectl.process("--store", archived.url(), "worker", "start", "--drain")
        assert done.returncode == 0
        assert b"ended jobs wait in the queue" in done.stderr
        assert queuectl.json("--store", archived.url(), "status")["jobs"]["completed"] == 1
