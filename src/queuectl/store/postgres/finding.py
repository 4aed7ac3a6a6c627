"""Reading jobs: by id, by filter a page at a time, and counting."""

from collections.abc import Sequence
from typing import Any

from queuectl.domain.job import TERMINAL, Job
from queuectl.domain.query import Counts, Filter, Found, Page, Sort
from queuectl.store import codec, filters
from queuectl.store import statements as files
from queuectl.store.postgres.connections import Line
from queuectl.store.postgres.sql import fill, statements

SQL = statements("jobs")

# A page of each table first, each by its own indexes; then the page of both, with its bodies.
_PIECE = "(SELECT * FROM {schema}.{table} AS r WHERE {where} ORDER BY {order} LIMIT %s)"
_FIND = fill(
    "SELECT {columns} FROM ({pieces}) AS r JOIN {schema}.body USING (number) ORDER BY {order} LIMIT %s"
)
_COUNT_LIVE = "SELECT queue, state, count(*) FROM {schema}.live AS r WHERE {where} GROUP BY queue, state"
_COUNT_ENDED = "SELECT queue, state, count(*) FROM {schema}.ended AS r WHERE {where} GROUP BY queue, state"
_COUNT_TOLD = """SELECT queue, state, sum(n)::bigint FROM {schema}.tally AS r WHERE {where}
    GROUP BY queue, state HAVING sum(n) <> 0"""
_COUNTS, _COUNTS_ONE_BY_ONE = (_COUNT_LIVE, _COUNT_TOLD), (_COUNT_LIVE, _COUNT_ENDED)
_BODY = "r.number IN (SELECT number FROM {schema}.body WHERE "
_ORDERS: dict[Sort, tuple[str, str]] = {
    "created": ("number < -(%s::bigint)", "number DESC"),
    "updated": ("(updated_at, number) < (-(%s::bigint), -(%s::bigint))", "updated_at DESC, number DESC"),
    "next": ("(sort_key, number) > (%s, %s)", "sort_key, number"),
}
_TERMS = {
    "queue": "queue = %s",
    "tag": _BODY + "tags OPERATOR(pg_catalog.@>) ARRAY[%s::text])",
    "batch": _BODY + "batch = %s)",
    "created_since": _BODY + "created_at >= %s)",
    "ended_before": "finished_at < %s",
    # Looked up first: the planner would rather walk through all jobs in the order asked for, until some match.
    "id_prefix": "r.number = ANY (ARRAY(SELECT number FROM {schema}.body WHERE id BETWEEN %s AND %s))",
    "number": "number = %s",
    "unique_key": _BODY + "unique_key = %s)",
    "waiting_for": "waiting_for ?| ARRAY(SELECT json_array_elements_text(%s::json))",
    "worker": "worker = %s AND state = 'processing'",
}


def get(line: Line, ids: Sequence[str]) -> dict[str, Job]:
    """The jobs with these ids."""
    return {row[0]: codec.job(row) for row in line.rows(SQL["by_ids"], {"ids": list(ids)})}


def find(line: Line, wanted: Filter, page: Page) -> Found:
    """One page; one row more is read to know whether there is another."""
    after, order = _ORDERS[page.sort]
    where, values = conditions(wanted)
    if page.after is not None:
        where, values = f"{where} AND {after}", [*values, *codec.position(page.after, page.sort)]
    values.append(page.limit + 1)
    tables = tables_of(wanted)
    pieces = " UNION ALL ".join(
        files.fill(_PIECE, {"table": table, "where": where, "order": order}) for table in tables
    )
    rows = line.rows(
        files.fill(_FIND, {"pieces": pieces, "order": order}), [*values * len(tables), page.limit + 1]
    )
    jobs = [codec.job(row) for row in rows[: page.limit]]
    return Found(jobs, codec.cursor(jobs[-1], page.sort) if len(rows) > len(jobs) and jobs else None)


def counts(line: Line, wanted: Filter) -> Counts:
    """Per queue and state: those that have ended from the ledger, where that is enough."""
    found = Counts({})
    where, values = conditions(wanted)
    pieces = list(_COUNTS if _asks_only_for_queue_and_states(wanted) else _COUNTS_ONE_BY_ONE)
    rows = line.rows(files.fill(" UNION ALL ".join(pieces), {"where": where}), values * len(pieces))
    for queue, state, count in sorted(rows):
        found.queues.setdefault(queue, {})[state] = count
    return found


def _asks_only_for_queue_and_states(wanted: Filter) -> bool:
    return wanted == Filter(queue=wanted.queue, states=wanted.states)


def conditions(wanted: Filter) -> tuple[str, list[Any]]:
    """A filter as SQL over `r`: constant terms and bound values; states as literals, for the partial indexes."""
    terms, values = list[str](), list[Any]()
    if wanted.states:
        terms.append(
            f"({' OR '.join(f'state = {state}' for state in filters.literals(wanted.states).split(', '))})"
        )
    for field, bound in filters.asked(wanted):
        terms.append(_TERMS[field])
        values.extend(bound)
    return " AND ".join(terms) or "TRUE", values


def tables_of(wanted: Filter) -> list[str]:
    """Where the jobs of a filter can be."""
    ended = not wanted.states or not wanted.states.isdisjoint(TERMINAL)
    live = not wanted.states or not wanted.states <= TERMINAL
    return [table for table, meant in (("live", live), ("ended", ended)) if meant]
