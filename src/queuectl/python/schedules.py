"""`Queue.schedules`: add, read, change and run schedules from Python."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from os import PathLike
from typing import Any, TypedDict, Unpack

import msgspec

from queuectl.domain import schedule_file
from queuectl.errors import InvalidInput
from queuectl.python.arguments import Command, Duration, request_of, span_of, time_of
from queuectl.python.schedule_values import (
    Decision,
    Difference,
    Preview,
    Schedule,
    decisions_of,
    schedule_of,
)
from queuectl.python.values import Job, job_of
from queuectl.service.queue import Queue as FrontDoor
from queuectl.service.schedules.local_zone import local_zone
from queuectl.service.schedules.preview import preview as instants_of

_List = list[Schedule]
_Decisions = list[Decision]


class Policies(TypedDict, total=False):
    """The fields of a schedule besides its rule.

    timezone        an IANA name; by default that of this host
    overlap         while a job of it has not ended: "skip" (default), "queue", "replace" or "allow"
    catchup         of missed instants run the "last" (default), "all", or none ("skip")
    catchup_window  missed instants run only if they are this young
    jitter          start up to this much later, spread over the schedules
    start, end      nothing before, and nothing after this time; "none" removes it
    not_on          dates without instants
    """

    timezone: str
    overlap: str
    catchup: str
    catchup_window: Duration
    jitter: Duration
    start: datetime | str
    end: datetime | str
    not_on: Iterable[date | str]


class JobOptions(TypedDict, total=False):
    """The arguments of `Queue.enqueue` that the job of a schedule may have."""

    queue: str
    priority: int
    retries: int
    no_retry_codes: Sequence[int]
    backoff_base: float
    backoff_factor: Duration
    backoff_max: Duration
    timeout: Duration
    kill_grace: Duration
    batch: str
    tags: Iterable[str]
    meta: Mapping[str, Any]
    hold: bool
    cwd: str | PathLike[str]
    env: Mapping[str, str]
    umask: int
    stdin: str | bytes
    shell: str
    output_limit: int | str
    split: bool
    allow_detached: bool


class Options(Policies, JobOptions, total=False):
    """What `Schedules.add` and `Schedules.edit` take besides the rule and the command."""


class Schedules:
    """The schedules of a queue. An argument `name` is the name of a schedule; a missing one raises `NotFound`."""

    def __init__(self, opened: Callable[[], FrontDoor]) -> None:
        self._open = opened

    def add(
        self, name: str, when: str, command: Command, *, paused: bool = False, **options: Unpack[Options]
    ) -> Schedule:
        """Add a schedule; return it. A list of words is a program that runs without a shell.

        `when`: five cron fields (`"30 2 * * *"`), six with the seconds first, `"@daily"`, or `"@every 10m"`. The other
        arguments are fields of the schedule (`Policies`), or arguments of `Queue.enqueue` for its jobs (`JobOptions`).
        The same add again changes nothing. Raises `InvalidInput`, and `Conflict` for other content under a known name.
        """
        policies, job = _parts(command, options)
        all_of, zone = self._open().schedules(), policies.pop("timezone", None) or local_zone() or "UTC"
        all_of.add(name, {"when": when, "job": job, **policies}, timezone=zone, paused=paused)
        return self.show(name)

    def edit(
        self,
        name: str,
        *,
        when: str | None = None,
        command: Command | None = None,
        **options: Unpack[Options],
    ) -> Schedule:
        """Change what is given; the rest stays. Returns the schedule. Raises `InvalidInput`."""
        policies, job = _parts(command, options)
        given = policies if when is None else {"when": when, **policies}
        if not (given or job):
            raise InvalidInput("no change is given", "give when, command, overlap or another argument")
        self._open().schedules().edit(name, given, job)
        return self.show(name)

    def show(self, name: str, count: int = 5) -> Schedule:
        """One schedule as it is now, with so many next instants."""
        return schedule_of(self._open().schedules().show(name, count))

    def list(self) -> _List:
        """All schedules by name. Schedules that this version cannot read are left out."""
        found, _ = self._open().schedules().all()
        return [schedule_of(each) for each in found]

    def pause(self, name: str, *, reason: str | None = None) -> Schedule:
        """Fire nothing, and miss nothing, until the schedule is resumed. `reason` is stored with the pause."""
        self._open().schedules().pause(name, reason=reason)
        return self.show(name)

    def resume(self, name: str, *, catch_up: bool = False) -> Schedule:
        """Go on with the next instant. `catch_up`: the catch-up policy decides the instants of the pause."""
        self._open().schedules().resume(name, catch_up=catch_up)
        return self.show(name)

    def run(self, name: str, *, force: bool = False) -> Job:
        """Add its job now; return the job. Raises `Conflict` if the overlap policy says no, unless `force`."""
        opened = self._open()
        return job_of(opened.show(opened.schedules().run(name, force=force)))

    def remove(self, name: str, *, cancel: bool = False) -> int:
        """Remove a schedule. Its jobs stay; `cancel` cancels them, and the number of cancelled jobs is returned."""
        return self._open().schedules().remove(name, cancel=cancel)

    def history(self, name: str, limit: int = 20) -> _Decisions:
        """What became of the newest instants, the newest first."""
        return decisions_of(self._open().schedules().history(name, limit))

    def preview(
        self,
        when: str,
        *,
        timezone: str | None = None,
        start: datetime | str | None = None,
        count: int = 5,
        end: datetime | str | None = None,
    ) -> Preview:
        """The instants of a rule: `count` of them, or all until `end`. Opens no store. Raises `InvalidInput`."""
        now = datetime.now(UTC)
        return instants_of(
            when,
            timezone or local_zone() or "UTC",
            now if start is None else time_of("start", start, now),
            inclusive=start is not None,
            count=count,
            end=None if end is None else time_of("end", end, now),
        )

    def apply(
        self, file: str | Mapping[str, Any], *, prune: bool = False, dry_run: bool = False
    ) -> Difference:
        """Make the stored schedules equal to a file; return what was changed. `dry_run`: what would be changed.

        `file`: the text of a file of schedules in TOML, or its content as a mapping. `prune`: remove schedules of the
        owner of the file that it does not contain. Raises `InvalidInput`; then nothing was changed.
        """
        document = schedule_file.parse_toml(file) if isinstance(file, str) else file
        all_of, zone = self._open().schedules(), local_zone() or "UTC"
        act = all_of.compare if dry_run else all_of.apply
        return act(document, timezone=zone, prune=prune)

    def export(self, *names: str) -> str:
        """The text of a file with these schedules, or with all, for `apply`."""
        return schedule_file.export(self._open().schedules().named(names))


def _parts(command: Command | None, options: Options) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of a schedule, and the keys of its job. Raises InvalidInput."""
    if unknown := options.keys() - Options.__annotations__.keys():
        raise InvalidInput(f"{min(unknown)}: a schedule has no such argument")
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    policies = {name: given.pop(name) for name in Policies.__annotations__ if name in given}
    for name in ("catchup_window", "jitter"):
        if name in policies:
            policies[name] = span_of(name, policies[name])
    for name in ("start", "end"):
        if isinstance(policies.get(name), datetime):
            policies[name] = time_of(name, policies[name], policies[name])
    if "not_on" in policies and not isinstance(policies["not_on"], str):
        policies["not_on"] = [
            each.isoformat() if isinstance(each, date) else each for each in policies["not_on"]
        ]
    request: dict[str, Any] = msgspec.to_builtins(request_of(command, given))
    return policies, {name: value for name, value in request.items() if value is not None}
