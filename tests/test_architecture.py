"""The rules of the architecture, checked in the source: imports, sizes of files and functions, docstrings.

An exception stands in a list here with its reason. One that is no longer needed fails too, so the lists only shrink.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from queuectl.service.hooks.api import Hooks
from queuectl.service.queue import Queue
from queuectl.service.schedules.api import Schedules
from queuectl.store.driver.notifier import Source
from queuectl.store.protocol import Store

SOURCE = Path(__file__).parents[1] / "src"
PACKAGE = SOURCE / "queuectl"

Tree = ast.Module
Function = ast.FunctionDef | ast.AsyncFunctionDef


# Allowed imports

FOR_DRIVERS = ("store.protocol", "store.driver")

FOR_BOTH_PROGRAMS = ("worker.protocol", "worker.nonblocking", "worker.wording")
"""The modules that the holder and the agent share, besides `worker.host`."""

LAYERS: dict[str, tuple[str, ...]] = {
    # module or package: the modules of queuectl that it may import, besides itself
    "errors": (),
    "clock": (),
    "crashpoint": (),
    "interrupt": (),
    "terminal": (),
    "trust": (),
    "domain": ("errors",),
    "config": ("domain", "trust", "errors"),
    "store.protocol": ("domain", "errors"),
    "store.driver": ("store.protocol", "domain", "clock", "interrupt", "errors"),
    "store.memory": ("store.protocol", "store.driver", "domain", "clock", "errors"),
    "store.sqlite": (*FOR_DRIVERS, "domain", "clock", "trust", "errors"),
    "store.postgres": (*FOR_DRIVERS, "domain", "clock", "errors"),
    "store.mongo": (*FOR_DRIVERS, "domain", "clock", "errors"),
    "store.redis": (*FOR_DRIVERS, "domain", "clock", "errors"),
    "store.redis_archive": (*FOR_DRIVERS, "store.redis", "store.mongo", "domain", "clock", "errors"),
    "store": (),
    "service": ("store.protocol", "config", "domain", "clock", "crashpoint", "interrupt", "trust", "errors"),
    "bootstrap": (
        "store.protocol",
        "store.sqlite",
        "store.postgres",
        "store.mongo",
        "store.redis",
        "store.redis_archive",
        "store.memory",
        "http.client",
        "service",
        "config",
        "errors",
    ),
    "worker.protocol": (),
    "worker.nonblocking": (),
    "worker.wording": (),
    "worker.progress_line": (),
    "worker.server_channel": (),
    "worker.host": ("worker.protocol", "clock", "trust"),
    "worker.holder": (
        *FOR_BOTH_PROGRAMS,
        "worker.server_channel",
        "worker.progress_line",
        "worker.host",
        "clock",
        "crashpoint",
        "trust",
    ),
    "worker.agent": (
        *FOR_BOTH_PROGRAMS,
        "worker.host",
        "bootstrap",
        "service",
        "store.protocol",
        "config",
        "domain",
        "clock",
        "crashpoint",
        "terminal",
        "trust",
        "errors",
        "",
    ),
    "worker": (),
    "this_host": ("worker.host", "bootstrap", "service", "domain", "clock", "trust", "errors", ""),
    "cli": (
        "this_host",
        "bootstrap",
        "service",
        "config",
        "interrupt",
        "domain",
        "clock",
        "terminal",
        "trust",
        "errors",
        "",
    ),
    "http.client": ("service", "config", "domain", "clock", "trust", "errors", ""),
    "http": (
        "bootstrap",
        "service",
        "config",
        "domain",
        "clock",
        "interrupt",
        "terminal",
        "trust",
        "errors",
        "",
    ),
    "python": ("this_host", "bootstrap", "service", "config", "domain", "errors"),
    "__main__": ("cli",),
    "": ("python", "errors"),
}
"""The law. `""` is the package itself: its version, and the names of the Python API, loaded at first use."""

SIDEWAYS = {
    ("cli.worker", "worker.host.process_table"): "knows of a worker of this host that it has died",
    ("cli.progress", "worker.progress_line"): "writes the line that a holder reads",
    ("cli.serve", "http.assembly"): "becomes the server, as `cli.worker` becomes the worker",
    ("cli.serve", "http.supervision"): "becomes the server of a worker",
    ("cli.server_options", "http.options"): "names the options of a server",
    ("cli.start_serving", "http.options"): "checks the options of a server before the worker starts",
    ("cli.start_serving", "http.bind_rules"): "checks where a server may listen before the worker starts",
    (
        "cli.start_serving",
        "http.listen",
    ): "opens the sockets, which the server of a worker gets from its holder",
    (
        "http.supervision",
        "worker.server_channel",
    ): "talks with the holder of the worker that started the server",
    ("cli.login", "http.client.credentials"): "the file in which a client of a server keeps its tokens",
    ("cli.token", "http.client.credentials"): "knows the port in the URL of a server",
    ("cli.token", "http.client.local_file"): "finds the token of a server of this user",
    (
        "http.client.local_file",
        "worker.host.process_table",
    ): "knows whether the process of a server is the same",
    ("http.local_token", "worker.host.process_table"): "says which process the server is",
}
"""Front ends do not import each other, except these."""

THIRD_PARTY = {
    "apsw": ("store.sqlite",),
    "psycopg": ("store.postgres",),
    "pymongo": ("store.mongo", "store.redis_archive"),
    "bson": ("store.mongo", "store.redis_archive"),
    "redis": ("store.redis", "store.redis_archive"),
    "msgspec": ("domain", "store", "service", "config", "cli", "worker", "python", "http"),
    "starlette": ("http",),
    "uvicorn": ("http",),
    "prometheus_client": ("http.metrics", "http.store_metrics", "http.exposition"),
    "rich": ("cli",),
    "shtab": ("cli.completion",),
    "cronsim": ("domain.recurrence",),
    "dotenv": ("service.settings", "cli.enqueue"),
}
"""The layers that may import a library."""

PURE = frozenset(
    (
        "abc",
        "base64",
        "bisect",
        "collections",
        "dataclasses",
        "datetime",
        "difflib",
        "enum",
        "functools",
        "graphlib",
        "hashlib",
        "hmac",
        "itertools",
        "math",
        "re",
        "tomllib",
        "typing",
        "zoneinfo",
    )
)
"""The standard modules without input, output or side effects. `zoneinfo` reads only the data of time zones."""

IMPURE_CALLS = frozenset(("now", "utcnow", "today", "open", "print", "input", "exec", "eval", "getenv"))


class Import(NamedTuple):
    """One name that a module imports. `for_types`: under TYPE_CHECKING, so never while the program runs."""

    target: str
    for_types: bool


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by name, `queuectl.` left out."""
    return {_name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(module: str) -> Tree:
    return ast.parse(modules()[module].read_text("utf-8"))


@cache
def imports_of(module: str) -> tuple[Import, ...]:
    return tuple(_imports(tree_of(module).body, for_types=False))


def _imports(body: list[ast.stmt], *, for_types: bool) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, for_types) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (Import(_target(node.module or "", alias.name), for_types) for alias in node.names)
        else:
            types = for_types or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
            for block in ("body", "orelse", "finalbody"):
                yield from _imports(getattr(node, block, []), for_types=types)
            for handler in getattr(node, "handlers", []):
                yield from _imports(handler.body, for_types=for_types)


def _target(module: str, name: str) -> str:
    """The target of `from module import name`: the name if it is a module of queuectl, otherwise `module`."""
    return f"{module}.{name}" if _ours(f"{module}.{name}") in modules() else module


def _ours(name: str) -> str | None:
    """A module's name without `queuectl.`; None for a stranger."""
    head, _, rest = name.partition(".")
    return rest if head == "queuectl" else None


def our_imports(module: str) -> dict[str, bool]:
    """The modules of queuectl that a module imports, and whether only for types."""
    found: dict[str, bool] = {}
    for item in imports_of(module):
        target = _ours(item.target)
        if target is not None:
            found[target] = found.get(target, True) and item.for_types
    return found


def foreign_imports(module: str) -> set[str]:
    return {item.target.partition(".")[0] for item in imports_of(module) if _ours(item.target) is None}


def within(module: str, *places: str) -> bool:
    return any(module == place or (place and module.startswith(place + ".")) for place in places)


def layer_of(module: str) -> str:
    return max((layer for layer in LAYERS if layer == module or (layer and within(module, layer))), key=len)


def reached(start: str) -> set[str]:
    """All modules of queuectl that are loaded with a module or by one of its functions."""
    seen, open_ends = {start}, [start]
    while open_ends:
        fresh = our_imports(open_ends.pop()).keys() - seen
        seen |= fresh
        open_ends += fresh
    return seen


def test_a_layer_imports_only_the_layers_below() -> None:
    wrong = [
        f"{module} imports {target}"
        for module in modules()
        for target in our_imports(module)
        if not within(target, layer_of(module), *LAYERS[layer_of(module)])
        and target not in LAYERS[layer_of(module)]
        if (module, target) not in SIDEWAYS
    ]
    assert not wrong, wrong


def test_every_allowed_import_between_equal_layers_is_used() -> None:
    unused = [pair for pair in SIDEWAYS if pair[1] not in our_imports(pair[0])]
    assert not unused, unused


def test_no_modules_import_each_other_in_a_cycle() -> None:
    """An import inside a function counts; one for types alone does not."""
    needs = {
        module: [target for target, for_types in our_imports(module).items() if not for_types and target]
        for module in modules()
    }
    while loadable := [
        module for module, targets in needs.items() if not any(target in needs for target in targets)
    ]:
        for module in loadable:
            del needs[module]
    assert not needs, f"in a circle or behind one: {sorted(needs)}"


def test_the_domain_imports_only_errors_pure_modules_and_two_pure_libraries() -> None:
    wrong = {m: foreign_imports(m) - PURE - {"msgspec", "cronsim"} for m in modules() if within(m, "domain")}
    assert not {m: names for m, names in wrong.items() if names}
    assert not [
        m
        for m in modules()
        if within(m, "domain")
        for t in our_imports(m)
        if not within(t, "domain", "errors")
    ]


def test_the_domain_reads_no_clock_and_has_no_side_effects() -> None:
    wrong = [
        f"{module}:{node.lineno} calls {ast.unparse(node.func)}"
        for module in modules()
        if within(module, "domain")
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in IMPURE_CALLS
    ]
    assert not wrong, wrong


def test_front_ends_import_of_the_store_only_the_protocol() -> None:
    wrong = [
        f"{module} imports {target}"
        for module in modules()
        if within(module, "cli", "http", "python", "worker", "service")
        for target in our_imports(module)
        if within(target, "store") and target != "store.protocol"
    ]
    assert not wrong, wrong


def test_clients_use_the_queue_and_never_a_store() -> None:
    """Everything that a client needs is a method of `service.queue.Queue`, so that a remote queue can offer the
    same."""
    clients = [module for module in modules() if within(module, "cli", "http", "python")]
    wrong = [(m, t) for m in clients for t in our_imports(m) if within(t, "store")]
    wrong += [
        (module, f"line {node.lineno}: {ast.unparse(node)}")
        for module in clients
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in STORE_ACCESS
    ]
    assert not wrong, wrong


STORE_ACCESS = (
    "session.store",
    "self._session.store",
    "session._store",
    "queue._store",
    "bootstrap.open_store",
)


def test_drivers_do_not_import_the_layers_above() -> None:
    above = ("service", "cli", "worker", "bootstrap", "config", "http")
    drivers = {layer for layer in LAYERS if layer.startswith("store.")} - set(FOR_DRIVERS)
    wrong = [(m, t) for m in modules() if within(m, "store") for t in our_imports(m) if within(t, *above)]
    wrong += [
        (m, t)
        for m in modules()
        for driver in drivers - {COMPOSED}
        if within(m, driver)
        for t in our_imports(m)
        if within(t, *(drivers - {driver}))
    ]
    assert not wrong, wrong


COMPOSED = "store.redis_archive"
"""A store that is made of two others."""


def test_only_the_bootstrap_imports_drivers() -> None:
    drivers = [layer for layer in LAYERS if layer.startswith("store.") and layer not in FOR_DRIVERS]
    named = {m for m in modules() for t in our_imports(m) if within(t, *drivers) and not within(m, "store")}
    assert named == {"bootstrap"}


@pytest.mark.parametrize("library", THIRD_PARTY)
def test_a_library_is_imported_only_in_its_layers(library: str) -> None:
    users = [module for module in modules() if library in foreign_imports(module)]
    assert users, f"{library} is not used any more: take it out of pyproject.toml"
    assert [module for module in users if not within(module, *THIRD_PARTY[library])] == []


def test_only_declared_libraries_are_imported() -> None:
    known = sys.stdlib_module_names | THIRD_PARTY.keys()
    assert {name for module in modules() for name in foreign_imports(module)} <= known


def test_the_holder_imports_only_the_standard_library() -> None:
    foreign = {name for module in reached("worker.holder.__main__") for name in foreign_imports(module)}
    assert foreign <= sys.stdlib_module_names, foreign - sys.stdlib_module_names


def test_the_holder_loads_no_library_that_an_upgrade_could_replace() -> None:
    script = "import sys, queuectl.worker.holder.main; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "selectors" in loaded
    assert not loaded & (THIRD_PARTY.keys() | {"logging", "asyncio", "sqlite3"})


# Sizes

LONGEST_FILE = 450
LONGEST_FUNCTION = 50

LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS = {
    "python.queue.Queue.enqueue": "a table: the arguments of a job, one a line, and what each means",
}


def functions_of(module: str) -> Iterator[tuple[str, Function]]:
    """Every function of a module with its dotted name; those inside functions belong to these."""

    def walk(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Function]]:
        for node in body:
            if isinstance(node, Function):
                yield f"{prefix}.{node.name}", node
            elif isinstance(node, ast.ClassDef):
                yield from walk(node.body, f"{prefix}.{node.name}")
            elif isinstance(node, ast.If):
                yield from walk(node.body + node.orelse, prefix)

    yield from walk(tree_of(module).body, module)


def _length(node: Function) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def test_no_file_is_too_long() -> None:
    long = {m for m, path in modules().items() if len(path.read_text("utf-8").splitlines()) > LONGEST_FILE}
    assert long == LONG_FILES.keys()


def test_no_function_is_too_long() -> None:
    long = {
        name
        for module in modules()
        for name, node in functions_of(module)
        if _length(node) > LONGEST_FUNCTION
    }
    assert long == LONG_FUNCTIONS.keys()


def test_most_files_and_functions_are_short() -> None:
    files = sorted(len(path.read_text("utf-8").splitlines()) for path in modules().values())
    lengths = sorted(_length(node) for module in modules() for _, node in functions_of(module))
    assert files[len(files) // 2] <= 120
    assert lengths[len(lengths) * 9 // 10] <= 20


def test_no_file_has_a_name_without_meaning() -> None:
    nothing = {"utils", "util", "helpers", "helper", "common", "misc", "base", "tools"}
    assert not [module for module in modules() if nothing & set(module.split("."))]


# Docstrings

VERBS = frozenset(name for name in vars(Store) if not name.startswith("_"))
"""Told once, in the contract: drivers carry no docstrings of their own for these."""

SOURCE = frozenset(name for name in vars(Source) if not name.startswith("_"))
"""Told once, in `store.driver.notifier.Source`: its implementations carry no docstrings of their own for these."""

QUEUES = (
    "service.local_queue",
    "service.local_figures",
    "service.local_operations",
    "service.local_tables",
    "http.client.remote_queue",
    "http.client.operating",
)
METHODS = frozenset(name for name in vars(Queue) if not name.startswith("_"))
"""Told once, in `service.queue.Queue`: its implementations carry no docstrings of their own for these."""

OF_SCHEDULES = ("service.schedules.local", "http.client.schedules")
SCHEDULES = frozenset(name for name in vars(Schedules) if not name.startswith("_"))
"""Told once, in `service.schedules.api.Schedules`: its implementations carry no docstrings of their own for these."""

OF_HOOKS = ("service.hooks.local", "http.client.hooks")
HOOKS = frozenset(name for name in vars(Hooks) if not name.startswith("_"))
"""Told once, in `service.hooks.api.Hooks`: its implementations carry no docstrings of their own for these."""

CALLBACKS = frozenset(name for name in vars(HttpToolsProtocol) if not name.startswith("_"))
"""Told by asyncio and httptools, which call them."""

UNTOLD = {
    "cli.parser.Parser.error": "argparse tells what it is for",
    "cli.parser.Parser.format_help": "argparse tells what it is for",
}


def _public(module: str) -> Iterator[tuple[str, ast.AST]]:
    def walk(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.AST]]:
        for node in body:
            if (
                isinstance(node, Function | ast.ClassDef)
                and not node.name.startswith("_")
                and not _overload(node)
            ):
                yield f"{prefix}.{node.name}", node
                if isinstance(node, ast.ClassDef):
                    yield from walk(node.body, f"{prefix}.{node.name}")

    yield from walk(tree_of(module).body, module)


def _overload(node: Function | ast.ClassDef) -> bool:
    """A signature for the type checker alone; the function itself follows."""
    return any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list)


def test_every_public_name_has_a_docstring() -> None:
    silent = {
        name
        for module in modules()
        for name, node in _public(module)
        if not ast.get_docstring(node)  # type: ignore[arg-type]
        if not (
            within(
                module,
                "store.driver",
                "store.memory",
                "store.sqlite",
                "store.postgres",
                "store.mongo",
                "store.redis",
                "store.redis_archive",
            )
            and name.rpartition(".")[2] in VERBS
        )
        if not (within(module, "store") and name.rpartition(".")[2] in SOURCE)
        if not (within(module, "http.guard", "http.connection") and name.rpartition(".")[2] in CALLBACKS)
        if not (within(module, *OF_SCHEDULES) and name.rpartition(".")[2] in SCHEDULES)
        if not (within(module, *OF_HOOKS) and name.rpartition(".")[2] in HOOKS)
        if not (within(module, *QUEUES) and name.rpartition(".")[2] in METHODS)
    }
    assert silent == UNTOLD.keys()


def test_every_module_has_a_docstring() -> None:
    silent = [m for m, path in modules().items() if path.stat().st_size and not ast.get_docstring(tree_of(m))]
    assert not silent, silent


# Waiting and catching

SLEEPS = {
    "store.sqlite.connect.Patience": "SQLite calls it again and again while it waits for a lock: ≤ 10 ms each",
    "store.sqlite.schema._patiently": "the one moment of a schema change under a foreign lock: 5 ms each",
    "store.sqlite.directory._lock_directory": "a lock of a directory (flock) has no wait with a deadline: 10 ms each",
}
"""A sleep cannot be interrupted. Everywhere else a wait is on a pipe, an event or the store, with a deadline."""

CATCHES_ALL = {
    "http.app._Endpoint._answered": "the top of a request: an unexpected exception is logged and answered with 500",
    "cli.main._answer": "the top of a command: an unexpected exception is told in one line, or as JSON",
    "store.sqlite.writer.Writer._serve": "whatever happens to one transaction is the answer to all that wait for it",
    "store.sqlite.writer.Writer._perform": "what one operation raises is its own caller's, not its neighbours'",
    "store.redis_archive.archiver.Archiver._run": "the top of a thread: the fault is kept for `background_fault`",
    "http.carrier.Carrier._carry": "the top of a task: the fault is logged, and the workers carry on the operation",
    "http.health.Health._run": "the top of a thread: without it an old result would be shown for ever",
    "worker.agent.renewal.Renewal._run": "the top of a thread: without it a worker would live on and renew nothing",
}


def _places(module: str) -> Iterator[tuple[str, ast.AST]]:
    """Every node with the function that holds it."""
    for name, function in functions_of(module):
        for node in ast.walk(function):
            yield name, node


def test_no_code_sleeps_where_it_could_wait() -> None:
    found = {
        name
        for module in modules()
        for name, node in _places(module)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
    }
    assert {_listed(name, SLEEPS) for name in found} == SLEEPS.keys()


def test_all_exceptions_are_caught_only_at_the_top_of_a_loop() -> None:
    found = {
        name
        for module in modules()
        for name, node in _places(module)
        if isinstance(node, ast.ExceptHandler) and _catches_all(node) and not _goes_on(node)
    }
    assert found == CATCHES_ALL.keys()


def _listed(name: str, names: dict[str, str]) -> str:
    """The entry that means this function: itself, or its class."""
    return next((entry for entry in names if within(name, entry)), name)


def _catches_all(node: ast.ExceptHandler) -> bool:
    if node.type is None:
        return True
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(ast.unparse(kind) in ("Exception", "BaseException") for kind in kinds)


def _goes_on(node: ast.ExceptHandler) -> bool:
    """Clearing up and raising it again is no catching."""
    last = node.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None
