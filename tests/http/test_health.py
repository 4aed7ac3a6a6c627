"""Health of the server: what it says of its store before, during and after an outage, and when it ends."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from facts import eventually
from http_client import Answer, Client
from http_server import serving
from queuectl.errors import StoreUnavailable, StoreUnusable
from queuectl.http.health import PATIENCE, PERIOD, Health
from queuectl.http.routes.health import Readiness, readyz
from queuectl.http.server_state import ServerState
from queuectl.service.consumption import Vitals, unconsumed
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest
from queuectl.service.settings import Sources
from queuectl.store.memory import MemoryStore
from queuectl.store.sqlite import SqliteStore


class Probed:
    """A queue whose store answers, refuses, or keeps silent for some seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seconds = 0.0
        self.error: Exception | None = None
        self.described = 0
        self._queue = LocalQueue(MemoryStore(), Sources({}, None, lambda text: None))

    def vitals(self) -> Vitals:
        self.now += self.seconds
        if self.error:
            raise self.error
        return self._queue.vitals()

    def sums(self) -> list[Any]:
        return []

    def describe(self) -> Any:
        self.described += 1
        return SimpleNamespace(url="sqlite:////q.db", durability="power-safe")


@pytest.fixture
def probed() -> Probed:
    return Probed()


@pytest.fixture
def health(probed: Probed) -> Health:
    return Health(lambda: probed.now)


class TestProbe:
    def test_before_the_first_one_nothing_is_known(self, health: Health) -> None:
        assert health.newest.vitals is None
        assert health.newest.fault

    def test_the_store_is_described_once_and_after_each_outage(self, health: Health, probed: Probed) -> None:
        health.probe(probed)
        health.probe(probed)
        assert probed.described == 1
        assert health.newest.about is not None
        assert health.newest.about.kind == "sqlite"
        probed.error = StoreUnavailable("away")
        health.probe(probed)
        assert (health.newest.vitals, health.newest.about, health.newest.fault) == (None, None, "away")
        probed.error = None
        health.probe(probed)
        assert probed.described == 2
        assert health.newest.vitals

    def test_a_store_that_takes_too_long_counts_as_away(self, health: Health, probed: Probed) -> None:
        probed.seconds = PATIENCE
        health.probe(probed)
        assert health.newest.vitals
        probed.seconds = PATIENCE + 0.1
        health.probe(probed)
        assert health.newest.vitals is None

    def test_a_probe_that_does_not_end_makes_the_last_result_worthless(
        self, health: Health, probed: Probed
    ) -> None:
        health.probe(probed)
        probed.now += PERIOD + PATIENCE
        assert health.newest.vitals
        probed.now += 0.1
        assert health.newest.vitals is None

    def test_a_store_that_must_not_be_used_is_told_from_one_that_is_away(
        self, health: Health, probed: Probed
    ) -> None:
        probed.error = StoreUnusable("a newer schema")
        health.probe(probed)
        assert not health.newest.is_usable

    def test_a_fault_of_the_program_is_a_fault_and_ends_no_thread(self, probed: Probed) -> None:
        health = Health()
        probed.error = ZeroDivisionError()
        with health.probing(probed, wait=False):
            eventually(lambda: "ZeroDivisionError" in str(health.newest.fault))
            probed.error = None
            eventually(lambda: health.newest.vitals, within=PERIOD + 5)


def checks(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = answer.document["checks"]
    return found


def test_healthz_says_ok_without_a_token_and_without_the_store(state: ServerState) -> None:
    state.health = Health()
    with serving(state) as port:
        answer = Client(port, None)("GET", "/healthz", Host="10.1.2.3")
    assert (answer.status, answer.body) == (200, b"ok")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


class TestReadyz:
    def test_a_store_that_answers_makes_it_ready(self, server: Client) -> None:
        server.token = None
        answer = server("GET", "/readyz", Host="10.1.2.3")
        assert answer.status == 200
        assert answer.document["ready"] is True
        ms = checks(answer)["store"]["ms"]
        assert isinstance(ms, float)
        assert checks(answer) == {
            "store": {"ok": True, "ms": ms},
            "schema": {"ok": True},
            "draining": {"ok": True},
            "consumption": {"ok": True, "why": None},
        }

    def test_it_is_not_ready_before_the_first_answer(self, state: ServerState) -> None:
        state.health = Health()
        with serving(state) as port:
            answer = Client(port, None)("GET", "/readyz")
        assert answer.status == 503
        assert answer.document["ready"] is False
        assert checks(answer)["store"] == {"ok": False, "ms": None}

    def test_a_store_with_another_schema(self, server: Client, state: ServerState, probed: Probed) -> None:
        state.health = Health()
        probed.error = StoreUnusable("a newer schema")
        state.health.probe(probed)
        answer = server("GET", "/readyz")
        assert answer.status == 503
        assert (checks(answer)["store"]["ok"], checks(answer)["schema"]["ok"]) == (True, False)

    def test_no_request_waits_for_a_store_that_does_not_answer(
        self, server: Client, state: ServerState, probed: Probed
    ) -> None:
        state.health, silence = Health(lambda: probed.now), threading.Event()
        state.health.probe(probed)
        probed.vitals = lambda: (silence.wait(30), Probed().vitals())[1]  # type: ignore[method-assign]
        with state.health.probing(probed, wait=False):
            assert server("GET", "/readyz").status == 200
            probed.now += PERIOD + PATIENCE + 1
            assert server("GET", "/readyz").status == 503
            assert server("GET", "/healthz").status == 200
            assert b"queuectl_up 0.0" in server("GET", "/metrics").body
            silence.set()
            eventually(lambda: server("GET", "/readyz").status == 200)

    def test_a_server_that_ends_is_not_ready(self, state: ServerState) -> None:
        state.ending.set()  # no server waits for it here
        call: Any = SimpleNamespace(server=state, query=Readiness())
        reply = asyncio.run(readyz(call))
        assert reply.status == 503
        assert reply.document
        assert [name for name, check in reply.document["checks"].items() if not check["ok"]] == ["draining"]


@pytest.fixture
def unserved(queue: LocalQueue, state: ServerState) -> Iterator[Client]:
    """A server whose store has a job that nobody has taken for an hour."""
    queue.enqueue([JobRequest(command="true", queue="mail")])
    found = queue.vitals()
    late = replace(found.queues[0], oldest_due=found.now - timedelta(hours=1))
    health = Health()
    aged = SimpleNamespace(describe=queue.describe, sums=queue.sums, vitals=lambda: _judged(found, late))
    state.health = health
    with health.probing(aged), serving(state) as port:
        yield Client(port, None)


def _judged(found: Vitals, late: Any) -> Vitals:
    texts = list(unconsumed([late], [], [], found.now, timedelta(seconds=60)))
    return replace(found, queues=[late], unconsumed=texts)


class TestConsumption:
    def test_it_counts_only_on_request(self, unserved: Client) -> None:
        plain, asked = unserved("GET", "/readyz"), unserved("GET", "/readyz?consumption=1")
        assert (plain.status, asked.status) == (200, 503)
        assert plain.document["ready"] is True
        assert asked.document["ready"] is False
        assert checks(plain) == checks(asked)
        assert checks(asked)["consumption"] == {
            "ok": False,
            "why": "queue mail: 1 job has waited for 60m, and no worker serves it",
        }

    def test_a_value_that_is_no_boolean_is_refused(self, server: Client) -> None:
        assert server("GET", "/readyz?consumption=maybe").status == 400


def test_a_missing_store_is_away_until_it_is_created(tmp_path: Any) -> None:
    store = SqliteStore(f"{tmp_path}/none.db", create=False)
    queue = LocalQueue(store, Sources({}, None, lambda text: None))
    health = Health()
    health.probe(queue)
    assert health.newest.vitals is None
    assert health.newest.is_usable
    made = SqliteStore(f"{tmp_path}/none.db")
    made.migrate()
    made.close()
    health.probe(queue)
    assert health.newest.vitals
    queue.close()
