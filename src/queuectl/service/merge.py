"""Adds missing fields to a request."""

from collections.abc import Mapping
from typing import Any

import msgspec

from queuectl.service.request.fields import JobRequest, convert_request

_START = ("run_at", "scheduled_at", "delay")
_BACKOFF = {"base": "backoff_base", "factor": "backoff_factor", "max": "backoff_max", "jitter": "jitter"}
"""The fields of `backoff`, and the fields of a request with the same meaning."""


def merge(fields: Mapping[str, Any], request: JobRequest) -> JobRequest:
    """The request, completed with these fields, for example from flags. A field of the request has precedence."""
    if not fields:
        return request
    own = _given(request)
    said = set(own)
    if said & set(_START):
        said.update(_START)
    if request.retries is not None:
        said.add("max_retries")
    if request.backoff:
        said.update(_BACKOFF[name] for name in _given(request.backoff))
    rest = {name: value for name, value in fields.items() if name not in said}
    return msgspec.structs.replace(convert_request(rest), **own)


def _given(struct: msgspec.Struct) -> dict[str, Any]:
    """The fields of a struct that have a value."""
    return {
        name: value
        for name, value in msgspec.structs.asdict(struct).items()
        if value is not None and value is not msgspec.UNSET
    }
