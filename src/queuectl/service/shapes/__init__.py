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
    attempt,
    attempt_of,
    enqueued,
    enqueued_of,
    job,
    job_of,
    refused,
    unreadable,
    unreadable_of,
)
from queuectl.service.shapes.options import setting, settings, settings_of
from queuectl.service.shapes.overview import attention, attention_of, queue, queue_of, status, status_of
from queuectl.service.shapes.record import document, instant
from queuectl.service.shapes.workers import silence, silence_of, worker, worker_of
