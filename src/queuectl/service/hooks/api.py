"""The operations of a client on hooks: `Queue.hooks()`."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from queuectl.domain.hook import Hook
from queuectl.service.hooks.changing import Added, Applied
from queuectl.service.hooks.reading import HookStatus


class Hooks(Protocol):
    """The hooks of a queue.

    `given` has the fields of a hook (`domain/hook.py: Definition`) as texts or values of JSON; its `job` has the keys
    of an enqueue. `by` is the name of the requester (default: this user at this host).
    """

    def all(self) -> tuple[Sequence[HookStatus], Sequence[str]]:
        """All hooks by name, and the names of those that this program cannot read."""

    def show(self, name: str) -> HookStatus:
        """One hook. Raises NotFound."""

    def add(self, name: str, given: Mapping[str, Any]) -> Added:
        """Add a hook for the events from now on. The same hook again changes nothing.

        Raises InvalidInput; Conflict for other content under a known name, and if the setting `events` leaves out
        events that the hook is for. So does `put`.
        """

    def put(self, name: str, given: Mapping[str, Any], *, version: int | None = None) -> Added:
        """Add a hook, or replace the definition of the one of this name (`existing`): its cursor and counts stay.

        Raises Changed if the entry has another version than `version`. So does `remove`.
        """

    def pause(self, name: str, *, reason: str | None = None, by: str | None = None) -> Hook:
        """Pause a hook: it adds no jobs. Jobs that it has added still run. Raises NotFound."""

    def resume(self, name: str, *, skip: bool = False) -> Hook:
        """Go on with the events of the pause; `skip`: with those from now on. Raises NotFound."""

    def test(self, name: str, event: Mapping[str, Any] | None = None, *, key: str | None = None) -> str:
        """Add the job of the hook for a made-up event, or for the given one. Returns its id.

        `key`: the end of the id, as `make_id` makes it. A second call with the same key adds no second job.
        """

    def remove(self, name: str, *, version: int | None = None) -> None:
        """Remove a hook. Its jobs stay. Raises NotFound."""

    def apply(self, document: Mapping[str, Any], *, dry_run: bool = False) -> Applied:
        """Add and replace hooks as in a file, which is checked first. Other hooks stay. Returns what was changed."""
