"""What a client reads of jobs: one, many, pages, counts and output."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from queuectl.domain.instant import format_instant
from queuectl.domain.job import Job, State
from queuectl.domain.query import Counts, Filter, Found, Jobs, Page, Sort, Unreadable, matches
from queuectl.domain.where import Where
from queuectl.errors import NotFound
from queuectl.http.client.channel import Channel, part
from queuectl.http.client.decoding import understood
from queuectl.service import shapes

if TYPE_CHECKING:
    from queuectl.service.following import Output
    from queuectl.service.matching import Wanted
    from queuectl.service.stats import Question, Stats

REFERENCES = 1000
"""References in one request."""

URL_LENGTH = 6000
"""Bytes of ids in one URL, which may have 8 KiB."""

LONGEST_PAGE = 1000
_SENT = frozenset(("states", "queue", "tag", "batch", "created_since", "unique_key"))
"""The fields of a filter that the server knows. If others are set, it sends more jobs than match."""


def resolve(channel: Channel, references: Sequence[str]) -> list[str]:
    """The ids of these jobs, each once, in order."""
    found: dict[str, None] = {}
    for start in range(0, len(references), REFERENCES):
        body = {"jobs": [_sendable(each) for each in references[start : start + REFERENCES]]}
        document = channel.call("POST", "/v1/resolve", body=body, changes=False).document
        found |= dict.fromkeys(document["jobs"])
    return list(found)


def parents(channel: Channel, dependencies: Sequence[str]) -> list[str]:
    """Dependencies with each reference replaced by the id."""
    body = {"dependencies": list(dependencies)}
    document = channel.call("POST", "/v1/resolve", body=body, changes=False).document
    return list(document["dependencies"])


def show(channel: Channel, reference: str) -> Job:
    """One job, with its attempts."""
    with understood(channel):
        return shapes.job_of(channel.read(path_of(reference))["job"])


def path_of(reference: str) -> str:
    """The path of a job. Raises NotFound for a reference that cannot be a part of a path."""
    if reference in ("", ".", ".."):
        raise NotFound(f"there is no job {reference!r}", "queuectl list shows the newest ones")
    return f"/v1/jobs/{part(reference)}"


def get(channel: Channel, ids: Sequence[str]) -> Jobs:
    """The jobs with these ids, in order."""
    wanted = list(dict.fromkeys(ids))
    found, damaged = dict[str, Job](), list[Unreadable]()
    for step in _in_urls(wanted):
        page = _page(channel, {"ref": step, "limit": LONGEST_PAGE})
        found |= {job.id: job for job in page.jobs}
        damaged += page.unreadable
    return Jobs((found[id] for id in wanted if id in found), damaged)


def pages(
    channel: Channel, wanted: "Wanted", limit: int = LONGEST_PAGE, sort: Sort = "created"
) -> Iterator[Found]:
    """All jobs that match, a page at a time. Newest first, jobs that are added meanwhile are left out."""
    after: str | None = None
    while True:
        found = page(channel, wanted, Page(limit=limit, after=after, sort=sort))
        yield found
        if (after := found.next) is None:
            return


def page(channel: Channel, wanted: "Wanted", page: Page) -> Found:
    """One page of the jobs that match. The server may send less than a page while there are more."""
    if isinstance(wanted, Where):
        query = {**query_of(wanted), "sort": page.sort, "cursor": page.after}
        return _page(channel, {**query, "limit": min(page.limit, LONGEST_PAGE)})
    jobs, damaged = list[Job](), list[Unreadable]()
    after = page.after
    while True:
        limit = min(page.limit - len(jobs), LONGEST_PAGE)
        query = {**query_of(wanted), "sort": page.sort, "cursor": after, "limit": limit}
        found = _page(channel, query)
        jobs += [job for job in found.jobs if is_complete(wanted) or matches(job, wanted)]
        damaged += found.unreadable
        after = found.next
        if after is None or len(jobs) >= page.limit:
            return Found(jobs, after, damaged)


def _page(channel: Channel, query: Mapping[str, Any]) -> Found:
    document = channel.read("/v1/jobs", query)
    with understood(channel):
        jobs = [shapes.job_of(each) for each in document["jobs"]]
        damaged = [shapes.unreadable_of(each) for each in document.get("unreadable", ())]
        return Found(jobs, document["next"], damaged, document.get("looked_at"))


def ids(channel: Channel, wanted: "Wanted") -> list[str]:
    """The ids of all jobs that match, newest first."""
    if not is_complete(wanted):
        return [job.id for found in pages(channel, wanted) for job in found.jobs]
    found = list[str]()
    query = {**query_of(wanted), "fields": "id", "limit": LONGEST_PAGE}
    while True:
        document = channel.read("/v1/jobs", query)
        found += [each["id"] for each in document["jobs"]]
        if document["next"] is None:
            return found
        query["cursor"] = document["next"]


def counts(channel: Channel, wanted: "Wanted") -> Counts:
    """The number of jobs that match, per queue and state."""
    if is_complete(wanted):
        return Counts(channel.read("/v1/counts", query_of(wanted))["queues"])
    queues: dict[str, dict[State, int]] = {}
    for found in pages(channel, wanted):
        for job in found.jobs:
            per_state = queues.setdefault(job.queue, {})
            per_state[job.state] = per_state.get(job.state, 0) + 1
    return Counts(queues)


def stats(channel: Channel, asked: "Question") -> "Stats":
    """Statistics of a time."""
    from queuectl.service.shapes.stats import stats_of

    document = channel.read(
        "/v1/stats",
        {
            "since": asked.since and format_instant(asked.since),
            "until": asked.until and format_instant(asked.until),
            "by": asked.by,
            "queue": asked.queue,
            "label": asked.label,
        },
    )
    with understood(channel):
        return stats_of(document)


def query_of(wanted: "Wanted") -> dict[str, Any]:
    """The query for a filter, without the fields that the server does not know."""
    if isinstance(wanted, Where):
        return {"where": wanted.text, "state": ",".join(sorted(wanted.filter.states)) or None}
    return {
        "state": ",".join(sorted(wanted.states)) or None,
        "queue": wanted.queue,
        "tag": wanted.tag,
        "batch": wanted.batch,
        "key": wanted.unique_key,
        "since": wanted.created_since and format_instant(wanted.created_since),
    }


def is_complete(wanted: "Wanted") -> bool:
    """Whether the query says all of a filter. If it does not, the client leaves out what does not match."""
    return isinstance(wanted, Where) or all(
        getattr(wanted, name) == default
        for name, default in zip(Filter.__struct_fields__, _DEFAULTS, strict=True)
        if name not in _SENT
    )


_DEFAULTS = [getattr(Filter(), name) for name in Filter.__struct_fields__]


def output(channel: Channel, reference: str, attempt: int | None) -> "Output":
    """The output of an attempt."""
    from queuectl.service.shapes.output import output_of

    job = show(channel, reference)
    document = channel.read(f"/v1/jobs/{part(job.id)}/output", {"attempt": attempt})
    with understood(channel):
        return output_of(document, job)


def _in_urls(ids: Sequence[str]) -> Iterator[list[str]]:
    """The ids in lists that each fit into one URL."""
    step, length = list[str](), 0
    for id in ids:
        size = len(quote(id)) + len("&ref=")
        if step and (length + size > URL_LENGTH or len(step) == REFERENCES):
            yield step
            step, length = [], 0
        step.append(id)
        length += size
    if step:
        yield step


def _sendable(reference: str) -> str:
    """The reference as text of JSON: bytes that are not UTF-8 are in no id."""
    return reference.encode("utf-8", "replace").decode()
