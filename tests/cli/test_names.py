"""New names follow one rule; older names that break the rule stay usable."""

import sqlite3
from pathlib import Path

import pytest

from cli.conftest import CommandLine
from cli.doors import WORKER, direct

WRONG = "a/../b"


@pytest.mark.parametrize(
    "words",
    [
        ("enqueue", "--queue", WRONG, "x"),
        ("enqueue", "--tag", WRONG, "x"),
        ("enqueue", "--batch", WRONG, "x"),
        ("enqueue", f'{{"command":"x","queue":"{WRONG}"}}'),
        ("enqueue", f'{{"command":"x","tags":["{WRONG}"]}}'),
        ("enqueue", f'{{"command":"x","batch":"{WRONG}"}}'),
        ("enqueue", "--id", WRONG, "x"),
        ("edit", "1", "--queue", WRONG),
        ("queue", "pause", WRONG),
        ("queue", "limit", WRONG, "2"),
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_a_new_name_has_to_fit_a_url_and_a_file_name(queuectl: CommandLine, words: tuple[str, ...]) -> None:
    queuectl("enqueue", "true")
    queuectl(*words, code=2)
    assert f"{WRONG!r} is not allowed (a letter or digit, then letters, digits and . _ : -" in queuectl.err


@direct(WORKER)
@pytest.mark.parametrize("option", ["--name", "--queue"])
def test_a_name_for_a_worker_has_to_fit_too(queuectl: CommandLine, option: str) -> None:
    queuectl("enqueue", "true")
    queuectl("worker", "start", option, WRONG, code=2)
    assert f"{WRONG!r} is not allowed" in queuectl.err


def test_an_existing_queue_with_an_invalid_name_stays_usable(queuectl: CommandLine, tmp_path: Path) -> None:
    queuectl("enqueue", "--id", "old", "true")
    database = sqlite3.connect(tmp_path / "data" / "queuectl" / "queue.db")
    with database:
        database.execute("UPDATE job SET queue = 'my mail'")
    database.close()
    assert queuectl.job("old")["queue"] == "my mail"
    assert [job["id"] for job in queuectl.json("list", "--queue", "my mail")["jobs"]] == ["old"]
    queuectl("queue", "pause", "my mail")
    queuectl("queue", "resume", "my mail")
    queuectl("edit", "old", "--queue", "mail")
    assert queuectl.job("old")["queue"] == "mail"
