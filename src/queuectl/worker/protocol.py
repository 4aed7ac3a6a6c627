"""The messages between a holder and its agent, and how they are framed.

A frame is two unsigned 32-bit numbers in network order (length of the JSON, length of the payload), then a JSON object
in UTF-8 with a "type", then the payload as raw bytes. `MESSAGES` lists the types; each is a named tuple here, and the
names of its fields are the names on the wire.

Holder and agent may be of different versions: `worker reload` starts the agent of the installed version under a holder
that has run for weeks. So:

* A field keeps its name and its meaning for ever. A new field has a default.
* A reader ignores types and fields that are unknown, and uses the default for a field that is missing.
* A writer leaves out a field that has its default. Fields without a default are always sent, even as null.

Start and end times are epoch seconds of the host's clock. `deadline` and `born` (a start time by the other clock) are
in seconds of CLOCK_BOOTTIME (`queuectl.clock`), a clock that cannot be set.
"""

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

PROTOCOL = 1
MAX_JSON = 32 << 20
MAX_PAYLOAD = 32 << 20

Fields = dict[str, Any]
"""A message as a JSON object."""


class Hello(NamedTuple):
    """Agent: the first message of a connection. The holder closes an older connection and discards its unread input."""

    protocol: int
    pid: int


class Start(NamedTuple):
    """Agent: run this attempt when a slot is free, in the order sent. The payload is the standard input.

    Idempotent: an attempt that the holder knows is not started again. Either `command` or `argv` is given.
    """

    attempt_id: str
    job_id: str
    attempt: int
    queue: str
    grace: float
    output_limit: int
    deadline: float | None = None
    command: str | None = None
    argv: Sequence[str] | None = None
    shell: str | None = None
    cwd: str | None = None
    env: dict[str, str] | None = None
    umask: int | None = None
    timeout: float | None = None
    split: bool = False
    allow_detached: bool = False
    has_stdin: bool = False


class Kill(NamedTuple):
    """Agent: end a command. An attempt that still waits for a slot is withdrawn instead and answered by `Dropped`."""

    attempt_id: str
    reason: str  # "cancelled" or "fenced"


class Drop(NamedTuple):
    """Agent: withdraw those of these attempts that still wait for a slot. One `Dropped` lists the withdrawn ones."""

    attempt_ids: Sequence[str]


class Ack(NamedTuple):
    """Agent: the results of these attempts are stored; the holder forgets them."""

    attempt_ids: Sequence[str]


class AckOutput(NamedTuple):
    """Agent: the chunks of this attempt up to number `n` are stored."""

    attempt_id: str
    n: int


class LeaseDeadline(NamedTuple):
    """Agent: these attempts may run until the deadline; null: without limit."""

    deadline: float | None
    attempt_ids: Sequence[str]


class Drain(NamedTuple):
    """Both: start no more commands, wait for the running ones, exit.

    An agent sends it as a request to the holder; a holder sends it to report a signal. `done`: no job is left
    (`worker start --drain`), so the holder does not log the drain.
    """

    done: bool = False


class Stop(NamedTuple):
    """Both: end the running commands (TERM, grace, KILL). `now`: KILL at once."""

    now: bool = False


class StoreLost(NamedTuple):
    """Agent: the store is lost permanently. The holder exits with 1, unless results wait for the store."""

    why: str


class StoreState(NamedTuple):
    """Agent: why the store cannot be reached, or null if it answers. Sent after each change.

    Each agent sends null when it has registered the worker in the store for the first time.
    """

    away: str | None = None


class Rename(NamedTuple):
    """Agent: another live worker has the worker's name; this is its new name."""

    name: str


class Reload(NamedTuple):
    """Agent: this agent exits now; the holder starts the next agent at once."""


class KnownAttempt(NamedTuple):
    """One attempt of the holder, as an entry of `Welcome`."""

    attempt_id: str
    job_id: str
    state: str  # "queued", "running" or "finished"
    pid: int | None = None
    slot: int | None = None
    started_at: float | None = None
    born: float | None = None


class Welcome(NamedTuple):
    """Holder: answers `Hello`.

    Then the holder sends every output chunk and every `Exited` that is not acknowledged, with the same n and bytes
    as the first time.
    """

    protocol: int
    config: Fields  # the configuration that `worker start` gave to the holder for its agents
    worker: dict[str, str]  # id, name, host
    holder_pid: int
    boot_id: str
    started_at: float
    count: int  # type: ignore[assignment]  # slots; it hides tuple.count, which nobody calls
    phase: str  # "running", "draining" or "stopping"
    attempts: Sequence[Fields]
    directory: str | None = None  # the identity of the directory, see `host.slot_file`
    born: float | None = None

    def known(self) -> list[KnownAttempt]:
        """The attempts that the holder has."""
        return [_ATTEMPT.read(fields) for fields in self.attempts]


class Started(NamedTuple):
    """Holder: a command has run for some milliseconds. For a shorter command the holder sends only `Exited`."""

    attempt_id: str
    pid: int
    slot: int
    at: float
    born: float | None = None


class Output(NamedTuple):
    """Holder: a chunk of output; the payload is its bytes.

    `n` counts the chunks of an attempt from 1, over all streams. `offset` counts the bytes of all streams; a gap
    between two chunks stands for discarded bytes.
    """

    attempt_id: str
    job_id: str
    n: int
    stream: int  # 0: stdout and stderr together; with `split` 1 or 2
    at: float
    offset: int


class Exited(NamedTuple):
    """Holder: how an attempt ended. The payload is the end of its output.

    `ended_by` is the reason why the holder ended the command, or null if the command ended by itself. If the command
    ran, `error` is a remark, for example that a process could not be killed. `leftovers` counts the processes that the
    command left running, or that the holder killed in addition to the leader.
    """

    attempt_id: str
    job_id: str
    kind: str  # "exited", "signalled" or "spawn_error"
    exit_code: int | None = None
    signal: int | None = None
    core: bool = False
    error: str | None = None
    ended_by: str | None = None  # "timeout", "cancelled", "fenced", "interrupted" or "lease"
    pid: int | None = None
    slot: int | None = None
    started_at: float | None = None
    finished_at: float | None = None
    born: float | None = None
    user_cpu: float | None = None
    system_cpu: float | None = None
    max_rss: int | None = None
    output_bytes: int = 0
    leftovers: int = 0
    progress: Fields | None = None  # as the fields of `Progress`


class Progress(NamedTuple):
    """Holder: the last progress that a running command has reported, at most five times per second.

    Sent again after a welcome. The last one is also in the result.
    """

    attempt_id: str
    percent: int | float
    message: str | None
    at: float


class Dropped(NamedTuple):
    """Holder: these attempts were not started, and will never be started."""

    attempt_ids: Sequence[str]


class Trouble(NamedTuple):
    """Holder: an attempt was not started, because this host lacks a resource. The job is not at fault."""

    attempt_id: str
    error: str
    errno: int | None = None


class Bye(NamedTuple):
    """Holder: every result is acknowledged and no command runs; the agent closes the connection and exits."""


ToHolder = (
    Hello
    | Start
    | Kill
    | Drop
    | Ack
    | AckOutput
    | LeaseDeadline
    | Drain
    | Stop
    | StoreLost
    | StoreState
    | Rename
    | Reload
)
ToAgent = Welcome | Started | Output | Progress | Exited | Dropped | Trouble | Drain | Stop | Bye
Message = ToHolder | ToAgent

MESSAGES: dict[str, type[Message]] = {
    "hello": Hello,
    "start": Start,
    "kill": Kill,
    "drop": Drop,
    "ack": Ack,
    "ack_output": AckOutput,
    "lease": LeaseDeadline,
    "drain": Drain,
    "stop": Stop,
    "store_lost": StoreLost,
    "store": StoreState,
    "name": Rename,
    "reload": Reload,
    "welcome": Welcome,
    "started": Started,
    "output": Output,
    "progress": Progress,
    "exited": Exited,
    "dropped": Dropped,
    "trouble": Trouble,
    "bye": Bye,
}
"""The "type" of each message on the wire."""


class MalformedFrame(ValueError):
    """The other side sent something that is not a frame of this protocol: the connection cannot be used any more."""


class _Shape:
    """Converts one message type to and from a JSON object."""

    _REQUIRED = object()

    def __init__(self, cls: Any) -> None:
        defaults: dict[str, Any] = cls._field_defaults
        self._new = partial(tuple.__new__, cls)
        self._required = tuple(name for name in cls._fields if name not in defaults)
        self._optional, self._values = tuple(defaults), tuple(defaults.values())
        self._names: tuple[str, ...] = cls._fields
        self._defaults = (*(self._REQUIRED for _ in self._required), *self._values)

    def read(self, fields: Fields) -> Any:
        """The message in a JSON object. Raises KeyError for a field that is missing and has no default."""
        return self._new(
            (*map(fields.__getitem__, self._required), *map(fields.get, self._optional, self._values))
        )

    def write(self, message: tuple[Any, ...]) -> Fields:
        """The fields that differ from their defaults, and the fields without a default."""
        row = zip(self._names, message, self._defaults, strict=True)
        return {name: value for name, value, default in row if value is not default}


_ATTEMPT = _Shape(KnownAttempt)
_READ = {kind: _Shape(cls).read for kind, cls in MESSAGES.items()}
_WRITE = {cls: (kind, _Shape(cls).write) for kind, cls in MESSAGES.items()}

_LENGTHS = struct.Struct("!II")
_PREFIX = _LENGTHS.size
_parse = json.JSONDecoder().decode
_print = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def to_fields(message: Message) -> Fields:
    """A message as a JSON object."""
    kind, write = _WRITE[type(message)]
    fields = write(message)
    fields["type"] = kind
    return fields


def from_fields(fields: Fields) -> Message | None:
    """The message in a JSON object, or None if this version has no such type. Raises MalformedFrame."""
    read = _READ.get(fields["type"])
    if read is None:
        return None
    try:
        message: Message = read(fields)
    except KeyError as error:
        raise MalformedFrame(f"a message {fields['type']!r} without {error}") from error
    return message


def known_attempt(attempt: KnownAttempt) -> Fields:
    """One entry of `Welcome.attempts`."""
    return _ATTEMPT.write(attempt)


def encode(message: Message, payload: bytes = b"") -> bytes:
    """One frame. Its JSON is ASCII: the lone surrogates of a file name that is not UTF-8 cannot be sent as UTF-8."""
    return frame(_print(to_fields(message)).encode("ascii"), payload)


def frame(text: bytes, payload: bytes = b"") -> bytes:
    """One frame: the JSON of a message, and the payload."""
    return _LENGTHS.pack(len(text), len(payload)) + text + payload


def _read_standard(text: bytes) -> Any:
    return _parse(text.decode())


class Reader:
    """Splits bytes into frames and decodes their JSON. Keeps at most one incomplete frame, of bounded size.

    `parse` decodes JSON and raises ValueError for invalid JSON. The agent passes a faster parser than that of the
    standard library; the holder must not load this parser.
    """

    def __init__(self, parse: Callable[[bytes], Any] = _read_standard) -> None:
        self._parse = parse
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[tuple[Fields, bytes]]:
        """Add bytes. Yields the fields and the payload of each frame that is now complete. Raises MalformedFrame."""
        buffer, start = self._buffer, 0
        buffer += data
        try:
            while len(buffer) >= start + _PREFIX:
                text, payload = _LENGTHS.unpack_from(buffer, start)
                if not 2 <= text <= MAX_JSON or payload > MAX_PAYLOAD:
                    raise MalformedFrame(f"a frame of {text} + {payload} bytes")
                begin, middle = start + _PREFIX, start + _PREFIX + text
                if middle + payload > len(buffer):
                    break
                start = middle + payload
                yield self._read(bytes(buffer[begin:middle])), bytes(buffer[middle:start])
        finally:
            del buffer[:start]

    def _read(self, text: bytes) -> Fields:
        try:
            fields = self._parse(text)
        except ValueError as error:
            raise MalformedFrame("a frame without JSON") from error
        if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
            raise MalformedFrame("a message without a type")
        return fields
