"""The state shared by all parts of one agent: the worker's identity, settings, store, connection and log."""

from datetime import timedelta
from typing import Any, Literal, cast

from msgspec import Struct, field

from queuectl import bootstrap, config
from queuectl.config import Settings
from queuectl.service.telling import telling
from queuectl.store.protocol import Store
from queuectl.worker.agent.claims import Claims
from queuectl.worker.agent.connection import Connection
from queuectl.worker.agent.log import Log, open_log
from queuectl.worker.agent.store_health import StoreHealth
from queuectl.worker.protocol import Welcome

Phase = Literal["running", "draining", "stopping"]


class Context(Struct, kw_only=True, eq=False):
    """The shared state of an agent.

    config    the arguments of `worker start`: the store's URL, the directory, the queues, the log format
    settings  the effective settings; read from the store again after each heartbeat
    phase     of the worker: from `draining` on it claims nothing, while `stopping` its commands are ended
    claims    the jobs that this worker has claimed and that have not ended
    """

    worker_id: str
    host: str
    count: int
    queues: list[str]
    config: dict[str, Any]
    settings: Settings
    store: Store
    connection: Connection
    log: Log
    phase: Phase = "running"
    claims: Claims = field(default_factory=Claims)
    health: StoreHealth = field(default_factory=StoreHealth)

    @property
    def has_free_slot(self) -> bool:
        """Whether a command that is claimed now could start at once."""
        return len(self.claims) < self.count

    @property
    def lease_seconds(self) -> float:
        """The length of a lease in seconds."""
        lease: timedelta = self.settings.lease
        return lease.total_seconds()


def open_context(connection: Connection, welcome: Welcome) -> Context:
    """The context described by the holder's welcome message. Raises StoreError if the URL is invalid."""
    own = welcome.config
    settings = config.resolve({}, {}, own["options"], {})
    store = bootstrap.open_store(own["url"], settings, create=False)
    context = Context(
        worker_id=welcome.worker["id"],
        host=welcome.worker["host"],
        count=welcome.count,
        queues=own.get("queues") or [],
        config=own,
        settings=settings,
        store=store,
        connection=connection,
        log=open_log(own, settings, store),
        phase=cast(Phase, welcome.phase),
    )
    context.store = telling(store, lambda: context.settings.events)
    return context
