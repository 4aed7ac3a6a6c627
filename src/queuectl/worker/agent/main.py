"""The agent's loop: receive messages of the holder, run the duties that are due, sleep until the next one is due.

The duties are ordered by urgency: results before new claims. For another repeated task, write a duty and add it to
the tuple in `assembly.py`.
"""

import argparse
import signal
import socket
import sys

from queuectl.clock import boottime
from queuectl.errors import OutcomeUnknown, QueuectlError, StoreError
from queuectl.worker.agent.assembly import Parts, assemble
from queuectl.worker.agent.connection import HolderGone, connect
from queuectl.worker.agent.duty import NEVER

LONGEST_SLEEP = 3600.0


class Agent:
    """Runs the parts of one agent until its holder sends `Bye`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._context = parts.context
        self._next_at: float | None = None
        """When the next duty is due. None if this is unknown, because a duty has run or the store failed."""

    def run(self) -> None:
        """Work until the holder sends `Bye`. Raises HolderGone when the holder dies.

        The renewal starts first: even while the store cannot be reached, it extends the deadlines of the commands.
        """
        parts, context = self._parts, self._context
        parts.renewal.start()
        try:
            parts.session.connect()
            parts.wakeups.start()
            while not parts.session.is_over:
                self._run_round()
            context.store.forget(context.worker_id)
        except HolderGone:
            parts.session.outlive_holder()
            raise
        finally:
            parts.figures.finish()
            parts.renewal.stop()
            parts.wakeups.stop()
            context.log.close()
            context.store.close()

    def _run_round(self) -> None:
        """Receive messages once, run the due duties, and sleep."""
        parts, context = self._parts, self._context
        parts.wakeups.listen(parts.claiming.wants_wakeups)
        wait = self._seconds_to_wait()
        for message, payload in context.connection.receive(wait):
            parts.inbox.handle(message, payload)
        if context.health.begin_round(wait, context.lease_seconds):
            parts.renewal.hurry()
        for renewed in parts.renewal.take():
            parts.monitor.take(renewed)
        if boottime() >= context.health.away_until:
            self._run_duties()
        context.connection.flush()
        context.log.flush()

    def _seconds_to_wait(self) -> float:
        """Seconds until the next duty is due or, during an outage, until the next try to reach the store."""
        now, away_until = boottime(), self._context.health.away_until
        at = away_until or self._next_at
        if at is None:
            at = min(duty.due(now) for duty in self._parts.duties)
        return max(0.0, min(at - now, LONGEST_SLEEP))

    def _run_duties(self) -> None:
        """Run the duties that are due, in order. The first fault of the store ends the round.

        Most rounds run no duty. Such a round calls `due` once for each duty, and the sleep uses the result.
        """
        self._next_at, now, next_at = None, boottime(), NEVER
        changed = self._context.health.away
        try:
            for duty in self._parts.duties:
                at = duty.due(now)
                if at <= now:
                    changed = True
                    duty.run(now)
                    now = boottime()
                elif at < next_at:
                    next_at = at
            self._parts.session.note_success()
            if not changed:
                self._next_at = next_at
        except (StoreError, OutcomeUnknown) as fault:
            self._parts.session.note_fault(fault)


def main() -> None:
    """Run `python -m queuectl.worker.agent --fd N`. A holder starts this command; a person never does."""
    parser = argparse.ArgumentParser(prog="queuectl agent")
    parser.add_argument("--fd", type=int, required=True)
    sock = socket.socket(fileno=parser.parse_args().fd)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the holder decides when the agent exits
    try:
        connection, welcome = connect(sock)
        Agent(assemble(connection, welcome)).run()
    except HolderGone:
        sys.exit(0)
    except QueuectlError as error:
        sys.stderr.write(f"queuectl: {error.message}\n")
        sys.exit(error.exit_code)
