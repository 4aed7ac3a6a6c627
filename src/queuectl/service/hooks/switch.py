"""The setting `events` and hooks: no hook may need an event that is not written."""

from collections.abc import Iterable
from typing import get_args

from queuectl.domain.event import Kind
from queuectl.domain.hook import hook_of
from queuectl.errors import Conflict
from queuectl.service.telling import ENDS, Setting
from queuectl.store.protocol import Store

WRITTEN: dict[str, frozenset[Kind]] = {
    "all": frozenset(get_args(Kind)),
    "ends": ENDS,
    "none": frozenset(),
}
"""The events that each value of the setting writes."""


def refuse_unwritten(on: Iterable[Kind], setting: Setting) -> None:
    """Raise Conflict if events of these kinds are not written."""
    missing = sorted(set(on) - WRITTEN[setting])
    if missing:
        raise Conflict(
            f"{missing[0]} is not written, because the setting events is {setting}",
            "queuectl config set events all",
        )


def refuse_setting(store: Store, setting: str) -> None:
    """Raise Conflict if hooks need events that this value of the setting leaves out."""
    hooks = [hook_of(name, entry.value) for name, entry in sorted(store.read_table("hooks").items())]
    names = [hook.name for hook in hooks if hook and set(hook.on) - WRITTEN[setting]]
    if names:
        raise Conflict(
            f"events = {setting}: these hooks need events that would not be written: {', '.join(names)}",
            f"queuectl hook remove {names[0]}",
        )
