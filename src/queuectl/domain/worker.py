"""The entry of a worker in the registry. A worker is one `queuectl worker start`, with its slots."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

Instruction = Literal["drain", "stop", "reload"]
"""An instruction for a worker: finish the running jobs and exit; end them and exit; replace the agent."""


class Slot(Struct, frozen=True, kw_only=True):
    """One of the `--count` places of a worker for a running command: free, or with a job and the time of its start.

    `stopped`: a process of the command has been stopped (SIGSTOP), so it does not continue by itself.
    """

    slot: int
    job: str | None = None
    since: datetime | None = None
    stopped: bool = False


class Worker(Struct, frozen=True, kw_only=True):
    """One worker. `id` is new with every start, because host and pid can occur again; `name` is for people.

    `queues` is empty when it serves all of them. `heartbeat` is the time of the last heartbeat, set by the store.
    `skew` is the number of seconds by which the clock of the worker's host is ahead of the store's clock, as measured
    last; `clock_jump` is the number of seconds by which the store's clock jumped in the last hour, if the worker saw
    a jump. `directory` identifies the directory with the worker's proof of life, and the processes that the worker
    sees: device, inode, boot id and pid namespace. `claimed_at` is, for each queue, the time of the newest claim that
    took a job from it; claims that are too old to prove consumption are left out.
    """

    id: str
    name: str
    host: str
    boot_id: str
    holder_pid: int
    agent_pid: int
    version: str
    count: int
    started_at: datetime
    queues: tuple[str, ...] = ()
    state: Literal["running", "draining", "paused"] = "running"
    note: str | None = None
    slots: tuple[Slot, ...] = ()
    heartbeat: datetime | None = None
    skew: float | None = None
    clock_jump: float | None = None
    directory: str | None = None
    claimed_at: dict[str, datetime] = {}


def still_instructed(
    instruction: Instruction | None, before: Worker | None, now: Worker
) -> Instruction | None:
    """The instruction that remains after a heartbeat. A reload is done once another agent sends the heartbeat."""
    if instruction == "reload" and before is not None and before.agent_pid != now.agent_pid:
        return None
    return instruction
