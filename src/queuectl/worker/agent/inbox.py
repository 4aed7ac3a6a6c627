"""What the agent does with each message of the holder."""

from collections.abc import Callable

from queuectl.clock import boottime
from queuectl.worker.agent.circuit_breaker import CircuitBreaker
from queuectl.worker.agent.context import Context
from queuectl.worker.agent.output import OutputShipper
from queuectl.worker.agent.results import ResultRecorder
from queuectl.worker.agent.shutdown import Shutdown
from queuectl.worker.agent.store_time import StoreTime
from queuectl.worker.agent.translate import Ended
from queuectl.worker.protocol import Fields


class Inbox:
    """Dispatches messages by their type. Unknown types are ignored: the holder may be one version newer."""

    def __init__(
        self,
        context: Context,
        outputs: OutputShipper,
        recorder: ResultRecorder,
        breaker: CircuitBreaker,
        shutdown: Shutdown,
        time: StoreTime,
        leave: Callable[[], None],
    ) -> None:
        self._context, self._outputs, self._recorder = context, outputs, recorder
        self._breaker, self._shutdown, self._time, self._leave = breaker, shutdown, time, leave
        self._handlers: dict[str, Callable[[Fields, bytes], None]] = {
            "started": self._started,
            "output": outputs.add,
            "exited": self._exited,
            "dropped": self._dropped,
            "trouble": self._trouble,
            "drain": lambda *_: shutdown.begin("drain"),
            "stop": lambda *_: shutdown.begin("stop"),
            "bye": lambda *_: self._bye(),
        }

    def handle(self, message: Fields, payload: bytes) -> None:
        """Act on one message, its times translated to the store's clock."""
        handler = self._handlers.get(message["type"])
        if handler is not None:
            handler(self._time.translate(message), payload)

    def _started(self, message: Fields, _: bytes) -> None:
        claim = self._context.claims.get(message["attempt_id"])
        if claim is not None:
            claim.mark_started(message["slot"], message["pid"], message["at"])
            self._context.log.started(claim.job, message["slot"], message["pid"])

    def _exited(self, message: Fields, tail: bytes) -> None:
        """Of a short command the holder says only that it exited: then its start is logged now."""
        context, pid = self._context, message.get("pid")
        claim = context.claims.pop(message["attempt_id"])
        if claim is not None and claim.slot is None and pid:
            context.log.started(claim.job, message["slot"], pid)
        self._recorder.add(Ended(message, tail, context.host, claim.job if claim else None))

    def _dropped(self, message: Fields, _: bytes) -> None:
        for attempt_id in message["attempt_ids"]:
            self._give_back(attempt_id)

    def _trouble(self, message: Fields, _: bytes) -> None:
        """The host cannot start commands. That is no fault of the job, so the claim goes back and the worker pauses."""
        self._give_back(message["attempt_id"])
        reason = f"cannot start commands: {message['error']}"
        seconds = self._breaker.open_for_host_fault(boottime(), reason)
        text = f"{reason}; pausing for {seconds:g} s"
        self._context.log.note("trouble", text, errno=message.get("errno"))

    def _bye(self) -> None:
        self._leave()
        self._shutdown.begin("drain")

    def _give_back(self, attempt_id: str) -> None:
        claim = self._context.claims.pop(attempt_id)
        self._outputs.forget(attempt_id)
        if claim is not None:
            self._recorder.give_back(attempt_id, claim.job)
