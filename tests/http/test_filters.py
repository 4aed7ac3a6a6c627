"""`where` in the queries and bodies of the API."""

import pytest

from http_client import Client
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest


@pytest.fixture(autouse=True)
def some(queue: LocalQueue) -> None:
    for id, name in (("a", "mail"), ("b", "mail"), ("c", "web")):
        queue.enqueue([JobRequest(id=id, command=f"echo {id}", queue=name)])


def listed(server: Client, query: str) -> list[str]:
    return [job["id"] for job in server("GET", f"/v1/jobs?{query}").document["jobs"]]


def test_a_list_and_its_shorthands_are_one_filter(server: Client) -> None:
    assert listed(server, "where=cmd:~ECHO") == ["c", "b", "a"]
    assert listed(server, "where=cmd:~echo&queue=mail&sort=number") == ["a", "b"]
    assert listed(server, "where=queue:web&queue=mail") == []
    assert listed(server, "where=-queue:web+state:pending") == ["b", "a"]


def test_the_next_page_of_a_filter_goes_on(server: Client) -> None:
    first = server("GET", "/v1/jobs?where=cmd:~echo&limit=2").document
    assert [job["id"] for job in first["jobs"]] == ["c", "b"]
    assert listed(server, f"where=cmd:~echo&cursor={first['next']}") == ["a"]


def test_jobs_that_match_are_counted(server: Client) -> None:
    document = server("GET", "/v1/counts?where=cmd:~echo&queue=mail").document
    assert document["queues"] == {"mail": {"pending": 2}}


def test_a_wait_for_a_filter_ends_with_its_jobs(server: Client, queue: LocalQueue) -> None:
    list(queue.cancel(["c"]))
    document = server("POST", "/v1/wait", {"where": "queue:web"}).document
    assert (document["done"], [job["id"] for job in document["jobs"]]) == (True, ["c"])
    assert not server("POST", "/v1/wait", {"where": "queue:mail", "timeout": 0}).document["done"]


@pytest.mark.parametrize("path", ["jobs", "counts"])
def test_a_wrong_filter_is_refused_with_the_nearest_field(server: Client, path: str) -> None:
    answer = server("GET", f"/v1/{path}?where=stat:dead")
    assert (answer.status, answer.document["hint"]) == (400, "did you mean state?")


def test_a_range_in_a_path_is_refused_unless_it_is_one_job(server: Client, queue: LocalQueue) -> None:
    assert server("POST", "/v1/jobs/1-2/cancel", {}).status == 400
    assert queue.show("a").state == "pending"
    assert server("GET", "/v1/jobs/1-2").status == 400
    assert server("POST", "/v1/jobs/2-2/cancel", {}).document["job"]["id"] == "b"
