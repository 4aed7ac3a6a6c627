"""One table of cases checks the settings of a queue for Python, SQL, Lua and MongoDB (`domain/queue.py`)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.damage import EDITS
from contract.grounds import Ground, ground_of
from contract.test_unreadable import tamper
from factories import LEASE, new_job
from queuectl.domain.queue import QueueSettings
from queuectl.store.protocol import Store, Swap

WANTED, PROCESSING = 3, 1
CASES: tuple[tuple[dict[str, Any], int], ...] = (
    # the entry, and how many of three wanted jobs may be claimed while one runs
    ({}, 3),
    ({"paused": False, "limit": None}, 3),
    ({"paused": None}, 3),
    ({"paused": True, "limit": None}, 0),
    ({"paused": True, "limit": 9}, 0),
    ({"limit": 9}, 3),
    ({"paused": False, "limit": 4}, 3),
    ({"paused": False, "limit": 3}, 2),
    ({"paused": False, "limit": 2}, 1),
    ({"paused": False, "limit": 1}, 0),
    ({"paused": False, "limit": 0}, 0),
    ({"paused": False, "limit": -5}, 0),
    ({"paused": True, "limit": 9, "reason": "disk full"}, 0),
    ({"paused": False, "limit": 3, "reason": None}, 2),
    ({"paused": False, "reason": 7}, 3),
    # a damaged entry may have been a pause or a limit
    ({"paused": 1}, 0),
    ({"paused": 0}, 0),
    ({"paused": "no"}, 0),
    ({"limit": "three"}, 0),
    ({"limit": True}, 0),
    ({"limit": 1.5}, 0),
    ({"limit": [9]}, 0),
)


@pytest.mark.parametrize(("entry", "capacity"), CASES)
def test_the_domain_computes_the_capacity_of_the_table(entry: dict[str, Any], capacity: int) -> None:
    assert QueueSettings.of(entry).capacity(PROCESSING, WANTED) == capacity


@pytest.fixture
def ground(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    with ground_of(kind, tmp_path, request.getfixturevalue) as ground:
        yield ground


@pytest.mark.parametrize("kind", EDITS)
def test_a_claim_takes_as_many_jobs_as_the_capacity_allows(ground: Ground, kind: str, store: Store) -> None:
    names = [f"q{place}" for place in range(len(CASES))]
    store.add([new_job(f"{name}-{n}", queue=name) for name in names for n in range(5)])
    for name, (entry, _) in zip(names, CASES, strict=True):
        assert len(store.claim("w1", (name,), PROCESSING, LEASE)) == PROCESSING
        assert store.swap([Swap("queues", name, {"paused": False}, 0)])[0]
        tamper(ground, "queues", name, json.dumps(entry))
    found = {name: len(store.claim("w2", (name,), WANTED, LEASE)) for name in names}
    assert found == {name: capacity for name, (_, capacity) in zip(names, CASES, strict=True)}
