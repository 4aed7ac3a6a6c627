"""Decodes rows into jobs. A row that cannot be fetched, because a text in it is not UTF-8, does not hide the others."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import apsw

from queuectl.domain.job import Job
from queuectl.domain.query import Unreadable
from queuectl.errors import UnreadableJob
from queuectl.store.driver import codec
from queuectl.store.sqlite.sql import fill

Bound = Sequence[Any]
_ROW = fill("SELECT {columns} FROM job LEFT JOIN spec USING (number) WHERE job.number = ?")
_NAME = "SELECT CAST(id AS BLOB) FROM job WHERE number = ?"
_NUMBER = codec.COLUMNS.index("number")


def sift(connection: apsw.Connection, sql: str, bound: Sequence[Bound]) -> tuple[list[Job], list[Unreadable]]:
    """The jobs that a statement returns for each of these values, and the rows that cannot be decoded."""
    with closing(connection.cursor()) as cursor:  # because an open cursor would keep its read transaction
        try:
            return codec.sift(cursor.executemany(sql, bound))
        except UnicodeDecodeError:
            pass
    return codec.sift(_one_by_one(connection, sql, bound), _decode)


def _one_by_one(connection: apsw.Connection, sql: str, bound: Sequence[Bound]) -> Iterator[Any]:
    """Each row, fetched by its number, or the error for this row. The statement returns only numbers here."""
    for values in bound:
        numbers: list[Any] = connection.execute(f"SELECT number FROM ({sql})", values).fetchall()  # noqa: S608
        for (number,) in numbers:
            try:
                with closing(connection.cursor()) as cursor:
                    yield from cursor.execute(_ROW, (number,))
            except UnicodeDecodeError as error:
                name: Any = connection.execute(_NAME, (number,)).get
                yield UnreadableJob(name.decode(errors="replace"), number, f"a text is not UTF-8: {error}")


def _decode(row: Any) -> Job:
    if isinstance(row, UnreadableJob):
        raise row
    return codec.job(row)
