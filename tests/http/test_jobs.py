"""Jobs over HTTP: enqueue, list, show, change."""

import http.client
import json
import threading
from typing import Any

import pytest

from factories import in_state
from http_client import Answer, Client
from queuectl.domain.query import Filter
from queuectl.http.routes import jobs
from queuectl.http.server_state import Limits, ServerState
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest


def added(queue: LocalQueue, /, **fields: Any) -> str:
    [item] = queue.enqueue([JobRequest(**({"command": "true"} | fields))])
    return item.job.id


def lines(server: Client, *jobs: object, query: str = "") -> Answer:
    raw = b"".join((job if isinstance(job, bytes) else json.dumps(job).encode()) + b"\n" for job in jobs)
    return server("POST", f"/v1/jobs{query}", raw=raw, Content_Type="application/jsonl")


class TestEnqueue:
    def test_one_job_is_created_at_its_location(self, server: Client) -> None:
        answer = server("POST", "/v1/jobs", {"command": "make report", "priority": 5})
        assert answer.status == 201
        [job] = answer.document["jobs"]
        assert (job["number"], job["state"], job["existing"]) == (1, "pending", False)
        shown = server("GET", answer.headers["location"]).document["job"]
        assert (shown["id"], shown["command"], shown["priority"]) == (job["id"], "make report", 5)

    def test_the_same_id_with_the_same_content_is_the_same_job(self, server: Client) -> None:
        job = {"id": "a", "command": "true"}
        assert [server("POST", "/v1/jobs", job).status for _ in range(2)] == [201, 200]
        assert server("POST", "/v1/jobs", job).document["jobs"][0]["existing"]

    def test_the_same_id_with_other_content_is_a_conflict(self, server: Client) -> None:
        server("POST", "/v1/jobs", {"id": "a", "command": "true"})
        answer = server("POST", "/v1/jobs", {"id": "a", "command": "false"})
        assert (answer.status, answer.document["code"]) == (409, "conflict")
        [refused] = answer.document["refused"]
        assert (refused["index"], refused["id"], refused["error"]["code"]) == (0, "a", "conflict")

    def test_of_many_jobs_the_others_are_stored_when_one_is_taken(self, server: Client) -> None:
        server("POST", "/v1/jobs", {"command": "true", "unique_key": "k"})
        answer = server("POST", "/v1/jobs", {"jobs": [{"command": "x", "unique_key": "k"}, {"command": "y"}]})
        assert answer.status == 201
        assert len(answer.document["jobs"]) == 1
        assert [each["index"] for each in answer.document["refused"]] == [0]
        assert "location" not in answer.headers

    def test_one_invalid_job_stores_none_of_many_and_is_pointed_at(
        self, server: Client, queue: LocalQueue
    ) -> None:
        jobs = [{"command": "true"}, {"command": "true", "priority": 9999}]
        answer = server("POST", "/v1/jobs", {"jobs": jobs})
        assert (answer.status, answer.document["code"]) == (400, "invalid_input")
        assert answer.document["errors"][0]["pointer"] == "/jobs/1/priority"
        assert queue.counts(Filter()).total() == 0

    def test_a_fault_that_only_the_whole_job_shows_is_pointed_at(self, server: Client) -> None:
        answer = server("POST", "/v1/jobs", {"jobs": [{"command": "true"}, {"queue": "mail"}]})
        assert answer.status == 400
        assert answer.document["errors"][0]["pointer"] == "/jobs/1"

    def test_invalid_jobs_can_be_skipped(self, server: Client) -> None:
        jobs = [{"command": ""}, {"command": "true"}, {"priority": "high"}]
        answer = server("POST", "/v1/jobs?invalid=skip", {"jobs": jobs})
        assert answer.status == 201
        assert [each["index"] for each in answer.document["refused"]] == [0, 2]
        assert {each["error"]["code"] for each in answer.document["refused"]} == {"invalid_input"}
        assert len(answer.document["jobs"]) == 1

    def test_a_dry_run_answers_the_whole_job_and_stores_nothing(
        self, server: Client, queue: LocalQueue
    ) -> None:
        answer = server("POST", "/v1/jobs?dry_run=1", {"command": "true", "timeout": "5m"})
        assert answer.status == 200
        assert answer.document["jobs"][0]["timeout"] == 300
        assert queue.counts(Filter()).total() == 0

    def test_the_names_of_other_programs_are_understood(self, server: Client) -> None:
        body = {"payload": {"command": "true"}, "scheduled_at": "2030-01-01T00:00:00Z", "retries": 7}
        location = server("POST", "/v1/jobs", body).headers["location"]
        job = server("GET", location).document["job"]
        assert (job["command"], job["max_retries"]) == ("true", 7)
        assert job["run_at"].startswith("2030-01-01")

    def test_the_same_idempotency_key_gives_the_same_jobs(self, server: Client) -> None:
        body = {"jobs": [{"command": "a"}, {"command": "b"}]}
        first = server("POST", "/v1/jobs", body, Idempotency_Key="k1")
        again = server("POST", "/v1/jobs", body, Idempotency_Key="k1")
        other = server("POST", "/v1/jobs", body, Idempotency_Key="k2")
        ids = [[job["id"] for job in answer.document["jobs"]] for answer in (first, again, other)]
        assert [answer.status for answer in (first, again, other)] == [201, 200, 201]
        assert ids[0] == ids[1]
        assert not set(ids[0]) & set(ids[2])

    def test_the_keys_of_two_callers_are_apart(self, server: Client) -> None:
        ids = set()
        for server.token in ("admin", "enqueue"):
            answer = server("POST", "/v1/jobs", {"command": "a"}, Idempotency_Key="k1")
            assert answer.status == 201
            ids.add(answer.document["jobs"][0]["id"])
        assert len(ids) == 2

    @pytest.mark.parametrize("key", ["", "x" * 129, "a\tb"])
    def test_a_key_that_is_none_is_refused(self, server: Client, key: str) -> None:
        assert server("POST", "/v1/jobs", {"command": "a"}, Idempotency_Key=key).status == 400

    def test_the_whole_jobs_are_answered_on_request(self, server: Client) -> None:
        [job] = server("POST", "/v1/jobs?whole=1", {"command": "true"}).document["jobs"]
        assert (job["status"], job["job"]["command"]) == ("added", "true")

    @pytest.mark.parametrize(
        "raw", [b"", b"{", b"[]", b'"x"', b"null", b'{"jobs":[]}', b'{"jobs":[1]}', b'{"jobs":1}', b"\xff",
                b'{"command":"a","command":"b"}', b'{"jobs":[{"command":"a"}],"x":1}', b"[" * 100, b'{"command":NaN}'],
    )  # fmt: skip
    def test_a_body_that_is_no_job_is_refused(self, server: Client, raw: bytes) -> None:
        answer = server("POST", "/v1/jobs", raw=raw, Content_Type="application/json")
        assert (answer.status, answer.document["code"]) == (400, "invalid_input")

    def test_another_type_of_body_is_refused(self, server: Client) -> None:
        answer = server("POST", "/v1/jobs", raw=b"command=true", Content_Type="text/plain")
        assert (answer.status, answer.document["code"]) == (415, "unsupported_media")

    def test_an_unknown_parent_is_not_found(self, server: Client) -> None:
        assert server("POST", "/v1/jobs", {"command": "true", "after": ["nobody"]}).status == 404

    def test_a_server_that_ends_takes_no_new_jobs(self, server: Client, state: ServerState) -> None:
        state.ending.set()
        answer = server("POST", "/v1/jobs", {"command": "true"})
        state.ending.clear()  # so that the fixture ends the server
        assert (answer.status, answer.document["code"]) == (503, "draining")
        assert int(answer.headers["retry-after"]) > 0


class TestLines:
    def test_lines_are_stored_and_counted(self, server: Client, queue: LocalQueue) -> None:
        answer = lines(server, *({"command": f"echo {n}"} for n in range(2500)), b"")
        assert answer.status == 201
        assert answer.document == {"schema": 1, "added": 2500, "existing": 0, "refused_count": 0}
        assert queue.counts(Filter()).total() == 2500

    def test_a_token_that_is_revoked_during_the_upload_stores_no_further_batch(
        self, server: Client, state: ServerState, queue: LocalQueue
    ) -> None:
        asked = iter((True, False))
        state.authenticator.admits = lambda caller: next(asked)  # type: ignore[method-assign]
        answer = lines(server, *({"command": f"echo {n}"} for n in range(1500)))
        assert (answer.status, answer.document["code"]) == (401, "unauthenticated")
        assert answer.document["committed"] == queue.counts(Filter()).total() == 1000

    def test_a_batch_ends_at_eight_megabytes(self, server: Client, state: ServerState) -> None:
        sizes = list[int]()
        state.authenticator.admits = lambda caller: not sizes.append(1)  # type: ignore[method-assign, func-returns-value]
        long = {"command": "true", "stdin": "x" * 900_000}
        assert lines(server, *[long] * 12).status == 201
        assert len(sizes) == 2

    def test_the_jobs_are_listed_on_request(self, server: Client) -> None:
        answer = lines(server, {"id": "a", "command": "a"}, {"id": "b", "command": "b"}, query="?ids=1")
        assert [job["id"] for job in answer.document["jobs"]] == ["a", "b"]

    def test_a_bad_line_is_named_and_the_batches_before_it_are_stored(
        self, server: Client, queue: LocalQueue
    ) -> None:
        good = [{"command": "true"}] * 1000
        answer = lines(server, *good, {"command": "true"}, {"commnd": "true"}, {"command": "true"})
        assert (answer.status, answer.document["code"]) == (400, "invalid_input")
        assert (answer.document["line"], answer.document["committed"]) == (1002, 1000)
        assert queue.counts(Filter()).total() == 1000

    def test_bad_lines_can_be_skipped_and_a_hundred_are_shown(self, server: Client) -> None:
        answer = lines(server, {"command": "true"}, *[b"{"] * 150, query="?invalid=skip")
        assert answer.status == 201
        assert (answer.document["added"], answer.document["refused_count"]) == (1, 150)
        assert len(answer.document["refused"]) == 100
        assert answer.document["refused"][0]["line"] == 2

    def test_a_repeated_body_with_a_key_adds_nothing(self, server: Client) -> None:
        raw = b'{"command":"a"}\n{"command":"b"}'
        headers = {"Content_Type": "application/jsonl", "Idempotency_Key": "k"}
        assert server("POST", "/v1/jobs", raw=raw, **headers).document["added"] == 2
        again = server("POST", "/v1/jobs", raw=raw, **headers)
        assert (again.status, again.document["existing"]) == (200, 2)

    def test_lines_that_are_all_refused_are_a_conflict(self, server: Client) -> None:
        lines(server, {"id": "a", "command": "a"})
        answer = lines(server, {"id": "a", "command": "b"})
        assert (answer.status, answer.document["refused_count"]) == (409, 1)

    def test_a_line_beyond_the_limit_is_named_and_nothing_of_its_batch_is_stored(
        self, server: Client, state: ServerState, queue: LocalQueue
    ) -> None:
        state.limits = Limits(line=1000)
        good = [{"command": "true"}] * 1001
        answer = lines(server, *good, {"command": "x" * 1000}, {"command": "true"})
        assert (answer.status, answer.document["code"]) == (400, "invalid_input")
        assert (answer.document["line"], answer.document["committed"]) == (1002, 1000)
        assert "more than 1000 bytes" in answer.document["detail"]
        assert queue.counts(Filter()).total() == 1000

    def test_the_longest_job_fits_into_a_line(self, server: Client) -> None:
        job = {
            "command": "\x01" * 1024**2,
            "env": {f"V{n}": "ü" * 50_000 for n in range(5)},
            "meta": {"a": "ü" * 1000},
        }
        assert lines(server, json.dumps(job).encode()).status == 201

    def test_more_jobs_than_an_answer_lists_are_refused_by_their_line(
        self, server: Client, state: ServerState, queue: LocalQueue
    ) -> None:
        state.limits = Limits(listed=2000)
        many = [{"command": "true"}] * 2500
        answer = lines(server, *many, query="?ids=1")
        assert (answer.status, answer.document["line"], answer.document["committed"]) == (400, 2001, 2000)
        assert len({job["id"] for job in answer.document["jobs"]}) == 2000
        assert queue.counts(Filter()).total() == 2000
        assert lines(server, *many).document["added"] == 2500

    @pytest.mark.parametrize("option", ["dry_run=1", "whole=1"])
    def test_whole_jobs_are_listed_up_to_the_size_of_a_body(
        self, server: Client, state: ServerState, option: str
    ) -> None:
        state.limits = Limits(body=30_000)
        many = [{"command": "true"}] * 2500
        answer = lines(server, *many, query=f"?ids=1&{option}")
        assert (answer.status, answer.document["line"], answer.document["committed"]) == (400, 1001, 1000)
        assert len(answer.document["jobs"]) == 1000
        assert lines(server, *many, query=f"?{option}").status in (200, 201)

    def test_a_body_beyond_the_limit_is_refused(self, server: Client, state: ServerState) -> None:
        state.limits = Limits(bulk=1000)
        answer = lines(server, *[{"command": "true"}] * 100)
        assert (answer.status, answer.document["code"]) == (413, "too_large")
        assert answer.headers["connection"] == "close"


class TestList:
    def test_pages_follow_each_other(self, server: Client, queue: LocalQueue) -> None:
        ids = [added(queue) for _ in range(5)]
        seen, path = list[str](), "/v1/jobs?limit=2"
        while path:
            answer = server("GET", path)
            seen += [job["id"] for job in answer.document["jobs"]]
            link = answer.headers.get("link", "")
            assert bool(link) == (answer.document["next"] is not None)
            path = link.partition(">")[0].removeprefix("<")
        assert seen == ids[::-1]

    def test_conditions_select(self, server: Client, queue: LocalQueue) -> None:
        a = added(queue, queue="mail", tags=["x"], batch="b", unique_key="k")
        added(queue, hold=True)
        for query in ("queue=mail", "tag=x", "batch=b", "key=k", "state=pending,failed", "since=1h&tag=x"):
            found = server("GET", f"/v1/jobs?{query}").document["jobs"]
            assert [job["id"] for job in found] == [a], query
            assert server("GET", f"/v1/counts?{query}").document["queues"] == {"mail": {"pending": 1}}
        assert server("GET", "/v1/jobs?ended_before=1h").document["jobs"] == []

    def test_the_order_can_be_chosen(self, server: Client, queue: LocalQueue) -> None:
        late, soon = added(queue, delay="1h"), added(queue)
        assert [job["id"] for job in server("GET", "/v1/jobs?sort=next").document["jobs"]] == [soon, late]

    def test_named_jobs_come_in_the_order_of_their_names(self, server: Client, queue: LocalQueue) -> None:
        a, b = added(queue), added(queue)
        answer = server("GET", f"/v1/jobs?ref={b}&ref=nobody&ref={a}&fields=id,state")
        assert answer.document["jobs"] == [{"id": b, "state": "pending"}, {"id": a, "state": "pending"}]
        assert server("GET", f"/v1/jobs?ref={a}&state=dead").status == 400

    def test_lines_are_cut_off_between_two_pages_when_the_token_is_revoked(
        self,
        server: Client,
        state: ServerState,
        queue: LocalQueue,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A body that ends as usual would look like the whole list."""
        monkeypatch.setattr(jobs, "PAGE", 1)
        queue.enqueue([JobRequest(command="true")] * 3)
        asked = iter((True, False))
        monkeypatch.setattr(state.authenticator, "admits", lambda caller: next(asked))
        with pytest.raises(http.client.IncompleteRead) as cut:
            server("GET", "/v1/jobs?fields=number", Accept="application/jsonl")
        assert cut.value.partial.count(b"\n") == 2
        assert "was cut off: the token was revoked or has expired" in caplog.text
        assert "Traceback" not in caplog.text

    def test_json_lines_list_all_that_match(self, server: Client, queue: LocalQueue) -> None:
        queue.enqueue([JobRequest(command="true")] * 1200)
        answer = server("GET", "/v1/jobs?fields=number", Accept="application/jsonl")
        assert answer.headers["content-type"].startswith("application/jsonl")
        numbers = [json.loads(line)["number"] for line in answer.body.splitlines()]
        assert numbers == list(range(1200, 0, -1))
        head = server("HEAD", "/v1/jobs", Accept="application/jsonl")
        assert (head.status, head.body) == (200, b"")

    @pytest.mark.parametrize(
        "query", ["state=done", "sort=age", "limit=0", "limit=1001", "limit=x", "cursor=x", "cursor=~x&sort=next",
                  "since=soon", "fields=comand", "queu=a", "limit=1&limit=2", "tag=%00", "fields=id&fields=state"],
    )  # fmt: skip
    def test_a_wrong_query_is_refused(self, server: Client, query: str) -> None:
        answer = server("GET", f"/v1/jobs?{query}")
        assert (answer.status, answer.document["code"]) == (400, "invalid_input")

    @pytest.mark.parametrize("kind", ["application/json", "application/jsonl"])
    @pytest.mark.parametrize(("query", "code"), [("?dry_run=1", "store_unavailable"), ("", "unknown")])
    def test_a_dry_run_in_which_the_store_does_not_answer_has_stored_nothing(
        self,
        server: Client,
        state: ServerState,
        monkeypatch: pytest.MonkeyPatch,
        kind: str,
        query: str,
        code: str,
    ) -> None:
        answered = threading.Event()
        monkeypatch.setattr(state.queue, "enqueue", lambda *_, **__: answered.wait(10))
        state.limits = Limits(timeout=0.2)
        answer = server("POST", f"/v1/jobs{query}", raw=b'{"command":"true"}', Content_Type=kind)
        answered.set()
        assert answer.document["code"] == code

    def test_a_caller_who_may_not_enqueue_sees_no_environment(
        self, server: Client, queue: LocalQueue
    ) -> None:
        id = added(queue, env={"TOKEN": "s3cret"}, stdin="s3cret")
        server.token = "operate"
        for answer in (
            server("GET", "/v1/jobs"),
            server("GET", f"/v1/jobs/{id}"),
            server("GET", "/v1/jobs?fields=env,stdin"),
            server("GET", "/v1/jobs", Accept="application/jsonl"),
            server("POST", f"/v1/jobs/{id}/hold"),
        ):
            assert answer.status == 200
            assert b"s3cret" not in answer.body
            assert b"redacted" in answer.body


class TestShow:
    def test_a_job_is_named_by_number_prefix_and_last(self, server: Client, queue: LocalQueue) -> None:
        id = added(queue)
        for ref in ("1", id[:20], "@last", "%40last", id):
            assert server("GET", f"/v1/jobs/{ref}").document["job"]["id"] == id

    def test_only_the_wanted_fields(self, server: Client, queue: LocalQueue) -> None:
        added(queue)
        answer = server("GET", "/v1/jobs/1?fields=state,number")
        assert answer.document == {"schema": 1, "job": {"state": "pending", "number": 1}}

    def test_why_a_job_waits_is_explained(self, server: Client, queue: LocalQueue) -> None:
        added(queue, hold=True)
        answer = server("GET", "/v1/jobs/1/explain").document
        assert answer["state"] == "held"
        assert answer["next"]

    def test_references_are_resolved(self, server: Client, queue: LocalQueue) -> None:
        id = added(queue)
        answer = server("POST", "/v1/resolve", {"jobs": ["1", "@last"], "dependencies": ["1:any"]})
        assert answer.document == {"schema": 1, "jobs": [id], "dependencies": [f"{id}:any"]}
        assert server("POST", "/v1/resolve", {"jobs": ["99"]}).status == 404


class TestChanges:
    def test_a_cancel_says_who_and_why(self, server: Client, queue: LocalQueue) -> None:
        added(queue)
        answer = server("POST", "/v1/jobs/1/cancel", {"reason": "wrong"})
        assert answer.status == 200
        assert answer.document["changed"]
        job = answer.document["job"]
        assert (job["state"], job["cancel_requested"]["by"]) == ("cancelled", "token:admin")
        assert job["cancel_requested"]["reason"] == "wrong"
        again = server("POST", "/v1/jobs/1/cancel")
        assert (again.status, again.document["changed"]) == (200, False)

    def test_hold_and_release(self, server: Client, queue: LocalQueue) -> None:
        added(queue)
        assert server("POST", "/v1/jobs/1/hold").document["job"]["state"] == "held"
        assert server("POST", "/v1/jobs/1/release", {"anyway": True}).document["job"]["state"] == "pending"
        assert server("POST", "/v1/jobs/1/release").status == 409

    def test_a_retry_revives_the_jobs_that_wait(self, server: Client, queue: LocalQueue) -> None:
        parent = added(queue)
        child = added(queue, after=[parent])
        server("POST", f"/v1/jobs/{parent}/cancel")
        assert server("GET", f"/v1/jobs/{child}").document["job"]["state"] == "cancelled"
        answer = server("POST", f"/v1/jobs/{parent}/retry")
        assert answer.document["job"]["state"] == "pending"
        assert [job["id"] for job in answer.document["revived"]] == [child]

    def test_a_completed_job_is_retried_by_force_only(self, server: Client, queue: LocalQueue) -> None:
        queue._store.add([in_state("completed", "a")])
        assert server("POST", "/v1/jobs/a/retry").status == 409
        assert server("POST", "/v1/jobs/a/retry", {"force": True}).document["job"]["state"] == "pending"

    def test_an_edit_changes_what_is_given(self, server: Client, queue: LocalQueue) -> None:
        added(queue)
        change = {"priority": 7, "queue": "mail", "run_at": "2030-01-01T00:00:00Z"}
        job = server("PATCH", "/v1/jobs/1", change).document["job"]
        assert (job["priority"], job["queue"], job["run_at"][:10]) == (7, "mail", "2030-01-01")

    @pytest.mark.parametrize("priority", [1001, -1001, "7", 1.5, True])
    def test_an_edit_with_a_bad_priority_is_refused(
        self, server: Client, queue: LocalQueue, priority: object
    ) -> None:
        added(queue)
        answer = server("PATCH", "/v1/jobs/1", {"priority": priority})
        assert (answer.status, answer.document["code"]) == (400, "invalid_input")
        assert answer.document["errors"][0]["pointer"] == "/priority"

    @pytest.mark.parametrize("body", [{}, {"run_at": "soon"}, {"queue": "a b"}, {"x": 1}])
    def test_an_edit_that_is_none_is_refused(self, server: Client, queue: LocalQueue, body: object) -> None:
        added(queue)
        assert server("PATCH", "/v1/jobs/1", body).status == 400

    def test_only_ended_jobs_are_deleted(self, server: Client, queue: LocalQueue) -> None:
        added(queue)
        assert server("DELETE", "/v1/jobs/1").status == 409
        server("POST", "/v1/jobs/1/cancel")
        gone = server("DELETE", "/v1/jobs/1")
        assert (gone.status, gone.body) == (204, b"")
        assert server("DELETE", "/v1/jobs/1").status == 404

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [("POST", "/cancel", None), ("POST", "/retry", None), ("POST", "/hold", None), ("POST", "/release", None),
         ("PATCH", "", {"priority": 1}), ("DELETE", "", None)],
    )  # fmt: skip
    def test_a_change_of_another_version_is_refused(
        self, server: Client, queue: LocalQueue, method: str, path: str, body: object
    ) -> None:
        added(queue)
        for tag in ('"999"', 'W/"1"', "x", '"1", "2"'):
            answer = server(method, f"/v1/jobs/1{path}", body, If_Match=tag)
            assert (answer.status, answer.document["code"]) == (412, "changed")
        assert server("GET", "/v1/jobs/1").document["job"]["version"] == 1

    def test_a_retry_whose_reply_was_lost_is_not_done_twice(self, server: Client, queue: LocalQueue) -> None:
        queue._store.add([in_state("dead", "a")])
        tag = server("GET", "/v1/jobs/a").headers["etag"]
        first = server("POST", "/v1/jobs/a/retry", If_Match=tag)
        assert first.status == 200
        assert server("POST", "/v1/jobs/a/retry", If_Match=tag).status == 412
        assert server("GET", "/v1/jobs/a").headers["etag"] == first.headers["etag"]

    def test_an_ended_job_is_deleted_in_its_version(self, server: Client, queue: LocalQueue) -> None:
        queue._store.add([in_state("dead", "a")])
        tag = server("GET", "/v1/jobs/a").headers["etag"]
        assert server("DELETE", "/v1/jobs/a", If_Match=tag).status == 204
