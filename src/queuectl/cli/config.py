"""The commands `config list`, `config get`, `config set` and `config unset`."""

from typing import TYPE_CHECKING

from queuectl import bootstrap, config
from queuectl.config import OPTIONS, Settings
from queuectl.service import shapes

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session


def list__options(parser: "Parser") -> None:
    """Add the arguments of `config list`: whether to show the source of each value."""
    parser.flag("--origin", help="also show the source of each value")
    parser.example("queuectl config list --origin", "all settings with their sources")


def list_(session: "Session") -> int:
    """Print all settings."""
    settings = session.queue.settings()
    if session.json:
        session.emit(shapes.settings(settings, store=_text(session, "store", settings)))
        return 0
    for key in OPTIONS:
        origin = f"  # {settings.origins[key]}" if session.args.origin else ""
        session.print(f"{key} = {_text(session, key, settings)}{origin}")
    return 0


def get_options(parser: "Parser") -> None:
    """Add the arguments of `config get`: the key."""
    parser.add_argument("key", metavar="KEY", help="with - or _: max-retries is max_retries")
    parser.example("queuectl config get max_retries", "one value")


def get(session: "Session") -> int:
    """Print the value of one setting."""
    option = config.option(session.args.key)
    if session.json:
        settings = session.queue.settings()
        session.emit(shapes.one_setting(option, settings, store=_text(session, "store", settings)))
    elif option.key == "store":  # the URL is known before the store is opened
        session.print(bootstrap.shown(session.store_url))
    else:
        session.print(session.queue.settings().text(option.key))
    return 0


def set__options(parser: "Parser") -> None:
    """Add the arguments of `config set`: the key and the value."""
    parser.add_argument("key", metavar="KEY", help="with - or _: max-retries is max_retries")
    parser.add_argument("value", metavar="VALUE", help="as `config list` writes it: 5, 2h30m, 1MiB, none")
    parser.example("queuectl config set max-retries 5", "for jobs enqueued from now on")
    parser.example("queuectl config set backoff_base 3", "delays of 3 s, 9 s, 27 s")


def set_(session: "Session") -> int:
    """Write a shared setting, for all clients and workers of this store."""
    return _report(session, session.queue.set(session.args.key, session.args.value))


def unset_options(parser: "Parser") -> None:
    """Add the arguments of `config unset`: the key."""
    parser.add_argument("key", metavar="KEY", help="with - or _: max-retries is max_retries")
    parser.example("queuectl config unset max_retries", "reset the setting to its default")


def unset(session: "Session") -> int:
    """Reset a shared setting to its default."""
    return _report(session, session.queue.unset(session.args.key))


def _report(session: "Session", settings: Settings) -> int:
    """Report the effective value, and whether a flag, a variable or a file overrides the stored value here."""
    option = config.option(session.args.key)
    session.did(f"{option.key} = {settings.text(option.key)}")
    if session.json:
        session.emit(shapes.one_setting(option, settings))
        return 0
    session.print(f"{option.key} = {settings.text(option.key)}")
    if settings.origins[option.key] not in ("the store's settings", "default"):
        session.say(f"queuectl: here {settings.origins[option.key]} overrides the stored value")
    return 0


def _text(session: "Session", key: str, settings: Settings) -> str:
    return bootstrap.shown(session.store_url) if key == "store" else settings.text(key)
