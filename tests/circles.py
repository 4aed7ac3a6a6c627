"""Which tests `make quick`, `make test` and `make proof` run, and on which stores: decided only here.

- `quick`: the rules, the command line and the store contract on memory and SQLite. No server is started.
- `test`: everything on SQLite, PostgreSQL, MongoDB, Redis and Redis with an archive. An end-to-end test that exists for
  several servers runs on SQLite and on one of them; the date chooses which one, and the variable KIND forces one.
- `proof`: every test. pytest alone, without `--circle`, runs this circle.

Two marks in test files move a test: `proof` keeps the test for the largest circle (elections, kills under load, sizes
that take long); `doubles` runs a test of the contract in `test` on the doubles too, once per verb.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from servers.bouncer import Bouncer

CIRCLES = ("quick", "test", "proof")
LOCAL = {"memory", "sqlite"}
SERVERS = ("postgres", "mongodb", "redis", "archived")
"""The kinds of server store, in the order in which the date chooses one for the end-to-end tests."""

DOUBLES = {"pooled", "replicas", "trio", "valkey", "cluster", "valkey_cluster"}
"""Kinds that repeat another kind behind other connections: the contract needs one test per verb there."""

ROTATING = ("replicas", "valkey", "cluster")
"""The doubles of which `test` runs another one each day: they repeat the tests of a store that runs each day."""

PARAMETERS = {"kind", "ground", "server", "cluster", "own_cluster", "pair", "product"}
"""The parameters of tests and fixtures whose value names a store."""

NAMES = {"redis_cluster": "cluster", "mongo_server": "mongodb", "mongo_set": "replicas"}
"""Values of these parameters that name a store by its fixture."""

FIXTURES = {
    "sqlite": "sqlite",
    "queuectl": "sqlite",
    "postgres_server": "postgres",
    "bouncer": "pooled",
    "mongo_server": "mongodb",
    "mongo_set": "replicas",
    "three_mongos": "trio",
    "redis_server": "redis",
    "valkey_server": "valkey",
    "redis_cluster": "cluster",
}
"""The kind of store that a test with this fixture uses."""

LIKE_END_TO_END = {
    "stores/test_away.py", "stores/test_secrets.py", "python/test_stores.py", "model/test_differential.py",
    "contract/test_filters.py",
}  # fmt: skip
"""Other files whose tests start programs or generate many cases, and exist for several servers: `test` runs them on the
chosen one too."""

KIND_OF_STORE = {"kind", "ground"}
"""The parameters of tests that name the kind of store."""

ON_SQLITE_ALONE = {"test_seeds.py", "test_unreadable.py", "TestStopping", "TestOutput"}
"""Files and classes of end-to-end tests that `test` runs on SQLite and leaves on servers to `proof`: they show no
guarantee of the table in CONTRIBUTING.md, and what they need of a store, the contract shows on each. A test for servers
alone runs on one."""

ELECTIONS = {"three_mongos", "own_cluster"}
"""Fixtures of servers that elect another one when one dies; that takes seconds each time."""

QUICK = ("domain", "service", "cli", "python", "contract", "test_architecture.py", "test_words.py")
NOT_QUICK = {
    "cli/test_hints.py", "cli/test_interrupt.py", "cli/test_output.py", "cli/test_waiting.py", "python/test_types.py",
}  # fmt: skip
"""Files of these folders whose tests start many processes, make ten thousand jobs, or check types."""

NOT_THROUGH_SERVER = NOT_QUICK | {
    "cli/test_bad_input.py", "cli/test_completion.py", "cli/test_lines.py", "cli/test_screens.py",
    "cli/test_terminal.py", "cli/test_texts.py",
}  # fmt: skip
"""Files whose repetition through a server is in `proof`: about the command line as a process, and about words and files
that a command reads or refuses before it sends a request."""

OF_SERVERS = ("test_postgres", "test_mongo", "test_redis", "test_archived")
"""How files are named that are about one server. Some of their tests start a server without a fixture named above."""

HARNESS = "servers"
KEPT_OF_HARNESS = {"test_proxy.py", "test_talk.py"}
"""The tests of the network proxy stay in `test`: with a wrong proxy every test of an outage is meaningless."""

LIMITS = {"quick": 60, "test": 240, "proof": 900}
"""Seconds after which a test fails with the stacks of all threads, its fixtures included. The mark `timeout` gives more
to a test whose own deadlines are longer. `test` runs eight processes at once, perhaps beside other programs: a test of
ten seconds took a minute there."""

DAY = "QUEUECTL_TEST_DAY"
"""The variable with the day that chooses among the cases of `turns`: the number of days since the year 1."""

ROOT = Path(__file__).parent
PROPERTY = "store"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--circle", choices=CIRCLES, default="proof", help="which tests to run: CONTRIBUTING.md")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.option.timeout is None:
        config.option.timeout = LIMITS[config.getoption("circle")]
    # A busy machine exceeds any deadline of an example. Generated cases are the same in each run but in `make proof`.
    profile = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile("tests", derandomize=config.getoption("circle") != "proof", **profile)
    settings.load_profile("tests")
    if config.getoption("circle") != "proof":
        # Hypothesis takes some values from the source of the modules that are loaded, and each process of xdist has
        # loaded other ones. There is no setting for this.
        providers._get_local_constants = Constants  # type: ignore[assignment]
    # The workers of xdist have to choose the same tests, also when midnight passes while they start.
    os.environ["KIND"] = chosen_server()
    os.environ.setdefault(DAY, str(date.today().toordinal()))


def chosen_server() -> str:
    """The server store of the end-to-end tests: KIND, or the one of this date."""
    given = os.environ.get("KIND", "")
    if given and given not in SERVERS:
        raise pytest.UsageError(f"KIND={given}: choose one of {', '.join(SERVERS)}")
    return given or SERVERS[date.today().toordinal() % len(SERVERS)]


def turns(cases: Iterable[Any], days: int) -> list[Any]:
    """The parameters of a test of which `make test` runs one in `days`: other ones each day, all in that time.

    For cases that show no guarantee of the table and differ little. `make proof` runs all of them.
    """
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=() if its_turn(n, days) else pytest.mark.proof,
        )
        for n, case in enumerate(cases)
    ]


def its_turn(number: int, days: int) -> bool:
    """Whether this is the day for the case with this number, which comes every so many days."""
    return (number + int(os.environ[DAY])) % days == 0


def on_other_days(items: Iterable[pytest.Item]) -> Iterator[pytest.Item]:
    """The repetitions that `test` leaves to other days: they show no guarantee that another test does not show.

    Of the doubles in ROTATING one each day; of the command line through a server a third each day.
    """
    doors = 0
    for item in items:
        doubles = repeated_on(item) & {*ROTATING}
        if doubles and not any(its_turn(ROTATING.index(each), len(ROTATING)) for each in doubles):
            yield item
        elif through_server(item):
            doors += 1
            if not its_turn(doors, 3):
                yield item


def repeated_on(item: pytest.Item) -> set[str]:
    """The kinds of store that a test is repeated on: its parameters name them."""
    callspec = getattr(item, "callspec", None)
    values = {value for name, value in callspec.params.items() if name in PARAMETERS} if callspec else set()
    return {NAMES.get(value, value) for value in values if isinstance(value, str)} & {
        *LOCAL,
        *SERVERS,
        *DOUBLES,
    }


def kinds_of(item: pytest.Item) -> set[str]:
    """All kinds of store that a test uses."""
    fixtures = getattr(item, "fixturenames", ())
    found = repeated_on(item) | {FIXTURES[name] for name in fixtures if name in FIXTURES}
    if "queuectl" in fixtures and len(found) > 1:
        found.discard("sqlite")  # the home of a command line names SQLite, and this test names another store
    return found


def through_server(item: pytest.Item) -> bool:
    """Whether this is the repetition of a test of the command line through a server."""
    callspec = getattr(item, "callspec", None)
    return callspec is not None and callspec.params.get("door") == "http"


@cache
def place_of(path: Path) -> Path:
    """A file of tests below this directory."""
    return path.relative_to(ROOT)


def circle_of(item: pytest.Item) -> str:
    """The smallest circle that a test belongs to."""
    place, kinds = place_of(item.path), kinds_of(item)
    if item.get_closest_marker("proof") or ELECTIONS & {*getattr(item, "fixturenames", ())}:
        return "proof"
    if through_server(item) and (place.as_posix() in NOT_THROUGH_SERVER or not kinds <= LOCAL):
        return "proof"
    if repeated_on(item) & DOUBLES and not item.get_closest_marker("doubles"):
        return "proof"
    if place.parts[0] == HARNESS and place.name not in KEPT_OF_HARNESS:
        return "proof"
    quick = place.parts[0] in QUICK and place.as_posix() not in NOT_QUICK and kinds <= LOCAL
    quick = quick and not place.name.startswith(OF_SERVERS) and not through_server(item)
    return "quick" if quick else "test"


def on_other_servers(items: Iterable[pytest.Item]) -> Iterator[pytest.Item]:
    """The end-to-end tests that `test` leaves out: the same test on servers that the date did not choose."""
    copies = defaultdict[object, dict[str, pytest.Item]](dict)
    for item in items:
        callspec = getattr(item, "callspec", None)
        named = KIND_OF_STORE & callspec.params.keys() if callspec and is_end_to_end(item) else ()
        for kind in named:
            others = tuple((name, repr(value)) for name, value in callspec.params.items() if name != kind)
            function = item.nodeid.partition("[")[0]
            copies[function, others][callspec.params[kind]] = item
    for same in copies.values():
        yield from (same[kind] for kind in {*SERVERS} & {*same} - {chosen_of(same)})


def is_end_to_end(item: pytest.Item) -> bool:
    """Whether the test starts programs, so that `test` repeats it on one server and not on each."""
    place = place_of(item.path).as_posix()
    return place.startswith("e2e/") or place in LIKE_END_TO_END


def chosen_of(same: Mapping[str, pytest.Item]) -> str | None:
    """The server on which `test` runs an end-to-end test that exists for these kinds; None: SQLite is enough."""
    if "sqlite" in same and names_of(same["sqlite"]) & ON_SQLITE_ALONE:
        return None
    chosen, present = os.environ["KIND"], [kind for kind in SERVERS if kind in same]
    if chosen in present or not present:
        return chosen
    return present[SERVERS.index(chosen) % len(present)]


def names_of(item: pytest.Item) -> set[str]:
    """The file and the class of a test."""
    return {item.path.name, getattr(getattr(item, "cls", None), "__name__", "")}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    circle = config.getoption("circle")
    wanted = CIRCLES[: CIRCLES.index(circle) + 1]
    kept = [item for item in items if circle_of(item) in wanted]
    left = (
        {id(item) for item in (*on_other_servers(kept), *on_other_days(kept))} if circle == "test" else set()
    )
    kept = [item for item in kept if id(item) not in left]
    for item in kept:
        longest = item.get_closest_marker("timeout")
        if longest and longest.args[0] < LIMITS[circle]:
            item.add_marker(pytest.mark.timeout(LIMITS[circle]), append=False)
        item.user_properties.extend((PROPERTY, kind) for kind in sorted(kinds_of(item)))
    chosen = {id(item) for item in kept}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in chosen])
    inside = getattr(config, "workerinput", None)
    items[:] = spread(mixed(kept), inside["workercount"]) if inside else kept


def spread(items: list[pytest.Item], processes: int) -> list[pytest.Item]:
    """The order in which the tests with the mark `waits` begin one after the other, and none near the end.

    xdist gives each process one part of the order, and a process without tests takes them from the end of another part.
    A long test at an end would leave one process alone. Long tests at the beginning of all parts would leave the
    machine without work.
    """
    long = [item for item in items if item.get_closest_marker("waits")]
    short = [item for item in items if not item.get_closest_marker("waits")]
    found = list[pytest.Item]()
    for n in range(processes):
        own = short[len(short) * n // processes : len(short) * (n + 1) // processes]
        step = len(own) * 2 // 3 // (len(long[n::processes]) + 1) + 1
        first = step * n // processes
        for place, item in enumerate(long[n::processes]):
            own.insert(first + place * step, item)
        found += own
    return found


def mixed(items: list[pytest.Item]) -> list[pytest.Item]:
    """The order for several processes at once.

    The files of each folder are spread over the whole run: some folders wait, others compute, and both together use the
    machine all the time. A file stays together, because fixtures of a module may be dear. The tests on one double stay
    together, so that one process starts its servers and not all.
    """
    folders = defaultdict[str, list[pytest.Item]](list)
    for item in items:
        folders[place_of(item.path).parts[0]].append(item)
    place = dict[Path, float]()
    for folder in folders.values():
        for n, item in enumerate(folder):
            place.setdefault(item.path, n / len(folder))

    def key(item: pytest.Item) -> float:
        doubles = repeated_on(item) & DOUBLES
        return sorted(DOUBLES).index(min(doubles)) / len(DOUBLES) if doubles else place[item.path]

    return sorted(items, key=key)


@pytest.fixture(scope="session")
def thorough(pytestconfig: pytest.Config) -> bool:
    """Whether this is `make proof`, so that a test which generates its cases generates three times as many."""
    return bool(pytestconfig.getoption("circle") == "proof")


def pytest_report_header(config: pytest.Config) -> list[str]:
    circle = config.getoption("circle")
    chosen = f"{os.environ['KIND']}; {DAY}={os.environ[DAY]}"
    server = f"; end-to-end tests on sqlite and {chosen}" if circle == "test" else ""
    return [f"circle: {circle}{server}", pooler()]


def pooler() -> str:
    """Whether the tests behind PgBouncer can run here."""
    if Bouncer.available():
        return "pgbouncer: installed"
    return "pgbouncer: MISSING, so no test ran behind it (Debian's package pgbouncer)"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    passed = terminalreporter.stats.get("passed", [])
    counts = Counter(kind for report in passed for name, kind in report.user_properties if name == PROPERTY)
    order = ("memory", "sqlite", *SERVERS, *sorted(DOUBLES))
    told = ", ".join(f"{kind} {counts[kind]}" for kind in order if counts[kind])
    terminalreporter.write_line(f"passed on stores: {told or 'none'}")
    if config.getoption("circle") != "quick":
        terminalreporter.write_line(pooler())
