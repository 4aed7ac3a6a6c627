"""Exports and imports over HTTP: the same lines and documents as with the store, as streams."""

import gzip
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection, IncompleteRead
from typing import Any

import pytest
from msgspec.structs import replace

from contract.grounds import SteppedClock
from exported import contents, exported, segment
from factories import NOW, in_state
from facts import eventually
from http_client import Client
from http_remote import opened
from http_server import serving
from queuectl.domain.output import Chunk
from queuectl.errors import CommandFailed, Conflict, InvalidInput, StoreUnavailable
from queuectl.http import transferring
from queuectl.http.caller import Caller
from queuectl.http.read_only_queue import read_only
from queuectl.http.server_state import Limits, ServerState
from queuectl.service.local_queue import LocalQueue
from queuectl.service.settings import Sources
from queuectl.service.transfer.segment import SegmentReader
from queuectl.store.memory import MemoryStore
from queuectl.store.protocol import Swap
from service.test_transfer import ended

JSONL = {"Content_Type": "application/jsonl"}


@pytest.fixture
def other() -> MemoryStore:
    return MemoryStore(clock=SteppedClock())


def lines(raw: bytes) -> list[Any]:
    """The lines of an export without its header and its end, and without the versions, which count writes."""
    found = [json.loads(line) for line in raw.splitlines()][1:-1]
    for line in found:
        if line["kind"] == "job":
            del line["job"]["version"]
    return found


def fill(queue: LocalQueue, count: int = 5) -> None:
    list(queue.transfer().read(io.BytesIO(ended(count))))
    queue._store.swap([Swap("queues", "mail", {"paused": True}, 0)])


# Export


@pytest.mark.parametrize("query", [{}, {"where": "number:2-3"}, {"output": False}])
def test_the_lines_of_an_export_are_those_of_the_store(
    server: Client, queue: LocalQueue, query: dict[str, Any]
) -> None:
    fill(queue)
    asked = "?where=number:2-3" if "where" in query else "?output=none" if query else ""
    answer = server("GET", f"/v1/export{asked}")
    assert answer.headers["content-type"].startswith("application/jsonl")
    assert lines(answer.body) == lines(exported(queue._store, **query))
    assert [line.kind for line in SegmentReader(io.BytesIO(answer.body))][-1] == "end"


def test_an_export_is_compressed_for_a_client_that_accepts_it(server: Client, queue: LocalQueue) -> None:
    fill(queue)
    answer = server("GET", "/v1/export", Accept_Encoding="gzip")
    assert answer.headers["content-encoding"] == "gzip"
    assert lines(gzip.decompress(answer.body)) == lines(exported(queue._store))


@pytest.mark.parametrize(
    ("query", "status"), [("?where=nonsense", 400), ("?output=some", 400), ("?x=1", 400)]
)
def test_a_wrong_query_is_refused_before_the_first_line(server: Client, query: str, status: int) -> None:
    assert server("GET", f"/v1/export{query}").status == status


def test_only_an_administrator_exports_and_imports(state: ServerState) -> None:
    with serving(state) as port:
        for token in ("view", "operate", "enqueue"):
            assert Client(port, token)("GET", "/v1/export").status == 403
            assert Client(port, token)("POST", "/v1/import", raw=ended(1), **JSONL).status == 403


def test_a_server_that_only_reads_exports(state: ServerState, queue: LocalQueue) -> None:
    fill(queue)
    state.queue, state.read_only = read_only(queue), True
    with serving(state) as port:
        assert lines(Client(port, "admin")("GET", "/v1/export").body) == lines(exported(queue._store))
        assert Client(port, "admin")("POST", "/v1/import", raw=ended(1), **JSONL).status == 403
    with pytest.raises(Exception, match="this server only reads"):
        state.queue.transfer().read("f")


class Fault:
    """Lets a call fail after some calls."""

    def __init__(self, real: Callable[..., Any], error: Exception, after: int) -> None:
        self.real, self.error, self.left = real, error, after

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return self.real(*arguments, **named)


def test_a_fault_of_the_store_cuts_the_body(
    state: ServerState, queue: LocalQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(queue, 1200)
    monkeypatch.setattr(transferring, "PIECE", 1000)
    fault = Fault(queue._store.find, StoreUnavailable("away"), 2)
    monkeypatch.setattr(queue._store, "find", fault)
    with serving(state) as port:
        for encoding in ("identity", "gzip"):
            fault.left = 2
            with pytest.raises(IncompleteRead) as cut:
                Client(port, "admin")("GET", "/v1/export", Accept_Encoding=encoding)
            assert cut.value.partial
        fault.left = 2
        with opened(f"http://127.0.0.1:{port}") as remote, pytest.raises(StoreUnavailable, match="cut off"):
            list(remote.transfer().export(io.BytesIO().write))


def test_a_revoked_token_ends_an_export(
    state: ServerState, queue: LocalQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(queue, 1200)
    monkeypatch.setattr(transferring, "PIECE", 1000)
    monkeypatch.setattr(state.authenticator, "admits", Admits(3), raising=False)
    with serving(state) as port, pytest.raises(IncompleteRead):
        Client(port, "admin")("GET", "/v1/export")


class Admits:
    """Admits a caller some times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self, caller: Caller) -> bool:  # noqa: ARG002
        self.left -= 1
        return self.left >= 0


def test_few_lines_of_an_export_are_in_memory(state: ServerState, queue: LocalQueue) -> None:
    """One job with 20 MB of output is sent in pieces."""
    job = in_state("completed", "big", attempt_id="1" * 32)
    job = replace(job, number=1, history=(replace(job.history[0], output_bytes=20 << 20),))
    chunks = [Chunk("big", "1" * 32, n, 0, NOW, (n - 1) << 18, b"x" * (1 << 18)) for n in range(1, 81)]
    list(queue.transfer().read(io.BytesIO(segment([job], chunks, at=NOW))))
    sizes = list[int]()
    real = transferring.Sender.piece

    def piece(sender: transferring.Sender) -> bytes:
        found = real(sender)
        sizes.append(len(found))
        return found

    with pytest.MonkeyPatch.context() as patch, serving(state) as port:
        patch.setattr(transferring.Sender, "piece", piece)
        body = Client(port, "admin")("GET", "/v1/export").body
    assert len(body) == sum(sizes) > 20 << 20
    assert max(sizes) < 1 << 20


# Import


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_body_is_imported_and_answered_like_the_command(
    server: Client, queue: LocalQueue, pack: Callable[[bytes], bytes]
) -> None:
    file = ended(1200)
    answer = server("POST", "/v1/import", raw=pack(file), **JSONL)
    assert (answer.status, answer.document["schema"]) == (200, 1)
    found = answer.document["import"]
    assert (found["jobs"], found["complete"], found["dry_run"]) == (1200, True, False)
    assert lines(exported(queue._store)) == lines(file)
    assert server("POST", "/v1/import", raw=file, **JSONL).document["import"]["existing"] == 1200


def test_a_dry_run_changes_nothing(server: Client, queue: LocalQueue) -> None:
    found = server("POST", "/v1/import?dry_run=1", raw=ended(3), **JSONL).document["import"]
    assert (found["jobs"], found["dry_run"]) == (3, True)
    assert queue._store.last_number() == 0


def test_a_conflict_says_what_is_imported(server: Client, queue: LocalQueue) -> None:
    there = in_state("completed", "j-2", command="false")
    queue._store.add([replace(there, spec=replace(there.spec, content="other"))])
    answer = server("POST", "/v1/import", raw=ended(3), **JSONL)
    assert (answer.status, answer.document["code"], answer.document["exit_code"]) == (409, "conflict", 4)
    assert answer.document["import"]["by_kind"]["job"]["added"] == 2
    kept = server("POST", "/v1/import?on_conflict=skip", raw=ended(3), **JSONL).document["import"]
    assert (kept["existing"], kept["skipped"]) == (2, 1)
    taken = server("POST", "/v1/import?on_conflict=replace", raw=ended(3), **JSONL).document["import"]
    assert (taken["jobs"], taken["replaced"]) == (1, 1)


def test_a_cut_body_is_imported_without_its_last_job(server: Client, queue: LocalQueue) -> None:
    cut = b"".join(ended(3).splitlines(keepends=True)[:6])
    answer = server("POST", "/v1/import", raw=cut, **JSONL)
    assert (answer.status, answer.document["code"]) == (409, "failed")
    assert answer.document["detail"].startswith("the file is cut after line 6")
    assert queue._store.last_number() == 2
    assert server("POST", "/v1/import?partial=1", raw=cut, **JSONL).document["import"]["complete"] is False


@pytest.mark.parametrize(
    ("raw", "headers", "status"),
    [
        (b"x", JSONL, 409),
        (b"", JSONL, 409),
        (ended(1), {"Content_Type": "application/json"}, 415),
        (gzip.compress(ended(1))[:-9], {"Content_Type": "application/gzip"}, 409),
    ],
)
def test_other_bodies_are_refused(server: Client, raw: bytes, headers: dict[str, str], status: int) -> None:
    assert server("POST", "/v1/import", raw=raw, **headers).status == status


def test_a_body_that_is_too_long_is_refused(state: ServerState, queue: LocalQueue) -> None:
    state.limits = replace(state.limits, bulk=100_000)
    with serving(state) as port:
        answer = Client(port, "admin")("POST", "/v1/import", raw=ended(1200), **JSONL)
        assert (answer.status, answer.document["code"]) == (413, "too_large")
        assert Client(port, "admin")("POST", "/v1/import", raw=ended(20), **JSONL).status == 200
    assert queue._store.last_number() == 20
    assert isinstance(state.limits, Limits)


def test_a_revoked_token_ends_an_import(
    state: ServerState, queue: LocalQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state.authenticator, "admits", Admits(2), raising=False)
    with serving(state) as port:
        answer = Client(port, "admin")("POST", "/v1/import", raw=ended(1200), **JSONL)
    assert answer.status == 401
    assert answer.document["import"]["jobs"] == queue._store.last_number() == 1000


def test_the_body_is_imported_while_it_arrives(state: ServerState, queue: LocalQueue) -> None:
    file = ended(1200).splitlines(keepends=True)
    with serving(state) as port:
        with closing(socket.create_connection(("127.0.0.1", port))) as client:
            head = f"POST /v1/import HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer admin\r\n"
            head += "Content-Type: application/jsonl\r\nTransfer-Encoding: chunked\r\n\r\n"
            part = b"".join(file[:1500])
            client.sendall(head.encode() + b"%x\r\n%b\r\n" % (len(part), part))
            eventually(lambda: queue._store.last_number() == 500)
            assert state.imports == 1
        eventually(lambda: state.imports == 0)  # the client is gone: the complete jobs are stored
    assert queue._store.last_number() >= 500


def test_a_server_ends_although_a_client_sends_no_more(state: ServerState) -> None:
    threads = set(threading.enumerate())
    with serving(state) as port, closing(HTTPConnection("127.0.0.1", port)) as client:
        client.putrequest("POST", "/v1/import")
        for name, value in {
            "Authorization": "Bearer admin",
            "Content-Type": "application/jsonl",
            "Transfer-Encoding": "chunked",
        }.items():
            client.putheader(name, value)
        client.endheaders()
        eventually(lambda: state.imports == 1)
    assert state.imports == 0
    state.waiters.shutdown(wait=True)
    assert not [each for each in set(threading.enumerate()) - threads if "queuectl-wait" in each.name]


def test_imports_are_limited(state: ServerState) -> None:
    state.imports = transferring.IMPORTS
    with serving(state) as port:
        assert Client(port, "admin")("POST", "/v1/import", raw=ended(1), **JSONL).status == 429


# The remote queue


@pytest.fixture
def url(server: Client) -> str:
    return f"http://127.0.0.1:{server.port}"


def test_an_export_through_a_server_is_that_of_the_store(url: str, queue: LocalQueue, tmp_path: Any) -> None:
    fill(queue, 1200)
    with opened(url) as remote:
        for name in ("f.jsonl", "f.jsonl.gz"):
            export = remote.transfer().export(str(tmp_path / name))
            assert export.count() == sum(export) == 1200
            assert export.done.counts == {
                "setting": 0,
                "queue": 1,
                "schedule": 0,
                "job": 1200,
                "output": 1200,
            }
            raw = (tmp_path / name).read_bytes()
            whole = gzip.decompress(raw) if name.endswith(".gz") else raw
            assert lines(whole) == lines(exported(queue._store))
        with pytest.raises(InvalidInput):
            remote.transfer().export(str(tmp_path / "g"), where="nonsense")


def test_an_import_through_a_server_is_that_of_the_store(
    url: str, queue: LocalQueue, other: MemoryStore, tmp_path: Any
) -> None:
    list(LocalQueue(other, Sources({}, None, print)).transfer().read(io.BytesIO(ended(1200))))
    path = tmp_path / "f.gz"
    path.write_bytes(gzip.compress(exported(other)))
    with opened(url) as remote:
        steps = remote.transfer().read(str(path))
        assert steps.check() == 1200
        list(steps)
        assert steps.done.jobs == 1200
        again = remote.transfer().read(io.BytesIO(ended(1200)), dry_run=True)
        assert sum(again) == 1200
        assert (again.done.existing, again.done.jobs) == (1200, 0)
    assert contents(queue._store) == contents(other)


def test_a_refusal_through_a_server_has_its_numbers(url: str, queue: LocalQueue) -> None:
    there = in_state("completed", "j-700", command="false")
    queue._store.add([replace(there, spec=replace(there.spec, content="other"))])
    with opened(url) as remote:
        steps = remote.transfer().read(io.BytesIO(ended(3000, size=1000)))
        with pytest.raises(Conflict, match="job j-700 exists with other content"):
            list(steps)
        assert steps.done.jobs == 999


def test_a_cut_pipe_through_a_server(url: str) -> None:
    cut = b"".join(ended(3).splitlines(keepends=True)[:6])
    with opened(url) as remote:
        steps = remote.transfer().read(io.BytesIO(cut))
        with pytest.raises(Exception, match="the file is cut after line 6"):
            list(steps)
        assert steps.done.jobs == 2
        partial = remote.transfer().read(io.BytesIO(cut), partial=True)
        list(partial)
        assert (partial.done.complete, partial.done.jobs) == (False, 1)


def test_a_caller_stops_an_import_between_two_steps(url: str, queue: LocalQueue) -> None:
    with opened(url) as remote:
        steps = remote.transfer().read(io.BytesIO(ended(3000, size=1000)))
        for _, _ in zip(steps, range(30), strict=False):
            pass
        steps.close()
        assert 0 < steps.done.jobs == queue._store.last_number() < 3000


class Stream(io.RawIOBase):
    """A pipe, which can be read only once."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts

    def read(self, size: int = -1) -> bytes:  # noqa: ARG002
        return next(self._parts, b"")


def test_a_file_that_cannot_be_read_is_not_a_lost_reply(url: str) -> None:
    def parts() -> Iterator[bytes]:
        yield ended(3)[:500]
        raise OSError(5, "Input/output error")

    with (
        opened(url) as remote,
        pytest.raises(CommandFailed, match="cannot read the file: Input/output error"),
    ):
        list(remote.transfer().read(Stream(parts())))  # type: ignore[arg-type]
