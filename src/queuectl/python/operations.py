"""The methods of `Queue` for operations: a change of all jobs that match a filter, which goes on in the background."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from queuectl.domain.operation import OperationState, OperationStatus, RefusedJob, Verb
from queuectl.python.arguments import Duration, span_of
from queuectl.python.opening import Opening

TURN = timedelta(seconds=5)
"""For how long one call waits. Through a server each is a request."""


class Operation(Struct, frozen=True, kw_only=True):
    """The state of one operation when it was read.

    where     the filter; ages in it count from `created_at`
    bound     the greatest number that is changed
    cursor    all jobs up to this number are done
    matched   the number of jobs that were reached, of which `changed`, `unchanged` and `refused_count` tell the result
    refused   the first refused jobs, with the reasons
    """

    id: str
    verb: Verb
    where: str
    args: Mapping[str, Any]
    limit: int | None
    state: OperationState
    by: str
    created_at: datetime
    ended_at: datetime | None
    bound: int
    cursor: int
    matched: int
    changed: int
    unchanged: int
    refused: tuple[RefusedJob, ...]
    refused_count: int


class Operations(Opening):
    """Changes of all jobs that match a filter, carried on by the workers, and by a server that accepts them."""

    def operate(
        self,
        verb: Verb,
        where: str,
        *,
        args: Mapping[str, Any] | None = None,
        id: str | None = None,
        limit: int | None = None,
        expect: int | None = None,
    ) -> Operation:
        """Begin to change all jobs that match a filter. The jobs are changed after this call has returned.

        verb    "cancel", "retry", "hold", "release", "edit" or "delete"
        args    `reason` of cancel; `force` and `alone` of retry; `anyway` of release; `priority`, `run_at` and `queue`
                of edit
        id      the same call with the same id again is the same operation; another one raises `Conflict`
        limit   at most so many jobs, those with the smallest numbers
        expect  raise `Conflict` unless exactly so many jobs match
        """
        given = {name: _plain(value) for name, value in (args or {}).items()}
        return operation_of(self._open().operate(verb, where, args=given, id=id, limit=limit, expect=expect))

    def operation(self, operation: Operation | str, *, wait: Duration | None = None) -> Operation:
        """One operation, until a week after its end. `wait`: return when it has ended, or after this time.

        Raises `NotFound`.
        """
        opened, id = self._open(), _id(operation)
        status, left = opened.operation(id), span_of("wait", wait) or timedelta()
        while status.is_running and left > timedelta():
            status = opened.await_operation(id, min(left, TURN))
            left -= TURN
        return operation_of(status)

    def operations(self) -> list[Operation]:
        """All operations that run, or ended within a week, the newest first."""
        return [operation_of(each) for each in self._open().operations()]

    def stop_operation(self, operation: Operation | str) -> Operation:
        """Stop an operation after its running step. What was done stays. One that has ended stays as it is."""
        return operation_of(self._open().stop_operation(_id(operation)))


def operation_of(status: OperationStatus) -> Operation:
    """Convert an operation to the type of the Python API."""
    parts = (status, status.request, status.tally)
    values = {
        name: next(getattr(part, name) for part in parts if name in part.__struct_fields__)
        for name in Operation.__struct_fields__
    }
    return Operation(**values)


def _id(operation: Operation | str) -> str:
    return operation.id if isinstance(operation, Operation) else operation


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
