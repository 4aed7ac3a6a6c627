"""Schedules over HTTP: the routes, their scopes, versions, and what a caller sees of a template."""

from http_client import Client
from queuectl.domain.query import Filter
from queuectl.service.local_queue import LocalQueue

PATH = "/v1/schedules/backup"
BACKUP = {"when": "30 2 * * *", "timezone": "Europe/Berlin", "job": {"command": "make backup"}}


def test_put_adds_and_then_replaces(server: Client) -> None:
    added = server("PUT", PATH, BACKUP)
    assert (added.status, added.document["schedule"]["description"]) == (201, "At 02:30 every day")
    assert len(added.document["schedule"]["next"]) == 5
    again = server("PUT", PATH, {**BACKUP, "overlap": "queue"})
    assert (again.status, again.document["schedule"]["overlap"]) == (200, "queue")
    assert [each["name"] for each in server("GET", "/v1/schedules").document["schedules"]] == ["backup"]


def test_a_wrong_field_is_named(server: Client) -> None:
    for wrong, field in (
        ({"when": "61 * * * *"}, "when"),
        ({"timezone": "Mars/Base"}, "timezone"),
        ({"overlap": "never"}, "overlap"),
        ({"job": {"command": "true", "colour": "red"}}, "colour"),
        ({"job": {"command": "true", "unique_key": "x"}}, "unique_key"),
    ):
        answer = server("PUT", PATH, {**BACKUP, **wrong})
        assert answer.status == 400
        assert field in answer.document["detail"]
    assert server("GET", PATH).status == 404


def test_a_schedule_is_changed_only_in_the_version_of_if_match(server: Client) -> None:
    tag = server("PUT", PATH, BACKUP).headers["etag"]
    assert server("PATCH", PATH, {"overlap": "allow"}, **{"If-Match": tag}).status == 200
    for method, body in (("PATCH", {"overlap": "skip"}), ("PUT", BACKUP), ("DELETE", None)):
        assert server(method, PATH, body, **{"If-Match": tag}).status == 412
    assert server("GET", PATH).document["schedule"]["overlap"] == "allow"


def test_pause_resume_run_history_and_delete(server: Client, queue: LocalQueue) -> None:
    server("PUT", PATH, BACKUP)
    paused = server("POST", f"{PATH}/pause", {"reason": "repair"}).document["schedule"]
    assert (paused["paused"]["reason"], paused["next"]) == ("repair", None)
    assert server("POST", f"{PATH}/resume", {"catch_up": True}).document["schedule"]["paused"] is None
    [job] = server("POST", f"{PATH}/run").document["jobs"]
    assert server("POST", f"{PATH}/run").status == 409
    assert server("POST", f"{PATH}/run", {"force": True}).status == 201
    assert server("GET", f"{PATH}/history?limit=3").document["decisions"] == []
    assert server("DELETE", f"{PATH}?cancel=true").status == 204
    assert queue.show(job["id"]).state == "cancelled"
    assert server("DELETE", PATH).status == 404


def test_a_run_that_is_sent_again_with_its_key_adds_no_second_job(server: Client, queue: LocalQueue) -> None:
    server("PUT", PATH, BACKUP)
    body = {"key": f"{1:026x}"}
    answers = [server("POST", f"{PATH}/run", body) for _ in range(2)]
    assert [each.status for each in answers] == [201, 201]
    assert answers[0].document == answers[1].document
    assert queue.counts(Filter()).total() == 1
    assert server("POST", f"{PATH}/run", {"key": "20261130T023000Z"}).status == 400


def test_add_apply_and_diff(server: Client) -> None:
    new = {"name": "backup", **BACKUP}
    added = server("POST", "/v1/schedules", new)
    assert (added.status, added.document["existing"]) == (201, False)
    again = server("POST", "/v1/schedules", new)
    assert (again.status, again.document["existing"]) == (200, True)
    assert server("POST", "/v1/schedules", {**new, "when": "@daily"}).status == 409
    file = {"owner": "ops", "schedule": {"report": {"when": "@daily", "command": "make report"}}}
    assert server("POST", "/v1/schedules/diff", file).document["added"] == ["report"]
    assert server("GET", "/v1/schedules/report").status == 404
    assert server("POST", "/v1/schedules/apply", file).document["added"] == ["report"]
    assert server("POST", "/v1/schedules/diff", file).document["unchanged"] == ["report"]
    pruned = server("POST", "/v1/schedules/apply", {"owner": "ops", "schedule": {}, "prune": True})
    assert pruned.document["removed"] == ["report"]
    assert server("GET", PATH).status == 200


def test_who_may_apply_and_compare(server: Client, queue: LocalQueue) -> None:
    server("PUT", PATH, {**BACKUP, "job": {"command": "true", "env": {"TOKEN": "secret"}}})
    file = {"owner": "ops", "schedule": {"backup": {"when": "@daily", "command": "true"}}}
    enqueuer, viewer = Client(server.port, "enqueue"), Client(server.port, "view")
    assert "secret" in enqueuer("POST", "/v1/schedules/diff", file).body.decode()
    assert enqueuer("POST", "/v1/schedules/apply", {**file, "prune": True}).status == 403
    for verb in ("diff", "apply"):
        assert viewer("POST", f"/v1/schedules/{verb}", file).status == 403
    assert queue.schedules().show("backup").schedule.when == "30 2 * * *"


def test_preview_stores_nothing(server: Client) -> None:
    asked = {"when": "30 2 * * *", "timezone": "Europe/Berlin", "from": "2026-03-29T00:00:00Z", "next": 1}
    found = server("POST", "/v1/schedules/preview", asked).document
    assert found["instants"] == ["2026-03-29T01:00:00.000000Z"]
    assert "the clocks go forward" in found["notes"][0]
    assert server("GET", "/v1/schedules").document["schedules"] == []


def test_the_scopes_of_the_routes(server: Client) -> None:
    server("PUT", PATH, {**BACKUP, "job": {"command": "true", "env": {"TOKEN": "secret"}}})
    viewer, operator = Client(server.port, "view"), Client(server.port, "operate")
    seen = viewer("GET", PATH).document["schedule"]["job"]
    assert (seen["env"], seen["redacted"]) == (None, ["env"])
    assert viewer("POST", "/v1/schedules/preview", {"when": "@daily"}).status == 200
    for method, path, body in (
        ("PATCH", PATH, {"overlap": "allow"}),
        ("POST", f"{PATH}/run", None),
        ("PUT", PATH, BACKUP),
    ):
        assert viewer(method, path, body).status == 403
    assert operator("PATCH", PATH, {"overlap": "allow"}).status == 200
    assert operator("PATCH", PATH, {"job": {"command": "evil"}}).status == 403
    assert operator("PUT", PATH, BACKUP).status == 403
