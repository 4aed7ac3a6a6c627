"""Operations over HTTP: accepted at once, carried on by the server that accepts them, and idempotent by their id."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from facts import eventually
from http_client import Answer, Client
from http_server import serving
from queuectl.domain.operation import OperationStatus
from queuectl.domain.query import Filter
from queuectl.errors import CommandFailed, Forbidden
from queuectl.http.auth import TokenAuthenticator
from queuectl.http.caller import Caller
from queuectl.http.restricted_queue import restricted
from queuectl.http.server_state import ServerState
from queuectl.service import carrying, paging
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest
from queuectl.store.protocol import Store, Swap

HOLD = {"verb": "hold", "where": "queue:mail"}


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "BATCH", 10)


@pytest.fixture(autouse=True)
def jobs(queue: LocalQueue) -> None:
    queue.enqueue([JobRequest(id=f"m{n:02}", command="true", queue="mail") for n in range(25)])
    queue.enqueue([JobRequest(id=f"w{n}", command="true", queue="web") for n in range(3)])


def post(server: Client, body: dict[str, Any], wait: int | None = None) -> Answer:
    headers = {} if wait is None else {"Prefer": f"wait={wait}"}
    return server("POST", "/v1/operations", body, **headers)


def states(queue: LocalQueue, name: str) -> dict[str, int]:
    return dict(queue.counts(Filter(queue=name)).states())


def test_the_server_carries_on_what_it_accepts_without_any_worker(server: Client, queue: LocalQueue) -> None:
    answer = post(server, HOLD)
    accepted = answer.document["operation"]
    assert (answer.status, answer.headers["location"]) == (202, f"/v1/operations/{accepted['id']}")
    assert (accepted["state"], accepted["by"], accepted["args"]) == ("running", "token:admin", {})
    eventually(
        lambda: server("GET", f"/v1/operations/{accepted['id']}").document["operation"]["state"] == "done"
    )
    found = server("GET", f"/v1/operations/{accepted['id']}").document["operation"]
    assert {key: found[key] for key in ("matched", "changed", "unchanged", "refused", "refused_count")} == {
        "matched": 25, "changed": 25, "unchanged": 0, "refused": [], "refused_count": 0,
    }  # fmt: skip
    assert (states(queue, "mail"), states(queue, "web")) == ({"held": 25}, {"pending": 3})
    assert server("GET", "/v1/operations").document["operations"] == [found]


def test_the_server_goes_on_after_a_step_that_lost_too_many_races(
    server: Client, queue: LocalQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrying, "LEASE", timedelta(milliseconds=100))
    real, steps = carrying._step, list[str]()

    def step(store: Store, status: OperationStatus) -> carrying.Step:
        steps.append(status.id)
        if len(steps) == 2:
            raise CommandFailed("other processes change the jobs too fast")
        return real(store, status)

    monkeypatch.setattr(carrying, "_step", step)
    id = post(server, HOLD).document["operation"]["id"]
    eventually(lambda: queue.operation(id).state == "done")
    assert (len(steps) > 2, states(queue, "mail")) == (True, {"held": 25})


def test_the_answer_waits_for_the_end_if_that_is_preferred(server: Client) -> None:
    answer = post(server, HOLD, wait=30)
    assert (answer.status, answer.headers["preference-applied"]) == (200, "wait=30")
    assert answer.document["operation"]["changed"] == 25


def test_the_same_request_again_is_the_same_operation(server: Client) -> None:
    first = post(server, {**HOLD, "id": "op"}, wait=30).document["operation"]
    again = post(server, {**HOLD, "id": "op"})
    assert (again.status, again.document["operation"]) == (200, first)
    other = post(server, {"verb": "cancel", "where": "queue:mail", "id": "op"})
    assert (other.status, other.document["code"]) == (409, "conflict")


def test_a_dry_run_changes_nothing(server: Client, queue: LocalQueue) -> None:
    answer = post(server, {**HOLD, "dry_run": True})
    assert (answer.status, answer.document) == (
        200,
        {
            "schema": 1, "dry_run": True, "matched": 25, "by_state": {"pending": 25},
            "sample": ["m00", "m01", "m02", "m03", "m04"],
        },
    )  # fmt: skip
    assert states(queue, "mail") == {"pending": 25}
    assert server("GET", "/v1/operations").document["operations"] == []


def test_another_number_of_jobs_than_expected_is_refused(server: Client, queue: LocalQueue) -> None:
    answer = post(server, {**HOLD, "expect": 24})
    assert (answer.status, answer.document["detail"]) == (409, "25 jobs match, not 24")
    assert states(queue, "mail") == {"pending": 25}
    assert post(server, {**HOLD, "expect": 25, "limit": None}, wait=30).document["operation"]["changed"] == 25


def test_a_stopped_operation_takes_no_further_step(
    server: Client, queue: LocalQueue, state: ServerState
) -> None:
    state.ending.set()  # so that this server carries nothing on
    try:
        id = post(server, HOLD).document["operation"]["id"]
        queue.carry_operation(id)
    finally:
        state.ending.clear()
    stopped = server("POST", f"/v1/operations/{id}/stop").document["operation"]
    assert (stopped["state"], stopped["changed"]) == ("stopped", 10)
    assert server("POST", f"/v1/operations/{id}/stop").document["operation"] == stopped
    assert post(server, {**HOLD, "id": id}, wait=5).document["operation"] == stopped
    assert states(queue, "mail") == {"held": 10, "pending": 15}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"verb": "explode", "where": "queue:mail"}, "/verb"),
        ({"verb": "hold", "where": "stat:dead"}, None),
        ({"verb": "hold"}, ""),
        ({"verb": "hold", "where": "queue:mail", "args": {"force": True}}, "/args/force"),
        ({"verb": "edit", "where": "queue:mail", "args": {"priority": 5000}}, "/args/priority"),
        ({"verb": "hold", "where": "queue:mail", "limit": 0}, "/limit"),
        ({"verb": "hold", "where": "queue:mail", "id": "a b"}, None),
    ],
)
def test_a_wrong_request_is_refused(server: Client, body: dict[str, Any], pointer: str | None) -> None:
    answer = post(server, body)
    assert (answer.status, answer.document["code"]) == (400, "invalid_input")
    if pointer is not None:
        assert [each["pointer"] for each in answer.document["errors"]] == [pointer]


def test_a_step_of_another_process_is_awaited(server: Client, queue: LocalQueue) -> None:
    queue.operate("hold", "queue:mail", id="op", by="token:admin")
    entry = queue._store.read_table("operations", ["op"])["op"]
    taken = carrying._take(queue._store, queue.operation("op"), entry.version)
    assert taken is not None
    assert post(server, {**HOLD, "id": "op"}, wait=1).status == 202
    assert states(queue, "mail") == {"pending": 25}
    carrying._record(queue._store, *taken, carrying._step(queue._store, taken[0]))
    assert post(server, {**HOLD, "id": "op"}, wait=30).document["operation"]["changed"] == 25


def test_an_operation_that_this_server_does_not_understand_is_left_to_others(
    server: Client, queue: LocalQueue
) -> None:
    now = queue.now()
    queue._store.swap([Swap("operations", "new", {"moon": 1}, 0, due=now)])
    assert server("GET", "/v1/operations/new").document["code"] == "failed"
    assert server("GET", "/v1/operations").document["operations"] == []
    assert post(server, HOLD, wait=30).status == 200


MAIL = Caller("token:mail", frozenset(("operate",)), frozenset(("mail",)))


class TestRestricted:
    def test_only_filters_for_its_queues_are_accepted(self, queue: LocalQueue) -> None:
        mine = restricted(queue, MAIL)
        for where in ("number:>0", "queue:web", "-queue:web", "queue:mail,web"):
            with pytest.raises(Forbidden):
                mine.operate("hold", where, by="token:mail")
        with pytest.raises(Forbidden):
            mine.operate("edit", "queue:mail", args={"queue": "web"}, by="token:mail")
        assert queue.operations() == []
        assert mine.operate("hold", "queue:mail", by="token:mail").request.queues == ("mail",)

    def test_a_job_for_which_another_queue_waits_is_refused(
        self, queue: LocalQueue, state: ServerState
    ) -> None:
        queue.enqueue([JobRequest(id="below", command="true", queue="web", after=["m03"])])
        secret = queue.create_token("mail", ["operate"], queues=["mail"]).secret
        state.authenticator = TokenAuthenticator(queue)
        with serving(state) as port:
            found = post(Client(port, secret), {"verb": "cancel", "where": "queue:mail"}, wait=30)
        operation = found.document["operation"]
        assert (operation["changed"], [each["id"] for each in operation["refused"]]) == (24, ["m03"])
        assert queue.show("below").state == "blocked"

    def test_it_stops_only_operations_on_its_queues(self, queue: LocalQueue) -> None:
        mine = restricted(queue, MAIL)
        other = queue.operate("hold", "queue:web")
        with pytest.raises(Forbidden):
            mine.stop_operation(other.id)
        own = mine.operate("hold", "queue:mail", by="token:mail")
        assert mine.stop_operation(own.id).state == "stopped"
        assert [each.state for each in mine.operations()] == ["stopped", "running"]


@pytest.fixture
def read_only(state: ServerState) -> Iterator[Client]:
    state.read_only = True
    with serving(state) as port:
        yield Client(port, "admin")


def test_a_server_that_only_reads_shows_operations(read_only: Client, queue: LocalQueue) -> None:
    queue.operate("hold", "queue:mail", id="op")
    assert post(read_only, HOLD).document["code"] == "read_only"
    assert read_only("POST", "/v1/operations/op/stop").document["code"] == "read_only"
    assert read_only("GET", "/v1/operations/op", Prefer="wait=1").document["operation"]["state"] == "running"
    assert states(queue, "mail") == {"pending": 25}


def test_the_operations_are_counted_by_state(server: Client, queue: LocalQueue, state: ServerState) -> None:
    post(server, HOLD, wait=30)
    queue.operate("release", "queue:mail")
    state.health.probe(queue)
    text = server("GET", "/metrics").body.decode()
    assert 'queuectl_operations{state="running"} 1' in text
    assert 'queuectl_operations{state="done"} 1' in text
    assert 'queuectl_operations{state="stopped"} 0' in text
