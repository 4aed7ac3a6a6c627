"""Records the requests of a MongoDB store and the query plans of the server."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from bson import SON
from pymongo import MongoClient
from pymongo.monitoring import CommandStartedEvent

from queuectl.store.mongo import MongoStore

EXPLAINED = ("find", "aggregate", "update", "delete", "findAndModify", "distinct", "count")
NOT_OF_THE_QUESTION = frozenset(("lsid", "txnNumber", "writeConcern", "maxTimeMS", "$db", "$clusterTime"))


class Plan(NamedTuple):
    """The plan of one request: its stages, and the number of keys and documents that were read."""

    command: str
    collection: str
    stages: tuple[str, ...]
    keys: int
    docs: int

    @property
    def looked(self) -> int:
        """The number of keys and documents that were read."""
        return max(self.keys, self.docs)


def on_each(store: MongoStore, hook: Callable[[CommandStartedEvent], Any]) -> None:
    """Call `hook` with each command of this store, just before it is sent."""
    outbox = store.session._outbox
    before = type(outbox).started

    def started(event: CommandStartedEvent) -> None:
        before(outbox, event)
        hook(event)

    outbox.started = started  # type: ignore[method-assign]


class Witness:
    """Explains every request of a store on the data of the request."""

    def __init__(self, store: MongoStore, client: MongoClient[dict[str, Any]], database: str) -> None:
        self._base = client[database]
        self.plans: list[Plan] = []
        on_each(store, self._note)

    def of(self, work: Callable[[], Any]) -> list[Plan]:
        """The plans of a piece of work."""
        self.plans = []
        work()
        return self.plans

    def _note(self, event: CommandStartedEvent) -> None:
        if event.command_name in EXPLAINED:
            for question in _questions(event.command):
                options = {"verbosity": "executionStats"}
                self.plans += _plans(question, self._base.command(SON(explain=question, **options)))


def _questions(command: Any) -> Iterator[SON[str, Any]]:
    """The command, without what is about its transport; of a batch one by one, as only so they can be explained."""
    plain = SON((name, value) for name, value in command.items() if name not in NOT_OF_THE_QUESTION)
    parts = next((name for name in ("updates", "deletes") if name in plain), None)
    if parts is None:
        yield plain
    else:
        for part in plain[parts][:3]:
            yield SON((name, [part] if name == parts else value) for name, value in plain.items())


def _plans(question: SON[str, Any], answer: Any) -> Iterator[Plan]:
    command = next(iter(question))
    for stats, collection in _found(answer, question[command]):
        stages = tuple(_stages(stats["executionStages"]))
        yield Plan(command, collection, stages, stats["totalKeysExamined"], stats["totalDocsExamined"])


def _found(node: Any, collection: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Each executed command, also nested ones, with its collection."""
    if isinstance(node, list):
        for each in node:
            yield from _found(each, collection)
    elif isinstance(node, dict):
        if "executionStats" in node:
            yield node["executionStats"], node["queryPlanner"]["namespace"].partition(".")[2]
            return
        for name, value in node.items():
            if name not in ("command", "serverInfo", "serverParameters"):
                yield from _found(value, collection)


def _stages(node: Any) -> Iterator[str]:
    """The names of all stages of an executed plan; plans of the newer engine have the names in another field."""
    if isinstance(node, list):
        for each in node:
            yield from _stages(each)
    elif isinstance(node, dict):
        if "stage" in node:
            yield node["stage"].upper()
        for name, value in node.items():
            if name != "allPlansExecution":
                yield from _stages(value)
