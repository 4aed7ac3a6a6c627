"""Reads jobs by id, or by filter page by page, and counts jobs."""

from collections.abc import Sequence
from typing import Any

import apsw

from queuectl.domain.job import TERMINAL, State
from queuectl.domain.query import Counts, Filter, Found, Jobs, Page, Sort
from queuectl.store.driver import codec, filters, paging
from queuectl.store.sqlite import rows
from queuectl.store.sqlite.sql import fill, statements

_JOBS = statements("jobs")
_TALLY = statements("registry")["tally"]

# These texts must be identical to the terms of the partial indexes. Otherwise SQLite does not use the indexes.
ENDED = "finished_at IS NOT NULL"
_RARE = ("failed", "dead", "cancelled", "blocked", "held")
_IS_RARE = "(" + " OR ".join(f"state = '{state}'" for state in _RARE) + ")"

# The range is always true. Without it SQLite would read all jobs in order instead of sorting these few.
_IS_PROCESSING = f"lease_until BETWEEN 1 AND {2**63 - 1}"

# First read the numbers of a page, then its jobs. Otherwise a sort would include the body of every matching job.
_FIND = fill("SELECT {columns} FROM job LEFT JOIN spec USING (number) WHERE job.number IN (")
_NUMBERS = "SELECT job.number FROM job WHERE "
_COUNT = "SELECT queue, state, count(*) FROM job WHERE "
_ORDERS: dict[Sort, tuple[str, str]] = {
    "created": ("job.number < -?", "job.number DESC"),
    "updated": ("(updated_at, job.number) < (-?, -?)", "updated_at DESC, job.number DESC"),
    "next": ("(sort_key, job.number) > (?, ?)", "sort_key, job.number"),
    "number": ("job.number > ?", "job.number"),
    "ended": ("(finished_at, job.number) < (-?, -?)", "finished_at DESC, job.number DESC"),
}
_TERMS = {
    "queue": "queue = ?",
    "tag": """EXISTS (SELECT 1 FROM spec, json_each(CASE WHEN json_valid(spec.spec) THEN spec.spec END, '$.tags') AS tag
              WHERE spec.number = job.number AND tag.value = ?)""",
    "batch": "batch = ? AND batch IS NOT NULL",
    "created_since": "created_at >= ?",
    "ended_before": f"finished_at < ? AND {ENDED}",
    "id_prefix": "(id BETWEEN ? AND ?)",
    "ids": "id IN (SELECT value FROM json_each(?))",
    "number": "job.number = ?",
    "unique_key": "unique_key = ? AND unique_key IS NOT NULL",
    "waiting_for": "job.number IN (SELECT child FROM waiting WHERE parent IN (SELECT value FROM json_each(?)))",
    "worker": f"worker = ? AND state = 'processing' AND {_IS_PROCESSING}",
}


def get(connection: apsw.Connection, ids: Sequence[str]) -> Jobs:
    """The jobs with these ids."""
    if len(ids) == 1:
        return Jobs(*rows.sift(connection, _JOBS["by_id"], [(ids[0],)]))
    return Jobs(*rows.sift(connection, _JOBS["by_ids"], [(codec.to_json(ids),)]))


def find(connection: apsw.Connection, wanted: Filter, page: Page) -> Found:
    """One page. One more row is read, which shows whether another page follows."""
    after, order = _ORDERS[page.sort]
    where, values = conditions(wanted)
    if page.sort == "ended":
        where = f"{where} AND {ENDED}"
    if page.after is not None:
        where, values = f"{where} AND {after}", [*values, *paging.parse_cursor(page.after, page.sort)]
    numbers = f"{_NUMBERS}{where} ORDER BY {order} LIMIT ?"
    sql = f"{_FIND}{numbers}) ORDER BY {order}"
    return paging.found(lambda count: rows.sift(connection, sql, [(*values, count)]), page)


def counts(connection: apsw.Connection, wanted: Filter) -> Counts:
    """The number of jobs per queue and state. Uses the stored counts if the filter allows that."""
    if filters.has_sums(wanted):
        return filters.sums(
            row for row in connection.execute(_TALLY) if filters.counted(row[0], row[1], wanted)
        )
    where, values = conditions(wanted)
    rows: Any = connection.execute(f"{_COUNT}{where} GROUP BY queue, state", values)
    return filters.sums(rows)


def last_number(connection: apsw.Connection) -> int:
    """The highest number that was assigned."""
    last: int | None = connection.execute(_JOBS["last_number"]).get
    return last or 0


def conditions(wanted: Filter) -> tuple[str, list[Any]]:
    """A filter as SQL with bound values. States are literals, so that partial indexes are used."""
    return filters.terms(wanted, _TERMS, _state_terms(wanted.states))


def _state_terms(states: frozenset[State]) -> list[str]:
    if not states:
        return []
    names = filters.literals(states)
    terms = [f"state IN ({names})" if len(states) > 1 else f"state = {names}"]
    if states.issubset(_RARE):
        terms.append(_IS_RARE)
    elif states <= TERMINAL:
        terms.append(ENDED)
    elif states == {"processing"}:
        terms.append(_IS_PROCESSING)
    return terms
