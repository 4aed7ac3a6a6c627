"""The settings of the server's store."""

from msgspec import Struct

from queuectl import config
from queuectl.config import Option, Settings
from queuectl.http.call import Call, Reply
from queuectl.http.routes.selecting import expected_version, of_entry
from queuectl.http.table import NoBody, Route
from queuectl.service import shapes


class NewValue(Struct, frozen=True, forbid_unknown_fields=True):
    """A value as `config set` takes it: a number, or text such as `2h30m`, `1MiB` or `none`."""

    value: str | int | float


def list_(call: Call) -> Reply:
    """All settings in force, with their origins."""
    return Reply(shapes.settings(call.queue.settings(), store=call.queue.describe().url))


def show(call: Call) -> Reply:
    """One setting."""
    option = config.option(call.path["key"])
    store = call.queue.describe().url if option.key == "store" else None
    return _shown(option, call.queue.settings(), store)


def write(call: Call) -> Reply:
    """Write a shared setting."""
    option = config.option(call.path["key"])
    changed = call.queue.set(option.key, str(call.body.value), version=expected_version(call))
    return _shown(option, changed)


def reset(call: Call) -> Reply:
    """Reset a shared setting to its default."""
    call.queue.unset(config.option(call.path["key"]).key, version=expected_version(call))
    return Reply(None, 204)


def _shown(option: Option, settings: Settings, store: str | None = None) -> Reply:
    return of_entry(shapes.one_setting(option, settings, store=store), settings.versions.get(option.key, 0))


ROUTES = (
    Route(
        method="GET",
        path="/v1/config",
        scope="view",
        summary="All settings with their origins",
        handler=list_,
        answers={200: "Settings"},
    ),
    Route(
        method="GET",
        path="/v1/config/{key}",
        scope="view",
        summary="One setting",
        handler=show,
        answers={200: "SettingDocument"},
        errors=("not_found",),
    ),
    Route(
        method="PUT",
        path="/v1/config/{key}",
        scope="admin",
        summary="Write a shared setting, for all clients and workers of the store",
        handler=write,
        body=NewValue,
        answers={200: "SettingDocument"},
        errors=("not_found", "changed"),
    ),
    Route(
        method="DELETE",
        path="/v1/config/{key}",
        scope="admin",
        summary="Reset a shared setting to its default",
        handler=reset,
        body=NoBody,
        answers={204: None},
        errors=("not_found", "changed"),
    ),
)
