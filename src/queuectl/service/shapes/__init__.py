"""The documented JSON of jobs, workers and queues, which every client shows, and the way back to the values.

For each noun there is a function that makes its document (`job`) and one that reads it (`job_of`), made from the same
list of keys. Durations are seconds, times RFC 3339 in UTC. Keys are added, never renamed; `SCHEMA` stands in every
document. A reader ignores unknown keys, so that an older client understands a newer server.

The documents of `explain` and `doctor` are in `diagnosis`, those of an output in `output`; neither is loaded here.
"""
# mypy: implicit-reexport
# ruff: noqa: F401

from queuectl.service.shapes.faults import error, error_of
from queuectl.service.shapes.jobs import (
    all_enqueued,
    attempt,
    attempt_of,
    changed,
    enqueued,
    enqueued_of,
    job,
    job_of,
    line_of_unreadable,
    listed,
    preview,
    refused,
    shown,
    unreadable,
    unreadable_of,
    waited,
)
from queuectl.service.shapes.options import one_setting, setting, settings, settings_of
from queuectl.service.shapes.overview import (
    all_queues,
    attention,
    attention_of,
    counted,
    one_queue,
    queue,
    queue_of,
    status,
    status_of,
)
from queuectl.service.shapes.record import document, instant
from queuectl.service.shapes.workers import all_workers, forgotten, silence, silence_of, worker, worker_of
