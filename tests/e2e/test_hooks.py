"""Hooks with real workers: commands and webhooks, bad receivers, secrets, and workers that are killed."""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Place
from facts import eventually
from queuectl.domain.hook import Hook
from queuectl.domain.job import Job
from queuectl.domain.query import Filter, Page
from queuectl.service.hooks import reading
from receiver import SILENCE, Received, Receiver

pytestmark = pytest.mark.parametrize("kind", ["sqlite"])

SECRET = "s3cret-key-that-nobody-may-see"
TOKEN = "Bearer t0ken-that-nobody-may-see"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().serving() as receiver:
        yield receiver


def hook_jobs(place: Place) -> list[Job]:
    return place.store.find(Filter(queue="hooks"), Page(limit=1000, sort="number")).jobs


def hook(place: Place, name: str = "h") -> Hook:
    return reading.one(place.store, name).hook


def die(place: Place, *ids: str) -> None:
    for id in ids:
        place.enqueue("--id", id, "--retries", "0", "exit 3")


def first_request(receiver: Receiver) -> Received:
    eventually(lambda: receiver.requests, what="a request")
    return receiver.requests[0]


def test_a_command_gets_the_event_soon(place: Place) -> None:
    place.run("hook", "add", "h", "--on", "dead", "cat > event; env | grep ^QUEUECTL_EVENT > variables")
    place.start_worker()
    die(place, "j")
    [job] = eventually(lambda: hook_jobs(place), within=5)
    assert place.until(job.id, "completed").exit_code == 0
    event = json.loads((place.work / "event").read_text())
    assert (event["event"], event["job"], event["exit_code"]) == ("job.dead", "j", 3)
    assert "QUEUECTL_EVENT_JOB=j" in (place.work / "variables").read_text().splitlines()
    died = place.job("j").finished_at
    started = place.job(job.id).history[0].started_at
    assert died is not None
    assert started is not None
    assert started - died <= timedelta(seconds=3)
    eventually(lambda: hook(place).delivered == 1)


def test_a_webhook_is_signed_and_its_secrets_are_nowhere(place: Place, receiver: Receiver) -> None:
    (place.work / "key").write_text(f"{SECRET}\n")
    receiver.answers += [(SILENCE, {}), (204, {})]
    place.run(
        "hook", "add", "h", "--on", "dead", "--url", receiver.url, "--secret", f"file:{place.work}/key",
        "--header", "Authorization:env:HOOK_TOKEN",
    )  # fmt: skip
    worker = place.start_worker(HOOK_TOKEN=TOKEN)
    die(place, "j")
    request = first_request(receiver)
    arguments = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in place.processes()]
    assert any(b"deliver" in words for words in arguments)
    receiver.ending.set()
    [job] = hook_jobs(place)
    place.until(job.id, "completed", within=30)
    headers = request.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.body
    digest = base64.b64encode(hmac.digest(SECRET.encode(), signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"
    assert headers["webhook-id"] == job.id.replace(".", "_")
    assert headers["authorization"] == TOKEN
    assert receiver.requests[1].headers["webhook-id"] == headers["webhook-id"]
    seen = [*arguments, worker.log.read_bytes(), *_stored(place), place.run("hook", "show", "h").encode()]
    seen += [place.run("show", job.id).encode(), place.run("logs", job.id).encode()]
    for secret in (SECRET, TOKEN):
        assert not [text for text in seen if secret.encode() in text]


def _stored(place: Place) -> list[bytes]:
    """All files of the database."""
    found = [
        path.read_bytes() for path in place.root.rglob("*") if "queue.db" in path.name and path.is_file()
    ]
    found += [path.read_bytes() for path in (place.root / "data").rglob("*") if path.is_file()]
    assert found
    return found


def test_a_secret_that_is_not_there_is_named(place: Place, receiver: Receiver) -> None:
    place.run("hook", "add", "h", "--on", "dead", "--url", receiver.url, "--secret", "env:NO_SUCH_KEY")
    place.start_worker()
    die(place, "j")
    [job] = eventually(lambda: hook_jobs(place))
    place.until(job.id, "failed")
    assert b"env:NO_SUCH_KEY is not set on this worker" in place.output(job.id)
    assert receiver.requests == []
    eventually(lambda: hook(place).failing_since)


def test_a_receiver_that_asks_for_time_gets_it(place: Place, receiver: Receiver) -> None:
    receiver.answers.append((503, {"Retry-After": "3600"}))
    place.run("hook", "add", "h", "--on", "dead", "--url", receiver.url)
    place.start_worker()
    die(place, "j")
    [job] = eventually(lambda: hook_jobs(place))

    def waits() -> bool:
        now = place.job(job.id)
        return now.state == "failed" and now.run_at - now.history[-1].finished_at == timedelta(hours=1)

    eventually(waits, what="the retry in an hour")
    place.run("edit", job.id, "--at", "now")
    place.until(job.id, "completed")
    eventually(lambda: hook(place).failing_since is None and hook(place).delivered == 1)


def test_a_receiver_that_is_gone_pauses_the_hook(place: Place, receiver: Receiver) -> None:
    receiver.answers.append((410, {}))
    place.run("hook", "add", "h", "--on", "dead", "--url", receiver.url)
    place.start_worker()
    die(place, "j")
    [job] = eventually(lambda: hook_jobs(place))
    assert place.until(job.id, "dead").attempts == 1
    eventually(lambda: hook(place).paused)
    assert "410" in place.run("hook", "show", "h")
    assert "hook h is paused" in place.invoke("doctor").stdout.decode()
    place.run("hook", "resume", "h")
    die(place, "k")
    eventually(lambda: hook(place).delivered == 1)


@pytest.mark.parametrize("point", ["before_hook", "after_hook"])
def test_a_worker_that_is_killed_around_the_swap_adds_each_job_once(place: Place, point: str) -> None:
    place.run("hook", "add", "h", "--on", "dead", 'cat >> "event-$QUEUECTL_EVENT_JOB"')
    place.start_worker("--count", "2", QUEUECTL_CRASH_AT=f"{point}:2")
    ids = [f"j{n}" for n in range(6)]
    for id in ids:
        die(place, id)
        eventually(lambda id=id: (place.work / f"event-{id}").exists(), within=30)  # type: ignore[misc]
    place.until_all_ended()
    found: dict[str, Any] = {id: (place.work / f"event-{id}").read_text().count('"schema"') for id in ids}
    assert found == dict.fromkeys(ids, 1)
    assert len(hook_jobs(place)) == len(ids)


def test_two_workers_deliver_each_event_once(place: Place, receiver: Receiver) -> None:
    place.run("hook", "add", "h", "--on", "dead,completed", "--url", receiver.url)
    for _ in range(2):
        place.start_worker("--count", "2")
    ids = place.run("enqueue", "-", input="true\nexit 1\n" * 10, QUEUECTL_MAX_RETRIES="0").split()
    eventually(lambda: hook(place).delivered == len(ids), within=60)
    assert sorted(json.loads(each.body)["job"] for each in receiver.requests) == sorted(ids)
