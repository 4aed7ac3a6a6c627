"""The tables of this suite: every server driver has rows in each, and one that is missing fails the collection."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import pytest

from queuectl import bootstrap
from queuectl.domain.query import Filter
from queuectl.errors import QueuectlError

DRIVERS = tuple(sorted(bootstrap.DRIVERS))
"""The kinds of server stores, as the command line names them."""
PORT = "the port must be a number from 1 to 65535"
ENCODE = "a character in it must be written as %XX"
SCHEME = "// is missing after the scheme"
MIXED = "it contains a ? before the @, or no / before the ?"


def each(table: Mapping[str, Sequence[Any]]) -> list[Any]:
    """The parameters of a test: a driver and one of its rows."""
    missing = set(DRIVERS) ^ set(table)
    assert not missing, f"rows of {missing} are missing or unknown"
    return [
        pytest.param(kind, *(row if isinstance(row, tuple) else (row,)), id=f"{kind}-{number}")
        for kind, rows in table.items()
        for number, row in enumerate(rows)
    ]


def refusal(url: str, kind: type[QueuectlError] = QueuectlError, patience: float = 1.0) -> QueuectlError:
    """The error of the first call on a store."""
    with pytest.raises(kind) as caught, closing(bootstrap.open_store(url, patience=patience)) as store:
        store.counts(Filter())
    return caught.value


def told(error: BaseException) -> str:
    """Everything that `-v` could print of an error: its words, its hint, and those of its causes."""
    return "\n".join(f"{each} {getattr(each, 'hint', '')}" for each in causes(error))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
