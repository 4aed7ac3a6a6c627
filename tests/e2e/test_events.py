"""Events against the history of jobs: while workers are killed and people interfere, each transition is told.

`KEEPING` are the kinds of stores that keep events.
"""

import json
import os
import random
import signal
import subprocess
from collections import Counter

import pytest

from e2e.harness import QUEUECTL, Place
from facts import eventually
from queuectl.domain.event import Event
from queuectl.domain.job import Job
from queuectl.domain.query import Filter, Page
from queuectl.service.local_queue import LocalQueue
from queuectl.service.settings import Sources

KEEPING = ("sqlite", "postgres", "mongodb", "redis")
pytestmark = pytest.mark.parametrize("kind", KEEPING)
ENDS = {"job.completed", "job.failed", "job.dead", "job.lost"}


def read(place: Place) -> list[tuple[str, Event]]:
    """All events."""
    found, after = list[tuple[str, Event]](), None
    while (page := place.store.read_events(after, 500)).events:
        found, after = found + page.events, page.next
    return found


def check(job: Job, events: list[Event]) -> None:
    """The events of a job are a chain from its enqueue to its state, and each attempt has its start and its end."""
    states = [None, *(event.state for event in events)]
    assert [event.before for event in events] == states[:-1], (job, events)
    assert states[-1] == job.state
    ran = {past.attempt_id: past for past in job.history}
    assert job.history_dropped == 0
    started = Counter(event.attempt_id for event in events if event.event == "job.started")
    given_back = Counter(event.attempt_id for event in events if event.event == "job.given_back")
    ended = Counter(
        event.attempt_id
        for event in events
        if event.event in ENDS or (event.event == "job.cancelled" and event.attempt_id in ran)
    )
    assert set(started.values()) | set(given_back.values()) | set(ended.values()) <= {1}
    unstarted = {e.attempt_id for e in events if e.event == "job.cancelled" and e.attempt_id} - ran.keys()
    assert started.keys() == ran.keys() | given_back.keys() | unstarted
    assert ended.keys() == ran.keys()
    for event in events:
        if event.attempt_id in ran and event.event in ENDS:
            past = ran[event.attempt_id]
            assert (event.attempt, event.exit_code, event.worker) == (
                past.attempt,
                past.exit_code,
                past.worker,
            )


@pytest.mark.timeout(180)
def test_the_events_of_a_chaotic_run_are_the_transitions_of_its_jobs(place: Place) -> None:
    place.quick()
    queue = LocalQueue(place.store, Sources({}, None, print))
    chance = random.Random(15)
    lines = [
        {"id": f"j{n}", "command": ("true", "exit 3", "sleep 0.4", "kill -9 $$")[n % 4], "max_retries": 2}
        | {"backoff": {"factor": 0.1}}
        | ({"after": [f"j{n - 1}:any"]} if n % 7 == 6 else {})
        for n in range(60)
    ]
    place.run("enqueue", "-q", "-", input="".join(json.dumps(line) + "\n" for line in lines))
    workers = [place.start_worker("--count", "3") for _ in range(2)]
    for turn in range(12):
        names = [f"j{chance.randrange(60)}" for _ in range(6)]
        acts = (queue.cancel, queue.hold, queue.retry, queue.release)
        list(acts[turn % 4](names))
        if turn % 3 == 1:
            os.kill(place.agent_pid(workers[0]), signal.SIGKILL)
        if turn % 3 == 2:
            workers.pop(0).kill()
            workers.append(place.start_worker("--count", "3"))
    list(
        queue.release([job.id for job in place.store.find(Filter(states=frozenset(("held",))), Page()).jobs])
    )
    jobs = place.until_all_ended(within=90)
    events = read(place)
    assert len({cursor for cursor, _ in events}) == len(events)
    for job in jobs:
        check(job, [event for _, event in events if event.job == job.id])
    assert {event.job for _, event in events} == {job.id for job in jobs}
    kinds = {event.event for _, event in events}
    assert {"job.enqueued", "job.started", "job.completed", "job.failed", "job.dead", "job.lost"} <= kinds


@pytest.mark.timeout(120)
def test_a_reader_that_is_killed_again_and_again_misses_and_repeats_nothing(place: Place) -> None:
    seen, after = list[str](), place.store.event_cursor(None)
    place.run("enqueue", "-q", "-", input="true\n" * 40)
    place.start_worker("--count", "2")
    for _ in range(8):
        reader = subprocess.Popen(
            [*QUEUECTL, "events", "--follow", "--since", after, "--jsonl"],
            stdout=subprocess.PIPE,
            env=place.env,
            cwd=place.work,
        )
        assert reader.stdout is not None
        for _ in range(15):
            document = json.loads(reader.stdout.readline())
            seen.append(document["id"])
            after = document["id"]
        reader.kill()
        reader.stdout.close()
        reader.wait(10)
    eventually(lambda: len(read(place)) >= 120)
    assert seen == [cursor for cursor, _ in read(place)][:120]
