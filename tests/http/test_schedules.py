"""Schedules over HTTP: the routes, their scopes, versions, and what a caller sees of a template."""

from http_client import Client
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
