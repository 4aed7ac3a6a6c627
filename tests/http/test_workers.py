"""Workers over HTTP: list, stop, reload, and those that do not answer."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from factories import NOW, in_state
from facts import eventually
from http_client import Client
from queuectl.domain.worker import Slot, Worker
from queuectl.service.local_queue import LocalQueue


def heartbeat(queue: LocalQueue, id: str = "w1", **fields: Any) -> None:
    """A worker that has just been heard of."""
    given: dict[str, Any] = {
        "id": id, "name": f"name-{id}", "host": "h", "boot_id": "b", "holder_pid": 1, "agent_pid": 2, "version": "0",
        "count": 1, "started_at": NOW, "slots": (Slot(slot=0),),
    }  # fmt: skip
    queue._store.heartbeat(Worker(**(given | fields)))


def lose(queue: LocalQueue, id: str = "w1") -> None:
    """A worker whose last heartbeat is old."""
    heartbeat(queue, id)
    queue.set("heartbeat_interval", "1s")
    eventually(lambda: queue.workers()[0].state == "lost")


def test_workers_are_named_by_id_and_by_name(server: Client, queue: LocalQueue) -> None:
    heartbeat(queue)
    [listed] = server("GET", "/v1/workers").document["workers"]
    for name in ("w1", "name-w1", "name-w1@h"):
        assert server("GET", f"/v1/workers/{name}").document["worker"] == listed
    assert server("GET", "/v1/workers/w2").status == 404


def test_a_stop_is_accepted_and_says_what_the_workers_do(server: Client, queue: LocalQueue) -> None:
    heartbeat(queue)
    heartbeat(queue, "w2")
    answer = server("POST", "/v1/workers/@all/stop", {"now": True})
    assert answer.status == 202
    assert answer.document["workers"] == [{"id": "w1", "state": "running"}, {"id": "w2", "state": "running"}]
    assert queue._store.heartbeat(queue.workers()[0].worker) == "stop"


def test_a_stop_can_wait_until_the_worker_has_left(server: Client, queue: LocalQueue) -> None:
    heartbeat(queue)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server, "POST", "/v1/workers/w1/stop", {}, Prefer="wait=30")
        eventually(lambda: queue._store.heartbeat(queue.workers()[0].worker) == "drain")
        queue._store.forget("w1")
        assert answer.result().status == 200
    assert answer.result().document["workers"] == [{"id": "w1", "state": "gone"}]
    assert answer.result().headers["preference-applied"] == "wait=30"


def test_without_workers_a_stop_of_all_is_done(server: Client) -> None:
    answer = server("POST", "/v1/workers/@all/stop")
    assert (answer.status, answer.document["workers"]) == (200, [])
    assert server("POST", "/v1/workers/w1/stop").status == 404


def test_a_reload_is_accepted(server: Client, queue: LocalQueue) -> None:
    heartbeat(queue)
    assert server("POST", "/v1/workers/w1/reload").status == 202
    assert queue._store.heartbeat(queue.workers()[0].worker) == "reload"


def test_the_claims_of_a_worker_are_listed(server: Client, queue: LocalQueue) -> None:
    heartbeat(queue)
    queue._store.add([in_state("processing", "a", env={"TOKEN": "s3cret"})])
    worker = queue.show("a").lease
    assert worker
    heartbeat(queue, worker.worker)
    answer = server("GET", f"/v1/workers/{worker.worker}/claims").document
    assert answer["jobs"] == ["a"]
    server.token = "operate"
    assert b"s3cret" not in server("GET", f"/v1/workers/{worker.worker}/claims").body


def test_only_a_lost_worker_is_forgotten(server: Client, queue: LocalQueue) -> None:
    heartbeat(queue)
    assert server("POST", "/v1/workers/w1/forget").status == 409
    lose(queue)
    answer = server("POST", "/v1/workers/w1/forget")
    assert (answer.status, answer.document["forgotten"]) == (200, ["w1"])
    assert server("GET", "/v1/workers").document["workers"] == []


@pytest.mark.parametrize("verb", ["stop", "reload", "forget"])
def test_a_body_that_is_not_understood_is_refused(server: Client, queue: LocalQueue, verb: str) -> None:
    heartbeat(queue)
    assert server("POST", f"/v1/workers/w1/{verb}", {"soon": True}).status == 400
