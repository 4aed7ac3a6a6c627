"""What the entry of a queue in the shared table says: may jobs be taken from it, and how many?"""

from collections.abc import Mapping
from typing import Any


def room(setting: Mapping[str, Any], processing: int, wanted: int) -> int:
    """How many of `wanted` jobs a claim may take from a queue in which `processing` run now."""
    if setting.get("paused"):
        return 0
    limit = setting.get("limit")
    return wanted if limit is None else max(0, min(wanted, limit - processing))
