"""The remote queue and versions, hidden values, and many workers that leave."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from factories import NOW, in_state
from http_client import Client
from queuectl.domain.queue import QueueChange
from queuectl.domain.worker import Slot, Worker
from queuectl.errors import Changed
from queuectl.http.client.address import address_of
from queuectl.http.client.channel import Patience
from queuectl.http.client.remote_queue import RemoteQueue
from queuectl.service.local_queue import LocalQueue
from queuectl.service.settings import Sources


def connected(server: Client, token: str) -> RemoteQueue:
    address = address_of(f"http://127.0.0.1:{server.port}")
    return RemoteQueue(address, Sources({}, None, print), patience=Patience(2, 2), token=token)


@pytest.fixture
def remote(server: Client) -> Iterator[RemoteQueue]:
    with closing(connected(server, "admin")) as queue:
        yield queue


CHANGES: dict[str, tuple[str, Callable[[RemoteQueue, int], Any]]] = {
    "cancel": ("pending", lambda q, version: q.cancel(["a"], version=version)),
    "retry": ("dead", lambda q, version: q.retry(["a"], version=version)),
    "hold": ("pending", lambda q, version: q.hold(["a"], version=version)),
    "release": ("held", lambda q, version: q.release(["a"], version=version)),
    "edit": ("pending", lambda q, version: q.edit(["a"], priority=3, version=version)),
    "delete": ("dead", lambda q, version: q.delete(["a"], version=version)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_job_is_changed_only_in_the_given_version(
    remote: RemoteQueue, queue: LocalQueue, name: str
) -> None:
    state, change = CHANGES[name]
    queue._store.add([in_state(state, "a")])  # type: ignore[arg-type]
    before = queue.show("a")
    [refused] = [each for step in change(remote, before.version + 1) for each in step]
    assert isinstance(refused.refused, Changed)
    assert queue.show("a") == before
    [made] = [each for step in change(remote, before.version) for each in step]
    assert made.changed


def test_a_queue_and_a_setting_are_changed_only_in_the_given_version(remote: RemoteQueue) -> None:
    assert remote.change_queue("mail", QueueChange(paused=True, reason="disk full"), version=0)
    [found] = remote.queues()
    assert (found.reason, found.version) == ("disk full", 1)
    with pytest.raises(Changed):
        remote.change_queue("mail", QueueChange(paused=False), version=0)
    assert not remote.change_queue("mail", QueueChange(paused=True), version=1)
    assert remote.set("timeout", "5m", version=0).text("timeout") == "5m"
    with pytest.raises(Changed):
        remote.set("timeout", "6m", version=0)
    with pytest.raises(Changed):
        remote.unset("timeout", version=7)
    assert remote.unset("timeout", version=1).timeout is None


def heartbeat(queue: LocalQueue, id: str) -> None:
    queue._store.heartbeat(
        Worker(
            id=id, name=f"name-{id}", host="h", boot_id="b", holder_pid=1, agent_pid=2, version="0", count=1,
            started_at=NOW, slots=(Slot(slot=0),),
        )
    )  # fmt: skip


def test_claims_are_read_without_the_values_that_the_token_may_not_see(
    server: Client, queue: LocalQueue
) -> None:
    queue._store.add([in_state("processing", "a", env={"TOKEN": "s3cret"}, stdin=b"x")])
    lease = queue.show("a").lease
    assert lease
    heartbeat(queue, lease.worker)
    for token, env in (("operate", {}), ("admin", {"TOKEN": "s3cret"})):
        with closing(connected(server, token)) as remote:
            [job] = remote.silence(remote.workers()[0]).jobs
            assert (job.id, job.spec.env) == ("a", env)


def test_many_workers_that_leave_share_one_second(
    remote: RemoteQueue, queue: LocalQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"w{n}" for n in range(6)]
    for id in ids:
        heartbeat(queue, id)
    waits, call = list[str](), remote._channel.call

    def noted(*words: Any, **options: Any) -> Any:
        waits.append((options.get("headers") or {}).get("Prefer", ""))
        return call(*words, **options)

    monkeypatch.setattr(remote._channel, "call", noted)
    assert {item.worker.id for item in remote.leaving(ids)} == set(ids)
    assert waits.count("wait=1") == 1
    assert len(waits) > len(ids)
