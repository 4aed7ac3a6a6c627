"""Settings: list, get, set, unset."""

from typing import TYPE_CHECKING

from queuectl import bootstrap, config
from queuectl.config import OPTIONS, Option, relations
from queuectl.errors import InvalidInput
from queuectl.service import commands, shapes

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session


def list__options(parser: "Parser") -> None:
    """Whether to say where each value came from."""
    parser.flag("--origin", help="also say where each value came from")
    parser.example("queuectl config list --origin", "all settings, and which source won")


def list_(session: "Session") -> int:
    """All settings."""
    settings = session.settings
    if session.json:
        session.emit(shapes.document(settings=[_shape(session, option) for option in OPTIONS.values()]))
        return 0
    for key in OPTIONS:
        origin = f"  # {settings.origins[key]}" if session.args.origin else ""
        session.print(f"{key} = {_text(session, key)}{origin}")
    return 0


def get_options(parser: "Parser") -> None:
    """The key."""
    parser.add_argument("key", metavar="KEY", help="with - or _: max-retries is max_retries")
    parser.example("queuectl config get max_retries", "one value")


def get(session: "Session") -> int:
    """One setting."""
    option = config.option(session.args.key)
    if session.json:
        session.emit(shapes.document(setting=_shape(session, option)))
    else:
        session.print(_text(session, option.key))
    return 0


def set__options(parser: "Parser") -> None:
    """The key and the value."""
    parser.add_argument("key", metavar="KEY", help="with - or _: max-retries is max_retries")
    parser.add_argument("value", metavar="VALUE", help="as `config list` writes it: 5, 2h30m, 1MiB, none")
    parser.example("queuectl config set max-retries 5", "for jobs enqueued from now on")
    parser.example("queuectl config set backoff_base 3", "delays of 3 s, 9 s, 27 s")


def set_(session: "Session") -> int:
    """Write a shared setting: for all clients and workers of this store."""
    option = _shared(session.args.key)
    value = option.parse(session.args.value)
    values = session.sources.resolve(_stored(session)).values | {option.key: value}
    faults = list(relations(values))
    if faults:
        raise InvalidInput(f"{option.key} = {session.args.value}: {faults[0]}", "nothing was changed")
    commands.set_setting(session.store, option.key, option.format(value))
    return _told(session, option)


def unset_options(parser: "Parser") -> None:
    """The key."""
    parser.add_argument("key", metavar="KEY", help="with - or _: max-retries is max_retries")
    parser.example("queuectl config unset max_retries", "back to the default")


def unset(session: "Session") -> int:
    """Back to the default."""
    option = _shared(session.args.key)
    rest = {key: text for key, text in _stored(session).items() if key != option.key}
    faults = list(relations(session.sources.resolve(rest).values))
    if faults:
        raise InvalidInput(f"without {option.key}: {faults[0]}", "nothing was changed")
    commands.set_setting(session.store, option.key, None)
    return _told(session, option)


def _stored(session: "Session") -> dict[str, str]:
    return config.stored({key: entry.value for key, entry in session.look().read_table("settings").items()})


def _shared(key: str) -> Option:
    option = config.option(key)
    if not option.shared:
        raise InvalidInput(
            f"{option.key} belongs to one program, not to the store",
            f"give it as a flag, as {option.variable}, or in the configuration file",
        )
    return option


def _told(session: "Session", option: Option) -> int:
    """What is in force now; a flag, variable or file of this place may still win, and that is said."""
    settings = session.sources.resolve(_stored(session))
    session.did(f"{option.key} = {settings.text(option.key)}")
    if session.json:
        session.emit(shapes.document(setting=_entry(option, settings)))
        return 0
    session.print(f"{option.key} = {settings.text(option.key)}")
    if settings.origins[option.key] not in ("the store's settings", "default"):
        session.say(f"queuectl: here {settings.origins[option.key]} wins over the stored value")
    return 0


def _shape(session: "Session", option: Option) -> dict[str, object]:
    entry = _entry(option, session.settings)
    return entry | {"value": _text(session, "store")} if option.key == "store" else entry


def _entry(option: Option, settings: config.Settings) -> dict[str, object]:
    return {
        "key": option.key,
        "value": _json_value(option, settings),
        "origin": settings.origins[option.key],
        "help": option.help,
    }


def _json_value(option: Option, settings: config.Settings) -> object:
    """Numbers as numbers; durations and sizes as the text that `config set` takes."""
    value = settings.values[option.key]
    return value if option.kind in ("count", "number") else settings.text(option.key)


def _text(session: "Session", key: str) -> str:
    if key == "store":
        return bootstrap.shown(session.store_url)
    return session.settings.text(key)
