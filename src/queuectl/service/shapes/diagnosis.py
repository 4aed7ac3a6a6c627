"""The documents of `explain` and `doctor`. A module of its own, because few commands need it."""
# mypy: implicit-reexport

from collections.abc import Mapping, Sequence
from typing import Any

from queuectl.service.doctor import Check
from queuectl.service.explain import Explanation
from queuectl.service.shapes.record import Record, build, document
from queuectl.store.protocol import Description

EXPLANATION = Record(Explanation, "job state why next number", {"job": "id"})
CHECK = Record(Check, "name ok detail hint")


def explanation(found: Explanation) -> dict[str, Any]:
    """Why a job is in its state, and what happens next."""
    return document(**EXPLANATION.encode(found))


def explanations(found: Sequence[Explanation]) -> dict[str, Any]:
    """The explanations of several jobs."""
    return document(jobs=EXPLANATION.many.encode(found))


explanation_of = EXPLANATION.decode


def checks(checks: Sequence[Check]) -> dict[str, Any]:
    """The document with the results of `doctor`."""
    return document(ok=all(check.ok for check in checks), checks=CHECK.many.encode(checks))


def checks_of(document: Mapping[str, Any]) -> Sequence[Check]:
    """The results of `doctor`, from their document."""
    found: Sequence[Check] = CHECK.many.decode(document["checks"])
    return found


def description_of(store: Mapping[str, Any]) -> Description:
    """The properties of a store, from the document of a server. A server does not show all of them."""
    return build({"schema": 0, "details": {}, **store}, Description)
