"""Tokens for the HTTP server: create, list, revoke, rotate, and the local token of a server of this user."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from queuectl.cli.render import table
from queuectl.domain.instant import format_age
from queuectl.domain.quantity import format_duration, of_option, parse_duration, parse_port
from queuectl.domain.token import KEEP, LIFETIME, SCOPES, Issued, Token
from queuectl.errors import InvalidInput, NotFound
from queuectl.service.shapes import document, instant
from queuectl.service.shapes import tokens as shapes

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session
    from queuectl.http.client.local_file import LocalServer

NEVER = "never"


def create_options(parser: "Parser") -> None:
    """Add the arguments of `token create`: the name, the scopes, and the time of validity."""
    parser.add_argument("name", metavar="NAME", help="for people and logs; letters, digits and . _ : -")
    parser.add_argument(
        "--scope",
        metavar="S",
        action="append",
        required=True,
        help=f"what it allows: {', '.join(SCOPES)}; several with commas, or given again",
    )
    lifetime = format_duration(LIFETIME)
    parser.add_argument(
        "--expires", metavar="D", default=lifetime, help=f"valid for this time ({lifetime}), or none"
    )
    parser.add_argument(
        "--queue",
        metavar="Q",
        action="append",
        help="enqueue and operate only in this queue; several with commas, or given again",
    )
    parser.example(
        "queuectl token create wall --scope view", "may see commands and output, and change nothing"
    )
    parser.example(
        "queuectl token create deploy --scope enqueue --queue deploy --expires 30d", "jobs of one queue"
    )


def create(session: "Session") -> int:
    """Store a new token, and print its secret: the only time that it is shown."""
    args = session.args
    expires = None if args.expires == "none" else of_option("--expires", parse_duration, args.expires)
    queues = _words(args.queue) if args.queue else None
    issued = session.queue.create_token(args.name, _words(args.scope), expires=expires, queues=queues)
    return _show(session, issued, "created")


def _words(given: list[str]) -> list[str]:
    return [word.strip() for text in given for word in text.split(",")]


def _show(session: "Session", issued: Issued, done: str) -> int:
    token = issued.token
    session.did(f"token {token.name} is {done}")
    if session.json:
        session.emit(shapes.issued(issued))
        return 0
    session.print(issued.secret)
    ends = "never expires" if token.expires_at is None else f"expires at {instant(token.expires_at)}"
    session.say(f"queuectl: token {token.name} is {done} and {ends}; this secret is not shown again")
    return 0


def list__options(parser: "Parser") -> None:
    """Add an example only: `token list` has no arguments."""
    parser.example("queuectl token list", "who may use the server, and when each token was last used")


def list_(session: "Session") -> int:
    """Print all tokens, without their secrets."""
    found = session.queue.tokens()
    if session.json:
        session.emit(shapes.tokens(found))
        return 0
    now = session.queue.now() if found else None
    rows = [_row(token, now) for token in found if now is not None]
    table(session, COLUMNS, rows, ("id", "created by", "queues", "last used"))
    return 0


COLUMNS = ("name", "scopes", "queues", "created by", "expires", "last used", "id")


def _row(token: Token, now: datetime) -> list[str]:
    return [
        token.name,
        ",".join(token.scopes),
        "all" if token.queues is None else ",".join(token.queues),
        token.created_by,
        _left(token.expires_at, now),
        NEVER if token.last_used is None else token.last_used.strftime("%Y-%m-%dT%HZ"),
        token.secrets[0].id if token.secrets else "",
    ]


def _left(expires_at: datetime | None, now: datetime) -> str:
    if expires_at is None:
        return NEVER
    return "expired" if expires_at <= now else f"in {format_age(expires_at - now)}"


def revoke_options(parser: "Parser") -> None:
    """Add the arguments of `token revoke`: the names of the tokens."""
    parser.add_argument(
        "names", metavar="NAME", nargs="+", help="tokens; each server refuses them within 2 s"
    )
    parser.example("queuectl token revoke deploy", "the token is refused from now on")


def revoke(session: "Session") -> int:
    """Delete tokens: all of them, or none if a name is unknown."""
    names = list(dict.fromkeys(session.args.names))
    # A damaged entry is not listed and can still be revoked, so an unknown name is an error only if it is unlisted
    # among several.
    if len(names) > 1:
        known = {token.name for token in session.queue.tokens()}
        if unknown := [name for name in names if name not in known]:
            raise NotFound(f"there is no token {unknown[0]!r}", "nothing was changed; queuectl token list")
    for name in names:
        session.queue.revoke_token(name)
        session.did(f"token {name} is revoked")
    if session.json:
        session.emit(document(revoked=names))
    else:
        session.out.writelines(f"token {name} revoked\n" for name in names)
    return 0


def rotate_options(parser: "Parser") -> None:
    """Add the arguments of `token rotate`: the name, and how long the old secret stays valid."""
    parser.add_argument("name", metavar="NAME", help="the token")
    keep = format_duration(KEEP)
    parser.add_argument(
        "--keep", metavar="D", default=keep, help=f"the old secret stays valid for this time ({keep})"
    )
    parser.example("queuectl token rotate deploy", "a new secret; the old one is valid for one more hour")
    parser.example("queuectl token rotate deploy --keep 0", "the old secret is refused at once")


def rotate(session: "Session") -> int:
    """Give a token a new secret, and print it."""
    keep: timedelta = of_option("--keep", parse_duration, session.args.keep)
    return _show(session, session.queue.rotate_token(session.args.name, keep=keep), "rotated")


def local_options(parser: "Parser") -> None:
    """Add the arguments of `token local`: the port of the server."""
    parser.add_argument(
        "port",
        metavar="PORT",
        nargs="?",
        help="the server at this port (default: the one of --store, or the only one)",
    )
    parser.example("queuectl token local", 'curl -H "Authorization: Bearer $(queuectl token local)" …')


def local(session: "Session") -> int:
    """Print the token that a server on this host has made for its own user."""
    server = _server(session)
    if session.json:
        session.emit(document(url=server.url, pid=server.pid, token=server.token))
    else:
        session.print(server.token)
    return 0


def _server(session: "Session") -> "LocalServer":
    from queuectl.http.client import local_file

    if (port := _port(session)) is not None:
        server = local_file.at_port(port)
        if server is None:
            raise NotFound(
                f"no server of yours runs at port {port} of this host", "queuectl serve starts one"
            )
        return server
    servers = local_file.all_servers()
    if not servers:
        raise NotFound("no server of yours runs on this host", "queuectl serve starts one")
    if len(servers) > 1:
        ports = ", ".join(str(server.port) for server in servers)
        raise InvalidInput(
            f"several servers of yours run here, at the ports {ports}",
            f"for example: queuectl token local {servers[0].port}",
        )
    return servers[0]


def _port(session: "Session") -> int | None:
    """The port that was given, or that of the server which `--store` names."""
    text, url = session.args.port, session.sources.given_url or ""
    if text is None:
        if not url.startswith(("http://", "https://")):
            return None
        from queuectl.http.client.credentials import origin_of

        origin = origin_of(url)
        if not origin.is_here:
            raise NotFound(
                f"{origin.text} is not a server of this host", "for example: queuectl token local 7733"
            )
        return origin.port
    return parse_port(text, 1)
