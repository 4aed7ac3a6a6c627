"""The time zone of this host, by its IANA name."""

import os

from queuectl.domain.zone import zone_named
from queuectl.errors import InvalidInput

LOCALTIME = "/etc/localtime"
_ZONES = "/zoneinfo/"


def local_zone() -> str | None:
    """The name of the zone in TZ, or else that of /etc/localtime; None if it is unknown."""
    given = os.environ.get("TZ")
    name = given.lstrip(":") if given else os.path.realpath(LOCALTIME).partition(_ZONES)[2]
    name = {"Etc/UTC": "UTC", "Etc/UCT": "UTC", "UCT": "UTC", "Zulu": "UTC", "Etc/Zulu": "UTC"}.get(
        name, name
    )
    if not name:
        return None
    try:
        zone_named(name)
    except InvalidInput:
        return None
    return name
