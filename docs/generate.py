"""Rewrites what the documentation says of the code, from the code: `make docs`, or `python docs/generate.py [--check]`.

`cli.md` is written whole, from the parsers, the errors and the options. In the other pages only what stands between
`<!-- generated: NAME -->` and `<!-- end of NAME -->` is ours. The output depends on nothing but the source: no
width of a terminal, no version of Python, no clock. `tests/test_docs.py` fails while a page is stale.
"""

import argparse
import ast
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from queuectl import config, errors
from queuectl.cli.commands import ALIASES, COMMANDS, TO_COME, Command
from queuectl.cli.main import parser_of
from queuectl.cli.parser import Parser
from queuectl.cli.wait import NO_CODE, TIMED_OUT
from queuectl.domain import lifecycle, names
from queuectl.domain.job import STATES, TERMINAL
from queuectl.http.openapi import document
from queuectl.http.problem import CODES
from queuectl.http.routes import ROUTES
from queuectl.interrupt import INTERRUPTED
from queuectl.service.settings import WORDS
from queuectl.service.shapes import jobs, workers
from queuectl.store import protocol

DOCS = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py from the source. Change the source, then: make docs -->"
EVERYWHERE = "everywhere"


def main(arguments: Sequence[str]) -> int:
    """Write what has changed; with --check only say so, and exit with 1 if there is any."""
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text("utf-8") != text]
    for path in stale:
        print(path.relative_to(DOCS.parent))
        if "--check" not in arguments:
            path.write_text(pages()[path], "utf-8")
    return 1 if stale and "--check" in arguments else 0


def pages() -> dict[Path, str]:
    """Every page with a generated part, as it should read."""
    return {
        DOCS / "cli.md": cli(),
        DOCS / "http.md": filled(DOCS / "http.md", {"routes": routes, "codes": codes}),
        DOCS / "lifecycle.md": filled(DOCS / "lifecycle.md", {"diagram": diagram, "arrows": arrows}),
        DOCS / "store-contract.md": filled(DOCS / "store-contract.md", {"verbs": verbs, "answers": answers}),
        DOCS / "openapi.json": json.dumps(document(ROUTES), indent=1, ensure_ascii=False) + "\n",
    }


def filled(path: Path, parts: dict[str, Callable[[], str]]) -> str:
    """A page with its generated parts renewed. Raises ValueError when a marker is missing."""
    text = path.read_text("utf-8")
    for name, part in parts.items():
        begin, end = f"<!-- generated: {name} -->", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"{path}: the marker {begin if not found else end} is missing")
        text = f"{before}{begin}\n\n{part().strip()}\n\n{end}{after}"
    return text


# The life cycle


def diagram() -> str:
    """The states and the events between them, as mermaid draws them."""
    lines = ["```mermaid", "stateDiagram-v2"]
    for (source, target), events in _edges().items():
        lines.append(f"    {source} --> {target}: {', '.join(events)}")
    lines += [f"    {state} --> [*]" for state in STATES if state in TERMINAL]
    return "\n".join([*lines, "```"])


def _edges() -> dict[tuple[str, str], list[str]]:
    edges: dict[tuple[str, str], list[str]] = {}
    for arrow in lifecycle.ARROWS:
        events = edges.setdefault((arrow.source or "[*]", arrow.target), [])
        if arrow.event not in events:
            events.append(arrow.event)
    return edges


def arrows() -> str:
    """The same as a table, with the conditions."""
    rows = [
        (f"`{a.event}`", f"`{a.source}`" if a.source else "–", f"`{a.target}`", a.when)
        for a in lifecycle.ARROWS
    ]
    return table(("event", "from", "to", "when"), rows)


# HTTP


def routes() -> str:
    """Each route with the scope that it needs."""
    rows = [
        (f"`{route.method}`", f"`{route.path}`", f"`{route.scope}`" if route.scope else "–", route.summary)
        for route in ROUTES
    ]
    return table(("method", "path", "scope", ""), rows)


def codes() -> str:
    """Each code of an error with its status and the exit code of the command line."""
    rows = [(f"`{name}`", str(code.status), str(code.exit_code), code.title) for name, code in CODES.items()]
    return table(("code", "status", "exit code", ""), rows)


# The store contract


def verbs() -> str:
    """Each verb with its signature and what it promises."""
    parts = []
    for node in _class("Store").body:
        if isinstance(node, ast.FunctionDef):
            arguments = ast.unparse(node.args).removeprefix("self").removeprefix(", ")
            returns = ast.unparse(node.returns) if node.returns else "None"
            parts.append(
                f"### `{node.name}`\n\n```python\n{node.name}({arguments}) -> {returns}\n```\n\n{_told(node)}"
            )
    return "\n\n".join(parts)


def answers() -> str:
    """The small values that verbs take and answer."""
    values = [
        node.name for node in _protocol().body if isinstance(node, ast.ClassDef) and node.name != "Store"
    ]
    return "\n\n".join(f"### `{name}`\n\n{_told(_class(name))}" for name in values)


def _protocol() -> ast.Module:
    return ast.parse(Path(protocol.__file__).read_text("utf-8"))


def _class(name: str) -> ast.ClassDef:
    return next(node for node in _protocol().body if isinstance(node, ast.ClassDef) and node.name == name)


def _told(node: ast.FunctionDef | ast.ClassDef) -> str:
    """A docstring as markdown: lines of `name    meaning` become a list."""
    paragraphs = (ast.get_docstring(node) or "").split("\n\n")
    return "\n\n".join(_list(paragraph) if "   " in paragraph else paragraph for paragraph in paragraphs)


def _list(paragraph: str) -> str:
    lines = []
    for line in paragraph.splitlines():
        name, _, meaning = line.partition("  ")
        lines.append(f"  {line.strip()}" if line.startswith(" ") else f"- `{name}`: {meaning.strip()}")
    return "\n".join(lines)


# The command line

CONVENTIONS = """\
Data goes to stdout; messages, warnings and progress go to stderr. Tables and colour appear on a terminal only;
elsewhere a list has one line per row, tabs between the columns and no heading. `NO_COLOR` and `--color` apply, and
a closed pipe (`| head`) ends a command without a message. With `--json` stdout has one JSON document, also for an
error.

A JOB is an id, a number, a unique prefix of an id, or `@last` for the newest job.
Commands that take several jobs read ids from stdin for `-`.

Durations: `90` and `90s`, `1500ms`, `5m`, `2h30m`, `1d`, `2w`. Sizes: `512`, `64KiB`, `1MiB`, `2GB`. Times: RFC
3339, such as `2026-11-22T15:00:00Z`; `10:30` (the next time the clock shows it), `now` and `@1798761600` (seconds
since 1970). A time without a zone is local time, and the command says so. Where the clocks go forward, a skipped
time means the end of the gap; where they go back, a repeated time means the first of the two.

Lines for `enqueue -` and `--file` are shell commands, or JSON jobs if they begin with `{"`. Empty lines and lines
that begin with `#` are skipped, and a backslash at the end of a line joins it with the next line; with
`--plain-lines` each line is a command as it is. Byte order marks and line ends of Windows editors are removed."""

NAMES = f"""\
Ids of jobs and the names of queues, tags, batches and workers follow one rule, so that they fit into a URL, a file name
and a shell word: {names.RULE}. Only what makes a new name is checked; queues, tags and batches with other names, from
before this rule, can still be listed, selected and edited. Keys given with `--unique` are free text of at most 200
characters."""

PASSED_ON = f"""\
`wait` of one job, `enqueue --wait` and `enqueue --follow` exit with the command's own code, with 128 + n when signal n
killed it, {TIMED_OUT} when it ran longer than its timeout, and {NO_CODE} when there is no code to pass on (cancelled,
lost, could not start, no such job, or the wait itself timed out): stderr says which. `wait` for several jobs exits with
0 if all of them completed, else with 1."""

WHERE_FROM = """\
A value comes from the first of these that has one: the flag, the environment variable, the configuration file, the
store's shared settings, the default. `queuectl config list --origin` shows which one won. The file is the one that
`--config` names, else `./queuectl.toml`, else `$XDG_CONFIG_HOME/queuectl/config.toml`; a setting stands there by its
name: `max_retries = 5`, `lease = "1m"`."""

SHARED = """\
`queuectl config set` stores them for all clients and workers of the store. They apply to jobs that are enqueued and
attempts that are claimed afterwards; running workers read them with their next heartbeat. `max-retries` and
`max_retries` are the same."""

DOTENV = """\
A `.env` file in the working directory is read for `QUEUECTL_STORE`, `DATABASE_URL`, `MONGODB_URI` and `REDIS_URL`
alone, where these are not set already. Of the files in the working directory only those count that nobody else may have
written ([security](security.md#files-and-who-may-write-to-them)). A relative path in `QUEUECTL_STORE`, in `--store`
or in a file is relative to the working directory, and made absolute when it is read.

`DATABASE_URL`, `MONGODB_URI` and `REDIS_URL` by themselves choose no store: without `QUEUECTL_STORE` jobs are kept in
the default one, and `enqueue`, `worker start` and `status` say so.

A store is created by `enqueue`, `worker start`, `config set` and `doctor --create` alone, which say so. Looking at the
default store, or at a server, where there is none yet shows an empty queue and says that there is none; a file that was
named and is missing is an error (exit code 5). A queue in Redis with an archive is marked as one by looking, too."""

JSON = """\
Keys are added and never renamed; `schema` says so. Times are RFC 3339 in UTC, durations are seconds. `list` and `logs`
also know `--jsonl`: one document a line."""

JSON_NOTES = """\
Some keys are there so that a program can make the same values again. Of a job: `sort_key` is the number by which ready
jobs are ordered, `boost` the waiting time that one point of priority is worth, and `content` the digest of the request.
Of a worker: `slots` follows from the claims in the store, `reported` is the state and the slots that the worker itself
reported with its last heartbeat; `boot_id` and `directory` identify its host and its files. Of a queue in `status`:
`oldest_due` is the time since which its oldest job has been due, `oldest_due_seconds` its distance from `now`. An error
also has `index` if one of several requests is wrong, `ids` if the result of an enqueue is unknown, and `id`, `number`
and `reason` if a job cannot be read."""


def cli() -> str:
    """The whole page."""
    parts = [
        "# The command line",
        NOTE,
        CONVENTIONS,
        NAMES,
        "## Commands",
        _overview(),
        f"Still to come, and refused by name until then: {', '.join(f'`{word}`' for word in TO_COME)}.",
        *(_command(command) for command in COMMANDS.values()),
        "## Options of every command",
        _options(_group(parser_of(COMMANDS["status"]), EVERYWHERE)),
        "## Exit codes",
        _exit_codes(),
        "## Settings",
        _settings(),
        "## Environment",
        _environment(),
        "## JSON",
        _json(),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; bars inside cells are escaped."""
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def _overview() -> str:
    rows = [
        (f"[`{c.words}`](#{anchor(c)})", c.summary, ", ".join(f"`{a}`" for a in _aliases(c)))
        for c in COMMANDS.values()
    ]
    return table(("command", "what it does", "also"), rows)


def anchor(command: Command) -> str:
    """Where a command's section begins on the page."""
    return f"queuectl-{command.words.replace(' ', '-')}"


def _aliases(command: Command) -> list[str]:
    return [alias for alias, words in ALIASES.items() if words == command.words]


def _command(command: Command) -> str:
    parser = parser_of(command)
    own = [
        action
        for group in parser._action_groups
        if group.title != EVERYWHERE
        for action in group._group_actions
    ]
    parts = [
        f"### queuectl {command.words}",
        f"{_sentence(command.summary)}",
        f"```text\n{usage(parser)}\n```",
    ]
    if own:
        parts.append(_options(own))
    if parser.examples:
        lines = "\n\n".join(f"# {meaning}\n{line}" for line, meaning in parser.examples)
        parts.append(f"```sh\n{lines}\n```")
    return "\n\n".join(parts)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith("?") else ".")


def usage(parser: Parser) -> str:
    """One line; argparse would break it according to the terminal and to the version of Python."""
    if parser.usage:
        return parser.usage
    shown = [
        _positional(action) for action in parser._positionals._group_actions if not action.option_strings
    ]
    return " ".join([parser.prog, *shown, "[options]"])


def _positional(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest)
    forms = {"?": f"[{name}]", "*": f"[{name}…]", "+": f"{name}…"}
    return forms.get(str(action.nargs), name)


def _group(parser: Parser, title: str) -> list[argparse.Action]:
    return next(group._group_actions for group in parser._action_groups if group.title == title)


def _options(actions: Sequence[argparse.Action]) -> str:
    rows = [(_written(action), action.help or "") for action in actions if action.help != argparse.SUPPRESS]
    return table(("argument", "meaning"), rows)


def _written(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{_positional(action)}`"
    value = "" if action.nargs == 0 else f" {action.metavar or '|'.join(map(str, action.choices or ()))}"
    more = "…" if action.nargs == "+" else ""
    first, *others = sorted(action.option_strings, key=len, reverse=True)
    return ", ".join((f"`{first}{value}{more}`", *(f"`{name}`" for name in others)))


def _exit_codes() -> str:
    rows = [("0", "", "done")]
    rows += [
        (str(kind.exit_code), f"`{kind.code}`", _first_line(kind))
        for kind in sorted(_with_codes(), key=_by_code)
    ]
    rows.append((str(INTERRUPTED), "", "interrupted with Ctrl+C"))
    codes = "The word is `error.code` in the JSON document that `--json` prints in place of a result."
    return f"{table(('code', 'word', 'meaning'), rows)}\n\n{codes}\n\n{PASSED_ON}"


def _with_codes() -> Iterator[type[errors.QueuectlError]]:
    """The first error of the tree for each code: its meaning covers that of its subclasses."""
    seen = {errors.QueuectlError.code, errors.StoreError.code}
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.QueuectlError) and kind.code not in seen:
            seen.add(kind.code)
            yield kind


def _by_code(kind: type[errors.QueuectlError]) -> int:
    return kind.exit_code


def _first_line(kind: type[errors.QueuectlError]) -> str:
    return (kind.__doc__ or "").splitlines()[0]


def _settings() -> str:
    shared = [option for option in config.OPTIONS.values() if option.shared]
    own = [option for option in config.OPTIONS.values() if not option.shared]
    return "\n\n".join(
        (
            WHERE_FROM,
            "### Shared settings",
            SHARED,
            _setting_table(shared, "for one job"),
            *(f"Together: {sentence}." for sentence in _relations()),
            "### Settings of one program",
            "Set by flag, variable or file; never stored in the store.",
            _setting_table(own, "flag"),
        )
    )


def _setting_table(options: Sequence[config.Option], flag: str) -> str:
    rows = [
        (f"`{o.key}`", f"`{o.format(o.default)}`", _range(o), _flag(o), f"`{o.variable}`", o.help)
        for o in options
    ]
    return table(("setting", "default", "range", flag, "variable", "meaning"), rows)


def _range(option: config.Option) -> str:
    if option.choices:
        return ", ".join(f"`{choice}`" for choice in option.choices)
    return "" if option.low is None else f"{option.format(option.low)} to {option.format(option.high)}"


def _flag(option: config.Option) -> str:
    """The flag that carries the option for one call: of `enqueue` for shared ones, of any command for the others."""
    wanted = f"--{option.key.replace('_', '-').removesuffix('-ms')}"
    users = ["enqueue"] if option.shared else list(COMMANDS)
    given = any(wanted in parser_of(COMMANDS[words])._option_string_actions for words in users)
    return f"`{wanted}`" if given else ""


def _relations() -> Iterator[str]:
    """What is demanded of values together, found by asking for the most unsuitable ones."""
    values = {key: option.default for key, option in config.OPTIONS.items()}
    values |= {"heartbeat_interval": values["lease"]}
    for sentence in config.relations(values):
        yield sentence.partition(": ")[0].replace(" (30s)", "")


def _environment() -> str:
    words = ", ".join(f"`{word}` takes `{name}`" for word, (name, _) in WORDS.items())
    stores = "taken when the store is given as a word"
    folders = "where the default store and the configuration file are"
    rows = [
        ("`QUEUECTL_<SETTING>`", "every setting above; an empty value counts as not set"),
        ("`QUEUECTL_STORE`", "URL of the store; default `sqlite:///$XDG_DATA_HOME/queuectl/queue.db`"),
        (
            "`DATABASE_URL`, `MONGODB_URI`, `REDIS_URL`",
            f"{stores}: {words}, and `MONGODB_URI` as its archive",
        ),
        ("`XDG_DATA_HOME`, `XDG_CONFIG_HOME`", f"{folders}; default `~/.local/share`, `~/.config`"),
        ("`NO_COLOR`", "no colour, unless `--color always` asks for it"),
    ]
    inside = [
        (
            "`QUEUECTL_STORE`",
            "the worker's store as an absolute URL, unless that holds a password or a token",
        ),
        ("`QUEUECTL_JOB_ID`", "the id of the job"),
        ("`QUEUECTL_ATTEMPT`", "the number of this attempt, from 1"),
        (
            "`QUEUECTL_ATTEMPT_ID`",
            "the id of this attempt; also how processes that left their session are found again",
        ),
        ("`QUEUECTL_QUEUE`", "the queue it came from"),
        ("`QUEUECTL_WORKER`", "the name of the worker that runs it"),
        ("`QUEUECTL_SLOT`", "its slot in that worker, from 0: no other command that runs there now has it"),
    ]
    commands = "A command that a worker runs finds:"
    heads = ("variable", "meaning")
    return "\n\n".join((table(heads, rows), DOTENV, commands, table(heads, inside)))


def _json() -> str:
    rows = [
        ("`enqueue`", '`{"schema": 1, "jobs": [{"id", "number", "state", "existing"}]}`'),
        ("`show`, `status JOB`, `dlq show`, `enqueue --wait`", '`{"schema": 1, "job": {…}}`'),
        (
            "`list`, `dlq list`",
            '`{"schema": 1, "jobs": [{…}], "next": null or a cursor, "unreadable": [{"id", "number", "reason"}]}`',
        ),
        (
            "`status`",
            '`{"schema": 1, "store", "jobs", "queues", "slots", "without_slot", "workers", "last_hour", "attention", '
            '"now"}`',
        ),
        ("`worker list`", '`{"schema": 1, "workers": [{…}]}`'),
        ("`explain`", '`{"schema": 1, "job": the id, "state", "why": […], "next": […], "number"}`'),
        ("`doctor`", '`{"schema": 1, "ok", "checks": [{"name", "ok", "detail", "hint"}]}`'),
        ("`config list`", '`{"schema": 1, "settings": [{"key", "value", "origin", "help"}]}`'),
        ("an error", '`{"schema": 1, "error": {"code", "message", "hint"}}`, with the same exit code'),
    ]
    parts = (
        ("A job", jobs.JOB),
        ("An attempt", jobs.ATTEMPT),
        ("A worker", workers.WORKER),
        ("A slot", workers.SLOT),
    )
    lists = (f"{noun} has the keys {', '.join(f'`{key}`' for key in record.keys)}." for noun, record in parts)
    return "\n\n".join((JSON, table(("of", "document"), rows), *lists, JSON_NOTES))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
