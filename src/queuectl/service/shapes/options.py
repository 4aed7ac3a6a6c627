"""The document of the settings in force."""

from collections.abc import Mapping
from typing import Any

from queuectl.config import OPTIONS, Option, Settings, Value
from queuectl.service.shapes.record import build, document


def settings(settings: Settings, *, store: str | None = None) -> dict[str, Any]:
    """All settings, with their origins. `store`: the address of the store, if it is known better."""
    return document(settings=[setting(option, settings, store=store) for option in OPTIONS.values()])


def one_setting(option: Option, settings: Settings, *, store: str | None = None) -> dict[str, Any]:
    """One setting as a document."""
    return document(setting=setting(option, settings, store=store))


def setting(option: Option, settings: Settings, *, store: str | None = None) -> dict[str, Any]:
    """One setting. Numbers are numbers; durations and sizes are the text that `config set` takes."""
    is_number = option.kind in ("count", "number")
    value = settings.value(option.key) if is_number else settings.text(option.key)
    return {
        "key": option.key,
        "value": store if option.key == "store" and store is not None else value,
        "origin": settings.origins[option.key],
        "help": option.help,
    }


def settings_of(document: Mapping[str, Any]) -> Settings:
    """The settings of a document. Settings that an older program does not list have their defaults."""
    shown = {entry["key"]: entry for entry in document["settings"] if entry["key"] in OPTIONS}
    values = {key: option.default for key, option in OPTIONS.items()}
    values |= {key: _value(OPTIONS[key], entry["value"]) for key, entry in shown.items()}
    origins = {key: shown[key]["origin"] if key in shown else "default" for key in OPTIONS}
    return build({**values, "origins": origins}, Settings)


def _value(option: Option, shown: Value) -> Value:
    return option.parse(shown) if isinstance(shown, str) else shown
