"""`Queue.hooks`: add, read, change and test hooks from Python."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from queuectl.domain.schedule_file import parse_toml
from queuectl.errors import InvalidInput
from queuectl.python.arguments import Command, Duration, request_of, span_of
from queuectl.python.hook_values import Applied, Hook, hook_of
from queuectl.python.values import Job, job_of
from queuectl.service.queue import Queue as FrontDoor

_List = list[Hook]


class Hooks:
    """The hooks of a queue. An argument `name` is the name of a hook; a missing one raises `NotFound`."""

    def __init__(self, opened: Callable[[], FrontDoor]) -> None:
        self._open = opened

    def add(
        self,
        /,
        name: str,
        on: str | Iterable[str],
        command: Command | None = None,
        *,
        where: str | None = None,
        url: str | None = None,
        secret: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: Duration | None = None,
        proxy: str | None = None,
        **options: Any,
    ) -> Hook:
        """Add a hook for the events from now on; return it. It runs a command, or sends the event to a URL.

        on       kinds of events: "dead", or ["dead", "failed"]
        secret   a reference to the key of the signature: "env:NAME" or "file:/PATH", on the worker that delivers
        timeout  of the request, or of the command
        options  arguments of `Queue.enqueue` for the job of a command

        The same add again changes nothing. Raises `InvalidInput`, and `Conflict` for other content under a known name,
        and if the setting `events` leaves out events that the hook is for.
        """
        span = span_of("timeout", timeout)
        kinds = on if isinstance(on, str) else list(on)
        given: dict[str, Any] = {"on": kinds, "where": where, "url": url, "secret": secret, "proxy": proxy}
        given["headers"] = dict(headers or {})
        if command is None:
            if options:
                raise InvalidInput(f"{min(options)}: belongs to a command", "leave it out, or give a command")
            given["timeout"] = span
        else:
            request = request_of(command, {**options, "timeout": span} if span else options)
            job: dict[str, Any] = msgspec.to_builtins(request)
            given["job"] = {key: value for key, value in job.items() if value is not None}
        self._open().hooks().add(name, given)
        return self.show(name)

    def show(self, name: str) -> Hook:
        """One hook as it is now."""
        return hook_of(self._open().hooks().show(name))

    def list(self) -> _List:
        """All hooks by name. Hooks that this version cannot read are left out."""
        found, _ = self._open().hooks().all()
        return [hook_of(each) for each in found]

    def pause(self, name: str, *, reason: str | None = None) -> Hook:
        """Add no more jobs until the hook is resumed. `reason` is stored with the pause."""
        self._open().hooks().pause(name, reason=reason)
        return self.show(name)

    def resume(self, name: str, *, skip: bool = False) -> Hook:
        """Go on with the events of the pause; `skip`: with those from now on."""
        self._open().hooks().resume(name, skip=skip)
        return self.show(name)

    def test(self, name: str, event: Mapping[str, Any] | None = None) -> Job:
        """Add its job for a made-up event, or for one with these fields; return the job. Raises `InvalidInput`."""
        opened = self._open()
        return job_of(opened.show(opened.hooks().test(name, event)))

    def remove(self, name: str) -> None:
        """Remove a hook. Its jobs stay."""
        self._open().hooks().remove(name)

    def apply(self, file: str | Mapping[str, Any], *, dry_run: bool = False) -> Applied:
        """Add and replace hooks as in a file; return the names. `dry_run`: what would be changed.

        `file`: the text of a file in TOML with tables `[hook.NAME]`, or its content as a mapping. Other hooks stay.
        Raises `InvalidInput`; then nothing was changed.
        """
        document = parse_toml(file) if isinstance(file, str) else file
        return self._open().hooks().apply(document, dry_run=dry_run)
