"""Which jobs are meant: the words of a command line, and what stdin says where a word is `-`."""

import sys
from collections.abc import Sequence

from queuectl.errors import InvalidInput

JOB_HELP = "id, number, unique prefix of an id, or @last; - reads it from stdin"
JOBS_HELP = "ids, numbers, unique prefixes of ids, @last; - reads ids from stdin"


def references(words: Sequence[str]) -> list[str]:
    """All jobs that are named. Raises InvalidInput when none is."""
    named: list[str] = []
    for word in words:
        named += sys.stdin.read().split() if word == "-" else [word]
    if not named:
        raise InvalidInput("no job is named", "give ids, numbers, or @last")
    return named


def reference(word: str) -> str:
    """The one job that is named. Raises InvalidInput when stdin names several."""
    named = references([word])
    if len(named) > 1:
        raise InvalidInput(f"{len(named)} jobs are named, one is expected", "one at a time: … | xargs -n 1")
    return named[0]
