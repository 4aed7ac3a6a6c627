"""Receives the messages of the holder and acts on them."""

from collections.abc import Callable
from typing import Any

from queuectl.clock import boottime
from queuectl.worker.agent.circuit_breaker import CircuitBreaker
from queuectl.worker.agent.context import Context
from queuectl.worker.agent.output import OutputShipper
from queuectl.worker.agent.progress import progress_of
from queuectl.worker.agent.renewal import Renewal
from queuectl.worker.agent.results import ResultRecorder
from queuectl.worker.agent.shutdown import Shutdown
from queuectl.worker.agent.store_time import StoreTime
from queuectl.worker.agent.translate import Ended
from queuectl.worker.protocol import (
    Bye,
    Drain,
    Dropped,
    Exited,
    Message,
    Output,
    Progress,
    Started,
    Stop,
    Trouble,
)


class Inbox:
    """Dispatches messages by their type. A type without a handler is ignored."""

    def __init__(
        self,
        context: Context,
        outputs: OutputShipper,
        recorder: ResultRecorder,
        breaker: CircuitBreaker,
        shutdown: Shutdown,
        time: StoreTime,
        renewal: Renewal,
        leave: Callable[[], None],
    ) -> None:
        self._context, self._outputs, self._recorder = context, outputs, recorder
        self._breaker, self._shutdown, self._time, self._leave = breaker, shutdown, time, leave
        self._renewal = renewal
        self._handlers: dict[type[Message], Callable[[Any, bytes], None]] = {
            Started: self._started,
            Output: lambda message, data: outputs.add(time.convert_output(message), data),
            Progress: self._progress,
            Exited: self._exited,
            Dropped: self._dropped,
            Trouble: self._trouble,
            Drain: lambda *_: shutdown.begin("drain"),
            Stop: lambda *_: shutdown.begin("stop"),
            Bye: lambda *_: self._bye(),
        }

    def handle(self, message: Message, payload: bytes) -> None:
        """Call the handler of one message."""
        handler = self._handlers.get(type(message))
        if handler is not None:
            handler(message, payload)

    def _started(self, message: Started, _: bytes) -> None:
        claim = self._context.claims.get(message.attempt_id)
        if claim is not None:
            claim.mark_started(message.slot, message.pid, self._time.convert(message.born, message.at))
            self._context.log.started(claim.job, message.slot, message.pid)

    def _progress(self, message: Progress, _: bytes) -> None:
        at = self._time.convert(None, message.at)
        self._renewal.report(progress_of(message._asdict(), at))

    def _exited(self, message: Exited, tail: bytes) -> None:
        """Handle the end of an attempt.

        For a short command the holder sends only `Exited`, so its start is logged here.
        """
        context = self._context
        claim = context.claims.pop(message.attempt_id)
        if claim is not None and claim.slot is None and message.pid:
            context.log.started(claim.job, message.slot or 0, message.pid)
        self._renewal.progress.remove(message.attempt_id)  # the result has the last one
        message = self._time.convert_end(message)
        self._recorder.add(Ended(message, tail, context.host, claim.job if claim else None))

    def _dropped(self, message: Dropped, _: bytes) -> None:
        for attempt_id in message.attempt_ids:
            self._give_back(attempt_id)

    def _trouble(self, message: Trouble, _: bytes) -> None:
        """Give the claim back and pause the worker, because the host cannot start commands. The job is not at fault."""
        self._give_back(message.attempt_id)
        reason = f"cannot start commands: {message.error}"
        seconds = self._breaker.open_for_host_fault(boottime(), reason)
        text = f"{reason}; pausing for {seconds:g} s"
        self._context.log.note("trouble", text, errno=message.errno)

    def _bye(self) -> None:
        self._leave()
        self._shutdown.begin("drain")

    def _give_back(self, attempt_id: str) -> None:
        claim = self._context.claims.pop(attempt_id)
        self._outputs.forget(attempt_id)
        if claim is not None:
            self._recorder.give_back(attempt_id, claim.job)
