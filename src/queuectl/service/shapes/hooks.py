"""The documents of hooks. Only the commands and routes of hooks load this module."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from queuectl.domain.hook import Hook
from queuectl.service.hooks.changing import Applied
from queuectl.service.hooks.reading import HookStatus
from queuectl.service.shapes.record import build, document, instant, seconds

_TIMES = ("created_at", "failing_since", "gap")


def hook(status: HookStatus) -> dict[str, Any]:
    """A hook. References are shown as they were given, and never their values."""
    each = status.hook
    paused = each.paused
    return {
        "name": each.name,
        "on": list(each.on),
        "where": each.where,
        "job": each.job,
        "url": each.url,
        "secret": each.secret,
        "headers": dict(each.headers),
        "timeout": seconds(each.timeout) if each.url else None,
        "proxy": each.proxy,
        "paused": paused and {"by": paused.by, "at": instant(paused.at), "reason": paused.reason},
        "matched": each.matched,
        "delivered": each.delivered,
        **{name: instant(getattr(each, name)) for name in _TIMES},
        "cursor": each.cursor,
        "version": status.version,
    }


def hook_of(shown: Mapping[str, Any]) -> HookStatus:
    """A hook from its document."""
    fields = {name: value for name, value in shown.items() if name in Hook.__struct_fields__}
    if fields["timeout"] is None:
        del fields["timeout"]
    else:
        fields["timeout"] = timedelta(seconds=fields["timeout"])
    return HookStatus(build(fields, Hook), shown["version"])


def hooks(found: Sequence[HookStatus], unreadable: Sequence[str]) -> dict[str, Any]:
    """The document of all hooks."""
    return document(hooks=[hook(each) for each in found], unreadable=list(unreadable))


def hooks_of(document: Mapping[str, Any]) -> tuple[list[HookStatus], list[str]]:
    """All hooks, and the names of those that the server cannot read, from their document."""
    return [hook_of(each) for each in document["hooks"]], list(document["unreadable"])


def applied(found: Applied, *, dry_run: bool) -> dict[str, Any]:
    """The document of an apply."""
    return document(
        dry_run=dry_run,
        added=list(found.added),
        changed=list(found.changed),
        unchanged=list(found.unchanged),
    )
