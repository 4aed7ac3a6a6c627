"""The implementation of `Schedules` over HTTP. `service/schedules/api.py` documents the methods.

A request whose reply is lost is sent again, so each is repeatable. Most are by themselves; `run` has a key from which
the id of the job is made; `remove` finds nothing the second time; and what an apply changes is asked before it.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from queuectl.clock import random_bytes
from queuectl.config import Settings
from queuectl.domain.ids import make_id
from queuectl.domain.schedule import Schedule
from queuectl.domain.schedule_definition import Definition, check_schedule_name
from queuectl.domain.schedule_difference import Difference
from queuectl.domain.schedule_file import document_of, fields_shown, shown
from queuectl.domain.where import parse, term
from queuectl.errors import Forbidden
from queuectl.http.client.changing import Changes
from queuectl.http.client.channel import Answer, Channel, if_match, part
from queuectl.http.client.decoding import understood
from queuectl.service.operation import not_ended
from queuectl.service.request.spec import working_directory
from queuectl.service.schedules import changing, files
from queuectl.service.schedules.changing import Added, removal_reason
from queuectl.service.schedules.reading import NEXT, Decided, ScheduleStatus
from queuectl.service.shapes import schedules as shapes

if TYPE_CHECKING:
    from queuectl.service.schedules.api import Schedules

SHOWN = 20
ROOT = "/v1/schedules"


class RemoteSchedules:
    """The `Schedules` of a server.

    settings  this client's own settings: templates are completed with them before they are sent
    now       the time of the server's clock
    """

    def __init__(self, channel: Channel, settings: Settings, now: Callable[[], datetime]) -> None:
        self._channel, self._settings, self._now = channel, settings, now

    def all(self) -> tuple[Sequence[ScheduleStatus], Sequence[str]]:
        document = self._channel.read(ROOT)
        with understood(self._channel):
            return shapes.schedules_of(document)

    def show(self, name: str, count: int = NEXT) -> ScheduleStatus:
        return self._status(self._channel.read(_path(name), {"next": count}))

    def history(self, name: str, limit: int = SHOWN) -> Sequence[Decided]:
        document = self._channel.read(f"{_path(name)}/history", {"limit": limit})
        with understood(self._channel):
            return shapes.history_of(document)

    def add(
        self,
        name: str,
        given: Mapping[str, Any],
        *,
        timezone: str,
        paused: bool = False,
        by: str | None = None,  # noqa: ARG002  the server stores the name of the token
    ) -> Added:
        definition = self._defined(given, timezone)
        body = {"name": check_schedule_name(name), "paused": paused, **fields_shown(definition)}
        answer = self._channel.call("POST", ROOT, body=body)
        # The repeated request finds the schedule that the first one added.
        return Added(self._status(answer.document).schedule, answer.status == 200 and not answer.repeated)

    def edit(
        self, name: str, given: Mapping[str, Any], job: Mapping[str, Any], *, version: int | None = None
    ) -> Schedule:
        body = {key: shown(value) for key, value in given.items()} | ({"job": job} if job else {})
        return self._changed(self._channel.call("PATCH", _path(name), body=body, headers=if_match(version)))

    def put(
        self,
        name: str,
        given: Mapping[str, Any],
        *,
        timezone: str,
        version: int | None = None,
        by: str | None = None,  # noqa: ARG002  an entry has no author
    ) -> Added:
        body = fields_shown(self._defined(given, timezone))
        path = _path(check_schedule_name(name))
        answer = self._channel.call("PUT", path, body=body, headers=if_match(version))
        return Added(self._changed(answer), answer.status == 200 and not answer.repeated)

    def pause(
        self,
        name: str,
        *,
        reason: str | None = None,
        by: str | None = None,  # noqa: ARG002  the server stores the name of the token
    ) -> Schedule:
        return self._changed(self._channel.call("POST", f"{_path(name)}/pause", body={"reason": reason}))

    def resume(self, name: str, *, catch_up: bool = False) -> Schedule:
        return self._changed(self._channel.call("POST", f"{_path(name)}/resume", body={"catch_up": catch_up}))

    def run(self, name: str, *, force: bool = False, key: str | None = None) -> str:
        made = key or make_id(datetime.now(UTC), int.from_bytes(random_bytes(8)) >> 5)
        answer = self._channel.call("POST", f"{_path(name)}/run", body={"force": force, "key": made})
        with understood(self._channel):
            return str(answer.document["jobs"][0]["id"])

    def remove(
        self,
        name: str,
        *,
        cancel: bool = False,
        by: str | None = None,  # noqa: ARG002  the server stores the name of the token
        version: int | None = None,
    ) -> int:
        answer = self._channel.call("DELETE", _path(name), headers=if_match(version), handled=(404,))
        if answer.refused and not answer.repeated:
            raise answer.refused
        if not cancel:
            return 0
        # Not by the server: if its reply were lost, nobody would know how many jobs it has cancelled.
        jobs = not_ended(parse(term("schedule", name), self._now()))
        steps = Changes(self._channel).post(jobs, "cancel", {"reason": removal_reason(name)})
        return sum(each.changed for changes in steps for each in changes)

    def compare(self, document: Mapping[str, Any], *, timezone: str, prune: bool = False) -> Difference:
        return self._difference("diff", self._tables(document, timezone, prune=prune))[0]

    def apply(
        self,
        document: Mapping[str, Any],
        *,
        timezone: str,
        prune: bool = False,
        by: str | None = None,  # noqa: ARG002  the server stores the name of the token
    ) -> Difference:
        tables = self._tables(document, timezone, prune=prune)
        before, _ = self._difference("diff", tables)
        if before.empty:
            return before
        found, repeated = self._difference("apply", tables)
        return before if repeated else found

    def named(self, names: Sequence[str]) -> Sequence[Schedule]:
        found, _ = self.all()
        chosen = files.chosen({each.schedule.name: each.schedule for each in found}, names)
        for each in chosen:
            if hidden := each.job.get("redacted"):
                raise Forbidden(
                    f"schedule {each.name} has values that are not shown: {', '.join(hidden)}",
                    "a token with the scope enqueue sees them",
                )
        return chosen

    def _defined(self, given: Mapping[str, Any], timezone: str) -> Definition:
        return changing.define_completed(given, timezone=timezone, settings=self._settings, cwd=self._cwd)

    @property
    def _cwd(self) -> str | None:
        """The working directory of templates that name none; None: the server's."""
        return working_directory() if self._channel.address.is_here else None

    def _tables(self, document: Mapping[str, Any], timezone: str, *, prune: bool) -> dict[str, Any]:
        file = files.completed_file(document, timezone=timezone, settings=self._settings, cwd=self._cwd)
        return {**document_of(file), "prune": prune}

    def _difference(self, verb: str, tables: Mapping[str, Any]) -> tuple[Difference, bool]:
        """The difference that a route answers, and whether its request was sent twice."""
        answer = self._channel.call("POST", f"{ROOT}/{verb}", body=tables, changes=verb == "apply")
        with understood(self._channel):
            return shapes.difference_of(answer.document), answer.repeated

    def _changed(self, answer: Answer) -> Schedule:
        return self._status(answer.document).schedule

    def _status(self, document: Mapping[str, Any]) -> ScheduleStatus:
        with understood(self._channel):
            return shapes.status_of(document["schedule"])


def _path(name: str) -> str:
    """The path of a schedule. Raises NotFound for a name that cannot be a part of a path."""
    if name in ("", ".", ".."):
        raise changing.unknown(name)
    return f"{ROOT}/{part(name)}"


if TYPE_CHECKING:
    _keeps_the_contract: type[Schedules] = RemoteSchedules
