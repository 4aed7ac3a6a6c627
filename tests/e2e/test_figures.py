"""The figures of real workers: what ended counts once, also when agents die."""

import pytest

from e2e.harness import Place


@pytest.mark.parametrize("crash", [None, "before_commit:2", "after_commit:2"])
def test_each_end_counts_at_most_once_and_a_worker_that_leaves_has_stored_all(
    place: Place, crash: str | None
) -> None:
    place.run("config", "set", "max-retries", "0")
    place.run("enqueue", "-", input="true\n" * 6 + "exit 3\n")
    place.run("worker", "start", "--drain", "--count", "2", **({"QUEUECTL_CRASH_AT": crash} if crash else {}))
    rows = place.json("stats")["rows"]
    if crash is None:
        [row] = rows
        assert (row["key"], row["per_minute"] > 0) == ("default", True)
        assert (row["ended"], row["completed"], row["failed"], row["exit_codes"]) == (7, 6, 1, {"3": 1})
    assert sum(row["ended"] for row in rows) <= 7
