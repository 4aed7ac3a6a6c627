"""`queuectl hook deliver`: the command of the jobs of a webhook. The help does not list it: only workers run it."""

import os
import sys
from typing import TYPE_CHECKING

from queuectl import __version__
from queuectl.domain.hook import GONE, TIMEOUT
from queuectl.domain.quantity import format_duration, of_option, parse_duration
from queuectl.errors import CommandFailed, InvalidInput

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session
    from queuectl.service.hooks.webhook import Answer, Delivery


def deliver_options(parser: "Parser") -> None:
    """Add the arguments of `hook deliver`: the request."""
    parser.add_argument("--url", metavar="URL", required=True, help="where the event on stdin is sent")
    parser.add_argument("--secret", metavar="REF", help="the key of the signature: env:NAME or file:/PATH")
    parser.add_argument("--header", metavar="H:V", action="append", default=[], help="a further header")
    parser.add_argument("--timeout", metavar="D", default=format_duration(TIMEOUT), help="for the request")
    parser.add_argument("--proxy", metavar="URL", help="an HTTP proxy")


def deliver(session: "Session") -> int:
    """Send the event. Exit 0 if it is accepted, 69 if the receiver wants no more, 1 for another try."""
    from queuectl.service.hooks import retry_after, webhook

    delivery = _delivery(session)
    answer = webhook.deliver(delivery)
    session.print(f"{answer.status} {_meaning(answer)}")
    if 200 <= answer.status < 300:
        return 0
    if answer.status == 410:
        return GONE
    if answer.retry_after is not None:
        session.print(retry_after.line(answer.retry_after))
    return CommandFailed.exit_code


def _delivery(session: "Session") -> "Delivery":
    from queuectl.service.hooks.webhook import Delivery

    args = session.args
    job = os.environ.get("QUEUECTL_JOB_ID")
    if not job:
        raise InvalidInput("hook deliver runs as the command of a job", "queuectl hook test --help")
    return Delivery(
        url=args.url,
        id=job.replace(".", "_"),
        body=sys.stdin.buffer.read(),
        headers={"User-Agent": f"queuectl/{__version__}", **dict(each.split(":", 1) for each in args.header)},
        timeout=of_option("--timeout", parse_duration, args.timeout),
        secret=args.secret,
        proxy=args.proxy,
    )


def _meaning(answer: "Answer") -> str:
    if 200 <= answer.status < 300:
        return "delivered"
    if answer.status == 410:
        return "the receiver wants no more events: the hook is paused"
    if 300 <= answer.status < 400:
        return "redirects are not followed"
    return "not accepted"
