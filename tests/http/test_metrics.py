"""The metrics: exact numbers for a known history, the bounds of labels, the cost, and an outage of the store."""

import http.client
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import apsw
import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as of_openmetrics
from prometheus_client.parser import text_string_to_metric_families as of_text

from factories import in_state, new_job
from facts import eventually
from http_client import Client
from metric_samples import ABOUT, Samples, samples, value
from queuectl import __version__
from queuectl.domain.job import STATES
from queuectl.domain.query import Filter
from queuectl.domain.queue import QueueChange
from queuectl.errors import StoreUnavailable
from queuectl.http.exposition import Gauge
from queuectl.http.health import Health, Result
from queuectl.http.metrics import Metrics
from queuectl.http.server_state import ServerState
from queuectl.http.store_metrics import QUEUES
from queuectl.service.figures import Writer
from queuectl.service.local_queue import LocalQueue
from queuectl.service.queue_status import QueueStatus
from queuectl.service.request.fields import JobRequest
from queuectl.service.settings import Sources
from queuectl.store.memory import MemoryStore
from queuectl.store.sqlite import SqliteStore
from service.scenes import heartbeat, put

ROOT = Path(__file__).parents[2]
JOBS = 200_000
OUTPUT = (("kind", "output"),)


def shown(store: MemoryStore | SqliteStore) -> Samples:
    """The metrics of a store, without a server."""
    vitals = LocalQueue(store, Sources({}, None, lambda text: None)).vitals()
    return samples(Metrics().text(Result(vitals, ABOUT), "", {})[0])


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


class TestNumbersOfTheStore:
    def test_jobs_by_queue_and_state(self, store: MemoryStore) -> None:
        for number, state in enumerate(STATES):
            if state != "blocked":
                put(store, f"a{number}", state=state)
        put(store, "b", queue="mail")
        found = shown(store)
        assert {state: value(found, "queuectl_jobs", queue="default", state=state) for state in STATES} == {
            state: float(state != "blocked") for state in STATES
        }
        assert value(found, "queuectl_jobs", queue="mail", state="pending") == 1
        assert value(found, "queuectl_jobs", queue="mail", state="dead") == 0
        assert value(found, "queuectl_jobs_enqueued_total") == len(STATES)

    def test_the_age_of_the_longest_waiting_due_job(self, store: MemoryStore) -> None:
        vitals = LocalQueue(store, Sources({}, None, lambda text: None)).vitals()
        queues = [
            QueueStatus("late", False, None, {"pending": 2}, vitals.now - timedelta(seconds=90)),
            QueueStatus("idle", False, None, {"pending": 1}),
            QueueStatus("early", False, None, {"pending": 1}, vitals.now + timedelta(seconds=1)),
        ]
        found = samples(Metrics().text(Result(replace(vitals, queues=queues), ABOUT), "", {})[0])
        ages = {
            name: value(found, "queuectl_queue_oldest_due_seconds", queue=name)
            for name in ("late", "idle", "early")
        }
        assert ages == {"late": 90, "idle": 0, "early": 0}

    def test_pause_and_limit(self, store: MemoryStore) -> None:
        queue = LocalQueue(store, Sources({}, None, lambda text: None))
        queue.change_queue("mail", QueueChange(paused=True))
        queue.change_queue("build", QueueChange(limit=3))
        found = shown(store)
        assert value(found, "queuectl_queue_paused", queue="mail") == 1
        assert value(found, "queuectl_queue_paused", queue="build") == 0
        assert value(found, "queuectl_queue_limit", queue="build") == 3
        assert ("queuectl_queue_limit", (("queue", "mail"),)) not in found

    def test_workers_slots_and_heartbeat(self, store: MemoryStore) -> None:
        heartbeat(store, "w1", count=3, busy=("a", "b"))
        heartbeat(store, "w2", count=2, state="draining")
        vitals = LocalQueue(store, Sources({}, None, lambda text: None)).vitals()
        silent = [
            replace(vitals.workers[0].worker, heartbeat=vitals.now - timedelta(seconds=age)) for age in (4, 9)
        ]
        workers = [
            replace(vitals.workers[0], worker=silent[0]),
            replace(vitals.workers[1]),
            replace(vitals.workers[0], worker=silent[1], state="lost"),
        ]
        found = samples(Metrics().text(Result(replace(vitals, workers=workers), ABOUT), "", {})[0])
        states = ("running", "draining", "paused", "lost")
        assert [value(found, "queuectl_workers", state=state) for state in states] == [1, 1, 0, 1]
        assert value(found, "queuectl_slots", state="processing") == 2
        assert value(found, "queuectl_slots", state="idle") == 3
        assert value(found, "queuectl_heartbeat_age_seconds") == 4

    def test_without_a_worker_no_heartbeat_is_invented(self, store: MemoryStore) -> None:
        assert ("queuectl_heartbeat_age_seconds", ()) not in shown(store)

    def test_what_store_it_is(self, store: MemoryStore) -> None:
        labels = {"version": __version__, "store": "sqlite", "durability": "power-safe"}
        assert value(shown(store), "queuectl_info", **labels) == 1
        assert value(shown(store), "queuectl_up") == 1
        assert value(shown(store), "queuectl_consuming") == 1

    def test_the_number_of_enqueued_jobs_never_falls(self, tmp_path: Path) -> None:
        store = SqliteStore(f"{tmp_path}/queue.db")
        store.migrate()
        store.add([in_state("completed", "a"), in_state("completed", "b")])
        queue = LocalQueue(store, Sources({}, None, lambda text: None))
        [_] = list(queue.delete(["a"]))
        [_] = list(queue.delete(["b"]))
        assert value(shown(store), "queuectl_jobs_enqueued_total") == 2
        store.close()

    def test_two_servers_and_a_restarted_one_show_the_same_counter(self, tmp_path: Path) -> None:
        store, other = (SqliteStore(f"{tmp_path}/queue.db") for _ in range(2))
        store.migrate()
        store.add([in_state("completed", "a"), new_job("b")])
        assert [value(shown(each), "queuectl_jobs_enqueued_total") for each in (store, other)] == [2, 2]
        other.add([new_job("c")])
        assert store.purge(Filter(), 10) == ["a"]
        store.close()
        restarted = SqliteStore(f"{tmp_path}/queue.db")
        assert [value(shown(each), "queuectl_jobs_enqueued_total") for each in (other, restarted)] == [3, 3]
        other.close()
        restarted.close()


class TestBounds:
    def test_the_queues_with_most_jobs_have_series_of_their_own(self, store: MemoryStore) -> None:
        vitals = LocalQueue(store, Sources({}, None, lambda text: None)).vitals()
        since = vitals.now - timedelta(seconds=7)
        queues = [QueueStatus(f"q{n}", False, 1, {"pending": n}, since) for n in range(QUEUES + 50)]
        queues.append(QueueStatus("other", False, None, {"pending": 9_000}))
        text, _ = Metrics().text(Result(replace(vitals, queues=queues), ABOUT), "", {})
        found = samples(text)
        named = {dict(labels)["queue"] for name, labels in found if name == "queuectl_jobs"}
        assert named == {"other", *(f"q{n}" for n in range(50, QUEUES + 50))}
        assert value(found, "queuectl_jobs", queue="other", state="pending") == 9_000 + sum(range(50))
        assert value(found, "queuectl_queue_oldest_due_seconds", queue="other") == 7
        assert len(found) < 8000

    def test_no_label_has_a_word_of_a_client(self, server: Client, queue: LocalQueue) -> None:
        secret = "canary-5f2c"
        request = JobRequest(
            command=f"echo {secret}", id=secret, tags=(secret,), unique_key=secret, batch=secret
        )
        queue.enqueue([request])
        server("GET", f"/v1/jobs/{secret}")
        server("GET", f"/{secret}")
        server("GET", f"/v1/jobs?state={secret}", User_Agent=secret)
        server.token = secret
        server("GET", "/v1/jobs")
        server.token = "view"
        assert secret.encode() not in server("GET", "/metrics").body

    def test_names_of_queues_are_escaped(self, store: MemoryStore) -> None:
        vitals = LocalQueue(store, Sources({}, None, lambda text: None)).vitals()
        name = 'a"b\\c\nd é'
        queues = [QueueStatus(name, False, None, {"pending": 1})]
        found = samples(Metrics().text(Result(replace(vitals, queues=queues), ABOUT), "", {})[0])
        assert value(found, "queuectl_jobs", queue=name, state="pending") == 1


class TestOutage:
    def test_the_last_numbers_are_not_repeated(self, server: Client, state: ServerState) -> None:
        server("GET", "/healthz")
        before = samples(server("GET", "/metrics").body)
        assert value(before, "queuectl_up") == 1

        class Away:
            def vitals(self) -> None:
                raise StoreUnavailable("away")

            describe = vitals

        state.health = Health()
        state.health.probe(Away())  # type: ignore[arg-type]
        after = samples(server("GET", "/metrics").body)
        assert value(after, "queuectl_up") == 0
        assert {name for name, _ in after if not name.startswith(("queuectl_http", "queuectl_store"))} == {
            "queuectl_up",
            "queuectl_info",
            "queuectl_auth_failures_total",
            "queuectl_streams",
        }
        assert value(after, "queuectl_http_requests_total", route="/healthz", status="200") == 1


class TestThisProcess:
    def test_requests_by_route_and_status(self, server: Client) -> None:
        for path in ("/v1/jobs/x", "/v1/jobs/y", "/v1/jobs", "/nothing"):
            server("GET", path)
        found = samples(server("GET", "/metrics").body)
        assert value(found, "queuectl_http_requests_total", route="/v1/jobs/{ref}", status="404") == 2
        assert value(found, "queuectl_http_requests_total", route="/v1/jobs", status="200") == 1
        assert value(found, "queuectl_http_requests_total", route="none", status="404") == 1
        assert value(found, "queuectl_http_seconds_count", route="/v1/jobs/{ref}") == 2

    def test_calls_of_the_store_by_verb(self, server: Client, queue: LocalQueue) -> None:
        queue.enqueue([JobRequest(command="true")])
        found = samples(server("GET", "/metrics").body)
        assert value(found, "queuectl_store_seconds_count", verb="add") == 1
        assert value(found, "queuectl_store_seconds_count", verb="due_since") >= 1
        assert ("queuectl_store_seconds_count", (("verb", "now"),)) not in found

    def test_an_open_stream_and_wrong_tokens_are_counted(
        self, server: Client, queue: LocalQueue, state: ServerState
    ) -> None:
        state.metrics.auth_failures = lambda: 3
        queue.enqueue([JobRequest(command="true", id="waits")])
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        headers = {"Authorization": "Bearer view", "Accept": "text/event-stream"}
        connection.request("GET", "/v1/jobs/waits/output", headers=headers)
        reply = connection.getresponse()
        assert reply.status == 200
        found = samples(server("GET", "/metrics").body)
        assert value(found, "queuectl_streams", kind="output") == 1
        assert value(found, "queuectl_auth_failures_total") == 3
        reply.close()
        connection.close()
        eventually(lambda: samples(server("GET", "/metrics").body)["queuectl_streams", OUTPUT] == 0)


class TestFormats:
    @pytest.mark.parametrize(
        ("accept", "kind"),
        [
            ("", "text/plain; version=0.0.4"),
            ("*/*", "text/plain; version=0.0.4"),
            ("text/plain; version=nonsense", "text/plain; version=0.0.4"),
            (
                "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.3",
                "application/openmetrics-text",
            ),
        ],
    )
    def test_the_format_follows_accept(self, server: Client, accept: str, kind: str) -> None:
        answer = server("GET", "/metrics", Accept=accept)
        assert answer.status == 200
        assert answer.headers["content-type"].startswith(kind)
        parse = of_openmetrics if kind.startswith("application") else of_text
        names = {family.name for family in parse(answer.body.decode())}
        assert {"queuectl_up", "queuectl_workers"} <= names

    def test_a_token_with_view_is_enough_and_none_is_not(self, server: Client) -> None:
        server.token = "view"
        assert server("GET", "/metrics").status == 200
        server.token = None
        assert server("GET", "/metrics").status == 401


def test_the_text_about_the_store_is_made_once_for_each_probe(store: MemoryStore) -> None:
    vitals = LocalQueue(store, Sources({}, None, lambda text: None)).vitals()
    queues = [QueueStatus(f"q{n}", False, 1, {"pending": n}) for n in range(QUEUES)]
    metrics, result = Metrics(), Result(replace(vitals, queues=queues), ABOUT)

    def cost(of: Result, accept: str) -> float:
        start = time.process_time()
        metrics.text(of, accept, {})
        return time.process_time() - start

    for accept in ("", "application/openmetrics-text"):
        first = cost(result, accept)
        assert min(cost(result, accept) for _ in range(5)) < first / 3
    other = Result(replace(vitals, queues=queues[:1]), ABOUT)
    assert b'"q1"' not in metrics.text(other, "", {})[0]


def test_a_first_request_with_200_queues_is_cheap(store: MemoryStore) -> None:
    vitals = LocalQueue(store, Sources({}, None, lambda text: None)).vitals()
    queues = [QueueStatus(f"q{n}", False, 1, {"pending": n}) for n in range(QUEUES)]

    def cost(accept: str) -> float:
        metrics, result = Metrics(), Result(replace(vitals, queues=queues), ABOUT)
        start = time.process_time()
        metrics.text(result, accept, {})
        return time.process_time() - start

    for accept in ("", "application/openmetrics-text"):
        assert min(cost(accept) for _ in range(5)) < 0.020


@pytest.mark.parametrize("generate", [generate_latest, generate_openmetrics])
def test_a_gauge_is_written_as_the_library_writes_it(generate: Callable[[CollectorRegistry], bytes]) -> None:
    ours = Gauge("queuectl_jobs", "Jobs", ["queue", "state"])
    theirs = GaugeMetricFamily("queuectl_jobs", "Jobs", labels=["queue", "state"])
    for queue, number in (('a"b\\c\nd é', 3), ("b", 0.5), ("c", 12_345_678), ("d", 0)):
        ours.add(number, queue, "dead")
        theirs.add_metric([queue, "dead"], number)

    class Registry(CollectorRegistry):
        def collect(self) -> Iterator[Metric]:
            yield theirs

    assert ours.text() == generate(Registry()).removesuffix(b"# EOF\n")


@pytest.fixture
def large(tmp_path: Path) -> Iterator[tuple[SqliteStore, Path]]:
    """A store with `JOBS` waiting jobs, copied by SQL from one; nothing here reads their specs."""
    path = tmp_path / "large.db"
    store = SqliteStore(path)
    store.migrate()
    store.add([new_job("first")])
    connection = apsw.Connection(str(path))
    columns = [row[1] for row in connection.execute("PRAGMA table_info(job)")]
    kept = [name for name in columns if name not in ("number", "id")]
    connection.execute(
        f"WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {JOBS}) "
        f"INSERT INTO job (number, id, {','.join(kept)}) "
        f"SELECT i, 'j' || i, {','.join(kept)} FROM job, n"
    )
    connection.close()
    yield store, path
    store.close()


def test_the_cost_does_not_grow_with_the_number_of_jobs(
    large: tuple[SqliteStore, Path], tmp_path: Path
) -> None:
    store, _ = large
    small = SqliteStore(tmp_path / "small.db")
    small.migrate()
    small.add([new_job("first")])
    assert value(shown(store), "queuectl_jobs", queue="default", state="pending") == JOBS

    def best(measured: SqliteStore) -> float:
        times = []
        for _ in range(20):
            start = time.process_time()
            shown(measured)
            times.append(time.process_time() - start)
        return min(times)

    little, much = best(small), best(store)
    small.close()
    assert much < 0.020
    assert much < 3 * little + 0.002, (much, little)


@pytest.mark.parametrize("file", ["prometheus/queuectl.rules.yml", "grafana/queuectl.json"])
def test_the_names_in_alerts_and_board_are_served(
    server: Client, queue: LocalQueue, state: ServerState, file: str
) -> None:
    text = (ROOT / "contrib" / file).read_text()
    queue.enqueue([JobRequest(command="true")])
    queue.change_queue("default", QueueChange(limit=3))
    writer, ended = Writer("w1.a"), in_state("completed")
    writer.count(None, ended, ended.updated_at)
    writer.write(queue._store)
    state.health.probe(queue)
    server("GET", "/healthz")
    found = server("GET", "/metrics").body.decode()
    served = set(re.findall(r"^(?:# TYPE )?(queuectl_\w+)", found, re.MULTILINE))
    named = set(re.findall(r"queuectl_\w+", text))
    assert len(named) > 5
    assert named - served == set()


def test_the_page_has_a_row_for_each_metric(server: Client, queue: LocalQueue) -> None:
    queue.enqueue([JobRequest(command="true")])
    server("GET", "/healthz")
    found = server("GET", "/metrics").body.decode()
    served = set(re.findall(r"^# TYPE (\w+) (\w+)$", found, re.MULTILINE))
    section = (ROOT / "docs/http.md").read_text().partition("\n### Metrics\n")[2]
    assert set(re.findall(r"^\| `(\w+)` \| (\w+) \|", section, re.MULTILINE)) == served


def test_each_alert_is_explained_where_its_runbook_leads() -> None:
    text = (ROOT / "contrib/prometheus/queuectl.rules.yml").read_text()
    alerts = re.findall(r"- alert: (\w+)", text)
    assert text.count("runbook: docs/operations.md#alerts") == len(alerts)
    section = (ROOT / "docs/operations.md").read_text().partition("\n## Alerts\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)`", section, re.MULTILINE) == alerts


def test_the_board_is_a_document_of_panels_with_queries() -> None:
    board = json.loads((ROOT / "contrib/grafana/queuectl.json").read_text())
    assert len(board["panels"]) == 12
    assert all(target["expr"] for panel in board["panels"] for target in panel["targets"])
