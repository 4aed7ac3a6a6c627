"""What holder and agent say to each other, and how it is framed.

A frame is two unsigned 32-bit numbers in network order (length of the JSON, length of the payload), then a
JSON object in UTF-8 that has a "type", then the payload as raw bytes. Unknown types and unknown fields are
ignored, so that an agent can be one version newer or older than its holder: fields are added, never changed
in meaning. Times that begin or end something are epoch seconds of the host's clock; a `deadline`, and the `born` that
tells again when something began, are in seconds of CLOCK_BOOTTIME (`queuectl.clock`), which nobody sets.

Agent to holder

    hello       protocol, pid. The first message of a connection. An older connection is dropped, unread input
                and all.
    start       attempt_id, job_id, attempt, queue, command | argv, shell, cwd, env, umask, timeout, grace,
                output_limit, split, allow_detached, has_stdin, deadline; payload: the bytes of standard
                input. Starts when a slot is free, in the order sent. Known attempt ids are ignored, so it may
                be repeated.
    kill        attempt_id, reason: "cancelled" | "fenced". If it still waits for a slot: answered by
                `dropped`.
    drop        attempt_ids. Withdraw those that still wait; answered by one `dropped` with those withdrawn
                (maybe none).
    ack         attempt_ids. Their results are stored: forget them.
    ack_output  attempt_id, n. Its chunks up to n are stored.
    lease       deadline, attempt_ids. They may run until then; null: without limit.
    drain       done?: As the first signal: start nothing more, let run what runs, exit. With done: true nobody asked
                for it and nothing is left to do (`worker start --drain`): nothing is said about it.
    stop        now?: As the second signal: end what runs (TERM, grace, KILL); with now: true as the third:
                KILL at once.
    leave       why. The store is gone for good: exit with 1, unless something is still to be delivered.
    store       away: why the store cannot be reached, or null: it answers again. Said when it changes.
    name        name. Another live worker has the worker's name: it is called this from now on.
    reload      The agent is about to exit and be replaced: start the next one at once.

Holder to agent

    welcome     protocol, config, worker, holder_pid, boot_id, directory (its identity), started_at, born, count,
                phase: "running" | "draining" | "stopping", attempts: [{attempt_id, job_id, pid, slot, started_at,
                born, state: "queued" | "running" | "finished"}]. Then every output chunk and every `exited` that is not
                acknowledged, once more, with the same n and bytes.
    started     attempt_id, pid, slot, at, born. Said of commands that run longer than a moment; of others `exited`.
    output      attempt_id, job_id, n, stream, at, offset; payload: the bytes. `n` rises by one from 1 per
                attempt over all streams; `offset` counts bytes of all streams, a gap means bytes that are not
                kept.
    exited      attempt_id, job_id, kind: "exited" | "signalled" | "spawn_error", exit_code, signal, core,
                errno, error, ended_by: null | "timeout" | "cancelled" | "fenced" | "interrupted" | "lease",
                pid, slot, started_at, finished_at, born, user_cpu, system_cpu, max_rss, output_bytes,
                output_incomplete, leftovers (processes that outlived the command, or had to be killed besides
                it); payload: the last 400 bytes of output. `ended_by` says that we ended it and why; `error`
                of such an attempt is a note (for example: unkillable).
    dropped     attempt_ids. They were never started and never will be.
    trouble     attempt_id, errno, error. Not started, for want of processes, descriptors or memory here: no
                fault of the job.
    drain, stop The same as above, when a signal said it; an agent stops claiming and answers `drop` with what
                still waits.
    bye         All is acknowledged and nothing runs: close the connection and exit.
"""

import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

PROTOCOL = 1
MAX_JSON = 32 << 20
MAX_PAYLOAD = 32 << 20

Message = dict[str, Any]

_LENGTHS = struct.Struct("!II")
_decode = json.JSONDecoder().decode
_write = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _read_standard(text: bytes) -> Any:
    return _decode(text.decode())


class MalformedFrame(ValueError):
    """The other side sent what is no frame of this protocol: the connection is of no more use."""


def encode(message: Message, payload: bytes = b"") -> bytes:
    """One frame. The JSON is pure ASCII, so that a file name that is no UTF-8 survives as lone surrogates."""
    return frame(_write(message).encode("ascii"), payload)


def frame(text: bytes, payload: bytes = b"") -> bytes:
    """One frame around a message that is JSON already."""
    return _LENGTHS.pack(len(text), len(payload)) + text + payload


class Reader:
    """Bytes in, messages out. Holds what is not yet a whole frame, and never more than one largest frame.

    `read` makes a message of its JSON and raises ValueError if it cannot: an agent has a quicker one than the standard
    library's, a holder has not.
    """

    def __init__(self, read: Callable[[bytes], Any] | None = None) -> None:
        self._read = read or _read_standard
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[tuple[Message, bytes]]:
        """Take bytes; yield each message that they complete, with its payload."""
        self._buffer += data
        start = 0
        try:
            while (end := self._end_of_frame(start)) is not None:
                frame, start = start, end
                yield self._decode(frame, end)
        finally:
            del self._buffer[:start]

    def _end_of_frame(self, start: int) -> int | None:
        if len(self._buffer) - start < _LENGTHS.size:
            return None
        text, payload = _LENGTHS.unpack_from(self._buffer, start)
        if not 2 <= text <= MAX_JSON or payload > MAX_PAYLOAD:
            raise MalformedFrame(f"a frame of {text} + {payload} bytes")
        end: int = start + _LENGTHS.size + text + payload
        return end if end <= len(self._buffer) else None

    def _decode(self, start: int, end: int) -> tuple[Message, bytes]:
        body = start + _LENGTHS.size
        text = body + _LENGTHS.unpack_from(self._buffer, start)[0]
        try:
            message = self._read(bytes(self._buffer[body:text]))
        except ValueError as error:
            raise MalformedFrame("a frame without JSON") from error
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise MalformedFrame("a message without a type")
        return message, bytes(self._buffer[text:end])
