"""The rows of the HTTP server: `make bench ARGS=http`. `--scale 0.01` makes each of them that much smaller."""

import http.client
import json
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

from bench.place import QUEUECTL, Place, place
from bench.rows import Row, cpu, enqueue_noops, finish, listed, pairs, pile, rss, timed

JOBS, LINES, NOOPS = 3000, 20_000, 5000
FINISHED, WAITING = 1_000_000, 100_000
CLIENTS, CLIENT_LINES = 32, 1000
REST = 10.0
"""Seconds for which an idle server is watched."""
JOB = json.dumps({"command": "true"}).encode()


class Server:
    """A running `queuectl serve`, and requests to it over connections that stay open."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str, token: str) -> None:
        self.process, self.url, self.token = process, url, token

    def connect(self) -> http.client.HTTPConnection:
        """A new connection."""
        parts = urlsplit(self.url)
        assert parts.hostname
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=600)

    def send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None = None,
        kind: str = "application/json",
    ) -> bytes:
        """The body of the answer. Raises RuntimeError for an error."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        answer = reply.read()
        if reply.status >= 400:
            raise RuntimeError(f"{method} {path}: {reply.status} {answer[:300]!r}")
        return answer


@contextmanager
def server(here: Place) -> Iterator[Server]:
    """A server in front of the store of a place, while the block lasts."""
    here.env["XDG_RUNTIME_DIR"] = str(here.root)
    token = here.run("token", "create", "bench", "--scope", "admin").strip()
    process = subprocess.Popen(
        [str(QUEUECTL), "serve", "--port", "0", "--json"],
        env=here.env,
        cwd=here.root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout
        yield Server(process, json.loads(process.stdout.readline())["url"], token)
    finally:
        process.terminate()
        process.wait(60)
        if process.stdout:
            process.stdout.close()


def post(scale: float) -> Row:
    """`POST /v1/jobs`, one request after the other."""
    return _posts(int(JOBS * scale), 1, 300)


def post_many(scale: float) -> Row:
    """`POST /v1/jobs` by many clients at once."""
    return _posts(int(JOBS * scale), CLIENTS, 900)


def _posts(count: int, clients: int, goal: int) -> Row:
    each = max(1, count // clients)
    with place() as here, server(here) as running:

        def client(_: int) -> None:
            connection = running.connect()
            for _ in range(each):
                running.send(connection, "POST", "/v1/jobs", JOB)
            connection.close()

        client(0)
        with ThreadPoolExecutor(clients) as pool:
            seconds = timed(lambda: list(pool.map(client, range(clients))))
    rate = each * clients / seconds
    return Row("", f"{rate:.0f} jobs/s", f"≥ {goal}/s", rate >= goal, f"{clients} clients, {each} jobs each")


def bulk(scale: float) -> Row:
    """JSON lines in one request, against the same lines through `enqueue -` into SQLite."""
    count = int(LINES * scale)
    lines = b"".join(json.dumps({"command": f"echo {i}"}).encode() + b"\n" for i in range(count))
    with place() as here, server(here) as running, place() as direct:

        def ours() -> float:
            connection = running.connect()
            seconds = timed(lambda: running.send(connection, "POST", "/v1/jobs", lines, "application/jsonl"))
            connection.close()
            return seconds

        ratios, a, b = pairs(ours, lambda: timed(lambda: _pipe(direct, lines)))
    ratio = statistics.median(ratios)
    detail = f"{count / statistics.median(a):.0f} against {count / statistics.median(b):.0f} lines/s"
    return Row("", f"{ratio:.2f} × enqueue -", "≥ 0.50", ratio >= 0.5, f"{detail}; pairs {listed(ratios)}")


def client(scale: float) -> Row:
    """`enqueue -` of 1,000 lines through the server, against the same into SQLite."""
    lines = b"".join(b"echo %d\n" % i for i in range(max(10, int(CLIENT_LINES * scale))))
    with place() as here, server(here) as running, place() as direct:
        ratios, a, b = pairs(
            lambda: timed(lambda: _pipe(here, lines, "--store", running.url)),
            lambda: timed(lambda: _pipe(direct, lines)),
            count=9,
        )
    ratio = statistics.median(ratios)
    detail = f"{1000 * statistics.median(a):.0f} against {1000 * statistics.median(b):.0f} ms"
    return Row("", f"{ratio:.2f} × direct", "≥ 0.50", ratio >= 0.5, f"{detail}; pairs {listed(ratios)}")


def _pipe(here: Place, lines: bytes, *options: str) -> None:
    command = [str(QUEUECTL), *options, "enqueue", "-"]
    subprocess.run(command, env=here.env, cwd=here.root, input=lines, stdout=subprocess.DEVNULL, check=True)


def cold(scale: float) -> Row:
    """One `enqueue` through the server, a process of its own, against the same on SQLite."""
    with place() as here, server(here) as running, place() as direct:

        def ours() -> float:
            return timed(lambda: here.run("--store", running.url, "enqueue", "true"))

        def floor() -> float:
            return timed(lambda: direct.run("enqueue", "true"))

        ours(), floor()
        _, a, b = pairs(ours, floor, count=max(3, int(25 * scale)))
    mine, least = 1000 * statistics.median(a), 1000 * statistics.median(b)
    detail = f"{mine:.0f} ms against {least:.0f} ms"
    return Row("", f"+ {mine - least:.0f} ms", "≤ + 60 ms", mine - least <= 60, detail)


def worker(scale: float) -> Row:
    """Commands from `worker start` to its end beside an idle server, against the same without a server."""
    count = max(10, int(NOOPS * scale))

    def drained(here: Place) -> float:
        enqueue_noops(here, count)
        return timed(lambda: here.run("worker", "start", "--drain", "--count", "2", "--quiet"))

    def beside() -> float:
        with place() as here, server(here):
            return drained(here)

    def alone() -> float:
        with place() as here:
            return drained(here)

    ratios, a, b = pairs(beside, alone)
    ratio = statistics.median(ratios)
    detail = f"{count / statistics.median(a):.0f} against {count / statistics.median(b):.0f} jobs/s"
    return Row("", f"{ratio:.2f} × alone", "≥ 0.95", ratio >= 0.95, f"{detail}; pairs {listed(ratios)}")


def pages(scale: float) -> Row:
    """`/metrics`, the probe behind it, and `/v1/status` on a store with a long past."""
    finished, waiting = int(FINISHED * scale), int(WAITING * scale)
    with place() as here:
        pile(here, finished)
        pile(here, waiting)
        finish(here, finished)
        with server(here) as running:
            connection = running.connect()
            metrics, status = (
                _milliseconds(running, connection, path) for path in ("/metrics", "/v1/status")
            )
            probe = json.loads(running.send(connection, "GET", "/readyz"))["checks"]["store"]["ms"]
            connection.close()
    figure = f"metrics {metrics:.1f}, probe {probe:.1f}, status {status:.0f} ms"
    met = metrics + probe <= 20 and status <= 100
    detail = f"{finished:,} finished, {waiting:,} pending; medians of 20"
    return Row("", figure, "≤ 20 in all, ≤ 100 ms", met, detail)


def _milliseconds(running: Server, connection: http.client.HTTPConnection, path: str) -> float:
    return 1000 * statistics.median(timed(lambda: running.send(connection, "GET", path)) for _ in range(20))


def rest(scale: float) -> Row:
    """Memory and CPU share of a server that nobody asks."""
    with place() as here, server(here) as running:
        threading.Event().wait(3 * scale)
        before, start = cpu(running.process.pid), time.monotonic()
        threading.Event().wait(max(1.0, REST * scale))
        share = (cpu(running.process.pid) - before) / (time.monotonic() - start)
        memory = rss(running.process.pid) / 1024**2
    figure = f"{100 * share:.2f} % of a core, {memory:.0f} MB"
    return Row("", figure, "≤ 0.3 %, ≤ 90 MB", share <= 0.003 and memory <= 90, f"{os.cpu_count()} cores")


HTTP: dict[str, Callable[[float], Row]] = {
    "http-post": post,
    "http-post-many": post_many,
    "http-bulk": bulk,
    "http-client": client,
    "http-cold": cold,
    "http-worker": worker,
    "http-pages": pages,
    "http-rest": rest,
}
