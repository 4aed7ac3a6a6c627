"""Keep the token for a server in a file of this user, or delete it from there: login, logout."""

import sys
from typing import TYPE_CHECKING

from queuectl import interrupt
from queuectl.errors import NotFound
from queuectl.service.shapes import document

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session

LONGEST = 4096


def login_options(parser: "Parser") -> None:
    """Add the arguments of `login`: the server."""
    parser.add_argument("url", metavar="URL", help="the address that --store takes: https://ops.example.org")
    parser.example(
        "queuectl login https://ops.example.org < token",
        "keep its token, read from stdin or typed on a terminal",
    )


def login(session: "Session") -> int:
    """Keep the token for a server. It is read from stdin: an argument would be visible to other users."""
    from queuectl.http.client import credentials

    origin = credentials.origin_of(session.args.url)
    return _report(session, origin.text, f"the token is in {credentials.keep(session.args.url, _token())}")


def logout_options(parser: "Parser") -> None:
    """Add the arguments of `logout`: the server."""
    parser.add_argument("url", metavar="URL", help="the address that was given to login")
    parser.example("queuectl logout https://ops.example.org", "delete its token from the file of this user")


def logout(session: "Session") -> int:
    """Delete the token for a server from the file. The server still accepts it."""
    from queuectl.http.client import credentials

    origin = credentials.origin_of(session.args.url)
    if not credentials.drop(session.args.url):
        raise NotFound(f"there is no token for {origin.text}", f"queuectl login {origin.text} keeps one")
    return _report(
        session, origin.text, "the token is deleted here; queuectl token revoke ends it on the server"
    )


def _report(session: "Session", origin: str, what: str) -> int:
    session.did(f"{origin}: {what}")
    if session.json:
        session.emit(document(server=origin))
    else:
        session.say(f"queuectl: {origin}: {what}")
    return 0


def _token() -> str:
    """One line of stdin; on a terminal it is not shown."""
    if not sys.stdin.isatty():
        return _line()
    import termios

    interrupt.answer()  # the echo has to be restored
    before = termios.tcgetattr(sys.stdin)
    unseen = [*before]
    unseen[3] &= ~termios.ECHO
    sys.stderr.write("token: ")
    sys.stderr.flush()
    try:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, unseen)
        return _line()
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        sys.stderr.write("\n")


def _line() -> str:
    return sys.stdin.buffer.readline(LONGEST).decode("utf-8", "replace").strip()
