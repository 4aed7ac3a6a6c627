"""Writes the generated parts of the documentation from the code: `make docs`, or `python docs/generate.py [--check]`.

A generated part of a page is between `<!-- generated: NAME -->` and `<!-- end of NAME -->`. The output depends on the
source alone: not on the width of a terminal, the version of Python, or the clock. `tests/test_docs.py` fails if a page
is stale.
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
from queuectl.service.shapes import jobs, workers
from queuectl.store import protocol

DOCS = Path(__file__).parent
EVERYWHERE = "everywhere"


def main(arguments: Sequence[str]) -> int:
    """Write the pages that have changed; with --check only name them. Returns 1 if --check finds one."""
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text("utf-8") != text]
    for path in stale:
        print(path.relative_to(DOCS.parent))
        if "--check" not in arguments:
            path.write_text(pages()[path], "utf-8")
    return 1 if stale and "--check" in arguments else 0


def pages() -> dict[Path, str]:
    """The text of each page that has a generated part."""
    return {
        DOCS / "cli.md": filled(DOCS / "cli.md", COMMAND_LINE),
        DOCS / "http.md": filled(DOCS / "http.md", {"routes": routes, "codes": codes}),
        DOCS / "lifecycle.md": filled(DOCS / "lifecycle.md", {"diagram": diagram, "arrows": arrows}),
        DOCS / "store-contract.md": filled(DOCS / "store-contract.md", {"verbs": verbs, "answers": values}),
        DOCS / "openapi.json": json.dumps(document(ROUTES), indent=1, ensure_ascii=False) + "\n",
    }


def filled(path: Path, parts: dict[str, Callable[[], str]]) -> str:
    """The page with new generated parts. Raises ValueError if a marker is missing."""
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
    """All transitions with their conditions, as a table."""
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
    """Each verb with its signature and its docstring."""
    parts = []
    for node in _class("Store").body:
        if isinstance(node, ast.FunctionDef):
            arguments = ast.unparse(node.args).removeprefix("self").removeprefix(", ")
            returns = ast.unparse(node.returns) if node.returns else "None"
            parts.append(
                f"### `{node.name}`\n\n```python\n{node.name}({arguments}) -> {returns}\n```\n\n{_docstring(node)}"
            )
    return "\n\n".join(parts)


def values() -> str:
    """The values that verbs take and return."""
    values = [
        node.name for node in _protocol().body if isinstance(node, ast.ClassDef) and node.name != "Store"
    ]
    return "\n\n".join(f"### `{name}`\n\n{_docstring(_class(name))}" for name in values)


def _protocol() -> ast.Module:
    return ast.parse(Path(protocol.__file__).read_text("utf-8"))


def _class(name: str) -> ast.ClassDef:
    return next(node for node in _protocol().body if isinstance(node, ast.ClassDef) and node.name == name)


def _docstring(node: ast.FunctionDef | ast.ClassDef) -> str:
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


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; bars inside cells are escaped."""
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def commands() -> str:
    """A table of the commands, then a section for each."""
    rows = [
        (f"[`{c.words}`](#{anchor(c)})", c.summary, ", ".join(f"`{a}`" for a in _aliases(c)))
        for c in COMMANDS.values()
    ]
    planned = f"Planned, and refused by name until then: {', '.join(f'`{word}`' for word in TO_COME)}."
    parts = (table(("command", "what it does", "also"), rows), planned, *map(_command, COMMANDS.values()))
    return "\n\n".join(parts)


def anchor(command: Command) -> str:
    """The anchor of the section of a command."""
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
    """The usage on one line. Argparse breaks it at the width of the terminal, and by the version of Python."""
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


def exit_codes() -> str:
    """The exit codes, with the word of each error."""
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


def shared_settings() -> str:
    """The settings that the store keeps, and what they must fulfil together."""
    shared = [option for option in config.OPTIONS.values() if option.shared]
    together = (f"Together: {sentence}." for sentence in _relations())
    return "\n\n".join((_setting_table(shared, "for one job"), *together))


def own_settings() -> str:
    """The settings of one program."""
    own = [option for option in config.OPTIONS.values() if not option.shared]
    return _setting_table(own, "flag")


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
    """The flag for one call: of `enqueue` for a shared setting, of any command for another one."""
    wanted = f"--{option.key.replace('_', '-').removesuffix('-ms')}"
    users = ["enqueue"] if option.shared else list(COMMANDS)
    given = any(wanted in parser_of(COMMANDS[words])._option_string_actions for words in users)
    return f"`{wanted}`" if given else ""


def _relations() -> Iterator[str]:
    """The conditions on several settings together, found with values that break them."""
    values = {key: option.default for key, option in config.OPTIONS.items()}
    values |= {"heartbeat_interval": values["lease"]}
    for sentence in config.relations(values):
        yield sentence.partition(": ")[0].replace(" (30s)", "")


def keys() -> str:
    """The keys of the larger documents."""
    parts = (
        ("A job", jobs.JOB),
        ("An attempt", jobs.ATTEMPT),
        ("A worker", workers.WORKER),
        ("A slot", workers.SLOT),
    )
    return "\n\n".join(
        f"{noun} has the keys {', '.join(f'`{key}`' for key in record.keys)}." for noun, record in parts
    )


COMMAND_LINE: dict[str, Callable[[], str]] = {
    "names": lambda: NAMES,
    "commands": commands,
    "options": lambda: _options(_group(parser_of(COMMANDS["status"]), EVERYWHERE)),
    "exit-codes": exit_codes,
    "shared-settings": shared_settings,
    "own-settings": own_settings,
    "keys": keys,
}
"""The generated parts of the page about the command line."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
