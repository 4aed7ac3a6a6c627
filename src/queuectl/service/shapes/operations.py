"""The documents of operations that are carried on behind. Only their commands and routes load this module."""

from collections.abc import Mapping, Sequence
from typing import Any

from queuectl.domain.operation import OperationStatus, RefusedJob, Request, Tally
from queuectl.service.shapes.record import Form, Record, document

REFUSED_JOB = Record(RefusedJob, "id reason")
OPERATION: Record[OperationStatus] = Record(
    {"": OperationStatus, "request": Request, "tally": Tally},
    "id verb where args limit state by created_at ended_at matched changed unchanged refused refused_count "
    "cursor bound",
    args=Form(dict),
    refused=REFUSED_JOB.many,
)


def operation(status: OperationStatus) -> dict[str, Any]:
    """The document of one operation."""
    return document(operation=OPERATION.encode(status))


def operation_of(document: Mapping[str, Any]) -> OperationStatus:
    """The operation in a document."""
    return OPERATION.decode(document["operation"])


def all_operations(found: Sequence[OperationStatus]) -> dict[str, Any]:
    """The document of all operations."""
    return document(operations=[OPERATION.encode(each) for each in found])


def all_operations_of(document: Mapping[str, Any]) -> list[OperationStatus]:
    """The operations in a document."""
    return [OPERATION.decode(each) for each in document["operations"]]
