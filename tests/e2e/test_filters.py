"""An operation on many jobs that is killed in the middle, and repeated."""

import signal

import pytest

from e2e.harness import Place
from queuectl.domain.query import Filter


@pytest.mark.parametrize(("verb", "state"), [("cancel", "cancelled"), ("hold", "held")])
def test_a_killed_operation_repeated_changes_exactly_the_jobs_that_match(
    place: Place, verb: str, state: str, thorough: bool
) -> None:
    count = 50_000 if thorough else 3000
    place.run("enqueue", "--queue", "mail", "--delay", "1h", "-", input="true\n" * count)
    place.run("enqueue", "--queue", "web", "--delay", "1h", "-", input="true\n" * 100)
    words = (verb, "--where", "queue:mail state:pending", "--yes", "-q")
    killed = place.invoke(*words, QUEUECTL_CRASH_AT="after_step:2")
    assert killed.returncode == -signal.SIGKILL
    assert place.store.counts(Filter(queue="mail")).states() == {"pending": count - 1000, state: 1000}
    place.run(*words)
    assert place.store.counts(Filter(queue="mail")).states() == {state: count}
    assert place.store.counts(Filter(queue="web")).states() == {"pending": 100}
