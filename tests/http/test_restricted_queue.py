"""A token for some queues: everything but the events of others is read, and only its jobs are added and changed."""

from collections.abc import Callable
from typing import Any

import pytest

from contract.grounds import SteppedClock
from factories import NOW
from http_client import Client
from http_server import serving
from queuectl.domain.query import Filter
from queuectl.domain.queue import QueueChange
from queuectl.domain.where import Where, parse
from queuectl.errors import Forbidden, NotFound
from queuectl.http.auth import TokenAuthenticator
from queuectl.http.call import Call, Reply
from queuectl.http.caller import Caller
from queuectl.http.restricted_queue import READS, RestrictedQueue, restricted
from queuectl.http.server_state import ServerState
from queuectl.http.table import Route
from queuectl.service.events import Selected
from queuectl.service.local_queue import LocalQueue
from queuectl.service.queue import Queue
from queuectl.service.request.fields import JobRequest
from queuectl.service.settings import Sources
from queuectl.store.memory import MemoryStore

MAIL = Caller("token:mail", frozenset(("enqueue", "operate")), frozenset(("mail", "post")))

CHANGES: dict[str, Callable[[Queue, Any], Any]] = {
    "cancel": lambda queue, jobs: [*queue.cancel(jobs, by="x", reason="y")],
    "retry": lambda queue, jobs: [*queue.retry(jobs, force=True)],
    "hold": lambda queue, jobs: [*queue.hold(jobs)],
    "release": lambda queue, jobs: [*queue.release(jobs, anyway=True)],
    "edit": lambda queue, jobs: [*queue.edit(jobs, priority=3)],
    "delete": lambda queue, jobs: [*queue.delete(jobs)],
}


@pytest.fixture
def whole() -> LocalQueue:
    queue = LocalQueue(MemoryStore(clock=SteppedClock()), Sources({}, None, print))
    queue.enqueue(
        [JobRequest(id=f"in-{name}", command="true", queue=name) for name in ("mail", "post", "other")]
    )
    return queue


@pytest.fixture
def queue(whole: LocalQueue) -> Queue:
    return restricted(whole, MAIL)


def test_a_handler_gets_the_queue_of_its_caller(whole: LocalQueue) -> None:
    def cancel(call: Call) -> Reply:
        [*call.queue.cancel([call.path["ref"]], by=call.caller.name)]
        return Reply(None, 204)

    row = Route(
        method="POST", path="/v1/{ref}", scope="operate", summary="", handler=cancel, answers={204: None}
    )
    state = ServerState(whole, TokenAuthenticator(whole), lambda _host: True)
    secret = whole.create_token("mail", ["operate"], queues=["mail"]).secret
    with serving(state, routes=[row]) as port:
        client = Client(port, secret)
        assert client("POST", "/v1/in-other").status == 403
        assert client("POST", "/v1/in-mail").status == 204
    assert whole.show("in-other").state == "pending"
    request = whole.show("in-mail").cancel_requested
    assert request is not None
    assert request.by == "token:mail"


def test_a_token_sees_the_environment_of_jobs_in_its_queues_alone(whole: LocalQueue) -> None:
    """It may enqueue in its queues, where a job could print these values anyway; elsewhere it could not."""
    secret = {"env": {"TOKEN": "s3cret"}, "stdin": "s3cret"}
    for name in ("mail", "other"):
        whole.enqueue(
            [JobRequest(id=f"secret-{name}", command="true", queue=name, unique_key=name, **secret)]
        )
    state = ServerState(whole, TokenAuthenticator(whole), lambda _host: True)
    token = whole.create_token("mail", ["enqueue", "operate"], queues=["mail"]).secret
    with serving(state) as port:
        client = Client(port, token)
        same = {"command": "false", "queue": "mail"}
        for other in (
            client("GET", "/v1/jobs?queue=other"),
            client("GET", "/v1/jobs/secret-other"),
            client("GET", "/v1/jobs/secret-other?fields=env,stdin"),
            client("GET", "/v1/jobs?queue=other", Accept="application/jsonl"),
            client("POST", "/v1/jobs?whole=1", {**same, "id": "secret-other"}),
            client("POST", "/v1/jobs?whole=1", {**same, "unique_key": "other"}),
        ):
            assert b"s3cret" not in other.body
            assert b"redacted" in other.body, other.body
        for own in (
            client("GET", "/v1/jobs/secret-mail"),
            client("POST", "/v1/jobs?whole=1", {**same, "id": "secret-mail"}),
        ):
            assert b"s3cret" in own.body


def where(text: str) -> Where:
    return parse(text, NOW)


def test_a_caller_without_queues_gets_the_queue_itself(whole: LocalQueue) -> None:
    assert restricted(whole, Caller("token:a", frozenset(("operate",)))) is whole


def test_every_method_is_read_or_defined_or_forbidden(queue: Queue) -> None:
    """A method that `Queue` gains later is forbidden until it is listed."""
    methods = {name for name in vars(Queue) if not name.startswith("_")}
    assert methods >= READS
    forbidden = methods - READS - vars(RestrictedQueue).keys()
    assert forbidden == {
        "set", "unset", "stop", "reload", "forget", "create_token", "revoke_token", "rotate_token", "create", "close",
        "transfer",
    }  # fmt: skip
    for name in forbidden:
        with pytest.raises(Forbidden):
            getattr(queue, name)


def test_everything_is_read(queue: Queue) -> None:
    assert len(queue.ids(Filter())) == 3
    assert queue.show("in-other").queue == "other"
    assert not queue.absent


def test_only_events_of_its_queues_are_read(queue: Queue, whole: LocalQueue) -> None:
    assert [event.queue for _, event in queue.events().page(None, 9).events] == ["mail", "post"]
    mail = Selected(queues=frozenset(("other", "mail")))
    assert [event.queue for _, event in queue.events().page(None, 9, mail).events] == ["mail", "post"]
    assert queue.events().cursor(None) == whole.events().cursor(None)
    with pytest.raises(AttributeError):
        queue.events().follow("0")


@pytest.mark.parametrize("change", CHANGES)
def test_only_jobs_of_its_queues_are_changed(queue: Queue, whole: LocalQueue, change: str) -> None:
    before = whole.show("in-other")
    for jobs in (["in-other"], ["in-mail", "in-other"], ["3"], where("number:>0"), where("queue:other")):
        with pytest.raises(Forbidden, match="token:mail may not"):
            CHANGES[change](queue, jobs)
    assert whole.show("in-other") == before
    assert whole.show("in-mail").version == 1
    assert CHANGES[change](queue, ["in-mail", "2"])
    assert CHANGES[change](queue, where("queue:mail")) is not None
    with pytest.raises(NotFound):
        CHANGES[change](queue, ["nothing"])


def test_a_job_is_not_moved_to_another_queue(queue: Queue, whole: LocalQueue) -> None:
    with pytest.raises(Forbidden):
        queue.edit(["in-mail"], queue="other")
    [*queue.edit(["in-mail"], queue="post")]
    assert whole.show("in-mail").queue == "post"


def test_jobs_are_added_to_its_queues_alone(queue: Queue, whole: LocalQueue) -> None:
    for wrong in (JobRequest(command="true"), JobRequest(command="true", queue="other")):
        with pytest.raises(Forbidden):
            queue.enqueue([JobRequest(command="true", queue="mail"), wrong])
    assert len(whole.ids(Filter())) == 3
    queue.enqueue([JobRequest(command="true", queue="mail")])
    assert len(whole.ids(Filter(queue="mail"))) == 2


@pytest.mark.parametrize("wanted", [QueueChange(paused=True), QueueChange(limit=2)])
def test_other_queues_are_not_changed(queue: Queue, wanted: QueueChange) -> None:
    with pytest.raises(Forbidden):
        queue.change_queue("other", wanted)
    assert queue.change_queue("mail", wanted)


def test_ended_jobs_of_other_queues_are_not_purged(queue: Queue) -> None:
    for wanted in (Filter(), Filter(queue="other")):
        with pytest.raises(Forbidden):
            queue.purge(wanted)
    [*queue.purge(Filter(queue="mail"))]


@pytest.fixture
def family(whole: LocalQueue) -> LocalQueue:
    """A parent in an own queue; its child there; the grandchild in another queue."""
    for id, queue, after in (
        ("parent", "mail", []),
        ("child", "post", ["parent"]),
        ("far", "other", ["child"]),
    ):
        whole.enqueue([JobRequest(id=id, command="true", queue=queue, after=after)])
    return whole


@pytest.mark.parametrize("jobs", [["parent"], ["child"], ["in-mail", "parent"], where("queue:mail")])
def test_a_cancel_that_would_reach_a_job_of_another_queue_is_refused(
    family: LocalQueue, queue: Queue, jobs: Any
) -> None:
    with pytest.raises(Forbidden, match="cancel what job far in queue 'other' waits for"):
        queue.cancel(jobs)
    assert [family.show(id).state for id in ("parent", "child", "far")] == ["pending", "blocked", "blocked"]
    assert [*queue.cancel(["in-mail"])]


def test_a_retry_that_would_revive_a_job_of_another_queue_is_refused_unless_alone(
    family: LocalQueue, queue: Queue
) -> None:
    [*family.cancel(["parent"])]
    assert family.show("far").state == "cancelled"
    with pytest.raises(Forbidden, match="revive job far in queue 'other'") as refused:
        queue.retry(["parent"])
    assert refused.value.hint == 'retry the job alone: {"alone": true}'
    assert family.show("parent").state == "cancelled"
    [*queue.retry(["parent"], alone=True)]
    assert [family.show(id).state for id in ("parent", "child", "far")] == [
        "pending",
        "cancelled",
        "cancelled",
    ]


def test_jobs_that_wait_in_its_own_queues_are_cancelled_and_revived(whole: LocalQueue, queue: Queue) -> None:
    whole.enqueue([JobRequest(id="child", command="true", queue="post", after=["in-mail"])])
    [*queue.cancel(["in-mail"])]
    assert whole.show("child").state == "cancelled"
    [*queue.retry(["in-mail"])]
    assert whole.show("child").state == "blocked"
