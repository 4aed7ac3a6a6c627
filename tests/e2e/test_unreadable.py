"""A job that cannot be decoded: a real worker runs the other jobs, logs the unreadable job once, and continues."""

from contextlib import closing
from typing import Any

import apsw
import pytest

from e2e.databases import MongoDatabase, PostgresDatabase, RedisDatabase, SqliteDatabase
from e2e.harness import Place
from facts import eventually

KINDS = ("sqlite", "postgres", "mongodb", "redis", "archived")


def damage(place: Place, id: str) -> None:
    """Make the history of a job undecodable, directly in the database."""
    database: Any = place.database
    if isinstance(database, SqliteDatabase):
        with closing(apsw.Connection(str(database.path))) as connection:
            connection.execute("UPDATE job SET history = '[' WHERE id = ?", (id,))
            assert connection.changes() == 1
    elif isinstance(database, PostgresDatabase):
        number = f"(SELECT number FROM {database.schema}.body WHERE id = '{id}')"
        database.run(f"UPDATE {database.schema}.live SET history = '[' WHERE number = {number}")
    elif isinstance(database, MongoDatabase):
        change = {"$set": {"history": "["}}
        assert database.base["jobs"].update_one({"id": id}, change).matched_count == 1
    elif isinstance(database, RedisDatabase):
        number = database.server.call("HGET", f"{database.tag}:ids", id).decode()
        assert database.server.call("HSET", f"{database.tag}:job:{number}", "rest", "[") == 0


@pytest.mark.parametrize("kind", KINDS)
def test_other_jobs_run_and_the_unreadable_job_is_logged_once(place: Place) -> None:
    for id in ("first", "bad", "last"):
        place.enqueue("--id", id, "true")
    damage(place, "bad")
    worker = place.start_worker("--count", "2")
    agent = place.agent_pid(worker)
    for id in ("first", "last"):
        place.until(id, "completed")
    place.until(place.enqueue("true"), "completed")
    eventually(lambda: [line for line in worker.lines() if "cannot be read" in line], what="a line about it")
    assert place.agent_pid(worker) == agent
    place.run("worker", "stop", "--all")

    done = place.invoke("worker", "start", "--drain")
    assert done.returncode == 0
    said = [
        line for line in (*worker.lines(), *done.stderr.decode().splitlines()) if "cannot be read" in line
    ]
    assert len(said) == 1
    assert "bad" in said[0]
    assert "queuectl delete 2" in said[0]

    document = place.json("doctor", code=1)
    assert [check["hint"] for check in document["checks"] if check["name"] == "unreadable job"]
    assert [each["id"] for each in place.json("list")["unreadable"]] == ["bad"]
    [told] = [each for each in place.json("status")["attention"] if each["kind"] == "unreadable"]
    assert "job 2 (bad) cannot be read" in told["text"]
    place.run("delete", "bad")
    assert place.json("status")["attention"] == []
    assert place.json("status")["jobs"]["total"] == 3
    place.run("doctor")
