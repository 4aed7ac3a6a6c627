"""The functions that each driver has for the verbs of the contract. Only the type checker needs it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from queuectl.domain.job import Job
from queuectl.domain.output import Chunk, Trim
from queuectl.domain.query import Counts, Filter, Found, Jobs, Page, Unreadable
from queuectl.domain.worker import Instruction, Worker
from queuectl.store.driver.attempt_ids import AttemptIds
from queuectl.store.driver.set_aside import SetAside
from queuectl.store.driver.verdict import SaveResult
from queuectl.store.protocol import Added, AttemptRef, ClaimRequest, Entry, Table

C = TypeVar("C", contravariant=True)
Now = TypeVar("Now", contravariant=True)
Moment = TypeVar("Moment", contravariant=True)


class Verbs(Protocol[C, Now, Moment]):
    """The functions of a driver. Each gets a connection that is lent for the call.

    Now     the time that `add` and `save` get
    Moment  the time that the other functions get, for comparisons by the store
    """

    def add(self, connection: C, jobs: Sequence[Job], now: Now, /) -> list[Added]: ...

    def get(self, connection: C, ids: Sequence[str], /) -> Jobs: ...

    def find(self, connection: C, wanted: Filter, page: Page, /) -> Found: ...

    def counts(self, connection: C, wanted: Filter, /) -> Counts: ...

    def due_since(self, connection: C, now: Moment, /) -> dict[str, datetime]: ...

    def claim(
        self, connection: C, request: ClaimRequest, now: Moment, ids: AttemptIds, aside: SetAside, /
    ) -> list[Job]: ...

    def renew(
        self, connection: C, worker: str, held: Sequence[AttemptRef], lease: timedelta, now: Moment, /
    ) -> list[Job]: ...

    def save(self, connection: C, jobs: Sequence[Job], now: Now, /) -> list[SaveResult]: ...

    def expired_leases(
        self, connection: C, limit: int, now: Moment, /
    ) -> tuple[list[Job], list[Unreadable]]: ...

    def write_output(self, connection: C, chunks: Sequence[Chunk], trims: Sequence[Trim], /) -> set[str]: ...

    def read_output(self, connection: C, attempt_id: str, after: int, limit: int, /) -> list[Chunk]: ...

    def heartbeat(self, connection: C, worker: Worker, /) -> Instruction | None: ...

    def pending_instruction(self, connection: C, worker_id: str, /) -> Instruction | None: ...

    def instruct(self, connection: C, worker_id: str, instruction: Instruction, /) -> bool: ...

    def workers(self, connection: C, /) -> list[Worker]: ...

    def forget(self, connection: C, worker_id: str, /) -> None: ...

    def read_table(self, connection: C, table: Table, /) -> dict[str, Entry]: ...

    def insert_entry(self, connection: C, table: Table, key: str, value: str, /) -> bool:
        """Write an entry with version 1 if there is none. Returns whether it did."""

    def update_entry(self, connection: C, table: Table, key: str, value: str, version: int, /) -> bool:
        """Replace an entry and raise its version, if its version is this one. Returns whether it did."""

    def delete_entry(self, connection: C, table: Table, key: str, version: int, /) -> bool:
        """Remove an entry if its version is this one. Returns whether it did."""

    def purge(self, connection: C, wanted: Filter, limit: int, now: Moment, /) -> list[str]: ...

    def set_aside(self, connection: C, damaged: Sequence[Unreadable], aside: SetAside, /) -> None: ...

    def discard(self, connection: C, numbers: Sequence[int], now: Moment, /) -> list[int]: ...
