"""Runs a test again that failed only because it was too slow, and names such tests at the end of the run.

A busy machine delays one run of a test that measures wall-clock time. A wait in the product delays each run.
"""

import pytest
from _pytest.runner import runtestprotocol

from facts import TooSlow

TRIES = 4
"""How often a test runs before an exceeded bound on wall-clock time counts as a failure."""

SLOW = "too slow"
"""The property of a test that ran again."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Run a test; while it is too slow, run it again with new fixtures."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for _ in range(TRIES):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        slow = [message for report in reports if (message := slowness(report))]
        if not slow:
            break
        item.user_properties.append((SLOW, slow[0]))
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def slowness(report: pytest.TestReport) -> str | None:
    """The message of a failure at a bound on wall-clock time; None for any other result."""
    crash = getattr(report.longrepr, "reprcrash", None)
    message = str(crash.message) if report.failed and crash is not None else ""
    return message if message.startswith(f"{TooSlow.__module__}.{TooSlow.__name__}") else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.stats.get("passed", []):
        messages = [text for name, text in report.user_properties if name == SLOW]
        if messages:
            terminalreporter.write_line(f"ran again, {report.nodeid}: {messages[-1]}")
