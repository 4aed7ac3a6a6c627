"""The agent: talks to the store for a holder. It may crash, hang or be replaced at any time; the commands run on.

One loop: hear the holder → settle what ended → look at what runs → recover a few → claim up to the free slots → start
→ wait for the nearest deadline or a wake-up. What must survive its death is not here: the holder keeps every command
and every result until it is acknowledged, the store keeps every claim. A new agent puts the two together (`_adopt`).
"""

import argparse
import contextlib
import os
import signal
import socket
import sys
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from queuectl import __version__, bootstrap, config, crashpoint
from queuectl.clock import boottime
from queuectl.config import Settings
from queuectl.domain import lifecycle
from queuectl.domain.job import Job
from queuectl.domain.query import Filter, Page
from queuectl.domain.worker import Request, Slot, Worker
from queuectl.errors import OutcomeUnknown, QueuectlError, StoreError
from queuectl.store.protocol import Held, Store
from queuectl.worker.appetite import Ahead, Fitness
from queuectl.worker.chores import Chores
from queuectl.worker.hints import Hints
from queuectl.worker.journal import Journal
from queuectl.worker.leases import Leases, Renewed, deadline_of
from queuectl.worker.link import HolderGone, Link
from queuectl.worker.messages import PROTOCOL, Message
from queuectl.worker.outputs import Outputs
from queuectl.worker.report import report_of, start_message
from queuectl.worker.settle import Ended, Settler

LOOK_SECONDS = 0.4
"""A request to cancel is felt within this time and one round of the loop."""
QUEUED_TOO_LONG = 0.25
"""Seconds: a claimed-ahead job that still waits behind a long one is given back."""
GATHER = 24
GATHER_SECONDS = 0.02
"""While very short jobs pour in, so many results are recorded at once, none later than this."""
BEAT_SOON = 0.5
HOLDER_BURIAL = 5.0
"""Seconds that an agent spends on recording what its dead holder left."""
NOTE_AFTER = 0.7
"""Seconds: a command that runs longer has its pid and start written into the job, for people who look."""
RETRY_FIRST, RETRY_LONGEST = 0.2, 5.0
IDLE_SECONDS = 3600.0


class Place:
    """A held attempt: the job as claimed, and where the holder has it."""

    __slots__ = ("job", "noted", "since", "slot", "started", "told")

    def __init__(self, job: Job, since: float) -> None:
        self.job = job
        self.since = since
        self.slot: int | None = None
        self.started: datetime | None = None
        self.noted = False
        self.told: str | None = None


class Agent:
    """One connection to a holder, from hello to bye."""

    def __init__(self, link: Link, welcome: Message) -> None:
        config_of: dict[str, Any] = welcome["config"]
        self._link = link
        self._config = config_of
        self._welcome = welcome
        self._id: str = welcome["worker"]["id"]
        self._host: str = welcome["worker"]["host"]
        self._count: int = welcome["count"]
        self._queues: list[str] = config_of.get("queues") or []
        self._phase: str = welcome["phase"]
        self.journal = Journal(config_of.get("log_format", "plain"))
        self._store: Store = bootstrap.open_store(config_of["url"], self._resolve({}))
        self._settings: Settings = self._resolve({})
        self._places: dict[str, Place] = {}
        self._settler = Settler(self._store, self._host, self.journal)
        self._outputs = Outputs(self._store)
        self._ahead, self._fitness = Ahead(), Fitness()
        self._hints = Hints(self._store, link.wake)
        self._leases = Leases(self._open_again, self._id, link, self._held, lambda: self._settings.lease, config_of.get("on_disconnect") != "stop")  # fmt: skip
        self._chores = Chores(self._store, self._id, config_of["directory"], self.journal)
        self._hungry, self._leaving = True, False
        self._next_look = self._next_beat = self._next_tick = 0.0
        self._beaten_slots: tuple[Slot, ...] | None = None
        self._away_pause, self._away_until = RETRY_FIRST, 0.0
        self._connected_since = boottime()
        self._retries_due: list[datetime] = []
        self._note: str | None = None

    def run(self) -> None:
        """Work until the holder says bye. Raises HolderGone when it dies."""
        self._connect()
        self._leases.start()
        self._hints.start()
        try:
            while not self._leaving:
                self._turn()
            self._store.forget(self._id)
        except HolderGone:
            self._outlive_holder()
            raise
        finally:
            self._leases.stop()
            self._hints.stop()
            self.journal.flush()
            self._store.close()

    def _turn(self) -> None:
        """One round of the loop."""
        for message, payload in self._link.receive(self._patience()):
            self._hear(message, payload)
        self._take_renewals()
        if boottime() >= self._away_until:
            try:
                self._work()
                self._back()
            except (StoreError, OutcomeUnknown) as fault:
                self._lose_contact(fault)
        self._link.flush()
        self.journal.flush()

    def _work(self) -> None:
        """Everything that needs the store, most urgent first."""
        fault = self._write_outputs()
        self._settle()
        if fault is not None:
            raise fault
        self._look()
        self._beat()
        self._keep_house()
        self._claim()

    # hearing

    def _hear(self, message: Message, payload: bytes) -> None:
        kind = message["type"]
        if kind == "started":
            self._on_started(message)
        elif kind == "output":
            self._outputs.add(message, payload)
        elif kind == "exited":
            self._on_exited(message, payload)
        elif kind == "dropped":
            for attempt_id in message["attempt_ids"]:
                self._give_back(attempt_id)
        elif kind == "trouble":
            self._on_trouble(message)
        elif kind in ("drain", "stop"):
            self._on_drain(kind)
        elif kind == "bye":
            self._leaving = True

    def _on_started(self, message: Message) -> None:
        place = self._places.get(message["attempt_id"])
        if place:
            place.slot, place.since = message["slot"], boottime()
            place.started = datetime.fromtimestamp(message["at"], UTC)
            place.job = self._with_start(place, message["pid"])
            self.journal.started(place.job, message["slot"], message["pid"])

    def _with_start(self, place: Place, pid: int) -> Job:
        lease = place.job.lease
        assert lease is not None
        fresh = replace(lease, pid=pid, slot=place.slot, started_at=place.started)
        return replace(place.job, lease=fresh)

    def _on_exited(self, message: Message, tail: bytes) -> None:
        place = self._places.pop(message["attempt_id"], None)
        ended = Ended(message, report_of(message, tail, self._host), place.job if place else None)
        self._settler.add(ended)

    def _give_back(self, attempt_id: str) -> None:
        place = self._places.pop(attempt_id, None)
        if place:
            self._settler.give_back(attempt_id, place.job)

    def _on_trouble(self, message: Message) -> None:
        self._give_back(message["attempt_id"])
        seconds = self._fitness.trouble(boottime())
        self._note = f"cannot start commands: {message['error']}"
        self.journal.note("trouble", f"{self._note}; pausing for {seconds:g} s", errno=message.get("errno"))
        self._next_beat = 0.0

    def _on_drain(self, kind: str) -> None:
        """Claim nothing any more; what the holder has not started goes back uncounted."""
        if self._phase == "running":
            self.journal.note("drain", "finishing what runs, then leaving")
        self._phase = "draining" if kind == "drain" else "stopping"
        waiting = [attempt_id for attempt_id, place in self._places.items() if place.slot is None]
        self._link.queue({"type": "drop", "attempt_ids": waiting})
        self._next_beat = 0.0

    # working

    def _write_outputs(self) -> StoreError | None:
        """Output goes first, while its attempt still holds the lease; but it never keeps a result from being recorded."""
        try:
            self._outputs.write(self._link)
        except StoreError as fault:
            return fault
        return None

    def _settle(self) -> None:
        """Record what ended. A commit costs an fsync, so while jobs are very short their results wait for company."""
        if self._settle_in() > 0:
            return
        for ended, after in self._settler.settle(self._link):
            self._outputs.forget(ended.attempt_id)
            seconds = ended.seconds
            succeeded = after.state == "completed"
            if seconds is not None:
                self._ahead.ran(seconds)
            self._fitness.ended(after.id, seconds, succeeded)
            if after.state == "failed":
                self._retries_due.append(after.run_at)
            self._hungry = True
        if self._fitness.suspect:
            self._suspect()

    def _look(self) -> None:
        """Has somebody asked for the end of what runs? Is a claimed-ahead job stuck? Is there a start to be noted?"""
        now = boottime()
        if not self._places or now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        fresh = self._store.get([place.job.id for place in self._places.values()])
        for attempt_id, place in list(self._places.items()):
            self._look_at(attempt_id, place, fresh.get(place.job.id))
        stuck = [
            a
            for a, place in self._places.items()
            if place.slot is None and now - place.since > QUEUED_TOO_LONG
        ]
        if stuck and self._ahead_waits():
            self._link.queue({"type": "drop", "attempt_ids": stuck})
        self._note_starts(now)

    def _look_at(self, attempt_id: str, place: Place, fresh: Job | None) -> None:
        if fresh is None or not lifecycle.holds_lease(fresh, attempt_id):
            self._end(attempt_id, place, "fenced")
        elif fresh.cancel_requested:
            self._end(attempt_id, place, "cancelled")
        if fresh is not None:
            place.job = self._renewed(place, fresh)

    def _end(self, attempt_id: str, place: Place, reason: str) -> None:
        if place.told != reason:
            place.told = reason
            self._link.queue({"type": "kill", "attempt_id": attempt_id, "reason": reason})

    def _renewed(self, place: Place, fresh: Job) -> Job:
        """A fresher copy; the start that only we know of stays."""
        known, lease = place.job.lease, fresh.lease
        if known is None or lease is None or lease.attempt_id != known.attempt_id:
            return place.job
        kept = replace(lease, slot=known.slot, pid=known.pid, started_at=known.started_at)
        return replace(fresh, lease=kept)

    def _ahead_waits(self) -> bool:
        return sum(1 for place in self._places.values() if place.slot is not None) >= self._count

    def _note_starts(self, now: float) -> None:
        late = [p for p in self._places.values() if p.started and not p.noted and now - p.since > NOTE_AFTER]
        if not late:
            return
        store_now = self._store.now()
        noted = [self._noted(place, store_now) for place in late]
        for place, job, answer in zip(late, noted, self._store.save(noted), strict=True):
            if answer == "accepted":
                place.noted, place.job = True, replace(job, version=job.version + 1)

    def _noted(self, place: Place, now: datetime) -> Job:
        lease = place.job.lease
        assert (
            lease is not None
            and place.slot is not None
            and place.started is not None
            and lease.pid is not None
        )
        return lifecycle.note_start(
            place.job, slot=place.slot, pid=lease.pid, started_at=place.started, now=now
        )

    def _beat(self) -> None:
        """Enter this worker into the registry: at its interval, and soon after its slots changed."""
        now, slots = boottime(), self._slots()
        soon = slots != self._beaten_slots and now >= self._next_beat - self._interval() + BEAT_SOON
        if now < self._next_beat and not soon:
            return
        asked = self._store.beat(self._worker(slots))
        self._beaten_slots, self._next_beat = slots, now + self._interval()
        self._settings = self._read_settings()
        self._obey(asked)

    def _obey(self, asked: Request | None) -> None:
        if asked in ("drain", "stop"):
            if self._phase == "running" or (asked == "stop" and self._phase == "draining"):
                self._link.queue({"type": asked})
                self._on_drain(asked)
        elif asked == "reload":
            self.journal.note("reload", "a new agent takes over; commands run on")
            self._link.send({"type": "reload"})
            raise SystemExit(0)

    def _keep_house(self) -> None:
        connected = boottime() - self._connected_since >= self._settings.lease.total_seconds()
        if self._chores.run(self._settings, may_recover=connected):
            self._hungry = True

    def _claim(self) -> None:
        """Take due jobs for the free slots, and a few more while jobs are very short; start them."""
        now = boottime()
        if self._phase != "running" or not self._fitness.fit(now):
            return
        room = self._count + self._ahead.jobs(self._count) - len(self._places)
        changed, self._hints.changed = self._hints.changed, False
        if room < self._least_claim() or not (self._hungry or changed or self._retry_is_due()):
            return
        sent = boottime()
        jobs = self._store.claim(self._id, self._queues, room, self._settings.lease)
        crashpoint.reach("after_claim")
        self._hungry = len(jobs) == room
        self._start(jobs, deadline_of(sent, self._settings.lease))
        if not jobs and self._config.get("drain"):
            self._drain_if_done()

    def _least_claim(self) -> int:
        """With much claimed ahead, the next claim waits until half of it is used up: fewer, larger transactions."""
        return max(1, self._ahead.jobs(self._count) // 2)

    def _settle_in(self) -> float:
        """Seconds until what ended is to be recorded."""
        waiting = self._settler.waiting
        if not waiting or waiting >= GATHER or not self._ahead.jobs(self._count) or self._phase != "running":
            return 0.0
        return max(0.0, self._settler.since + GATHER_SECONDS - boottime())

    def _start(self, jobs: list[Job], deadline: float) -> None:
        now = boottime()
        for job in jobs:
            assert job.lease is not None
            self._places[job.lease.attempt_id] = Place(job, now)
            self._outputs.expect(job.lease.attempt_id, job.spec.output_limit)
            message, stdin = start_message(job, deadline)
            self._link.queue(message, stdin)

    def _drain_if_done(self) -> None:
        """With --drain: leave when nothing is due, running or waiting for a retry, in queues that are not paused."""
        if self._places or self._settler.busy:
            return
        paused = {name for name, entry in self._store.shared("queues").items() if entry.value.get("paused")}
        for name, counts in self._store.counts(Filter()).queues.items():
            mine = (not self._queues or name in self._queues) and name not in paused
            if mine and (counts.get("processing") or counts.get("failed")):
                return
        self._link.queue({"type": "drain"})
        self._on_drain("drain")

    def _suspect(self) -> None:
        """Our jobs fail at once, one after the other. If other workers succeed meanwhile, the fault is here: rest."""
        recent = self._store.find(
            Filter(states=frozenset(("completed",))), Page(limit=50, sort="updated")
        ).jobs
        now = self._store.now()
        others = [
            job
            for job in recent
            if job.history
            and job.history[-1].worker != self._id
            and (now - job.updated_at).total_seconds() < 60
        ]
        if not others:
            self._fitness.acquit()
            return
        seconds = self._fitness.pause(boottime())
        self._note = f"its jobs failed within milliseconds while others succeed; resting for {seconds:g} s"
        self.journal.note("paused", self._note)
        self._next_beat = 0.0

    # waiting

    def _patience(self) -> float:
        """Seconds until something is to be done even if nobody says anything."""
        now = boottime()
        if self._away_until > now:
            return self._away_until - now
        due = [self._next_beat, self._chores.due]
        if self._settler.busy or self._outputs.pending:
            due.append(now + self._settle_in())
        room = self._phase == "running" and len(self._places) < self._count
        self._hints.listen(room)
        if room:
            if self._hungry and self._fitness.fit(now):
                return 0.0
            due.append(now + self._settings.tick_interval_ms / 1000)
            due += [self._fitness.until] if not self._fitness.fit(now) else []
            due += [now + self._seconds_to(moment) for moment in self._retries_due]
        if self._places:
            due.append(self._next_look)
        return max(0.0, min(min(due) - now, IDLE_SECONDS))

    def _retry_is_due(self) -> bool:
        """Whether the poll floor or one of our own retries says to claim again."""
        before = len(self._retries_due)
        self._retries_due = [moment for moment in self._retries_due if self._seconds_to(moment) > 0]
        now = boottime()
        ticked = now >= self._next_tick
        if ticked or len(self._retries_due) < before:
            self._next_tick = now + self._settings.tick_interval_ms / 1000
            return True
        return False

    def _seconds_to(self, moment: datetime) -> float:
        return (moment - self._store.now()).total_seconds()

    # the store, and its absence

    def _connect(self) -> None:
        """First contact: settings, registry, and what an agent before us left behind."""
        while True:
            try:
                self._settings = self._read_settings()
                self._beat()
                self._adopt()
                return
            except (StoreError, OutcomeUnknown) as fault:
                self._lose_contact(fault)
                self._link.unread(self._link.receive(self._away_until - boottime()))

    def _adopt(self) -> None:
        """Put together what the store says is ours and what the holder has.

        Claimed, and unknown to the holder: it provably never started, for an agent died (or lost the reply) between
        claim and start. Given back uncounted (guarantee G8).
        """
        known = {item["attempt_id"]: item for item in self._welcome["attempts"]}
        for job in self._ours():
            attempt_id = job.attempt_id
            if attempt_id is None or attempt_id in self._places:
                continue
            item = known.get(attempt_id)
            if item is None:
                self._settler.give_back(attempt_id, job)
            elif item["state"] != "finished":
                self._places[attempt_id] = self._adopted(job, item)
        self._link.queue({"type": "drop", "attempt_ids": [a for a in known if a not in self._places and known[a]["state"] == "queued"]})  # fmt: skip

    def _adopted(self, job: Job, item: Message) -> Place:
        place = Place(job, boottime())
        self._outputs.expect(job.attempt_id or "", job.spec.output_limit)
        if item["state"] == "running":
            place.slot = item.get("slot") or 0
            place.started = datetime.fromtimestamp(item["started_at"], UTC)
            place.job = self._with_start(place, item["pid"])
        return place

    def _ours(self) -> list[Job]:
        found: list[Job] = []
        page = Page(limit=500)
        while True:
            piece = self._store.find(Filter(states=frozenset(("processing",)), worker=self._id), page)
            found += piece.jobs
            if piece.next is None:
                return found
            page = Page(limit=500, after=piece.next)

    def _lose_contact(self, fault: QueuectlError) -> None:
        if not self._away_until:
            self.journal.note("store", f"{fault.message}; commands run on, results wait", error=fault.code)
        self._away_until = boottime() + self._away_pause
        self._away_pause = min(self._away_pause * 2, RETRY_LONGEST)

    def _back(self) -> None:
        """After an absence: claims whose reply was lost are found again, and nobody else's is recovered for a lease."""
        if not self._away_until:
            return
        self._away_until, self._away_pause = 0.0, RETRY_FIRST
        self._connected_since = boottime()
        self.journal.note("store", "the store is back")
        lost = [job for job in self._ours() if job.attempt_id not in self._places and not self._settler.knows(job.attempt_id)]  # fmt: skip
        for job in lost:
            self._settler.give_back(job.attempt_id or "", job)
        self._hungry = True

    def _outlive_holder(self) -> None:
        """The holder is dead: its guard ends the commands, and we record at once what became of the attempts (G4)."""
        self.journal.note("holder", "the holder is gone; recording its attempts as lost")
        with contextlib.suppress(
            QueuectlError
        ):  # otherwise the next worker of this host, or the lease, does it
            self._settler.settle(None)
            self._chores.bury(self._id, within=HOLDER_BURIAL)

    def _take_renewals(self) -> None:
        if self._leases.fault is not None:
            raise self._leases.fault
        while not self._leases.rounds.empty():
            self._take_renewal(self._leases.rounds.get())

    def _take_renewal(self, renewed: Renewed) -> None:
        fresh = {job.lease.attempt_id: job for job in renewed.fresh if job.lease}
        for held in renewed.asked:
            place = self._places.get(held.attempt_id)
            if place is None:
                continue
            if held.attempt_id in fresh:
                self._look_at(held.attempt_id, place, fresh[held.attempt_id])
            else:
                self._next_look = 0.0  # perhaps no longer ours: look before anything is killed

    def _open_again(self) -> Store:
        return bootstrap.open_store(self._config["url"], self._settings)

    def _read_settings(self) -> Settings:
        shared = {key: str(entry.value["value"]) for key, entry in self._store.shared("settings").items()}
        return self._resolve(shared)

    def _resolve(self, shared: dict[str, str]) -> Settings:
        return config.resolve({}, {}, self._config["options"], shared)

    # telling

    def _held(self) -> list[Held]:
        """Called from the renewing thread: a snapshot; what ends meanwhile is missing in the answer, which is fine."""
        return [Held(place.job.id, attempt_id) for attempt_id, place in list(self._places.items())]

    def _interval(self) -> float:
        return float(self._settings.heartbeat_interval.total_seconds())

    def _slots(self) -> tuple[Slot, ...]:
        busy = {place.slot: place for place in self._places.values() if place.slot is not None}
        return tuple(
            Slot(slot=n, job=busy[n].job.id, since=busy[n].started) if n in busy else Slot(slot=n)
            for n in range(self._count)
        )

    def _worker(self, slots: tuple[Slot, ...]) -> Worker:
        fit = self._fitness.fit(boottime())
        state = "draining" if self._phase != "running" else "running" if fit else "paused"
        return Worker(
            id=self._id,
            name=self._welcome["worker"]["name"],
            host=self._host,
            boot_id=self._welcome["boot_id"],
            holder_pid=self._welcome["holder_pid"],
            agent_pid=os.getpid(),
            version=__version__,
            count=self._count,
            started_at=datetime.fromtimestamp(self._welcome["started_at"], UTC),
            queues=tuple(self._queues),
            state=state,  # type: ignore[arg-type]
            note=None if fit else self._note,
            slots=slots,
        )


def connect(line: socket.socket) -> tuple[Link, Message]:
    """Say hello, and hear the welcome. Raises HolderGone."""
    link = Link(line)
    link.send({"type": "hello", "protocol": PROTOCOL, "pid": os.getpid()})
    while True:
        messages = link.receive(IDLE_SECONDS)
        if messages:
            welcome = messages[0][0]
            link.unread(messages[1:])
            return link, welcome


def main() -> None:
    """`python -m queuectl.worker.agent --fd N`: started by a holder, never by a person."""
    parser = argparse.ArgumentParser(prog="queuectl agent")
    parser.add_argument("--fd", type=int, required=True)
    line = socket.socket(fileno=parser.parse_args().fd)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the holder decides when we go
    try:
        link, welcome = connect(line)
        Agent(link, welcome).run()
    except HolderGone:
        sys.exit(0)
    except QueuectlError as error:
        sys.stderr.write(f"queuectl: {error.message}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
