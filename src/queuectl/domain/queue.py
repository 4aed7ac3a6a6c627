"""What the entry of a queue in the shared table says: may jobs be taken from it, and how many?"""

from collections.abc import Mapping
from typing import Any


def room(setting: Mapping[str, Any], processing: int, wanted: int) -> int:
    """How many of `wanted` jobs a claim may take from a queue in which `processing` run now."""
    if is_paused(setting):
        return 0
    limit = setting.get("limit")
    return wanted if limit is None else max(0, min(wanted, limit - processing))


def is_paused(setting: Mapping[str, Any]) -> bool:
    """Whether nothing may be taken: also where the entry makes no sense, for it may have been a pause or a limit."""
    return setting.get("paused") not in (None, False) or not is_sound(setting)


def is_sound(setting: Mapping[str, Any]) -> bool:
    """Whether an entry says what one can say."""
    limit = setting.get("limit")
    return setting.get("paused") in (None, False, True) and (limit is None or type(limit) is int)
