"""`worker start --serve`: one command for server and workers; every other command is a client of this server."""

import http.client
import json
import os
import re
import signal
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from e2e.databases import PostgresDatabase
from e2e.harness import Place, WorkerProcess, alive, children
from facts import Stopwatch, TooSlow, delay, eventually
from http_process import self_signed
from servers.endpoint import free_port


class Server:
    """The server of a worker, and the clients that talk to it."""

    def __init__(self, place: Place, *words: str) -> None:
        self.place = place
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.worker: WorkerProcess = place.start_worker("--serve", f"127.0.0.1:{self.port}", *words)

    def run(self, *words: str, code: int = 0) -> str:
        """One command as a client of the server; its stdout."""
        return self.place.run(*words, code=code, QUEUECTL_STORE=self.url)

    def pid(self) -> int:
        """The server process."""
        return next((pid for pid in children(self.worker.pid) if "serve" in words_of(pid)), 0)

    def read(self, path: str, **headers: str) -> bytes | None:
        """The whole body of one GET; None if it is cut off."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.token()}", **headers})
            return connection.getresponse().read()
        except http.client.IncompleteRead:
            return None
        finally:
            connection.close()

    def streams(self) -> int:
        """How many streams are open."""
        found = re.search(rb"^queuectl_streams\{.*\} (\d+)", self.read("/metrics") or b"", re.MULTILINE)
        return int(found[1]) if found else 0

    def kill(self) -> float:
        """Kill the server process. The seconds until another one answers a request.

        The time in which the new process was ready to run and other programs had the processors is not counted.
        """
        watch = Stopwatch()
        os.kill(self.pid(), signal.SIGKILL)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200
        finally:
            connection.close()
        return watch.seconds - delay(self.pid())

    def token(self) -> str:
        (file,) = self.place.root.glob(f"state/queuectl/serve-{self.port}.json")
        return str(json.loads(file.read_text())["token"])

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """One request; its status and its document."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"Authorization": f"Bearer {self.token()}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            connection.close()


def words_of(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


@pytest.mark.parametrize("kind", ["sqlite"])
class TestSeed002:
    """Server and workers in one command, HTTP clients for the rest, no word about tokens."""

    def test_its_commands(self, place: Place) -> None:
        server = Server(place, "--count", "3")
        server.run("config", "set", "backoff_factor_ms", "10")
        done = server.run("enqueue", "echo 'Hello World'").strip()
        fails = server.run("enqueue", "exit 1", "--retries", "2").strip()
        place.until(done, "completed")
        assert place.until(fails, "dead").attempts == 3
        status = server.run("status")
        assert "completed:  1" in status
        assert "slots: 3 live, 0 processing, 3 idle" in status
        listed = server.run("list", "--state", "dead")
        assert fails in listed
        assert done not in listed
        assert done in server.run("list")
        assert fails in server.run("dlq", "list")
        assert fails in server.run("dlq", "retry", fails)
        place.until(fails, "dead")
        assert fails in server.run("dlq", "retry", "--all")
        place.until(fails, "dead")
        assert server.run("logs", done) == "Hello World\n"
        assert "max_retries = " in server.run("config", "list")
        server.run("config", "set", "max_retries", "5")
        assert server.run("config", "get", "max_retries") == "5\n"

        runs = server.run("enqueue", "sleep 1; echo finished").strip()
        place.until(runs, "processing")
        assert server.run("worker", "stop").strip().endswith("stopped")
        assert server.worker.wait() == 0
        assert place.job(runs).state == "completed"
        assert place.output(runs) == b"finished\n"
        eventually(lambda: not place.processes(), within=5)


@pytest.mark.parametrize("kind", ["sqlite"])
class TestEnd:
    def test_a_draining_worker_answers_reads_and_refuses_new_jobs(self, place: Place) -> None:
        server = Server(place)
        runs = place.enqueue("while [ ! -e go ]; do sleep 0.05; done; echo finished")
        place.until(runs, "processing")
        waited: list[tuple[int, Any]] = []
        waits = {"ids": [runs], "timeout": 30}
        waiting = threading.Thread(target=lambda: waited.append(server.ask("POST", "/v1/wait", waits)))
        waiting.start()
        server.worker.signal(signal.SIGTERM)
        eventually(lambda: server.ask("GET", "/v1")[1]["draining"], what="the server drains")
        assert server.ask("GET", f"/v1/jobs/{runs}")[1]["job"]["state"] == "processing"
        assert server.ask("GET", "/readyz")[0] == 503
        status, problem = server.ask("POST", "/v1/jobs", {"command": "true"})
        assert (status, problem["code"]) == (503, "draining")
        assert not waited
        (place.work / "go").touch()
        waiting.join(20)
        assert waited[0][0] == 200
        assert waited[0][1]["done"]
        assert server.worker.wait() == 0
        eventually(lambda: not place.processes(), within=5)

    @pytest.mark.parametrize("how", ["worker stop", "TERM"])
    def test_streams_and_waits_of_clients_end_properly_with_the_worker(self, place: Place, how: str) -> None:
        """The stream of a job that ends has its end; any other says goodbye, or is cut off if it is bytes."""
        server = Server(place)
        runs = place.enqueue("echo begin; while [ ! -e go ]; do sleep 0.05; done; echo end")
        waits = place.enqueue("true", "--delay", "1h")
        place.until(runs, "processing")
        events, follow = {"Accept": "text/event-stream"}, "output?follow=1"
        with ThreadPoolExecutor() as threads:
            answers = {
                "events": threads.submit(server.read, f"/v1/jobs/{runs}/output", **events),
                "goodbye": threads.submit(server.read, f"/v1/jobs/{waits}/output", **events),
                "bytes": threads.submit(server.read, f"/v1/jobs/{runs}/{follow}"),
                "cut": threads.submit(server.read, f"/v1/jobs/{waits}/{follow}"),
            }
            waited = threads.submit(server.ask, "POST", "/v1/wait", {"ids": [waits], "timeout": 50})
            eventually(lambda: server.streams() == 4, what="four open streams")
            stop = threads.submit(server.run, "worker", "stop") if how == "worker stop" else None
            if stop is None:
                server.worker.signal(signal.SIGTERM)
            eventually(lambda: server.ask("GET", "/v1")[1]["draining"], what="the server drains")
            (place.work / "go").touch()
            bodies = {name: answer.result() for name, answer in answers.items()}
        assert stop is None or stop.result().strip().endswith("stopped")
        assert b"event: end\n" in bodies["events"].split(b"\n\n")[-2] + b"\n"
        assert b"event: bye\n" in bodies["goodbye"].split(b"\n\n")[-2] + b"\n"
        assert bodies["bytes"] == b"begin\nend\n"
        assert bodies["cut"] is None
        assert waited.result()[0] == 200
        assert not waited.result()[1]["done"]
        assert server.worker.wait() == 0
        assert not place.processes()

    def test_a_server_dies_with_its_killed_worker(self, place: Place) -> None:
        server = Server(place)
        pid = server.pid()
        assert "sqlite:" not in " ".join(words_of(pid))  # the URL of another store may contain a password
        server.worker.signal(signal.SIGKILL)
        eventually(lambda: not alive(pid), within=5)
        socket.create_server(("127.0.0.1", server.port)).close()


@pytest.mark.parametrize("kind", ["sqlite"])
class TestDeath:
    def test_a_killed_server_is_replaced_and_commands_continue(self, place: Place) -> None:
        server = Server(place)
        runs = place.enqueue("while [ ! -e go ]; do sleep 0.05; done")
        place.until(runs, "processing")
        first = server.pid()
        os.kill(first, signal.SIGKILL)
        assert runs in server.run("list")
        assert server.pid() not in (0, first)
        assert place.job(runs).attempts == 1
        (place.work / "go").touch()
        place.until(runs, "completed")

    def test_another_server_answers_within_a_second_and_no_command_is_disturbed(self, place: Place) -> None:
        server = Server(place, "--count", "3")
        counts = "i=0; while [ ! -e go ]; do echo $i; i=$((i+1)); sleep 0.01; done"
        runs = [place.enqueue(counts) for _ in range(3)]
        for id in runs:
            place.until(id, "processing")
        if (seconds := min(server.kill() for _ in range(3))) >= 1.0:
            raise TooSlow(f"another server answered after {seconds:.2f} s")
        (place.work / "go").touch()
        for id in runs:
            assert place.until(id, "completed").attempts == 1
            printed = place.output(id).decode().split()
            assert printed == [str(n) for n in range(len(printed))]


@pytest.mark.parametrize("kind", ["sqlite"])
class TestStart:
    def test_a_taken_port_is_reported_before_the_worker_claims_a_job(self, place: Place) -> None:
        waits = place.enqueue("true")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            message = place.run_error("worker", "start", "--serve", address, "--drain", code=1)
        assert f"port {address.partition(':')[2]} of 127.0.0.1 is taken" in message
        assert "--serve 127.0.0.1:0 takes a free one" in message
        assert place.job(waits).state == "pending"

    def test_a_detached_worker_tells_the_url_of_its_server(self, place: Place) -> None:
        started = place.json("worker", "start", "--detach", "--serve", "127.0.0.1:0")["worker"]
        url = started["url"]
        assert f"listening on {url}" in Path(started["log"]).read_text()
        assert "running" in place.run("status", QUEUECTL_STORE=url)
        watch = Stopwatch()
        place.run("worker", "stop", QUEUECTL_STORE=url)
        watch.check(9)  # after the answer, the client asks the ended server no more
        eventually(lambda: not place.processes(), within=5)

    def test_a_server_that_cannot_start_is_reported_by_a_detached_worker(self, place: Place) -> None:
        (place.root / "state").write_text("no directory")
        message = place.run_error("worker", "start", "--detach", "--serve", "127.0.0.1:0", code=1)
        assert "the worker did not start: the server cannot serve: " in message
        (place.root / "state").unlink()

    @pytest.mark.proof
    def test_reload_replaces_the_server_after_the_agent(self, place: Place) -> None:
        server = Server(place)
        first, agent = server.pid(), place.agent_pid(server.worker)
        server.run("worker", "reload")
        eventually(lambda: server.pid() not in (0, first), what="another server")
        assert place.agent_pid(server.worker) != agent
        assert "running" in server.run("status")


@pytest.mark.parametrize("kind", ["sqlite"])
class TestOptions:
    def test_the_server_gets_the_options_that_begin_with_serve(
        self, place: Place, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        short = tmp_path_factory.mktemp("s")
        certificate = self_signed(short, "IP:127.0.0.1")
        runs = place.enqueue("while [ ! -e go ]; do sleep 0.05; done")
        path = short / "private" / "s"
        words = ("--serve-read-only", "--serve-anonymous", "view", "--serve-socket", str(path))
        tls = ("--serve-tls-cert", certificate[0], "--serve-tls-key", certificate[1])
        server = Server(place, *words, *tls, "--serve-allow-host", "a.example", "b.example")
        place.until(runs, "processing")
        trust = ssl.create_default_context(cafile=certificate[0])
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=20, context=trust)
        statuses = list[int]()
        for method, host in [("GET", "a"), ("GET", "b"), ("GET", "c"), ("POST", "a")]:
            connection.request(method, "/v1/jobs", headers={"Host": f"{host}.example:{server.port}"})
            with connection.getresponse() as reply:
                statuses.append(reply.status)
                reply.read()
        connection.close()
        assert statuses == [200, 200, 421, 403]
        assert runs in place.run("list", QUEUECTL_STORE=f"http+unix://{path}")
        (place.work / "go").touch()
        place.until(runs, "completed")

    def test_an_address_beyond_this_machine_follows_the_rules_of_serve(self, place: Place) -> None:
        address = ("worker", "start", "--drain", "--serve", "0.0.0.0:0")
        message = place.run_error(*address, code=2)
        assert (
            "--serve 0.0.0.0 is reached from other machines, and there is no token and no encryption"
            in message
        )
        assert "--serve-tls-cert and --serve-tls-key, or --serve-public-url" in message
        place.run("token", "create", "board", "--scope", "view")
        assert "there is no encryption" in place.run_error(*address, code=2)
        assert "listening on http://0.0.0.0:" in place.run_error(*address, "--serve-insecure-http", code=0)

    def test_a_server_that_is_started_again_has_the_same_options(
        self, place: Place, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        path = tmp_path_factory.mktemp("s") / "private" / "s"
        server = Server(place, "--serve-anonymous", "view", "--serve-socket", str(path))
        server.kill()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("GET", "/v1/status")
        assert connection.getresponse().status == 200
        connection.close()
        assert "running" in place.run("status", QUEUECTL_STORE=f"http+unix://{path}")
        server.run("worker", "stop")
        assert server.worker.wait() == 0
        assert not path.exists()


@pytest.mark.proof
@pytest.mark.parametrize("kind", ["postgres"])
def test_the_password_of_the_store_is_in_no_argument_and_in_no_command(
    place: Place, database: PostgresDatabase
) -> None:
    id = place.enqueue("env")
    server = Server(place, "--store", place.env.pop("QUEUECTL_STORE"))
    place.until(id, "completed")
    secrets = {database.password, quote(database.password, safe="")}
    shown = place.output(id).decode()
    for pid in (server.worker.pid, *children(server.worker.pid)):
        shown += " ".join(words_of(pid))
    assert "serve" in shown
    assert not [secret for secret in secrets if secret in shown]
