"""The implementation of `Hooks` over HTTP. `service/hooks/api.py` documents the methods.

A request whose reply is lost is sent again, so each is repeatable. Most are by themselves; `test` has a key from which
the id of the job is made; `remove` finds nothing the second time; an add asks for the hook before, and puts it.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from queuectl.clock import random_bytes
from queuectl.config import Settings
from queuectl.domain.hook import Definition, Hook, check_hook_name, definition_of
from queuectl.domain.ids import make_id
from queuectl.errors import NotFound
from queuectl.http.client.channel import Answer, Channel, if_match, part
from queuectl.http.client.decoding import understood
from queuectl.service.hooks import changing
from queuectl.service.hooks.changing import Added, Applied
from queuectl.service.hooks.definition import define, fields_shown, named_definitions
from queuectl.service.hooks.reading import HookStatus
from queuectl.service.request.spec import working_directory
from queuectl.service.shapes import hooks as shapes

if TYPE_CHECKING:
    from queuectl.service.hooks.api import Hooks

ROOT = "/v1/hooks"


class RemoteHooks:
    """The `Hooks` of a server. `settings`: this client's own; templates are completed with them."""

    def __init__(self, channel: Channel, settings: Settings) -> None:
        self._channel, self._settings = channel, settings

    def all(self) -> tuple[Sequence[HookStatus], Sequence[str]]:
        document = self._channel.read(ROOT)
        with understood(self._channel):
            return shapes.hooks_of(document)

    def show(self, name: str) -> HookStatus:
        return self._status(self._channel.read(_path(name)))

    def add(self, name: str, given: Mapping[str, Any]) -> Added:
        made = self._defined(name, given)
        try:
            known = self.show(name).hook
        except NotFound:
            return self._put(name, made, version=0)
        if definition_of(known) != definition_of(made):
            changing.refuse_other(known)
        return Added(known, existing=True)

    def put(self, name: str, given: Mapping[str, Any], *, version: int | None = None) -> Added:
        return self._put(name, self._defined(name, given), version)

    def pause(
        self,
        name: str,
        *,
        reason: str | None = None,
        by: str | None = None,  # noqa: ARG002  the server stores the name of the token
    ) -> Hook:
        return self._changed(self._channel.call("POST", f"{_path(name)}/pause", body={"reason": reason}))

    def resume(self, name: str, *, skip: bool = False) -> Hook:
        return self._changed(self._channel.call("POST", f"{_path(name)}/resume", body={"skip": skip}))

    def test(self, name: str, event: Mapping[str, Any] | None = None, *, key: str | None = None) -> str:
        made = key or make_id(datetime.now(UTC), int.from_bytes(random_bytes(8)) >> 5)
        body = {"event": event, "key": made}
        answer = self._channel.call("POST", f"{_path(name)}/test", body=body)
        with understood(self._channel):
            return str(answer.document["jobs"][0]["id"])

    def remove(self, name: str, *, version: int | None = None) -> None:
        answer = self._channel.call("DELETE", _path(name), headers=if_match(version), handled=(404,))
        if answer.refused and not answer.repeated:
            raise answer.refused

    def apply(self, document: Mapping[str, Any], *, dry_run: bool = False) -> Applied:
        wanted = named_definitions(document, settings=self._settings, cwd=self._cwd)
        found = changing.differing({each.hook.name: each.hook for each in self.all()[0]}, wanted)
        for name in () if dry_run else (*found.added, *found.changed):
            self._put(name, wanted[name])
        return found

    def _defined(self, name: str, given: Mapping[str, Any]) -> Definition:
        check_hook_name(name)
        return define(given, settings=self._settings, cwd=self._cwd)

    @property
    def _cwd(self) -> str | None:
        """The working directory of templates that name none; None: the server's."""
        return working_directory() if self._channel.address.is_here else None

    def _put(self, name: str, made: Definition, version: int | None = None) -> Added:
        headers = if_match(version)
        answer = self._channel.call("PUT", _path(name), body=fields_shown(made), headers=headers)
        return Added(self._changed(answer), answer.status == 200 and not answer.repeated)

    def _changed(self, answer: Answer) -> Hook:
        return self._status(answer.document).hook

    def _status(self, document: Mapping[str, Any]) -> HookStatus:
        with understood(self._channel):
            return shapes.hook_of(document["hook"])


def _path(name: str) -> str:
    """The path of a hook. Raises NotFound for a name that cannot be a part of a path."""
    if name in ("", ".", ".."):
        raise changing.unknown(name)
    return f"{ROOT}/{part(name)}"


if TYPE_CHECKING:
    _keeps_the_contract: type[Hooks] = RemoteHooks
