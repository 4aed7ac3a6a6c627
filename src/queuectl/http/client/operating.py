"""Operations over HTTP: one request for all jobs that match a filter. The server carries them on."""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING, Any

from queuectl.domain.ids import make_id
from queuectl.http.client.channel import Channel, part
from queuectl.http.client.decoding import understood

if TYPE_CHECKING:
    from queuectl.domain.operation import OperationStatus, Verb
    from queuectl.service.matching import Preview

LONGEST_WAIT = 5
"""Seconds for which one request waits at most: shorter than the patience of most clients and proxies."""


class RemoteOperations:
    """The part of `RemoteQueue` for operations that are carried on behind."""

    _channel: Channel

    def now(self) -> datetime:
        """The time of the server's clock."""
        raise NotImplementedError

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
        by: str | None = None,  # noqa: ARG002  the server stores the name of the token
        queues: Sequence[str] | None = None,  # noqa: ARG002  the server takes those of the token
    ) -> "OperationStatus":
        name = id or make_id(self.now(), int.from_bytes(os.urandom(8)) >> 4)
        body: dict[str, Any] = {"id": name, "verb": verb, "where": where, "args": dict(args or {})}
        body |= {"limit": limit} if limit is not None else {}
        body |= {"expect": expect} if expect is not None else {}
        headers = {} if wait is None else _prefer(wait)
        return self._read(self._channel.call("POST", "/v1/operations", body=body, headers=headers).document)

    def preview_operation(
        self, verb: "Verb", where: str, *, args: Mapping[str, Any] | None = None, limit: int | None = None
    ) -> "Preview":
        from queuectl.service.matching import Preview

        body: dict[str, Any] = {"verb": verb, "where": where, "args": dict(args or {}), "dry_run": True}
        body |= {"limit": limit} if limit is not None else {}
        document = self._channel.call("POST", "/v1/operations", body=body).document
        with understood(self._channel):
            return Preview(document["matched"], document["by_state"], document["sample"])

    def operation(self, id: str) -> "OperationStatus":
        return self._read(self._channel.read(f"/v1/operations/{part(id)}"))

    def operations(self) -> "Sequence[OperationStatus]":
        from queuectl.service.shapes.operations import all_operations_of

        document = self._channel.read("/v1/operations")
        with understood(self._channel):
            return all_operations_of(document)

    def await_operation(self, id: str, wait: timedelta) -> "OperationStatus":
        headers = _prefer(wait)
        path = f"/v1/operations/{part(id)}"
        return self._read(self._channel.call("GET", path, headers=headers, changes=False).document)

    def stop_operation(self, id: str) -> "OperationStatus":
        return self._read(self._channel.call("POST", f"/v1/operations/{part(id)}/stop", body={}).document)

    def _read(self, document: Mapping[str, Any]) -> "OperationStatus":
        from queuectl.service.shapes.operations import operation_of

        with understood(self._channel):
            return operation_of(document)


def _prefer(wait: timedelta) -> dict[str, str]:
    return {"Prefer": f"wait={min(ceil(wait.total_seconds()), LONGEST_WAIT)}"}
