"""Each command does the same and says the same through a server as with the store.

One story is told twice: first to a store, then to a server before another store. The tests of `tests/cli` run a second
time through a server as well: in `make test` those that start no processes, in `make proof` all.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from difflib import unified_diff
from pathlib import Path

import pytest

from cli.acting import Actor
from cli.comparing import ELSEWHERE, lines
from cli.conftest import CommandLine, enter, front_door, through  # noqa: F401  a fixture
from queuectl.cli.commands import COMMANDS
from queuectl.http.server_state import ServerState

Step = tuple[str, ...] | Callable[[Actor], object]
"""A command line, or what a worker does meanwhile."""

STORY: tuple[Step, ...] = (
    ("enqueue", "--id", "a", "--tag", "t", "--batch", "n", "--timeout", "5m", "echo a"),
    ("enqueue", "--id", "a", "--tag", "t", "--batch", "n", "--timeout", "5m", "echo a"),
    ("enqueue", "--id", "a", "echo b"),
    ("enqueue", "--id", "b", "--queue", "mail", "--after", "a", "--json", "--", "ls", "-l"),
    ("enqueue", "--id", "c", "--retries", "0", "--unique", "k", '{"command": "false", "priority": 5}'),
    ("enqueue", "--unique", "k", "true"),
    ("enqueue", "--priority", "5000", "true"),
    ("enqueue", "--after", "nothing", "true"),
    ("enqueue", "--id", "d", "--dry-run", "--in", "1h", "true"),
    ("enqueue", "--id", "e", "--hold", "--batch", "n", "true"),
    ("enqueue", "--file", "jobs", "--keep-going"),
    ("show", "a"), ("show", "a", "--json"), ("show", "nothing"), ("show", "1"),
    ("list",), ("list", "--json"), ("list", "--state", "held"), ("list", "--jsonl", "--queue", "mail"),
    ("list", "--limit", "2", "--json"), ("list", "--state", "nonsense"), ("list", "--since", "1h"),
    ("status",), ("status", "--json"), ("status", "a"),
    ("explain", "b"), ("explain", "a", "--json"), ("explain", "@last"),
    ("queue", "pause", "mail"), ("queue", "pause", "mail"), ("queue", "limit", "mail", "2"), ("queue", "list"),
    ("queue", "list", "--json"), ("queue", "resume", "mail"), ("queue", "pause", "a,b"),
    ("config", "list"), ("config", "get", "lease"), ("config", "set", "max-retries", "5", "--json"),
    ("config", "set", "lease", "nonsense"), ("config", "get", "max_retries"),
    ("config", "unset", "max_retries"), ("config", "unset", "nothing"),
    ("edit", "c", "--priority", "7"), ("edit", "c", "--queue", "mail", "--json"), ("edit", "nothing", "--in", "5m"),
    ("hold", "c"), ("hold", "c"), ("release", "c", "--json"), ("release", "e", "a"),
    ("export", "f"), ("export", "f", "--json"), ("export", "--where", "state:held", "g", "--json"),
    ("export", "--where", "nonsense", "h"), ("import", "f"), ("import", "f", "--dry-run", "--json"), ("import", "h"),
    ("import", "jobs"),
    lambda actor: actor.take("a"),
    lambda actor: actor.prints("a", b"one\n", b"two\n"),
    ("logs", "a"), ("logs", "a", "--tail", "1"), ("edit", "a", "--priority", "1"), ("worker", "list"),
    lambda actor: actor.ends("a"),
    ("logs", "a", "--json"), ("logs", "-f", "a"), ("logs", "c"), ("logs", "nothing"), ("logs", "a", "--attempt", "7"),
    ("wait", "a"), ("wait", "a", "c", "--any"), ("wait", "c", "--timeout", "0.1s"), ("wait", "nothing"),
    lambda actor: actor.kills("c"),
    ("wait", "c"), ("dlq", "list"), ("dlq", "list", "--json"), ("dlq", "show", "c"), ("dlq", "show", "a"),
    ("retry", "a"), ("retry", "a", "--force"), ("dlq", "retry", "c"), ("retry", "c", "--json"),
    ("requeue", "a"), ("list", "--where", "-state:dead attempts:>0"), ("status", "--where", "cmd:~e", "--json"),
    ("hold", "--where", "cmd:~e", "--dry-run"), ("show", "1-3", "--json"), ("explain", "@last:2"), ("hold", "9-1"),
    lambda actor: actor.kills("c"),
    ("dlq", "retry", "--all", "--yes"),
    lambda actor: actor.kills("c"),
    ("dlq", "purge", "--yes"), ("dlq", "list", "--json"),
    ("cancel", "e", "--reason", "wrong"), ("cancel", "e"), ("cancel", "nothing"), ("show", "e"),
    ("cancel", "--batch", "n"), ("cancel", "--batch", "n", "--yes", "--json"), ("cancel", "--all", "--yes"),
    ("operation", "show", "nothing"), ("operation", "cancel", "nothing"), ("operation", "wait", "nothing"),
    ("operation", "list", "--nonsense"),
    ("delete", "e"), ("delete", "e"), ("delete", "a", "b", "--yes", "--json"),
    ("purge", "--older-than", "0s"), ("purge", "--older-than", "0s", "--yes", "--json"),
    lambda actor: actor.enters("w1"),
    lambda actor: actor.enters("w2", heartbeat=None),
    ("worker", "list"), ("worker", "list", "--json"), ("worker", "reload", "w1"), ("worker", "forget", "w1"),
    ("worker", "forget", "--all", "--json"), ("worker", "stop", "--timeout", "0.1s"), ("worker", "stop", "nobody"),
    ("token", "create", "wall", "--scope", "view", "-q"), ("token", "create", "wall", "--scope", "view"),
    ("token", "list"), ("token", "rotate", "wall"), ("token", "revoke", "wall"), ("token", "revoke", "wall"),
    ("schedule", "add", "s", "30 2 * * *", "--tz", "Europe/Berlin", "--timeout", "1m", "make s"),
    ("schedule", "add", "s", "30 2 * * *", "--tz", "Europe/Berlin", "--timeout", "1m", "make s", "--json"),
    ("schedule", "add", "s", "@daily", "make s"), ("schedule", "add", "t", "@every 1h", "--paused", "--", "ls", "-l"),
    ("schedule", "add", "s:t", "@daily", "true"), ("schedule", "add", "u", "61 * * * *", "true"),
    ("schedule", "add", "u", "@daily", "--end", "2020-01-01T00:00:00Z", "--not-on", "2020-01-01", "true"),
    ("schedule", "list"), ("schedule", "list", "--json"), ("schedule", "list", "--all"), ("schedule", "show", "s"),
    ("schedule", "show", "t", "--next", "2", "--json"), ("schedule", "show", "x"), ("schedule", "show", ""),
    ("schedule", "edit", "s", "--when", "0 3 * * *", "--priority", "7", "--not-on", "2030-01-01,2030-01-02"),
    ("schedule", "edit", "s", "--overlap", "allow", "--start", "2020-01-01T00:00:00Z", "--json"),
    ("schedule", "edit", "s", "--start", "none", "--queue", "a b"), ("schedule", "edit", "x", "--when", "@daily"),
    ("schedule", "pause", "s", "t", "--reason", "repair"), ("schedule", "pause", "s", "--json"),
    ("schedule", "pause", "x"),
    ("schedule", "resume", "s", "--catch-up"), ("schedule", "resume", "t", "--json"), ("schedule", "resume", "x"),
    ("schedule", "run", "s"), ("schedule", "run", "t", "--json"), ("schedule", "run", "t"),
    ("schedule", "run", "t", "--force"), ("schedule", "run", "x"), ("schedule", "history", "s"),
    ("schedule", "history", "s", "--json"), ("schedule", "history", "x"),
    ("schedule", "export"), ("schedule", "export", "s", "--json"), ("schedule", "export", "x"),
    ("schedule", "diff", "s.toml"), ("schedule", "apply", "s.toml", "--dry-run", "--json"),
    ("schedule", "apply", "s.toml"), ("schedule", "apply", "s.toml", "--json"), ("schedule", "diff", "s.toml"),
    ("schedule", "apply", "empty.toml", "--prune"), ("schedule", "apply", "wrong.toml"), ("schedule", "list", "--json"),
    ("schedule", "remove", "s"), ("schedule", "remove", "t", "u", "--cancel", "--json"), ("schedule", "remove", "s"),
    ("list", "--where", "schedule:t"),
    ("hook", "add", "h", "--on", "dead,failed", "--where", "queue:mail", "cat"),
    ("hook", "add", "h", "--on", "dead", "ls"),
    ("hook", "add", "h", "--on", "dead,failed", "--where", "queue:mail", "cat", "--json"),
    ("hook", "add", "u", "--on", "dead", "--url", "https://x.example/h", "--secret", "env:K", "--json"),
    ("hook", "add", "v", "--on", "nonsense", "cat"),
    ("hook", "add", "v", "--on", "dead", "--secret", "k", "--url", "x"), ("hook", "add", "v", "--on", "dead"),
    ("hook", "list"), ("hook", "list", "--json"), ("hook", "show", "h"), ("hook", "show", "u", "--json"),
    ("hook", "show", "x"), ("hook", "show", ""), ("hook", "pause", "h", "--reason", "r"), ("hook", "pause", "x"),
    ("hook", "resume", "h", "--json"), ("hook", "resume", "u", "--skip"), ("hook", "resume", "x"),
    ("hook", "test", "h"), ("hook", "test", "u", "--event", '{"event":"failed","job":"j"}', "--json"),
    ("hook", "test", "u", "--event", '{"event":"none"}'), ("hook", "test", "x"), ("config", "set", "events", "none"),
    ("hook", "apply", "h.toml", "--dry-run", "--json"), ("hook", "apply", "h.toml"),
    ("hook", "apply", "h.toml", "--json"), ("hook", "apply", "s.toml"), ("hook", "remove", "h"),
    ("hook", "remove", "u", "m", "--json"), ("hook", "remove", "h"), ("config", "set", "events", "none"),
    ("hook", "add", "h", "--on", "dead", "cat"), ("config", "unset", "events"),
    ("stats",), ("stats", "--by", "hour", "--queue", "q"), ("stats", "--since", "tomorrow"),
    ("stats", "--since", "1h", "--until", "2h", "--json"),
    ("events", "--type", "dead,retried"), ("events", "--where", "state:blocked", "--jsonl"),
    ("events", "--since", "1-2"),
    ("events", "--jsonl", "--limit", "3"), ("events", "--type", "deletd"), ("events", "--since", "2", "--limit", "2"),
    ("events", "--follow", "--since", "1h", "--limit", "4"), ("events", "--since", "x"),
    ("doctor",),
)  # fmt: skip

FILES = {
    "jobs": 'echo 1\n{"x": 1}\necho 2\n',
    "s.toml": """
owner = "ops"
[schedule.s]
when = "30 2 * * *"
timezone = "Europe/Berlin"
command = "make s"
[schedule.mine]
when = "@daily"
owner = "none"
not_on = [2030-01-01]
start = 2026-01-01T10:00:00
argv = ["true"]
paused = true
""",
    "h.toml": """
[hook.h]
on = ["dead", "failed"]
where = "queue:mail"
command = "cat"
[hook.m]
on = "dead"
url = "http://127.0.0.1:9/"
timeout = "5s"
""",
    "empty.toml": 'owner = "ops"\n',
    "wrong.toml": '[schedule.w]\nwhen = "@daily"\n',
}

OF_THE_WAY = re.compile(r"ok  (server|versions|clock of the server)  ")
"""What `doctor` adds about the way to a server."""


def told(queuectl: CommandLine, actor: Actor) -> Iterator[str]:
    """Tell the story; the lines that its commands say, without what differs from run to run."""
    for step in STORY:
        if callable(step):
            step(actor)
            continue
        code, out = queuectl.run(step)
        yield f"$ queuectl {' '.join(step)}  # {code}"
        yield from lines(out)
        yield from lines(queuectl.err)


def test_a_story_of_all_commands_is_the_same_through_a_server(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    front_door: ServerState,  # noqa: F811
) -> None:
    stories = []
    for name in ("one", "two"):
        home = tmp_path / name
        home.mkdir()
        enter(home, monkeypatch)
        for file, text in FILES.items():
            Path(file).write_text(text)
        line = CommandLine(home, capsys, monkeypatch)
        line("doctor", "--create")
        with through(front_door, line, monkeypatch) if name == "two" else nullcontext():
            actor = Actor(line.store())
            stories.append(list(told(line, actor)))
            actor.store.close()
    direct, remote = stories
    remote = [each for each in remote if not OF_THE_WAY.match(each)]
    difference = "\n".join(unified_diff(direct, remote, n=0, lineterm=""))
    assert not difference, difference


def test_the_story_has_all_commands() -> None:
    lines = [" ".join(step) for step in STORY if not callable(step)]
    told = {command for command in COMMANDS if any(line.startswith(command) for line in lines)}
    assert told == COMMANDS.keys() - ELSEWHERE.keys()
