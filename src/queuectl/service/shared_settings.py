"""The settings that all clients and workers of a store share."""

from typing import NamedTuple

from msgspec.structs import asdict

from queuectl import config
from queuectl.config import Option, relations
from queuectl.errors import CommandFailed, InvalidInput
from queuectl.service.changing import TRIES, refuse_other_entry
from queuectl.service.settings import Sources
from queuectl.store.protocol import Store, Swap


class Setting(NamedTuple):
    """One shared setting with the text of a valid value. None means the default."""

    key: str
    text: str | None


def check(store: Store, sources: Sources, key: str, text: str | None) -> Setting:
    """The setting, if the value is in range and fits the others. Raises NotFound, InvalidInput, Conflict."""
    option = _shared(key)
    known = stored(store)
    if text is None:
        known.pop(option.key, None)
        faults = list(relations(asdict(sources.resolve(known))))
        if faults:
            raise InvalidInput(f"without {option.key}: {faults[0]}", "nothing was changed")
        return Setting(option.key, None)
    value = option.parse(text)
    faults = list(relations(asdict(sources.resolve(known)) | {option.key: value}))
    if faults:
        raise InvalidInput(f"{option.key} = {text}: {faults[0]}", "nothing was changed")
    if option.key == "events":
        from queuectl.service.hooks import switch  # imported here, because no other setting needs it

        switch.refuse_setting(store, str(value))
    return Setting(option.key, option.format(value))


def write(store: Store, key: str, text: str | None, version: int | None = None) -> None:
    """Store the value, or remove the entry for the default. The value was checked before, together with the others.

    Raises Changed if the entry has another version.
    """
    body = None if text is None else {"value": text}
    for _ in range(TRIES):
        entry = store.read_table("settings").get(key)
        refuse_other_entry(f"setting {key}", entry, version)
        if body is None and entry is None:
            return
        if store.swap([Swap("settings", key, body, entry.version if entry else 0)])[0]:
            return
    raise CommandFailed(f"{key} is being changed by others", "run the same command again")


def stored(store: Store) -> dict[str, str]:
    """The shared settings as text."""
    return config.stored({key: entry.value for key, entry in store.read_table("settings").items()})


def _shared(key: str) -> Option:
    option = config.option(key)
    if not option.shared:
        raise InvalidInput(
            f"{option.key} belongs to one program, not to the store",
            f"give it as a flag, as {option.variable}, or in the configuration file",
        )
    return option
