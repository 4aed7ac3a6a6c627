"""The OpenAPI document, made from the route table: a route that is not in the document does not exist."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from queuectl import __version__
from queuectl.http.problem import CODES, PROBLEM_JSON
from queuectl.http.schemas import SCHEMAS, Schema, named
from queuectl.http.table import PROBES, NoBody, Route

ALWAYS = ("invalid_input", "internal", "too_large")
CHECKED = ("wrong_host", "too_many")
"""Of all routes but the probes, which any host and any number of clients may ask for."""
WITH_TOKEN = ("unauthenticated", "store_unavailable", "store_error", "store_unusable")
CHANGING = ("read_only", "failed", "unknown", "changed")
ON_THE_WIRE = {414: ["too_large"], 431: ["too_large"]}
"""A URL or headers that are too long: refused before the request is matched with a route."""
WITH_BODY = ("unsupported_media",)
_REFERENCE = "#/components/schemas/{name}"
_SUCCESS = {200: "Done", 201: "Created", 202: "Accepted", 204: "Nothing is left to say", 503: "Not ready"}
RAW = ("application/json", "application/jsonl", "application/x-ndjson")
FILES = (*RAW[1:], "application/gzip")
"""The types of a body that is an exported file."""


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The whole document."""
    types = [kind for route in routes for kind in (route.query, *_bodies(route))]
    _, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        schemas = [named(kind.__name__) for kind in _bodies(route)]
        body = {"anyOf": schemas} if len(schemas) > 1 else next(iter(schemas), None)
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, body, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "queuectl",
            "version": __version__,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": {**_without_queries(components, routes), **SCHEMAS},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _bodies(route: Route) -> tuple[Any, ...]:
    """The types of the body, which are structs."""
    return route.body if isinstance(route.body, tuple) else () if route.body is None else (route.body,)


def _without_queries(components: dict[str, Any], routes: Sequence[Route]) -> dict[str, Any]:
    queries = {route.query.__name__ for route in routes}
    return {name: schema for name, schema in components.items() if name not in queries}


def _operation(route: Route, body: Schema | None, components: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _name(route),
        "summary": route.summary,
        "tags": [route.path.removeprefix("/v1/").partition("/")[0] if "/v1/" in route.path else "server"],
        "security": [{"token": []}] if route.scope else [],
        "parameters": [*_path_parameters(route), *_query_parameters(components[route.query.__name__])],
        "responses": _responses(route),
    }
    if route.scope:
        operation["description"] = f"Needs a token with the scope {route.scope}."
    if body is not None:
        kinds = RAW if route.raw_body else RAW[:1]
        operation["requestBody"] = {
            "required": route.body is not NoBody and not _may_be_empty(body, components),
            "content": {kind: {"schema": body if kind == RAW[0] else {"type": "string"}} for kind in kinds},
        }
    elif route.raw_body:
        content = {kind: {"schema": {"type": "string"}} for kind in FILES}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _may_be_empty(body: Schema, components: dict[str, Any]) -> bool:
    schema = components.get(str(body.get("$ref", "")).rpartition("/")[2], {})
    return not schema.get("required") and "anyOf" not in body


def _name(route: Route) -> str:
    words = re.sub(r"\W+", "_", route.path.removeprefix("/v1")).strip("_") or "server"
    return f"{route.method.lower()}_{words}"


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    names = re.findall(r"\{(\w+)\}", route.path)
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in names
    ]


def _query_parameters(schema: Schema) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "required": False, "schema": _given(each), **_described(each)}
        for name, each in schema["properties"].items()
    ]


def _given(schema: Schema) -> Schema:
    """The schema of a parameter that is given: it is never null."""
    kept = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    outer = {key: value for key, value in schema.items() if key not in ("anyOf", "description", "default")}
    return {**outer, **kept[0]} if len(kept) == 1 else outer if not kept else {**outer, "anyOf": kept}


def _described(schema: Schema) -> dict[str, str]:
    return {"description": schema["description"]} if "description" in schema else {}


def _responses(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, name in route.answers.items():
        found[str(status)] = {"description": _SUCCESS[status], **_content(name)}
    if route.method == "GET" and route.answers.get(200) not in (None, "lines"):
        found["304"] = {"description": "The same as before"}
    for status, codes in {**_errors(route), **ON_THE_WIRE}.items():
        if str(status) not in found:
            description = "; ".join(f"`{code}`: {CODES[code].title}" for code in codes)
            content = {PROBLEM_JSON: {"schema": named("Problem")}}
            found[str(status)] = {"description": description, "content": content}
    return found


def _content(name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    if name == "text":
        return {"content": {"text/plain": {"schema": {"type": "string"}}}}
    if name == "lines":
        return {"content": {"application/jsonl": {"schema": {"type": "string"}}}}
    if name == "page":
        return {"content": {"text/html": {"schema": {"type": "string"}}}}
    if name not in SCHEMAS:
        return {"content": {"application/json": {"schema": {"type": "object"}}}}
    others = {
        "Jobs": ["application/jsonl"],
        "Output": ["application/octet-stream", "text/event-stream"],
        "Events": ["text/event-stream"],
    }
    kinds = {kind: {"schema": {"type": "string"}} for kind in others.get(name, ())}
    return {"content": {"application/json": {"schema": named(name)}, **kinds}}


def _errors(route: Route) -> dict[int, list[str]]:
    """The codes of the errors that the route may answer, by their status."""
    codes = [*ALWAYS, *route.errors]
    codes += CHECKED if route.path not in PROBES else ()
    codes += WITH_TOKEN if route.scope else ()
    codes += ("forbidden",) if route.scope not in (None, "view") else ()  # each token may view
    codes += CHANGING if route.changes else ()
    codes += WITH_BODY if route.body is not None else ()
    found: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        found.setdefault(CODES[code].status, []).append(code)
    return dict(sorted(found.items()))
