"""The document of an error, which replaces the document of a result."""

from collections.abc import Mapping
from typing import Any

from queuectl import errors
from queuectl.errors import QueuectlError
from queuectl.service.shapes.record import document

_KINDS = {
    kind.code: kind
    for kind in (
        errors.InvalidInput, errors.NotFound, errors.Conflict, errors.Changed, errors.StoreError,
        errors.StoreUnavailable, errors.StoreUnusable, errors.OutcomeUnknown, errors.CommandFailed,
        errors.UnreadableJob, errors.InternalError, errors.Unauthenticated, errors.Forbidden,
    )
}  # fmt: skip
_FURTHER: dict[type[QueuectlError], tuple[str, ...]] = {
    errors.InvalidInput: ("index",),
    errors.OutcomeUnknown: ("ids",),
    errors.UnreadableJob: ("id", "number", "reason"),
}
"""What an error of this kind carries beside its sentences. It is written where it is set."""


def error(fault: QueuectlError) -> dict[str, Any]:
    """The document of an error."""
    return document(error=body(fault))


def error_of(document: Mapping[str, Any]) -> QueuectlError:
    """The error in a document."""
    return fault_of(document["error"])


def body(fault: QueuectlError) -> dict[str, Any]:
    """The JSON object of an error inside a document."""
    return {"code": fault.code, "message": fault.message, "hint": fault.hint, **further(fault)}


def further(fault: QueuectlError) -> dict[str, Any]:
    """What an error of this kind carries beside its sentences, as far as it is set."""
    values = {name: getattr(fault, name) for name in _FURTHER.get(type(fault), ())}
    return {name: value for name, value in values.items() if value not in (None, ())}


def fault_of(body: Mapping[str, Any]) -> QueuectlError:
    """The error of its code. An unknown code gives a plain QueuectlError.

    `StoreAbsent` and `StoreGone` have the codes of their parents and become these: only a process that opens the store
    itself treats them differently.
    """
    kind = _KINDS.get(body["code"], QueuectlError)
    fault = kind.__new__(kind)
    QueuectlError.__init__(fault, body["message"], body["hint"])  # InternalError has other arguments
    for name in _FURTHER.get(kind, ()):
        if name in body:
            setattr(fault, name, tuple(body[name]) if name == "ids" else body[name])
    return fault
