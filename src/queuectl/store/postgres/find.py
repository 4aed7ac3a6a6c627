"""Reads jobs by id, or by filter page by page, and counts jobs."""

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from queuectl.domain.job import STATES, TERMINAL
from queuectl.domain.query import Counts, Filter, Found, Jobs, Page, Sort
from queuectl.store.driver import codec, filters, paging
from queuectl.store.driver import sql as files
from queuectl.store.postgres.connect import Line
from queuectl.store.postgres.sql import fill, statements

SQL = statements("jobs")

# First read a page of each table by the indexes of the table; then combine both, and read the bodies of the jobs.
_PIECE = "(SELECT * FROM {schema}.{table} AS r WHERE {where} ORDER BY {order} LIMIT %s)"
_FIND = fill(
    "SELECT {columns} FROM ({pieces}) AS r LEFT JOIN {schema}.body USING (number) ORDER BY {order} LIMIT %s"
)
_COUNT_LIVE = "SELECT queue, state, count(*) FROM {schema}.live AS r WHERE {where} GROUP BY queue, state"
_COUNT_ENDED = "SELECT queue, state, count(*) FROM {schema}.ended AS r WHERE {where} GROUP BY queue, state"
_COUNT_TOLD = """SELECT queue, state, sum(n)::bigint FROM {schema}.tally AS r WHERE {where}
    GROUP BY queue, state HAVING sum(n) <> 0"""
_COUNTS, _COUNTS_ONE_BY_ONE = (_COUNT_LIVE, _COUNT_TOLD), (_COUNT_LIVE, _COUNT_ENDED)
_BODY = "r.number IN (SELECT number FROM {schema}.body WHERE "
_TERMS = {
    "queue": "queue = %s",
    "tag": _BODY + "tags OPERATOR(pg_catalog.@>) ARRAY[%s::text])",
    "batch": _BODY + "batch = %s)",
    "created_since": _BODY + "created_at >= %s)",
    "ended_before": "finished_at < %s",
    # A subquery finds these numbers first. Otherwise the planner would read all jobs in order until enough match.
    "id_prefix": "r.number = ANY (ARRAY(SELECT number FROM {schema}.body WHERE id BETWEEN %s AND %s))",
    "ids": """r.number = ANY (ARRAY(SELECT number FROM {schema}.body
        WHERE id = ANY (ARRAY(SELECT json_array_elements_text(%s::json)))))""",
    "number": "number = %s",
    "unique_key": _BODY + "unique_key = %s)",
    "waiting_for": "waiting_for ?| ARRAY(SELECT json_array_elements_text(%s::json))",
    "worker": "worker = %s AND state = 'processing'",
}


def get(line: Line, ids: Sequence[str]) -> Jobs:
    """The jobs with these ids."""
    return Jobs(*codec.sift(line.rows(SQL["by_ids"], {"ids": list(ids)})))


def find(line: Line, wanted: Filter, page: Page) -> Found:
    """One page. One more row is read, which shows whether another page follows."""
    return paging.found(lambda count: codec.sift(_rows(line, wanted, page, count)), page)


def _rows(line: Line, wanted: Filter, page: Page, count: int) -> list[tuple[Any, ...]]:
    """The first `count` rows of a page."""
    pieces, values = list[str](), list[Any]()
    for piece in _pieces(wanted, page.sort):
        text, bound = piece.statement(page, count)
        pieces.append(text)
        values += bound
    if not pieces:  # no ended state is wanted
        return []
    whole = {"pieces": " UNION ALL ".join(pieces), "order": _ORDERS[page.sort].order}
    return line.rows(files.fill(_FIND, whole), [*values, count])


class _Order(Struct, frozen=True):
    """A sort order, and the condition for rows after a position (`paging.position`)."""

    order: str
    after: str


_ORDERS: dict[Sort, _Order] = {
    "created": _Order("number DESC", "number < -(%s::bigint)"),
    "updated": _Order(
        "updated_at DESC, number DESC", "(updated_at, number) < (-(%s::bigint), -(%s::bigint))"
    ),
    "next": _Order("sort_key, number", "(sort_key, number) > (%s, %s)"),
    "number": _Order("number", "number > %s"),
    "ended": _Order(
        "finished_at DESC, number DESC", "(finished_at, number) < (-(%s::bigint), -(%s::bigint))"
    ),
}
_WITHIN_STATE: dict[Sort, _Order] = {
    "created": _Order("-number", "-number > %s"),
    "number": _Order("-number DESC", "-number < -(%s::bigint)"),
}
"""The same orders, written so that only the index of a state can be used."""


class _Piece(Struct, frozen=True):
    """A page of one table, or of one state in it, that a single index can provide."""

    table: str
    wanted: Filter
    order: _Order

    def statement(self, page: Page, count: int) -> tuple[str, list[Any]]:
        """The statement for this piece, and its values.

        Its length is that of the whole page, as all jobs may be here.
        """
        where, values = conditions(self.wanted)
        if page.after is not None:
            where, values = (
                f"{where} AND {self.order.after}",
                [*values, *paging.parse_cursor(page.after, page.sort)],
            )
        words = {"table": self.table, "where": where, "order": self.order.order}
        return files.fill(_PIECE, words), [*values, count]


def _pieces(wanted: Filter, sort: Sort) -> Iterator[_Piece]:
    """The pieces that can contain jobs that match. If there is an index for each state: one piece for each state."""
    for table, its_states in _TABLES[1:] if sort == "ended" else _TABLES:
        meant = wanted.states & its_states if wanted.states else its_states
        by_state = sort in _WITHIN_STATE and bool(wanted.states)
        apart = by_state or (sort in ("updated", "ended") and table == "ended")
        for states in [frozenset((state,)) for state in sorted(meant)] if apart else [meant & wanted.states]:
            # Most jobs of the table are pending, so the index of the whole table is as fast.
            order = _WITHIN_STATE[sort] if by_state and states != {"pending"} else _ORDERS[sort]
            if meant:
                yield _Piece(table, replace(wanted, states=states), order)


_TABLES = (("live", frozenset(STATES) - TERMINAL), ("ended", TERMINAL))


def counts(line: Line, wanted: Filter) -> Counts:
    """The number of jobs per queue and state. Ended jobs come from stored counts if the filter allows that."""
    where, values = conditions(wanted)
    pieces = list(_COUNTS if filters.has_sums(wanted) else _COUNTS_ONE_BY_ONE)
    rows = line.rows(files.fill(" UNION ALL ".join(pieces), {"where": where}), values * len(pieces))
    return filters.sums(sorted(rows))


def last_number(line: Line) -> int:
    """The highest number that was assigned."""
    return int(line.value(SQL["last_number"]))


def conditions(wanted: Filter) -> tuple[str, list[Any]]:
    """A filter as SQL about `r`, with bound values. States are literals, so that partial indexes are used."""
    states = [f"state = {state}" for state in filters.literals(wanted.states).split(", ") if state]
    return filters.terms(wanted, _TERMS, [f"({' OR '.join(states)})"] if states else [])
