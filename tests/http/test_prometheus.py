"""Prometheus itself reads the alerts, the queries of the board, and the metrics."""

import json
import subprocess
from pathlib import Path

import pytest

from http_client import Client
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest
from servers.programs import program

pytestmark = pytest.mark.proof
CONTRIB = Path(__file__).parents[2] / "contrib"


def promtool(*words: str | Path, given: bytes = b"") -> str:
    """The output of a call of promtool that finds no fault."""
    done = subprocess.run(
        [program("promtool"), *words],
        input=given,
        capture_output=True,
        check=False,
        cwd=CONTRIB / "prometheus",
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def test_the_alerts_are_raised_when_they_should_be_and_not_else() -> None:
    assert "SUCCESS: 10 rules found" in promtool("check", "rules", "queuectl.rules.yml")
    assert "SUCCESS" in promtool("test", "rules", "queuectl.test.yml")


def test_each_query_of_the_board_is_one_of_prometheus(tmp_path: Path) -> None:
    board = json.loads((CONTRIB / "grafana" / "queuectl.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(queries) >= len(board["panels"]) == 12
    rules = [{"record": f"query{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "board.yml"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    assert f"SUCCESS: {len(queries)} rules found" in promtool("check", "rules", file)


def test_prometheus_finds_no_fault_with_the_metrics(server: Client, queue: LocalQueue) -> None:
    queue.enqueue([JobRequest(command="true", queue="ma.il-1")])
    server("GET", "/v1/jobs")
    assert promtool("check", "metrics", given=server("GET", "/metrics").body) == ""
