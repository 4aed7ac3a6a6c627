"""`queuectl serve` as a process: where it listens, what it says, and how it ends."""

import http.client
import json
import os
import signal
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys

import psycopg
import pytest

from facts import eventually
from http_process import Home, UnixConnection, answer
from queuectl.http.problem import Refusal
from queuectl.http.read_only_queue import read_only
from queuectl.http.restricted_queue import HOOK_READS, READS, SCHEDULE_READS
from queuectl.service.hooks.api import Hooks
from queuectl.service.local_queue import LocalQueue
from queuectl.service.queue import Queue
from queuectl.service.schedules.api import Schedules
from servers.endpoint import free_port
from servers.postgres import PostgresServer


class TestStart:
    def test_the_first_line_comes_when_the_socket_accepts_and_the_store_is_there(self, home: Home) -> None:
        server = home.serve("--port", "0")
        assert server.first_line == f"listening on http://127.0.0.1:{server.port}"
        assert home.database.exists()
        status, ready = server.get("/readyz")
        assert (status, ready["ready"]) == (200, True)
        assert [name for name, check in ready["checks"].items() if not check["ok"]] == []
        assert server.get("/v1/status")[0] == 401
        assert server.end() == 0
        assert "Warning" not in server.log

    def test_as_json_it_is_one_document(self, home: Home) -> None:
        server = home.serve("--port", "0", "--json")
        said = json.loads(server.first_line)
        assert said["url"].startswith("http://127.0.0.1:")
        assert (said["schema"], said["socket"], said["pid"]) == (1, None, server.process.pid)
        assert server.end(signal.SIGINT) == 0

    def test_a_port_that_is_taken_names_the_server_that_has_it(self, home: Home) -> None:
        first = home.serve("--port", "0")
        done = home.run_cli("serve", "--port", str(first.port), code=1)
        assert (
            f"port {first.port} of 127.0.0.1 is taken by queuectl serve, pid {first.process.pid}"
            in done.stderr
        )

    def test_a_port_that_another_program_has_is_taken(self, home: Home) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            done = home.run_cli("serve", "--port", str(port), code=1)
        assert f"port {port} of 127.0.0.1 is taken (" in done.stderr

    def test_without_its_libraries_it_says_how_to_install_them(self, home: Home) -> None:
        without = "import sys; sys.modules['starlette'] = None"
        said = list[tuple[int, str]]()
        for words in (["serve"], ["serve", "--port", "70000"]):
            script = f"{without}; from queuectl.cli.main import main; sys.exit(main({words}))"
            done = subprocess.run(
                [sys.executable, "-c", script],
                env=home.env,
                cwd=home.root,
                capture_output=True,
                text=True,
                check=False,
            )
            said.append((done.returncode, done.stderr))
        assert said[0][0] == 5
        assert "pip install 'queuectl[http]'" in said[0][1]
        assert said[1] == (2, "queuectl: --port: '70000' is not a port from 0 to 65535\n")

    def test_it_tells_systemd_when_it_is_ready_and_when_it_ends(self, home: Home) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(home.root / "notify"))
            manager.settimeout(10)
            server = home.serve("--port", "0", NOTIFY_SOCKET=str(home.root / "notify"))
            assert manager.recv(100) == b"READY=1"
            assert server.end() == 0
            assert manager.recv(100) == b"STOPPING=1"

    def test_jobs_without_a_directory_run_in_the_given_one(self, home: Home) -> None:
        (home.root / "jobs").mkdir()
        server = home.serve("--port", "0", "--job-cwd", "jobs")
        assert os.readlink(f"/proc/{server.process.pid}/cwd") == str(home.root / "jobs")


class TestSignals:
    def test_the_first_lets_a_request_finish_and_the_second_answers_it_at_once(self, home: Home) -> None:
        server = home.serve("--host", "none")
        path = str(home.run / "queuectl" / "serve.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(10)
            client.connect(path)
            head = ("POST /v1/tokens HTTP/1.1", "Host: localhost", "Content-Type: application/json")
            more = ("Content-Length: 100", "Expect: 100-continue", "", "")
            client.sendall("\r\n".join((*head, *more)).encode())
            assert client.recv(100).startswith(b"HTTP/1.1 100")  # the handler reads the body
            server.process.terminate()
            eventually(lambda: not accepts(path))
            assert server.process.poll() is None
            assert server.end() == 0
            reply = rest_of(client)
        assert reply.startswith(b"HTTP/1.1 503")
        assert b'"code":"draining"' in reply
        assert "Traceback" not in server.log


def rest_of(client: socket.socket) -> bytes:
    """All bytes until the server closes the connection."""
    found = b""
    while part := client.recv(65536):
        found += part
    return found


def accepts(path: str) -> bool:
    """Whether a server answers at a Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        return True


class TestStoreAway:
    def test_the_server_starts_and_is_ready_when_the_store_answers(self, home: Home) -> None:
        home.run_cli("enqueue", "true")
        with_lock = sqlite3.connect(home.database, isolation_level=None)
        with_lock.execute("PRAGMA locking_mode=EXCLUSIVE")
        with_lock.execute("BEGIN IMMEDIATE")
        try:
            server = home.serve("--port", "0", "--anonymous", "view")
            assert "(the store does not answer yet: " in server.first_line
            assert server.get("/readyz")[0] == 503
            assert server.get("/readyz")[1]["checks"]["store"] == {"ok": False, "ms": None}
        finally:
            with_lock.close()
        eventually(lambda: server.get("/readyz")[0] == 200)
        assert server.get("/v1/status")[1]["jobs"]["pending"] == 1

    @pytest.mark.proof
    def test_a_server_whose_store_stops_stays_and_goes_on_when_it_is_back(
        self, home: Home, own_postgres: PostgresServer
    ) -> None:
        url = own_postgres.url(f"serve_{os.getpid()}")
        with psycopg.connect(own_postgres.url(), autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE serve_{os.getpid()}".encode())
        server = home.serve("--store", url, "--port", "0", "--anonymous", "view")
        own_postgres.stop()
        try:
            status, problem = server.get("/v1/status")
            assert (status, problem["code"]) == (503, "store_unavailable")
            assert server.get("/openapi.json")[0] == 200
        finally:
            own_postgres.start()
        eventually(lambda: server.get("/v1/status")[0] == 200)
        assert server.end() == 0

    @pytest.mark.proof
    def test_a_store_that_starts_after_the_server_is_created(
        self, home: Home, own_postgres: PostgresServer
    ) -> None:
        name = f"later_{os.getpid()}"
        with psycopg.connect(own_postgres.url(), autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name}".encode())
        own_postgres.stop()
        try:
            server = home.serve("--store", own_postgres.url(name), "--port", "0", "--anonymous", "view")
            assert "(the store does not answer yet: " in server.first_line
        finally:
            own_postgres.start()
        eventually(lambda: server.get("/v1/status")[0] == 200)
        assert server.end() == 0

    def test_a_store_that_must_not_be_used_ends_the_start(self, home: Home) -> None:
        (home.root / "text").write_text("no database " * 1000)
        done = home.run_cli("--store", f"sqlite:///{home.root}/text", "serve", "--port", "0", code=5)
        assert "listening" not in done.stdout


class TestUnixSocket:
    def test_it_is_private_and_lets_its_user_in(self, home: Home) -> None:
        server = home.serve("--host", "none")
        path = home.run / "queuectl" / "serve.sock"
        assert server.first_line == f"listening on http+unix://{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert answer(UnixConnection(str(path)), "/v1")[1]["scopes"] == [
            "view",
            "operate",
            "enqueue",
            "admin",
        ]
        assert answer(UnixConnection(str(path)), "/v1/status")[0] == 200
        passed_on = answer(UnixConnection(str(path)), "/v1/status", {"X-Forwarded-For": "192.0.2.1"})
        assert passed_on[0] == 401
        assert server.end() == 0
        assert not path.exists()
        assert "Warning" not in server.log

    def test_beside_a_port_it_is_named_second(self, home: Home) -> None:
        path = home.run / "s" / "own.sock"
        server = home.serve("--port", "0", "--socket", str(path))
        assert server.first_line.endswith(f" and http+unix://{path}")
        assert server.get("/v1/status")[0] == 401
        assert answer(UnixConnection(str(path)), "/v1/status")[0] == 200

    def test_a_file_that_a_killed_server_left_is_replaced_and_a_live_one_is_not(self, home: Home) -> None:
        first = home.serve("--host", "none")
        done = home.run_cli("serve", "--host", "none", code=1)
        assert "another server answers at" in done.stderr
        first.kill()
        second = home.serve("--host", "none")
        assert answer(UnixConnection(str(home.run / "queuectl" / "serve.sock")), "/v1/status")[0] == 200
        assert second.end() == 0

    def test_a_directory_that_others_may_open_is_refused(self, home: Home) -> None:
        (home.root / "open").mkdir()
        (home.root / "open").chmod(0o755)
        done = home.run_cli("serve", "--host", "none", "--socket", str(home.root / "open" / "s"), code=1)
        assert "is open to others" in done.stderr
        assert "chmod" not in done.stderr  # of /tmp, for example
        assert "--socket" in done.stderr

    def test_a_file_that_is_no_socket_stays(self, home: Home) -> None:
        place = home.run / "text"
        place.write_text("mine")
        done = home.run_cli("serve", "--host", "none", "--socket", str(place), code=1)
        assert "is no socket" in done.stderr
        assert place.read_text() == "mine"


class TestTls:
    def test_it_serves_https_and_no_http(self, home: Home, certificate: tuple[str, str]) -> None:
        server = home.serve("--port", "0", "--tls-cert", certificate[0], "--tls-key", certificate[1])
        assert server.first_line == f"listening on https://127.0.0.1:{server.port}"
        trusting = ssl.create_default_context(cafile=certificate[0])
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=10, context=trusting)
        assert answer(connection, "/readyz")[0] == 200
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            server.get("/readyz")
        assert server.end() == 0
        assert "Warning" not in server.log

    def test_files_that_cannot_be_used_are_refused(self, home: Home, certificate: tuple[str, str]) -> None:
        wrong = ("--tls-cert", certificate[1], "--tls-key", certificate[1])
        assert (
            "are not a certificate and its key" in home.run_cli("serve", "--port", "0", *wrong, code=2).stderr
        )
        missing = ("--tls-cert", certificate[0], "--tls-key", str(home.root / "no.pem"))
        refused = home.run_cli("serve", "--port", "0", *missing, code=2).stderr
        assert f"cannot read {home.root / 'no.pem'}: No such file" in refused
        assert "need each other" in home.run_cli("serve", "--tls-cert", certificate[0], code=2).stderr


class TestKilled:
    def test_another_one_takes_its_port_and_its_socket(self, home: Home) -> None:
        socket_ = ("--socket", str(home.run / "s" / "s"))
        first = home.serve("--port", str(free_port()), *socket_)
        first.kill()
        second = home.serve("--port", str(first.port), *socket_)
        assert second.port == first.port
        assert second.get("/readyz")[0] == 200
        assert second.end() == 0


class TestBindRules:
    @pytest.mark.parametrize(
        ("words", "missing"),
        [((), "there is no token and no encryption ("), (("--insecure-http",), "there is no token (")],
        ids=str,
    )
    def test_an_address_beyond_this_machine_needs_a_token_and_encryption(
        self, home: Home, words: tuple[str, ...], missing: str
    ) -> None:
        done = home.run_cli("serve", "--host", "0.0.0.0", "--port", "0", *words, code=2)
        assert missing in done.stderr

    def test_with_both_it_listens(self, home: Home) -> None:
        home.run_cli("token", "create", "watch", "--scope", "view")
        server = home.serve("--host", "0.0.0.0", "--port", "0", "--insecure-http")
        assert server.get("/v1/status")[0] == 401
        assert server.end() == 0


class TestReadOnly:
    def test_it_creates_no_store_and_changes_nothing(self, home: Home) -> None:
        server = home.serve("--port", "0", "--read-only", "--anonymous", "view")
        assert not home.database.exists()
        assert server.get("/v1/status")[0] == 503
        home.run_cli("enqueue", "true")
        assert server.get("/v1/status")[1]["jobs"]["pending"] == 1


def test_a_queue_that_only_reads_has_no_other_methods(queue: LocalQueue) -> None:
    only = read_only(queue)
    assert only.queues() == []
    writing = (
        {name for name in vars(Queue) if not name.startswith("_")}
        - READS
        - {"close", "create", "schedules", "hooks", "transfer"}
    )
    assert "enqueue" in writing
    for name in writing:
        with pytest.raises(Refusal, match="only reads"):
            getattr(only, name)
    changes = {name for name in vars(Schedules) if not name.startswith("_")} - SCHEDULE_READS
    assert {"add", "edit", "put", "pause", "resume", "run", "remove", "apply"} <= changes
    for name in changes:
        with pytest.raises(Refusal, match="only reads"):
            getattr(only.schedules(), name)
    with pytest.raises(Refusal, match="only reads"):
        _ = only.transfer().read
    changes = {name for name in vars(Hooks) if not name.startswith("_")} - HOOK_READS
    assert {"add", "put", "pause", "resume", "test", "remove", "apply"} <= changes
    for name in changes:
        with pytest.raises(Refusal, match="only reads"):
            getattr(only.hooks(), name)
