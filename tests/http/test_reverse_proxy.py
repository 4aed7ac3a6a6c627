"""The examples of docs/http.md for Caddy and nginx, run by these programs in front of a server."""

import http.client
import json
import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

from facts import eventually
from http_process import Home, self_signed
from servers.endpoint import free_port
from servers.programs import program

pytestmark = pytest.mark.proof
PAGE = Path(__file__).parents[2] / "docs" / "http.md"
NAME = "ops.example.org"
MEBIBYTE = 1024**2

NGINX = """
daemon off;
master_process off;
pid {directory}/pid;
error_log {directory}/log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{example}
}}
"""
CADDY = """
{{
    admin off
    auto_https disable_redirects
    https_port {port}
    default_bind 127.0.0.1
}}
{example}
"""


class Door:
    """A proxy with the certificate of `NAME`."""

    def __init__(self, port: int, certificate: str, token: str) -> None:
        self._port, self._token = port, token
        self._context = ssl.create_default_context(cafile=certificate)

    def connection(self, source: str = "127.0.0.1") -> http.client.HTTPConnection:
        """A connection to the proxy by its name, from an address of this host."""
        plain = socket.create_connection(("127.0.0.1", self._port), 20, (source, 0))
        made = http.client.HTTPConnection(NAME)
        made.sock = self._context.wrap_socket(plain, server_hostname=NAME)
        return made

    def ask(self, connection: http.client.HTTPConnection, path: str, **more: Any) -> http.client.HTTPResponse:
        """Send a request with the token below the path of the public URL."""
        headers = {"Authorization": f"Bearer {self._token}", **more.pop("headers", {})}
        connection.request(
            more.pop("method", "GET"), f"/queue{path}", more.pop("body", None), headers, **more
        )
        return connection.getresponse()

    def document(self, path: str, source: str = "127.0.0.1", **more: Any) -> Any:
        """The document of a request that is answered with success."""
        connection = self.connection(source)
        try:
            reply = self.ask(connection, path, **more)
            body = reply.read()
            assert reply.status in (200, 201), (reply.status, body)
            return json.loads(body)
        finally:
            connection.close()

    def answers(self) -> bool:
        """Whether a request reaches the server."""
        with suppress(OSError, http.client.HTTPException, AssertionError):
            return bool(self.document("/v1"))
        return False


def example(name: str) -> str:
    """The example of the page for this proxy."""
    found = re.search(rf"^{name}:\n\n```text\n(.+?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


def nginx(directory: Path, text: str, port: int, certificate: str, key: str) -> list[str]:
    for written, used in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/ssl/ops.pem", certificate),
        ("/etc/ssl/ops.key", key),
    ):
        assert written in text
        text = text.replace(written, used)
    file = directory / "nginx.conf"
    file.write_text(NGINX.format(directory=directory, example=indent(text, "    ")))
    return [program("nginx"), "-p", str(directory), "-e", f"{directory}/log", "-c", str(file)]


def caddy(directory: Path, text: str, port: int, certificate: str, key: str) -> list[str]:
    text = text.replace(f"{NAME} {{\n", f"{NAME} {{\n    tls {certificate} {key}\n")
    file = directory / "Caddyfile"
    file.write_text(CADDY.format(port=port, example=text))
    return [program("caddy"), "run", "--config", str(file), "--adapter", "caddyfile"]


@pytest.fixture(params=[nginx, caddy], ids=["nginx", "Caddy"])
def command(request: pytest.FixtureRequest) -> Callable[..., list[str]]:
    made: Callable[..., list[str]] = request.param
    program(made.__name__)
    return made


@pytest.fixture
def door(
    request: pytest.FixtureRequest, command: Callable[..., list[str]], home: Home, tmp_path: Path
) -> Iterator[Door]:
    server = home.serve(
        "--port", "0", "--public-url", f"https://{NAME}/queue", "--trust-proxy", "127.0.0.1", "--access-log"
    )
    token = home.run_cli("token", "create", "ops", "--scope", "admin").stdout.strip()
    certificate, key = self_signed(tmp_path, f"DNS:{NAME}")
    port, name = free_port(), "nginx" if command is nginx else "Caddy"
    text = example(name).replace("127.0.0.1:7733", f"127.0.0.1:{server.port}")
    log = (tmp_path / "output").open("wb")
    process = subprocess.Popen(
        command(tmp_path, text, port, certificate, key),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env={**home.env, "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)},
    )
    made = Door(port, certificate, token)
    try:
        eventually(made.answers, what=f"{name}: {(tmp_path / 'output').read_text()}")
        yield made
    finally:
        process.kill()
        process.wait()
        log.close()


def test_requests_and_links_go_through_the_proxy(door: Door, home: Home) -> None:
    assert door.document("/v1")["scopes"]
    connection = door.connection()
    body = json.dumps({"id": "a", "command": "true"})
    reply = door.ask(
        connection, "/v1/jobs", method="POST", body=body, headers={"Content-Type": "application/json"}
    )
    assert (reply.status, reply.headers["Location"]) == (201, "/queue/v1/jobs/a")
    connection.close()
    assert door.document(reply.headers["Location"].removeprefix("/queue"))["job"]["id"] == "a"


def test_the_log_names_the_client_and_not_the_proxy(door: Door, home: Home) -> None:
    door.document("/v1/status", source="127.0.0.2", headers={"X-Forwarded-For": "203.0.113.9"})
    [line] = [line for line in home.servers[0].log.splitlines() if "/v1/status" in line]
    assert "127.0.0.2 GET" in line


def test_a_stream_passes_at_once_and_ends_with_its_client(door: Door) -> None:
    job = json.dumps({"id": "waits", "command": "true"})
    headers = {"Content-Type": "application/json"}
    door.document("/v1/jobs", method="POST", body=job, headers=headers)
    connection = door.connection()
    reply = door.ask(connection, "/v1/jobs/waits/output", headers={"Accept": "text/event-stream"})
    assert reply.readline() == b": queuectl\n"
    reply.close()
    connection.close()
    eventually(lambda: streams(door) == "0.0", what="the server to notice that the client has gone")


def streams(door: Door) -> str:
    """The number of open streams, as the server tells it."""
    connection = door.connection()
    text = door.ask(connection, "/metrics").read().decode()
    connection.close()
    return text.partition('queuectl_streams{kind="output"} ')[2].partition("\n")[0]


def test_json_lines_of_two_mebibytes_pass(door: Door) -> None:
    line = json.dumps({"command": "true", "meta": {"padding": "x" * 4000}}) + "\n"
    body = line * (2 * MEBIBYTE // len(line) + 1)
    headers = {"Content-Type": "application/jsonl"}
    answer = door.document("/v1/jobs", method="POST", body=body, headers=headers)
    assert answer["added"] == body.count("\n")
