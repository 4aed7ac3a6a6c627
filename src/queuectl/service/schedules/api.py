"""The operations of a client on schedules: `Queue.schedules()`."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from queuectl.domain.schedule import Schedule
from queuectl.domain.schedule_difference import Difference
from queuectl.service.schedules.changing import Added
from queuectl.service.schedules.reading import Decided, ScheduleStatus


class Schedules(Protocol):
    """The schedules of a queue.

    `given` has the fields of a schedule (`domain/schedule_definition.py`) as texts or values of JSON; its `job` has the
    keys of an enqueue. `timezone` is used where no time zone is given. `by` is the name of the requester (default:
    this user at this host).
    """

    def all(self) -> tuple[Sequence[ScheduleStatus], Sequence[str]]:
        """All schedules by name, and the names of those that this program cannot read."""

    def show(self, name: str, count: int = ...) -> ScheduleStatus:
        """One schedule with so many next instants. Raises NotFound."""

    def history(self, name: str, limit: int = ...) -> Sequence[Decided]:
        """The newest decisions, the newest first. Raises NotFound."""

    def add(
        self,
        name: str,
        given: Mapping[str, Any],
        *,
        timezone: str,
        paused: bool = False,
        by: str | None = None,
    ) -> Added:
        """Add a schedule. The working directory and the policy of this client become part of its template.

        The same schedule again changes nothing. Raises InvalidInput; Conflict for other content under a known name.
        """

    def edit(
        self, name: str, given: Mapping[str, Any], job: Mapping[str, Any], *, version: int | None = None
    ) -> Schedule:
        """Change fields, and the keys `job` of the template. Raises NotFound, InvalidInput.

        Raises Changed if the entry has another version than `version`. So does `remove`.
        """

    def put(
        self,
        name: str,
        given: Mapping[str, Any],
        *,
        timezone: str,
        version: int | None = None,
        by: str | None = None,
    ) -> Added:
        """Add a schedule, or replace the definition of the one of this name (`existing`). Raises InvalidInput, Changed.

        A pause stays, and so does the next instant if the rule is the same.
        """

    def pause(self, name: str, *, reason: str | None = None, by: str | None = None) -> Schedule:
        """Pause a schedule: nothing fires, and nothing is missed. Raises NotFound."""

    def resume(self, name: str, *, catch_up: bool = False) -> Schedule:
        """Go on with the next instant. `catch_up`: the catch-up policy decides the instants of the pause."""

    def run(self, name: str, *, force: bool = False, key: str | None = None) -> str:
        """Run the job of a schedule now. Returns its id. Raises NotFound; Conflict if the overlap policy refuses it.

        `key`: the end of the id, as `make_id` makes it. A second call with the same key adds no second job.
        """

    def remove(
        self, name: str, *, cancel: bool = False, by: str | None = None, version: int | None = None
    ) -> int:
        """Remove a schedule. Its jobs stay, or with `cancel` are cancelled. Returns the number of cancelled jobs."""

    def compare(self, document: Mapping[str, Any], *, timezone: str, prune: bool = False) -> Difference:
        """What an apply of this file would change. Raises InvalidInput."""

    def apply(
        self, document: Mapping[str, Any], *, timezone: str, prune: bool = False, by: str | None = None
    ) -> Difference:
        """Make the stored schedules equal to a file, which is checked first. Returns what was changed."""

    def named(self, names: Sequence[str]) -> Sequence[Schedule]:
        """The schedules with these names; all if none is given. Raises NotFound."""
