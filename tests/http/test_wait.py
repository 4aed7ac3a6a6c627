"""Waiting for jobs over HTTP."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from factories import in_state
from facts import Stopwatch, eventually
from http_client import Client
from http_server import running
from queuectl.http.server_state import ServerState
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest


def add(queue: LocalQueue, **fields: Any) -> str:
    [item] = queue.enqueue([JobRequest(command="true", **fields)])
    return item.job.id


def test_ended_jobs_are_answered_at_once_with_their_outcome(server: Client, queue: LocalQueue) -> None:
    queue._store.add([in_state("dead", "a")])
    answer = server("POST", "/v1/wait", {"ids": ["a", "deleted"]}).document
    assert answer["done"]
    [job] = answer["jobs"]
    assert (job["id"], job["state"], job["outcome"]) == ("a", "dead", "exited")
    assert job["exit_code"] not in (None, 0)
    assert (answer["missing"], answer["waiting"], answer["obstacles"]) == (["deleted"], 0, [])


def test_the_time_ends_the_wait_and_the_obstacles_are_named(server: Client, queue: LocalQueue) -> None:
    id = add(queue)
    answer = server("POST", "/v1/wait", {"ids": [id], "timeout": 0}).document
    assert (answer["done"], answer["waiting"]) == (False, 1)
    assert answer["jobs"] == [
        {"id": id, "state": "pending", "outcome": None, "exit_code": None, "signal": None}
    ]
    assert "no worker serves queue default" in answer["obstacles"][0]


def test_the_answer_comes_when_the_last_job_ends(
    server: Client, queue: LocalQueue, state: ServerState
) -> None:
    ids = [add(queue) for _ in range(2)]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server, "POST", "/v1/wait", {"ids": ids, "timeout": 30})
        eventually(lambda: state.waiting)
        for id in ids:
            list(queue.cancel([id]))
        assert answer.result().document["done"]
    assert state.waiting == 0


def test_one_end_is_enough_if_any_is_wanted(server: Client, queue: LocalQueue) -> None:
    ids = [add(queue) for _ in range(2)]
    list(queue.cancel(ids[:1]))
    answer = server("POST", "/v1/wait", {"ids": ids, "any": True, "timeout": 30}).document
    assert (answer["done"], answer["waiting"]) == (True, 1)


def test_a_batch_is_waited_for_by_its_name(server: Client, queue: LocalQueue) -> None:
    list(queue.cancel([add(queue, batch="b")]))
    assert server("POST", "/v1/wait", {"batch": "b"}).document["done"]
    assert server("POST", "/v1/wait", {"batch": "c"}).status == 404


def test_a_job_that_would_wait_for_itself_is_refused(server: Client, queue: LocalQueue) -> None:
    queue._store.add([in_state("processing", "own", now=queue.now())])
    answer = server("POST", "/v1/wait", {"ids": ["own"], "inside": {"job": "own"}})
    assert (answer.status, answer.document["code"]) == (409, "conflict")


def test_more_requests_wait_than_there_are_threads(
    server: Client, queue: LocalQueue, state: ServerState
) -> None:
    id = add(queue)
    state.waiters.shutdown()
    state.waiters = ThreadPoolExecutor(2)
    state.waiting = 1000  # as if so many others waited
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(server, "POST", "/v1/wait", {"ids": [id], "timeout": 30}) for _ in range(8)]
        eventually(lambda: state.waiting == 1008)
        list(queue.cancel([id]))
        assert all(answer.result().document["done"] for answer in answers)


@pytest.mark.parametrize(
    "body", [{}, {"ids": ["a"], "batch": "b"}, {"ids": ["a"], "timeout": 56}, {"ids": ["a"], "timeout": -1},
             {"ids": ["x"] * 1001}, {"ids": "a"}, {"ids": [1]}, {"where": "dead"}, {"where": ""}],
)  # fmt: skip
def test_a_wait_for_nothing_is_refused(server: Client, body: object) -> None:
    assert server("POST", "/v1/wait", body).status == 400


def test_the_time_of_a_wait_may_be_text(server: Client) -> None:
    server("POST", "/v1/jobs", {"id": "a", "command": "true"})
    assert not server("POST", "/v1/wait", {"ids": ["a"], "timeout": "10ms"}).document["done"]
    for wrong in ("56s", "soon", "-1s", 56, -1):
        assert server("POST", "/v1/wait", {"ids": ["a"], "timeout": wrong}).status == 400, wrong


def test_the_end_of_the_server_answers_a_wait_at_once(state: ServerState, queue: LocalQueue) -> None:
    id = add(queue)
    with ThreadPoolExecutor(1) as threads:
        with running(state) as server:
            client = Client(server.port, "admin")
            waits = threads.submit(client, "POST", "/v1/wait", {"ids": [id], "timeout": 50})
            eventually(lambda: state.waiting == 1)
            watch = Stopwatch()
        watch.check(3.0)  # the server has ended
        answer = waits.result()
    assert (answer.status, answer.document["done"], answer.document["waiting"]) == (200, False, 1)
