"""Every option is declared once: its flag, variable, default, range and help come from its row in `OPTIONS`.

The value comes from the first source that has one: flag, environment, configuration file, the store's shared settings,
default. All faults are reported together, each with its source.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Literal

from msgspec import Struct

from queuectl import trust
from queuectl.domain.quantity import format_duration, format_exact_size, parse_duration, parse_size
from queuectl.errors import InvalidInput, NotFound

Value = int | float | str | timedelta | None


class Option(Struct, frozen=True, kw_only=True):
    """One option. `kind` names the parser of its text. A `shared` option is stored in the store by `config set`.

    `optional`: the word `none` is a valid value.
    """

    key: str
    kind: str
    default: Value
    help: str
    low: Any = None
    high: Any = None
    choices: tuple[str, ...] = ()
    optional: bool = False
    shared: bool = True

    @property
    def variable(self) -> str:
        """The environment variable of the option."""
        return f"QUEUECTL_{self.key.upper()}"

    def parse(self, text: str) -> Value:
        """Convert a text to a value. Raises InvalidInput if the text is malformed or the value is out of range."""
        if text.strip().lower() == "none" and self.optional:
            return None
        try:
            value: Value = _PARSERS[self.kind](text.strip())
        except ValueError as error:
            raise InvalidInput(f"{self.key}: {text!r} is not {_NOUNS[self.kind]}") from error
        except InvalidInput as error:
            raise InvalidInput(f"{self.key}: {error.message}", error.hint) from error
        self._check(value, text)
        return value

    def format(self, value: Value) -> str:
        """The text of a value. `parse` converts the text back."""
        if value is None:
            return "none"
        if isinstance(value, timedelta):
            return format_duration(value)
        if isinstance(value, float):
            return str(int(value)) if value == int(value) else repr(value)
        return format_exact_size(int(value)) if self.kind == "size" else str(value)

    def _check(self, value: Value, text: str) -> None:
        if self.choices and value not in self.choices:
            raise InvalidInput(f"{self.key}: {text!r} is not one of {', '.join(self.choices)}")
        too_low = self.low is not None and value is not None and value < self.low
        too_high = self.high is not None and value is not None and value > self.high
        if too_low or too_high:
            raise InvalidInput(
                f"{self.key}: {text} is out of range",
                f"from {self.format(self.low)} to {self.format(self.high)}",
            )


def _whole(text: str) -> int:
    if len(text) > 18:
        raise ValueError(text)
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(text)
    return value


_PARSERS: dict[str, Callable[[str], Any]] = {
    "count": _whole,
    "number": _real,
    "duration": parse_duration,
    "size": parse_size,
    "text": str,
}
_NOUNS = {
    "count": "a whole number",
    "number": "a number",
    "duration": "a duration",
    "size": "a size",
    "text": "a text",
}

_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)

OPTIONS: dict[str, Option] = {
    option.key: option
    for option in (
        Option(key="max_retries", kind="count", default=3, low=-1, high=1_000_000, help="retries after the first attempt; -1: without limit"),
        Option(key="backoff_base", kind="number", default=2.0, low=1.0, high=1000.0, help="retry n waits factor × base^n"),
        Option(key="backoff_factor_ms", kind="count", default=1000, low=0, high=86_400_000, help="the factor of the retry delay, in ms"),
        Option(key="backoff_max", kind="duration", default=timedelta(hours=1), low=timedelta(0), high=365 * _DAY, help="the longest retry delay"),
        Option(key="jitter", kind="number", default=0.0, low=0.0, high=1.0, help="share by which a retry delay varies"),
        Option(key="timeout", kind="duration", optional=True, default=None, low=timedelta(milliseconds=1), high=3650 * _DAY, help="run time limit of a command; none: without limit"),
        Option(key="kill_grace", kind="duration", default=10 * _SECOND, low=timedelta(0), high=_DAY, help="time from TERM to KILL"),
        Option(key="output_limit", kind="size", default=1024**2, low=0, high=1024**3, help="stored output per attempt: head and tail halves"),
        Option(key="lease", kind="duration", default=30 * _SECOND, low=_SECOND, high=_DAY, help="how long a worker keeps its jobs without renewing its leases"),
        Option(key="heartbeat_interval", kind="duration", default=5 * _SECOND, low=timedelta(milliseconds=100), high=timedelta(hours=1), help="how often a worker renews its entry in the registry"),
        Option(key="tick_interval_ms", kind="count", default=1000, low=10, high=60_000, help="longest time in ms between two polls; notifications are faster"),
        Option(key="save_interval_ms", kind="count", default=1000, low=10, high=60_000, help="ms between two syncs, only with durability=fast"),
        Option(key="max_losses", kind="count", default=3, low=0, high=1000, help="attempts that may be lost to crashes before a job is dead"),
        Option(key="priority_boost", kind="duration", default=timedelta(hours=1), low=timedelta(0), high=365 * _DAY, help="the waiting time that one point of priority is worth"),
        Option(key="retain_completed", kind="duration", optional=True, default=7 * _DAY, low=timedelta(0), high=36500 * _DAY, help="completed and cancelled jobs are deleted after this time; none keeps them"),
        Option(key="retain_dead", kind="duration", optional=True, default=None, low=timedelta(0), high=36500 * _DAY, help="dead jobs are deleted after this time; none keeps them"),
        Option(key="events", kind="text", default="all", choices=("all", "ends", "none"), help="which changes of jobs are written as events"),
        Option(key="retain_events", kind="duration", default=3 * _DAY, low=timedelta(0), high=36500 * _DAY, help="events are deleted after this time, and when there are more than a million"),
        Option(key="retain_figures", kind="duration", default=7 * _DAY, low=timedelta(hours=1), high=3650 * _DAY, help="the figures of `stats` are deleted after this time"),
        Option(key="store", kind="text", optional=True, default=None, shared=False, help="URL of the store"),
        Option(key="durability", kind="text", default="power-safe", choices=("power-safe", "fast"), shared=False, help="fast: an acknowledged job may be lost in a power cut of the store's host"),
        Option(key="on_disconnect", kind="text", default="keep", choices=("keep", "stop"), shared=False, help="what a worker does with running commands while the store cannot be reached"),
        Option(key="color", kind="text", default="auto", choices=("auto", "always", "never"), shared=False, help="colour and tables on a terminal"),
        Option(key="log_format", kind="text", default="plain", choices=("plain", "json"), shared=False, help="the format of a worker's log"),
    )
}  # fmt: skip


class Settings(Struct, frozen=True, kw_only=True):
    """The effective settings: a field for each option. `origins` has the source of each value.

    `versions` has the version of each entry in the store's settings; it is empty if a server sent the settings.
    """

    max_retries: int
    backoff_base: float
    backoff_factor_ms: int
    backoff_max: timedelta
    jitter: float
    timeout: timedelta | None
    kill_grace: timedelta
    output_limit: int
    lease: timedelta
    heartbeat_interval: timedelta
    tick_interval_ms: int
    save_interval_ms: int
    max_losses: int
    priority_boost: timedelta
    retain_completed: timedelta | None
    retain_dead: timedelta | None
    events: Literal["all", "ends", "none"]
    retain_events: timedelta
    retain_figures: timedelta
    store: str | None
    durability: Literal["power-safe", "fast"]
    on_disconnect: Literal["keep", "stop"]
    color: Literal["auto", "always", "never"]
    log_format: Literal["plain", "json"]
    origins: dict[str, str]
    versions: dict[str, int] = {}

    def value(self, key: str) -> Value:
        """The value of an option by its key."""
        found: Value = getattr(self, key)
        return found

    def text(self, key: str) -> str:
        """The value of an option, as `config` prints it."""
        return OPTIONS[key].format(self.value(key))


def option(key: str) -> Option:
    """The option with this name, written with - or _. Raises NotFound with the nearest name as the hint."""
    found = OPTIONS.get(key.replace("-", "_"))
    if found is None:
        raise NotFound(f"there is no setting {key!r}", nearest(key.replace("-", "_"), OPTIONS))
    return found


def nearest(word: str, words: Mapping[str, object] | list[str]) -> str | None:
    """The hint `did you mean …?` for a mistyped word, or None if there is no similar word."""
    import difflib  # imported only for an error: it takes 5 ms

    near = difflib.get_close_matches(word, list(words), n=1)
    return f"did you mean {near[0]}?" if near else None


def resolve(
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    file: Mapping[str, str],
    shared: Mapping[str, str],
    file_name: str = "configuration file",
) -> Settings:
    """The settings from these sources. Raises InvalidInput that names every fault and its source."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    faults: list[InvalidInput] = []
    for key, declared in OPTIONS.items():
        text, origin = _first(declared, flags, environment, file, shared, file_name)
        origins[key] = origin
        try:
            values[key] = declared.default if text is None else declared.parse(text)
        except InvalidInput as fault:
            faults.append(InvalidInput(f"{fault.message} (from {origin})", fault.hint))
    if not faults:
        faults.extend(InvalidInput(sentence) for sentence in relations(values))
    if faults:
        raise InvalidInput("; ".join(f.message for f in faults), faults[0].hint)
    return Settings(**values, origins=origins)


def stored(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The store's settings as text, without invalid entries, which must not stop a command; `doctor` reports them."""
    texts = {key: str(value["value"]) for key, value in entries.items() if "value" in value}
    return {key: text for key, text in texts.items() if key not in invalid(entries)}


def invalid(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The fault of each invalid entry of the store's settings, alone or together with other entries."""
    faults, values = dict[str, str](), {key: declared.default for key, declared in OPTIONS.items()}
    for key, value in entries.items():
        if key not in OPTIONS:  # an option of a newer version
            continue
        try:
            values[key] = OPTIONS[key].parse(str(value["value"]))
        except (KeyError, InvalidInput) as fault:
            faults[key] = fault.message if isinstance(fault, InvalidInput) else f"{key}: cannot be read"
    for sentence in relations(values):
        faults |= {key: sentence for key in ("heartbeat_interval", "lease") if key in entries}
    return faults


def relations(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each pair of settings that are valid alone and contradict each other."""
    interval, lease = values["heartbeat_interval"], values["lease"]
    if interval * 3 > lease:
        yield (
            f"heartbeat_interval ({format_duration(interval)}) must be at most a third of lease ({format_duration(lease)}): "
            "a lease has to survive two missed heartbeats"
        )


def read_file(explicit: str | None, warn: Callable[[str], None]) -> tuple[dict[str, str], str]:
    """The options of the configuration file as text, and its name. A file given by --config must exist.

    The usual files are `./queuectl.toml`, then `$XDG_CONFIG_HOME/queuectl/config.toml`. A file that another user could
    have written is ignored with a warning, because it could name another store, and so what a worker runs.
    """
    if explicit:
        return _read_toml(explicit), explicit
    for path in _usual_files():
        if os.path.isfile(path) and _is_ours(path, warn):
            return _read_toml(path), path
    return {}, "configuration file"


def _is_ours(path: str, warn: Callable[[str], None]) -> bool:
    try:
        refused = trust.refusal(path)
    except FileNotFoundError:
        return False  # another process has deleted the file
    if refused is not None:
        warn(f"{path} is ignored: {refused.message} (if you trust it: --config {path})")
    return refused is None


def _usual_files() -> list[str]:
    base = user_directory("XDG_CONFIG_HOME", ".config")
    own = [os.path.join(base, "queuectl", "config.toml")] if base else []
    return ["queuectl.toml", *own]


def user_directory(variable: str, below_home: str) -> str | None:
    """The directory that an XDG variable names, or its default below the home directory.

    None if there is neither: the variable is relative, or `HOME` is empty, relative or the root. Files would then be
    created in the working directory or at the root of the file system.
    """
    given = os.environ.get(variable)
    if given:
        return given if os.path.isabs(given) else None
    home = os.path.expanduser("~")
    return os.path.join(home, below_home) if os.path.isabs(home) and os.path.normpath(home) != "/" else None


def _read_toml(path: str) -> dict[str, str]:
    import tomllib  # imported here, because it is needed only if there is a file

    try:
        with open(path, "rb") as file:
            tables = tomllib.loads(file.read().removeprefix(b"\xef\xbb\xbf").decode())
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{path} is not TOML: {error}") from error
    return {_known(key, path): _as_text(key, value, path) for key, value in tables.items()}


def _known(key: str, path: str) -> str:
    name = key.replace("-", "_")
    if name not in OPTIONS:
        raise InvalidInput(f"{path}: there is no setting {key!r}", nearest(name, OPTIONS))
    return name


def _as_text(key: str, value: object, path: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidInput(f"{path}: {key} must be a text or a number")
    return str(value)


def _first(
    declared: Option,
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    file: Mapping[str, str],
    shared: Mapping[str, str],
    file_name: str,
) -> tuple[str | None, str]:
    key, variable = declared.key, declared.variable
    if (text := flags.get(key)) is not None:
        return text, f"--{key.replace('_', '-')}"
    if text := environment.get(variable):
        return text, variable
    if (text := file.get(key)) is not None:
        return text, file_name
    if declared.shared and (text := shared.get(key)) is not None:
        return text, "the store's settings"
    return None, "default"
