"""Converts durations (`90`, `1500ms`, `2h30m`, `1d`) and sizes (`512`, `64KiB`, `1MiB`) from and to text."""

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from queuectl.errors import InvalidInput

Value = TypeVar("Value")

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {"": 1, "b": 1, "k": 1024, "kib": 1024, "m": 1024**2, "mib": 1024**2, "g": 1024**3, "gib": 1024**3}
_DECIMAL = {"kb": 1000, "mb": 1000**2, "gb": 1000**3}

LONGEST = timedelta(days=36500)


def parse_duration(text: str) -> timedelta:
    """The duration in a text. `90` and `90s` are seconds; the units ms, s, m, h, d and w can be combined.

    Raises InvalidInput for other text, negative durations, and more than a hundred years.
    """
    total, seen = 0.0, []
    for number, unit in _terms(text.strip().lower()):
        if unit in seen or unit not in _SECONDS:
            raise _bad_duration(text)
        seen.append(unit)
        total += number * _SECONDS[unit]
    if not seen or total > LONGEST.total_seconds():
        raise _bad_duration(text)
    return timedelta(seconds=total)


def of_option(option: str, parse: Callable[[str], Value], text: str) -> Value:
    """The value of an option. Raises InvalidInput with the name of the option."""
    try:
        return parse(text)
    except InvalidInput as error:
        raise InvalidInput(f"{option}: {error.message}", error.hint) from error


def parse_port(text: str, least: int = 0, *, option: str = "") -> int:
    """The port in a text. `option` begins the message of the InvalidInput for other text."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and least <= int(text) <= 65535):
        shown = text if len(text) <= 20 else f"{text[:20]}…"
        raise InvalidInput(f"{option}{shown!r} is not a port from {least} to 65535")
    return int(text)


def seconds(value: float) -> timedelta:
    """A number of seconds as a duration, with the same bounds as `parse_duration`."""
    if not 0 <= value <= LONGEST.total_seconds():
        raise _bad_duration(str(value))
    return timedelta(seconds=value)


def format_duration(value: timedelta) -> str:
    """The shortest text that `parse_duration` converts back, such as `1h30m`, `2.5s` or `250ms`."""
    rest = round(value.total_seconds() * 1000)
    if rest < 1000:
        return f"{rest}ms" if rest else "0s"
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    if rest:
        parts.append(f"{rest / 1000:g}s")
    return "".join(parts)


def parse_size(text: str) -> int:
    """The bytes in a text such as `512`, `64KiB` or `2GB`. K, M and G are powers of 1024. Raises InvalidInput."""
    clean = text.strip().lower().replace(" ", "")
    digits = clean.rstrip("bikmg")
    unit = clean[len(digits) :]
    factor = _DECIMAL.get(unit) or _BYTES.get(unit)
    if factor is None or not digits.isdecimal() or len(digits) > 15:
        raise InvalidInput(f"{text!r} is not a size", "write bytes, or a number with KiB, MiB or GiB: 64KiB")
    return int(digits) * factor


def format_exact_size(count: int) -> str:
    """The shortest text that `parse_size` converts back exactly."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if count and count % factor == 0:
            return f"{count // factor}{unit}"
    return str(count)


def _terms(text: str) -> list[tuple[float, str]]:
    """The numbers and units in a text: `2h30m` is [(2, "h"), (30, "m")]. A number without a unit is in seconds."""
    terms, number, unit = [], "", ""
    for char in text + "0":
        if unit and char in "0123456789.":
            terms.append((_number(number, text), unit))
            number, unit = "", ""
        if char in "0123456789.":
            number += char
        else:
            unit += char
    if not terms:
        return [(_number(text, text), "s")]
    if number != "0":
        raise _bad_duration(text)
    return terms


def _number(digits: str, text: str) -> float:
    if not digits.replace(".", "", 1).isdecimal() or len(digits) > 15:
        raise _bad_duration(text)
    return float(digits)


def _bad_duration(text: str) -> InvalidInput:
    return InvalidInput(
        f"{text!r} is not a duration",
        "write seconds, or units: 90, 1500ms, 5m, 2h30m, 1d (a hundred years at most)",
    )
