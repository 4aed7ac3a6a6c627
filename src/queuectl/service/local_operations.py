"""The part of `LocalQueue` for operations that are carried on behind. `queue.py` documents the methods."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from queuectl.clock import random_bytes
from queuectl.service.telling import user_and_host
from queuectl.store.protocol import Store

if TYPE_CHECKING:
    from queuectl.domain.operation import OperationStatus, Verb
    from queuectl.service.matching import Preview


class LocalOperations:
    """Operations on a store."""

    _store: Store

    def operate(
        self,
        verb: "Verb",
        where: str,
        *,
        args: Mapping[str, Any] | None = None,
        id: str | None = None,
        limit: int | None = None,
        expect: int | None = None,
        wait: timedelta | None = None,
        by: str | None = None,
        queues: Sequence[str] | None = None,
    ) -> "OperationStatus":
        from queuectl.domain.operation import Request
        from queuectl.service import operations

        only = None if queues is None else tuple(queues)
        request = Request(verb=verb, where=where, args=dict(args or {}), limit=limit, queues=only)
        name = id or operations.new_id(self._store.now(), random_bytes)
        status = operations.operate(self._store, name, request, by=by or user_and_host(), expect=expect)
        return status if wait is None else operations.until_ended(self._store, name, wait)

    def preview_operation(
        self,
        verb: "Verb",
        where: str,
        *,
        args: Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> "Preview":
        from queuectl.domain.operation import Request
        from queuectl.service import operations

        request = Request(verb=verb, where=where, args=dict(args or {}), limit=limit)
        return operations.preview(self._store, request)

    def operation(self, id: str) -> "OperationStatus":
        from queuectl.service import operations

        return operations.show(self._store, id)

    def operations(self) -> "Sequence[OperationStatus]":
        from queuectl.service import operations

        return operations.all_of(self._store)

    def await_operation(self, id: str, wait: timedelta) -> "OperationStatus":
        from queuectl.service import operations

        return operations.until_ended(self._store, id, wait)

    def stop_operation(self, id: str) -> "OperationStatus":
        from queuectl.service import operations

        return operations.stop(self._store, id)

    def carry_operation(self, id: str) -> "OperationStatus | None":
        """Take a step of an operation. Only a server calls it, so it is no method of `Queue`."""
        from queuectl.service import carrying

        return carrying.carry_if_due(self._store, id)
