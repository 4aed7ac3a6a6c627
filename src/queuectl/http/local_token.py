"""The local token of a server: made at each start, kept in a private file for programs of the same user."""

import os
from collections.abc import Sequence
from contextlib import suppress

import msgspec
from msgspec import Struct

from queuectl import trust
from queuectl.clock import random_bytes
from queuectl.domain.token import RANDOM_BYTES, make_secret
from queuectl.errors import CommandFailed
from queuectl.http.client import local_file
from queuectl.http.client.local_file import LocalServer
from queuectl.worker.host import process_table


class LocalToken(Struct, frozen=True):
    """The secret, and the file that has it."""

    secret: str
    path: str

    def remove(self) -> None:
        """Delete the file, unless a later server at the same port has replaced it."""
        with suppress(OSError, msgspec.MsgspecError):
            with open(self.path, "rb") as file:
                written = msgspec.json.decode(file.read(), type=LocalServer)
            if written.token == self.secret:
                os.unlink(self.path)


def create(scheme: str, hosts: Sequence[str], port: int) -> LocalToken:
    """Make the token of this process, which listens at these loopback addresses. Raises CommandFailed.

    The file is private from its creation, and complete when it gets its name.
    """
    directory = local_file.directory()
    if directory is None:
        raise CommandFailed("there is no place for the file of the local token", "set XDG_STATE_HOME")
    secret = make_secret(random_bytes(RANDOM_BYTES))
    written = LocalToken(secret, local_file.path(directory, port))
    try:
        _write(directory, written.path, msgspec.json.encode(_described(scheme, hosts, port, secret)))
    except trust.Untrusted as error:
        raise CommandFailed(f"the local token has no place: {error.message}", error.hint) from error
    except OSError as error:
        raise CommandFailed(f"cannot write {written.path}: {error.strerror}") from error
    return written


def _described(scheme: str, hosts: Sequence[str], port: int, secret: str) -> LocalServer:
    process, host = process_table.look(os.getpid()), hosts[0]
    return LocalServer(
        url=f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}",
        hosts=tuple(hosts),
        port=port,
        pid=os.getpid(),
        start=process.start if process else 0,
        boot=process_table.boot_id(),
        token=secret,
    )


def _write(directory: str, path: str, content: bytes) -> None:
    os.close(trust.private_directory(directory))
    unfinished = f"{path}.{os.getpid()}"
    with suppress(FileNotFoundError):  # of an earlier process with this pid, which was killed here
        os.unlink(unfinished)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
    os.replace(unfinished, path)
