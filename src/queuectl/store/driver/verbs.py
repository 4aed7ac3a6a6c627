"""The types of the modules of a driver, with their functions. Only the type checker needs this file.

C       a connection that is lent for the call
Now     the type of the time argument of `add` and `save`
Moment  the type of the time argument of the other functions, which the store compares with stored times
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from queuectl.domain.event import Actor, Event
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk, Trim
from queuectl.domain.query import Counts, Filter, Found, Jobs, Page, Unreadable
from queuectl.domain.worker import Instruction, Worker
from queuectl.store.driver.attempt_ids import AttemptIds
from queuectl.store.driver.set_aside import SetAside
from queuectl.store.driver.verdict import SaveResult
from queuectl.store.protocol import Added, AttemptRef, ClaimRequest, Entry, EventPage, Swap, Table, Upcoming

C = TypeVar("C", contravariant=True)
Now = TypeVar("Now", contravariant=True)
Moment = TypeVar("Moment", contravariant=True)


class Claims(Protocol[C, Moment]):
    """The functions of a driver's `claim.py`."""

    def claim(
        self, connection: C, request: ClaimRequest, now: Moment, ids: AttemptIds, aside: SetAside, /
    ) -> list[Job]: ...

    def due_since(self, connection: C, now: Moment, /) -> dict[str, datetime]: ...

    def expired_leases(
        self, connection: C, limit: int, now: Moment, /
    ) -> tuple[list[Job], list[Unreadable]]: ...

    def renew(
        self, connection: C, worker: str, held: Sequence[AttemptRef], lease: timedelta, now: Moment, /
    ) -> list[Job]: ...

    def set_aside(self, connection: C, damaged: Sequence[Unreadable], aside: SetAside, /) -> None: ...


class Finds(Protocol[C]):
    """The functions of a driver's `find.py`."""

    def get(self, connection: C, ids: Sequence[str], /) -> Jobs: ...

    def find(self, connection: C, wanted: Filter, page: Page, /) -> Found: ...

    def counts(self, connection: C, wanted: Filter, /) -> Counts: ...

    def last_number(self, connection: C, /) -> int: ...


class Events(Protocol[C]):
    """The functions of a driver's `events.py`."""

    def read(self, connection: C, after: str | None, limit: int, /) -> EventPage:
        """Implements the verb `read_events`."""

    def cursor(self, connection: C, at: datetime | None, /) -> str:
        """Implements the verb `event_cursor`."""

    def trim(self, connection: C, before: datetime, keep: int, limit: int, /) -> int:
        """Implements the verb `trim_events`."""


class Outputs(Protocol[C]):
    """The functions of a driver's `output.py`."""

    def write(self, connection: C, chunks: Sequence[Chunk], trims: Sequence[Trim], /) -> set[str]:
        """Implements the verb `write_output`."""

    def read(self, connection: C, attempt_id: str, after: int, limit: int, /) -> list[Chunk]:
        """Implements the verb `read_output`."""


class Swaps(Protocol[C, Now]):
    """The functions of a driver's `swap.py`."""

    def swap(self, connection: C, swaps: Sequence[Swap], now: Now, /) -> list[bool]: ...


class Purges(Protocol[C, Moment]):
    """The functions of a driver's `purge.py`."""

    def purge(
        self, connection: C, wanted: Filter, limit: int, now: Moment, tell: Actor | None, /
    ) -> list[str]: ...

    def discard(self, connection: C, numbers: Sequence[int], now: Moment, /) -> list[int]: ...


class Registries(Protocol[C]):
    """The functions of a driver's `registry.py`."""

    def heartbeat(self, connection: C, worker: Worker, /) -> Instruction | None: ...

    def pending_instruction(self, connection: C, worker_id: str, /) -> Instruction | None: ...

    def instruct(self, connection: C, worker_id: str, instruction: Instruction, /) -> bool: ...

    def workers(self, connection: C, /) -> list[Worker]: ...

    def forget(self, connection: C, worker_id: str, /) -> None: ...

    def read_table(self, connection: C, table: Table, keys: Sequence[str] | None, /) -> dict[str, Entry]: ...

    def upcoming(self, connection: C, limit: int, /) -> list[Upcoming]: ...


class Writes(Protocol[C, Now]):
    """The functions of a driver's `write.py`."""

    def add(
        self, connection: C, jobs: Sequence[Job], now: Now, events: Sequence[Event | None] = (), /
    ) -> list[Added]: ...

    def save(
        self, connection: C, jobs: Sequence[Job], now: Now, events: Sequence[Event | None] = (), /
    ) -> list[SaveResult]: ...
