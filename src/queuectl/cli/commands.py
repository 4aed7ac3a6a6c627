"""The commands by name, as `--help` lists them. The module of a command is imported when the command is run."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session

Runner = Callable[["Session"], int]


class Command(NamedTuple):
    """One command. `module` has its two functions: `<name>_options` adds the arguments, `<name>` runs the command.

    `creates`: the command creates a missing store. All other commands need an existing store.
    """

    words: str
    summary: str
    module: str
    name: str
    creates: bool = False

    def configure(self, parser: "Parser") -> None:
        """Add the command's options to a parser."""
        getattr(self._load(), f"{self.name}_options")(parser)

    def runner(self) -> Runner:
        """The function that runs the command."""
        run: Runner = getattr(self._load(), self.name)
        return run

    def _load(self) -> object:
        from importlib import import_module

        return import_module(f"queuectl.cli.{self.module}")


COMMANDS: dict[str, Command] = {
    command.words: command
    for command in (
        Command("enqueue", "add a command (or many) to the queue", "enqueue", "enqueue", creates=True),
        Command("status", "counts, queues and workers; with JOB: a summary of the job", "jobs", "status"),
        Command("show", "everything about a job, with its attempts", "jobs", "show"),
        Command("list", "jobs, newest first", "jobs", "list_"),
        Command("logs", "the output of a job; -f follows it", "logs", "logs"),
        Command("events", "what happened to jobs; -f follows it", "events", "events"),
        Command("wait", "wait for jobs; exits with the command's own code", "wait", "wait"),
        Command(
            "cancel", "cancel jobs: waiting ones never start, running ones are ended", "change", "cancel"
        ),
        Command("retry", "run dead, cancelled or failed jobs once more", "change", "retry"),
        Command("requeue", "run ended jobs once more, completed ones too", "change", "requeue"),
        Command("hold", "keep waiting jobs from starting", "change", "hold"),
        Command("release", "let held jobs start", "change", "release"),
        Command("edit", "change priority, time or queue of jobs that have not started", "change", "edit"),
        Command("delete", "delete ended jobs with their output", "change", "delete"),
        Command("dlq list", "jobs that failed for good", "dlq", "list_"),
        Command("dlq show", "everything about a dead job", "dlq", "show"),
        Command("dlq retry", "run dead jobs once more", "dlq", "retry"),
        Command("dlq purge", "delete dead jobs", "dlq", "purge"),
        Command("operation list", "changes of many jobs that go on in the background", "operation", "list_"),
        Command("operation show", "everything about an operation", "operation", "show"),
        Command("operation cancel", "stop an operation; what was done stays", "operation", "cancel"),
        Command("operation wait", "wait for the end of an operation", "operation", "wait"),
        Command("purge", "delete old ended jobs", "change", "purge"),
        Command("export", "write the queue to a file", "moving", "export"),
        Command("import", "bring an exported queue into the store", "moving", "import_", creates=True),
        Command(
            "worker start", "run jobs; Ctrl+C drains: running jobs finish", "worker", "start", creates=True
        ),
        Command("worker stop", "drain: finish running jobs and exit", "workers", "stop"),
        Command("worker list", "workers and what they run", "workers", "list_"),
        Command("worker reload", "start the installed version while commands continue", "workers", "reload"),
        Command("worker forget", "remove lost workers whose host no longer exists", "workers", "forget"),
        Command("serve", "an HTTP server in front of the store", "serve", "serve", creates=True),
        Command("progress", "report the progress of a job, from its command", "progress", "progress"),
        Command("stats", "how many jobs ended, how long they waited and ran", "stats", "stats"),
        Command("queue list", "queues with their counts and limits", "queue", "list_"),
        Command("queue pause", "start no more jobs from a queue", "queue", "pause"),
        Command("queue resume", "start jobs from a queue again", "queue", "resume"),
        Command("queue limit", "limit how many jobs of a queue run at once", "queue", "limit"),
        Command(
            "schedule add",
            "enqueue a command again and again, by a rule of time",
            "schedule",
            "add",
            creates=True,
        ),
        Command("schedule edit", "change a schedule", "schedule", "edit"),
        Command("schedule list", "schedules with their next and last run", "schedule_look", "list_"),
        Command("schedule show", "everything about a schedule", "schedule_look", "show"),
        Command("schedule history", "what became of the last instants", "schedule_look", "history"),
        Command("schedule preview", "the instants of a rule, without a store", "schedule_look", "preview"),
        Command("schedule pause", "fire nothing, and miss nothing", "schedule_act", "pause"),
        Command("schedule resume", "go on with the next instant", "schedule_act", "resume"),
        Command("schedule run", "run the job of a schedule now", "schedule_act", "run"),
        Command("schedule remove", "remove schedules; their jobs stay", "schedule_act", "remove"),
        Command(
            "schedule apply",
            "add, change and remove schedules as in a file",
            "schedule_file",
            "apply",
            creates=True,
        ),
        Command("schedule diff", "what an apply would change", "schedule_file", "diff"),
        Command("schedule export", "print a file of schedules", "schedule_file", "export"),
        Command("schedule import", "print a crontab as a file of schedules", "schedule_file", "import_"),
        Command(
            "hook add",
            "run a command or call a URL when something happens to jobs",
            "hook",
            "add",
            creates=True,
        ),
        Command("hook list", "hooks with their counts, and which ones fail", "hook", "list_"),
        Command("hook show", "everything about a hook", "hook", "show"),
        Command("hook pause", "add no more jobs for events", "hook_act", "pause"),
        Command("hook resume", "go on with the events of the pause", "hook_act", "resume"),
        Command("hook test", "deliver a made-up event", "hook_act", "test"),
        Command("hook remove", "remove hooks; their jobs stay", "hook_act", "remove"),
        Command("hook apply", "add and change hooks as in a file", "hook", "apply", creates=True),
        Command("config list", "all settings", "config", "list_"),
        Command("config get", "one setting", "config", "get"),
        Command("config set", "write a shared setting", "config", "set_", creates=True),
        Command("config unset", "reset a setting to its default", "config", "unset"),
        Command("token create", "make a token for the HTTP server", "token", "create", creates=True),
        Command("token list", "tokens, what they allow and when they were used", "token", "list_"),
        Command("token revoke", "delete tokens", "token", "revoke"),
        Command("token rotate", "give a token a new secret", "token", "rotate"),
        Command("token local", "the token of a server of yours on this host", "token", "local"),
        Command("login", "keep the token for a server", "login", "login"),
        Command("logout", "delete the token for a server", "login", "logout"),
        Command("explain", "why a job is in its state, and what comes next", "explain", "explain"),
        Command("doctor", "check the store and this host", "doctor", "doctor"),
        Command("demo", "a demonstration on a temporary store, in under 30 s", "demo", "demo"),
        Command("completion", "completion script for a shell", "completion", "completion"),
    )
}

UNLISTED = {
    "__complete": Command("__complete", "the candidates for a word", "completion", "candidates"),
    "hook deliver": Command("hook deliver", "send an event to a URL", "hook_deliver", "deliver"),
}
"""Commands for the completion scripts, and for the jobs of webhooks. The help does not list them."""

ALIASES = {
    "submit": "enqueue",
    "add": "enqueue",
    "ls": "list",
    "worker:start": "worker start",
    "worker:stop": "worker stop",
}

TO_COME = (
    "batch", "limit", "result", "top", "move",
    "dashboard",
)  # fmt: skip
OPTIONS_TO_COME = {"--where": ("logs",)}
"""Planned options and the commands that will have them. Until then such an option is refused with its name."""

MEANT = {
    "clean": "queuectl purge --older-than 7d",
    "clear": "queuectl purge --older-than 7d",
    "follow": "queuectl logs -f JOB",
    "info": "queuectl show JOB",
    "jobs": "queuectl list",
    "kill": "queuectl cancel JOB",
    "log": "queuectl logs JOB",
    "output": "queuectl logs JOB",
    "pause": "queuectl queue pause QUEUE, or: queuectl hold JOB",
    "ps": "queuectl status, or: queuectl list --state processing",
    "push": "queuectl enqueue 'COMMAND'",
    "put": "queuectl enqueue 'COMMAND'",
    "queues": "queuectl queue list",
    "remove": "queuectl delete JOB, or, while it has not ended: queuectl cancel JOB",
    "rerun": "queuectl retry JOB",
    "restart": "queuectl retry JOB, or for workers: queuectl worker reload",
    "resume": "queuectl queue resume QUEUE, or: queuectl release JOB",
    "rm": "queuectl delete JOB, or, while it has not ended: queuectl cancel JOB",
    "run": "queuectl enqueue --follow 'COMMAND'",
    "shutdown": "queuectl worker stop",
    "start": "queuectl worker start, or for a held job: queuectl release JOB",
    "stash": "queuectl hold JOB",
    "stop": "queuectl worker stop, or for a job: queuectl cancel JOB",
    "tail": "queuectl logs -f JOB",
    "unpause": "queuectl queue resume QUEUE",
    "version": "queuectl --version",
    "workers": "queuectl worker list",
    "worker restart": "queuectl worker reload",
    "worker status": "queuectl worker list",
    "worker kill": "queuectl worker stop --now",
    "worker run": "queuectl worker start",
}
"""Names of commands of other queue programs, and the corresponding command of queuectl."""


def groups() -> Iterator[str]:
    """The first words of two-word commands: dlq, operation, worker, queue, schedule, hook, config, token."""
    return iter(dict.fromkeys(words.split()[0] for words in COMMANDS if " " in words))
