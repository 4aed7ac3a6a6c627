"""The agent: talks to the store for a holder. It may crash, hang or be replaced at any time; the commands run on.

One loop: hear the holder → settle what ended → look at what runs → recover a few → claim up to the free slots → start
→ wait for the nearest deadline or a wake-up. What must survive its death is not here: the holder keeps every command
and every result until it is acknowledged, the store keeps every claim. A new agent puts the two together (`_adopt`).
"""

import argparse
import contextlib
import signal
import socket
import sys
from functools import partial
from typing import Any

from queuectl import bootstrap, config, crashpoint
from queuectl.clock import boottime
from queuectl.config import Settings
from queuectl.domain.job import Job
from queuectl.domain.worker import Instruction
from queuectl.errors import OutcomeUnknown, QueuectlError, StoreError, StoreUnusable
from queuectl.service import queries, work
from queuectl.store.protocol import AttemptRef, Store
from queuectl.worker.agent.claim_policy import CircuitBreaker, ClaimPolicy
from queuectl.worker.agent.claims import Claims
from queuectl.worker.agent.connection import Connection, HolderGone, connect
from queuectl.worker.agent.heartbeat import Heartbeat
from queuectl.worker.agent.hints import Hints
from queuectl.worker.agent.log import open_log
from queuectl.worker.agent.maintenance import Maintenance
from queuectl.worker.agent.missing_file import MissingFile
from queuectl.worker.agent.monitor import AttemptMonitor
from queuectl.worker.agent.output import OutputShipper
from queuectl.worker.agent.renewal import Renewal, deadline_of
from queuectl.worker.agent.results import Ended, ResultRecorder
from queuectl.worker.agent.store_health import StoreHealth
from queuectl.worker.agent.store_time import StoreTime
from queuectl.worker.agent.translate import report_of, start_message
from queuectl.worker.protocol import Fields

GATHER = 64
GATHER_SECONDS = 0.04
"""While very short jobs pour in, so many results are recorded at once, none later than this."""
LEAVE_SECONDS = 5.0
IDLE_SECONDS = 3600.0


class Agent:
    """One connection to a holder, from hello to bye."""

    def __init__(self, link: Connection, welcome: Fields) -> None:
        own: dict[str, Any] = welcome["config"]
        self._link, self._welcome, self._config = link, welcome, own
        self._id: str = welcome["worker"]["id"]
        self._host: str = welcome["worker"]["host"]
        self._count: int = welcome["count"]
        self._phase: str = welcome["phase"]
        self._queues: list[str] = own.get("queues") or []
        self._settings: Settings = self._resolve({})
        self._store: Store = bootstrap.open_store(own["url"], self._settings, create=False)
        self._journal = open_log(own, self._settings, self._store)
        self._places = Claims()
        self._unadopted = [AttemptRef(item["job_id"], item["attempt_id"]) for item in welcome["attempts"]]
        self._settler = ResultRecorder(self._store, self._host, self._journal)
        self._outputs = OutputShipper(self._store)
        self._lookout = AttemptMonitor(self._store, link, self._places, self._count)
        self._time = StoreTime(self._store)
        self._presence = Heartbeat(self._store, welcome, self._queues, self._time)
        duties = (self._store, self._holds, own["directory"], self._journal, self._time)
        self._chores = Maintenance(*duties, one_host=bootstrap.is_local(own["url"]))
        self._appetite, self._fitness, self._contact = (
            ClaimPolicy(self._count),
            CircuitBreaker(),
            StoreHealth(),
        )
        self._hints = Hints(self._store, link.wake)
        self._estranged = MissingFile(bootstrap.file_of(own["url"]), link, self._journal)
        self._leases = self._make_leases(vouch=own.get("on_disconnect") != "stop")
        self._leaving, self._leave_by = False, 0.0
        self._note: str | None = None
        self._told = False

    def run(self) -> None:
        """Work until the holder says bye. Raises HolderGone when it dies."""
        self._leases.start()  # first: while the store is away, somebody has to vouch for what runs
        try:
            self._connect()
            self._hints.start()
            while not self._leaving or self._has_claims:
                self._turn()
            self._store.forget(self._id)
        except HolderGone:
            self._outlive_holder()
            raise
        finally:
            self._leases.stop()
            self._hints.stop()
            self._journal.close()
            self._store.close()

    @property
    def _has_claims(self) -> bool:
        """A claim may have been under way when the holder said bye; it is withdrawn and given back before we leave."""
        return bool(len(self._places) or self._settler.busy) and boottime() < self._leave_by

    def _turn(self) -> None:
        """One round of the loop."""
        patience = self._patience()
        for message, payload in self._link.receive(patience):
            self._hear(message, payload)
        if self._contact.round(patience, self._settings.lease.total_seconds()):
            self._leases.hurry()
        self._take_renewals()
        if boottime() >= self._contact.away_until:
            try:
                self._work()
                self._welcome_back()
            except (StoreError, OutcomeUnknown) as fault:
                self._lose_contact(fault)
        self._link.flush()
        self._journal.flush()

    def _work(self) -> None:
        """Everything that needs the store, most urgent first."""
        changed, self._hints.changed = self._hints.changed, False
        if changed:
            self._lookout.hasten()
            # Read, not beaten: else two workers would wake each other for ever.
            self._obey(self._store.pending_instruction(self._id))
        was_written = self._ship()
        self._settle()
        self._lookout.look()
        self._beat(
            at_once=not was_written
        )  # which tells whether only output is refused, or the store is away
        self._keep_house()
        self._claim(changed)
        self._tell_of_output()

    # what the holder says

    def _hear(self, message: Fields, payload: bytes) -> None:
        message = self._time.translate(message)
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
            self._leaving, self._leave_by = True, boottime() + LEAVE_SECONDS
            self._on_drain("drain")

    def _on_started(self, message: Fields) -> None:
        place = self._places.get(message["attempt_id"])
        if place:
            place.begin(message["slot"], message["pid"], message["at"])
            self._journal.started(place.job, message["slot"], message["pid"])

    def _on_exited(self, message: Fields, tail: bytes) -> None:
        place = self._places.pop(message["attempt_id"])
        if place and place.slot is None and message.get("pid"):
            self._journal.started(place.job, message["slot"], message["pid"])
        report = report_of(message, tail, self._host)
        self._settler.add(Ended(message, report, place.job if place else None))

    def _give_back(self, attempt_id: str) -> None:
        place = self._places.pop(attempt_id)
        self._outputs.forget(attempt_id)
        if place:
            self._settler.give_back(attempt_id, place.job)

    def _on_trouble(self, message: Fields) -> None:
        self._give_back(message["attempt_id"])
        seconds = self._fitness.trouble(boottime())
        self._note = f"cannot start commands: {message['error']}"
        self._journal.note("trouble", f"{self._note}; pausing for {seconds:g} s", errno=message.get("errno"))
        self._presence.hasten()

    def _on_drain(self, kind: str) -> None:
        """Claim nothing any more; what the holder has not started goes back uncounted."""
        self._phase = "stopping" if kind == "stop" or self._phase == "stopping" else "draining"
        self._link.queue({"type": "drop", "attempt_ids": self._places.waiting()})
        self._presence.hasten()

    # what is recorded

    def _ship(self) -> bool:
        """Write what was printed, but not again too soon; False if it could not be."""
        if not self._contact.away and boottime() < self._outputs.due:
            return True
        return self._outputs.try_to_write(self._link)

    def _tell_of_output(self) -> None:
        """The store works otherwise: say so when it begins to refuse output, and when that is over."""
        fault, told, self._told = self._outputs.fault, self._told, self._outputs.fault is not None
        if fault is not None and not told:
            self._journal.note(
                "output", f"what commands print is not stored: {fault.message}", error=fault.code
            )
        if fault is None and told:
            self._journal.note("output", "what commands print is stored again")

    def _settle(self) -> None:
        """Record what ended. A commit costs an fsync, so while jobs are very short their results wait for company."""
        if self._settle_in() > 0:
            return
        for ended, after in self._settler.settle(self._link, self._outputs.awaited()):
            self._outputs.forget(ended.attempt_id)
            if ended.seconds is not None:
                self._appetite.ran(ended.seconds)
            self._fitness.ended(after.id, ended.seconds, after.state == "completed")
            if after.state == "failed":
                self._appetite.retry_at(after.run_at)
            self._appetite.hungry = True
        if self._fitness.suspect:
            self._suspect()

    def _settle_in(self) -> float:
        """Seconds until what ended is to be recorded."""
        waiting = self._settler.waiting
        company = self._appetite.ahead and len(self._places) and self._phase == "running"
        if not waiting or waiting >= GATHER or not company:
            return 0.0
        return max(0.0, self._settler.since + GATHER_SECONDS - boottime())

    def _take_renewals(self) -> None:
        if self._leases.fault is not None:
            raise self._leases.fault
        while not self._leases.rounds.empty():
            self._lookout.renewed(self._leases.rounds.get())

    # the worker among others

    def _beat(self, *, at_once: bool = False) -> None:
        slots = self._places.slots(self._count)
        if not self._presence.is_due(slots) and not at_once:
            return
        fit = self._fitness.fit(boottime())
        state = "draining" if self._phase != "running" else "running" if fit else "paused"
        note = None if fit else self._note
        self._presence.clock_jump = self._chores.clock_jump
        asked = self._presence.beat(slots, state, note, self._settings.heartbeat_interval)
        self._read_settings()
        self._obey(asked)

    def _obey(self, asked: Instruction | None) -> None:
        if asked == "reload" and self._phase == "running":
            self._journal.note("reload", "a new agent takes over; commands run on")
            self._link.send({"type": "reload"})
            raise SystemExit(0)
        if (asked == "drain" and self._phase == "running") or (asked == "stop" and self._phase != "stopping"):
            self._link.queue({"type": asked})
            self._on_drain(asked)

    def _keep_house(self) -> None:
        settled_in = self._contact.lasts(self._settings.lease.total_seconds())
        if self._chores.run(self._settings, may_recover=settled_in):
            self._appetite.hungry = True

    def _suspect(self) -> None:
        """Our jobs fail at once, one after the other. If other workers succeed meanwhile, the fault is here: rest."""
        if self._store.background_fault() is not None or not work.others_succeed(self._store, self._id):
            self._fitness.acquit()
            return
        seconds = self._fitness.pause(boottime())
        self._note = f"its jobs failed within milliseconds while others succeed; resting for {seconds:g} s"
        self._journal.note("paused", self._note)
        self._presence.hasten()

    # what is started

    def _claim(self, changed: bool) -> None:
        """Take due jobs for the free slots, and a few more while jobs are very short; start them."""
        if self._phase != "running" or not self._fitness.fit(boottime()):
            return
        room = self._appetite.room(len(self._places))
        tick = self._settings.tick_interval_ms / 1000
        if not room or not (self._appetite.wakes(boottime(), self._store.now(), tick) or changed):
            return
        sent = boottime()
        jobs = self._store.claim(self._id, self._queues, room, self._settings.lease)
        crashpoint.reach("after_claim")
        met_damage = self._chores.tell_set_aside()  # there may be more of it, in front of others
        self._appetite.hungry = len(jobs) == room or met_damage
        self._start(jobs, deadline_of(sent, self._settings.lease))
        if not jobs and self._config.get("drain"):
            self._drain_if_done()

    def _start(self, jobs: list[Job], deadline: float) -> None:
        for job in jobs:
            place = self._places.add(job)
            self._outputs.expect(place.attempt_id, job.spec.output_limit)
            message, stdin = start_message(job, deadline)
            self._link.queue(message, stdin)

    def _drain_if_done(self) -> None:
        """With --drain: leave when nothing is due, running or waiting for a retry, in queues that are not paused."""
        if len(self._places) or self._settler.busy:
            return
        if work.is_left(self._store, self._queues):
            return
        self._journal.note("idle", "nothing is left to do; leaving")
        self._link.queue({"type": "drain", "done": True})
        self._on_drain("drain")

    # waiting

    def _patience(self) -> float:
        """Seconds until something is to be done even if nobody says anything."""
        now = boottime()
        if self._contact.away:
            return max(0.0, self._contact.away_until - now)
        due = [self._presence.due, self._chores.due]
        if self._outputs.fault is not None:
            due.append(self._outputs.due)  # until then, who waits for output waits
        elif self._settler.busy or self._outputs.pending:
            due.append(now + self._settle_in())
        if len(self._places):
            due.append(self._lookout.due)
        room = self._phase == "running" and len(self._places) < self._count
        # Full of very short jobs, a worker looks at the store all the time anyway.
        self._hints.listen(room or not self._appetite.ahead)
        if room:
            soon = now if self._hints.changed else self._appetite.due(now, self._store.now())
            due.append(soon if self._fitness.fit(now) else self._fitness.until)
        return max(0.0, min(min(due) - now, IDLE_SECONDS))

    # beginnings and ends

    def _connect(self) -> None:
        """First contact: settings, registry, and what an agent before us left behind."""
        early: list[tuple[Fields, bytes]] = []
        while True:
            try:
                bootstrap.refuse_shared(self._config["url"])
                self._read_settings()
                self._beat()
                self._presence.keep_name(self._settings, self._link, self._journal)
                self._adopt()
                break
            except (StoreError, OutcomeUnknown) as fault:
                self._lose_contact(fault)
            self._journal.flush()
            self._link.flush()
            while boottime() < self._contact.away_until:
                early += self._link.receive(self._contact.away_until - boottime())
        self._link.unread(early)

    def _adopt(self) -> None:
        """Put together what the store says is ours and what the holder has.

        Claimed, and unknown to the holder: it provably never started, for an agent died (or lost the reply) between
        claim and start. Given back uncounted (guarantee G8).
        """
        known: dict[str, Fields] = {item["attempt_id"]: item for item in self._welcome["attempts"]}
        for job in self._ours():
            item = known.get(job.attempt_id or "")
            if item is None:
                self._settler.give_back(job.attempt_id or "", job)
                continue
            self._outputs.expect(job.attempt_id or "", job.spec.output_limit)
            if item["state"] != "finished":
                self._places.adopt(job, self._time.translate(item))
        self._unadopted = []
        queued = [id for id, item in known.items() if item["state"] == "queued" and id not in self._places]
        self._link.queue({"type": "drop", "attempt_ids": queued})
        if self._phase != "running":
            self._on_drain("drain")

    def _ours(self) -> list[Job]:
        """The jobs that the store says we hold and that we do not know of."""
        return [
            job for job in queries.held_by(self._store, self._id) if not self._holds(job.attempt_id or "")
        ]

    def _holds(self, attempt_id: str) -> bool:
        return attempt_id in self._places or self._settler.knows(attempt_id)

    def _lose_contact(self, fault: QueuectlError) -> None:
        if self._contact.lost(needs_a_person=isinstance(fault, StoreUnusable)):
            self._journal.note("store", self._estranged.waits_for(fault, self._held()), error=fault.code)
            self._link.queue({"type": "store", "away": fault.message})
        self._estranged.face(fault, self._held())

    def _welcome_back(self) -> None:
        """After an absence: claims whose reply was lost are found again and given back."""
        if not self._contact.away:
            return
        lost = self._ours()  # the first question: before it is answered, nobody is back
        self._presence.keep_name(self._settings, self._link, self._journal)
        self._contact.regained()
        self._estranged.regained()
        self._link.queue({"type": "store", "away": None})
        self._leases.hurry()
        self._journal.note("store", "the store is back")
        for job in lost:
            self._settler.give_back(job.attempt_id or "", job)
        self._appetite.hungry = True

    def _outlive_holder(self) -> None:
        """The holder is dead: its guard ends the commands, and we record at once what became of the attempts (G4)."""
        self._journal.note("holder", "the holder is gone; recording its attempts as lost")
        with contextlib.suppress(
            QueuectlError
        ):  # otherwise the next worker of this host, or the lease, does it
            self._settler.settle(None)
            self._chores.bury(self._id)

    def _make_leases(self, *, vouch: bool) -> Renewal:
        own = partial(bootstrap.open_store, self._config["url"], self._settings, create=False)
        return Renewal(own, self._id, self._link, self._held, lambda: self._settings.lease, vouch)

    def _held(self) -> list[AttemptRef]:
        """The attempts whose output or result is not in the store yet."""
        return [*self._unadopted, *self._places.held(), *self._settler.held()]

    def _read_settings(self) -> None:
        entries = {key: entry.value for key, entry in self._store.read_table("settings").items()}
        before, self._settings = self._settings, self._resolve(config.stored(entries))
        if before.lease != self._settings.lease:
            self._leases.hurry()

    def _resolve(self, shared: dict[str, str]) -> Settings:
        return config.resolve({}, {}, self._config["options"], shared)


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
