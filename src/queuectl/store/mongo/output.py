"""Stores, trims and reads the output of commands: a document for each chunk.

The check that an attempt still has its lease comes before the write, and not in one step with it. A chunk that is
written although the attempt has just ended still belongs to that attempt, and is deleted with the job.
"""

from collections.abc import Sequence

from pymongo import DeleteMany
from pymongo.errors import BulkWriteError

from queuectl.domain.output import Chunk, Trim, known_stream
from queuectl.store.driver import codec
from queuectl.store.mongo.connect import Base
from queuectl.store.mongo.documents import Document
from queuectl.store.mongo.faults import duplicates

_LAST = 2**63 - 1


def write(base: Base, chunks: Sequence[Chunk], trims: Sequence[Trim]) -> set[str]:
    """Store the chunks, then trim. Returns the attempts that do not have a lease."""
    asked = {chunk.attempt_id: chunk.job_id for chunk in chunks}
    asked |= {trim.attempt_id: trim.job_id for trim in trims}
    numbers = _holders(base, asked)
    keep(base, [(numbers[chunk.attempt_id], chunk) for chunk in chunks if chunk.attempt_id in numbers])
    cut = [
        DeleteMany({"_id": _between(trim.attempt_id, trim.after, trim.before)})
        for trim in trims
        if trim.attempt_id in numbers
    ]
    if cut:
        base["output"].bulk_write(cut, ordered=False)
    return asked.keys() - numbers.keys()


def read(base: Base, attempt_id: str, after: int, limit: int) -> list[Chunk]:
    """The chunks of an attempt with a number greater than `after`."""
    found = base["output"].find({"_id": _between(attempt_id, after, _LAST)}).sort("_id", 1).limit(limit)
    return codec.chunks(found.batch_size(limit + 1), _chunk)


def _holders(base: Base, asked: dict[str, str]) -> dict[str, int]:
    """The number of the job, for each attempt that has its lease or belongs to a job that is being imported."""
    running = {"attempt_id": {"$in": list(asked)}, "state": "processing"}
    wanted = {"id": {"$in": list(asked.values())}, "$or": [running, {"state": "held", "cause": "moved"}]}
    found = {each["id"]: each for each in base["jobs"].find(wanted, {"id": 1, "attempt_id": 1, "state": 1})}
    return {
        attempt: found[id]["_id"]
        for attempt, id in asked.items()
        if id in found and (found[id]["state"] == "held" or found[id].get("attempt_id") == attempt)
    }


def keep(base: Base, chunks: Sequence[tuple[int, Chunk]]) -> None:
    """Store chunks, each with the number of its job. Idempotent."""
    if not chunks:
        return
    try:
        base["output"].insert_many([_document(chunk, number) for number, chunk in chunks], ordered=False)
    except BulkWriteError as error:
        duplicates(error)  # the index refuses a repeated chunk, which is already stored


def _between(attempt_id: str, after: int, before: int) -> Document:
    return {"$gt": {"a": attempt_id, "n": after}, "$lt": {"a": attempt_id, "n": before}}


def _document(chunk: Chunk, number: int) -> Document:
    return {
        "_id": {"a": chunk.attempt_id, "n": chunk.n},
        "job": number,
        "id": chunk.job_id,
        "stream": chunk.stream,
        "at": codec.micros(chunk.at),
        "start": chunk.offset,
        "data": chunk.data,
    }


def _chunk(document: Document) -> Chunk:
    key, start, data = document["_id"], document["start"], document["data"]
    if type(start) is not int or type(data) is not bytes or type(document["id"]) is not str:
        raise TypeError("no chunk")
    stream, at = known_stream(document["stream"]), codec.moment(document["at"])
    return Chunk(document["id"], key["a"], key["n"], stream, at, start, data)
