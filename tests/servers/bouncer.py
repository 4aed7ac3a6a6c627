"""A PgBouncer in front of a server: many clients share few connections, each for one transaction at a time."""

import os
import shutil
import signal

import psycopg

from servers.daemon import Daemon
from servers.endpoint import Endpoint, free_port

WHERE_PROGRAMS_ARE = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))

SETTINGS = """
[databases]
* = host={server.host} port={server.port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
max_client_conn = 200
default_pool_size = {pool_size}
server_round_robin = 1
server_login_retry = 0.1
query_wait_timeout = 5
"""


class Bouncer(Endpoint):
    """Debian's own PgBouncer, in transaction mode. Its pool is small, and hands its connections out in turn."""

    def __init__(self, server: Endpoint, *, pool_size: int = 3) -> None:
        super().__init__("127.0.0.1", free_port(), server.user, server.password)
        program = self._program()
        if program is None:
            raise RuntimeError("pgbouncer is missing: it is in Debian's package pgbouncer")
        self._daemon = Daemon("bouncer", ended_by=signal.SIGTERM)
        self._command = (program, self._daemon.directory / "settings.ini")
        self._configure(server, pool_size)

    @classmethod
    def available(cls) -> bool:
        """Whether the program is on this machine."""
        return cls._program() is not None

    def start(self) -> None:
        """Start; back when it lets us in, as far as the server behind it."""
        self._daemon.start(*self._command, ready=self._lets_in)

    def stop(self) -> None:
        """Stop at once: every client loses its connection. Harmless when it does not run."""
        self._daemon.end(signal.SIGTERM)

    def log_text(self) -> str:
        """The whole log."""
        return self._daemon.log_text()

    def close(self) -> None:
        """Stop and leave nothing behind. Twice is harmless."""
        self._daemon.close()

    def _configure(self, server: Endpoint, pool_size: int) -> None:
        users = self._daemon.directory / "users.txt"
        users.write_text(f'"{self.user}" "{self.password}"\n')
        settings = SETTINGS.format(server=server, port=self.port, users=users, pool_size=pool_size)
        self._command[1].write_text(settings)
        self._daemon.hand_over(self._daemon.directory)

    def _lets_in(self) -> bool:
        try:
            psycopg.connect(self.url(connect_timeout=5)).close()
        except psycopg.OperationalError:
            return False
        return True

    @staticmethod
    def _program() -> str | None:
        return shutil.which("pgbouncer", path=WHERE_PROGRAMS_ARE)
