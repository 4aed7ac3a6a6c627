"""The problems of hooks that need a person."""

from collections.abc import Iterator, Mapping

from queuectl.domain.hook import QUEUE, hook_of, is_removed
from queuectl.domain.instant import format_age
from queuectl.service.status import Attention, Status
from queuectl.store.protocol import Entry


def problems(entries: Mapping[str, Entry], found: Status, *, is_served: bool) -> Iterator[Attention]:
    """The problems of these entries. `is_served`: a live worker serves the queue of hooks."""
    hooks = {name: entry for name, entry in sorted(entries.items()) if not is_removed(entry.value)}
    if hooks and not is_served:
        living = any(item.state in ("running", "paused") for item in found.workers)
        start = f"queuectl worker start --queue {QUEUE}" if living else "queuectl worker start"
        yield Attention("hook", f"no live worker serves queue {QUEUE}, so no hook is delivered", start)
    for name, entry in hooks.items():
        hook = None if entry.unreadable else hook_of(name, entry.value)
        if hook is None:
            text = f"hook {name} cannot be read: it is damaged, or a newer queuectl wrote it"
            yield Attention("hook", text, f"queuectl hook remove {name}")
        elif hook.paused and hook.failing_since:
            text = f"hook {name} is paused: {hook.paused.reason or 'it failed before'}"
            yield Attention("hook", text, f"queuectl hook resume {name}")
        elif hook.failing_since:
            text = f"hook {name} has been failing for {format_age(found.now - hook.failing_since)}"
            yield Attention("hook", text, f"queuectl hook show {name}")
