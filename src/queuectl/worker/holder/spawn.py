"""Starts a command from a `start` message, or reports in a sentence why the command cannot be started.

Only `posix_spawn` is used: it does not copy the holder's memory maps, and no Python code runs between fork and exec.
It cannot set directory and umask of the child. So the holder, which has one thread, changes its own during the spawn.
"""

import errno
import os
import shlex
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from queuectl import crashpoint
from queuectl.worker.host import process_table, script_file
from queuectl.worker.protocol import Start

SHELL = b"/bin/sh"
LONGEST_ARGUMENT = 64 << 10
"""Longer commands are passed in a file: the kernel takes at most 131,071 bytes in one argument."""

TROUBLE = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""The system lacks processes, descriptors or memory: the job is not at fault."""

_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_PIPE = b"QUEUECTL_PIPE"
_INTERNAL = (crashpoint.VARIABLE,)
_MINIMAL = ("PATH", "HOME", "USER", "SHELL", "LANG", "TZ")
"""The variables that a command receives from the worker's environment with --clean-env."""


class SpawnError(Exception):
    """The command could not be started. `trouble`: the system lacks a resource, and another try may succeed."""

    def __init__(self, number: int, message: str, *, ours: bool = False) -> None:
        super().__init__(message)
        self.errno = number
        self.trouble = ours or number in TROUBLE


class Spawned(NamedTuple):
    """A running command: its leader, the holder's ends of its pipes by stream, and its script file or None."""

    pid: int
    pipes: dict[int, int]
    script: str | None


class Spawner:
    """Starts the commands of a worker from one base environment.

    Private files are created in `directory`. `folder` is an open descriptor of this directory, which was checked.
    """

    def __init__(
        self,
        directory: Path,
        folder: int,
        worker: str,
        environ: Mapping[bytes, bytes] = os.environb,
        *,
        store: str | None = None,
        pipe: Path | None = None,
        clean: bool = False,
    ) -> None:
        self._directory, self._folder, self.worker = directory, folder, worker
        self._base = _base(environ, store, pipe, clean=clean)
        self._oom = process_table.OomScore()
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._home = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # exec resets signal handlers, but an ignored signal (SIGPIPE in Python, SIGHUP under nohup) stays ignored.
        self._to_default = [s for s in signal.valid_signals() if signal.getsignal(s) != signal.SIG_DFL]

    def spawn(self, order: Start, stdin: bytes, slot: int) -> Spawned:
        """Start the command in this slot. Raises SpawnError."""
        resources = _Resources()
        try:
            return self._spawn(order, stdin, slot, resources)
        except (ValueError, TypeError, KeyError) as error:  # a NUL, or `=` in the name of a variable
            resources.discard()
            raise SpawnError(errno.EINVAL, f"cannot be passed to a program: {error}") from error
        except OSError as error:  # from pipes, memory files and scripts: the job is not at fault
            resources.discard()
            raise SpawnError(error.errno or errno.EIO, error.strerror or str(error), ours=True) from error
        except SpawnError:
            resources.discard()
            raise

    def _spawn(self, order: Start, stdin: bytes, slot: int, resources: "_Resources") -> Spawned:
        env = self._environment(order, slot)
        argv = self._argv(order, resources)
        source = self._stdin(stdin, resources) if order.has_stdin else self._null
        writers = resources.open_pipes(order.split)
        actions = [(os.POSIX_SPAWN_DUP2, source, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, writers[0], 1), (os.POSIX_SPAWN_DUP2, writers[-1], 2)]
        pid = self._execute(order, argv, env, actions)
        resources.close_theirs()
        return Spawned(pid, resources.ours, resources.script)

    def _execute(self, order: Start, argv: list[bytes], env: dict[bytes, bytes], actions: list[Any]) -> int:
        """Call posix_spawn in the job's directory and with its umask."""
        cwd, umask = order.cwd, order.umask
        previous = os.umask(umask) if umask is not None else None
        try:
            if cwd:
                _enter(cwd)
            program = _find(argv[0], env)
            self._oom.offer()
            return os.posix_spawn(
                program,
                argv,
                env,
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=self._to_default,
            )
        except OSError as error:
            raise _explained(error, argv[0]) from error
        finally:
            self._oom.withdraw()
            if cwd:
                os.fchdir(self._home)
            if previous is not None:
                os.umask(previous)

    def _environment(self, order: Start, slot: int) -> dict[bytes, bytes]:
        env = self._base.copy()
        for name, value in (order.env or {}).items():
            env[os.fsencode(name)] = os.fsencode(value)
        env[b"QUEUECTL_JOB_ID"] = os.fsencode(order.job_id)
        env[b"QUEUECTL_ATTEMPT"] = b"%d" % order.attempt
        env[b"QUEUECTL_ATTEMPT_ID"] = os.fsencode(order.attempt_id)
        env[b"QUEUECTL_QUEUE"] = os.fsencode(order.queue)
        env[b"QUEUECTL_WORKER"] = os.fsencode(self.worker)
        env[b"QUEUECTL_SLOT"] = b"%d" % slot
        return env

    def _argv(self, order: Start, resources: "_Resources") -> list[bytes]:
        """The arguments of the command. A long command, or one that begins with `#!`, becomes a script file."""
        if order.argv:
            return [os.fsencode(word) for word in order.argv]
        if order.command is None:
            raise ValueError("neither a command nor an argument list")
        command = os.fsencode(order.command)
        shell = _shell(order.shell) if order.shell else [SHELL]
        if len(command) <= LONGEST_ARGUMENT and not command.startswith(b"#!"):
            return [*shell, b"-c", command]
        resources.script = str(script_file.path_of(self._directory, order.attempt_id))
        script_file.write(self._folder, resources.script, command)
        return [*(_interpreter(command) or shell), os.fsencode(resources.script)]

    def _stdin(self, data: bytes, resources: "_Resources") -> int:
        """The standard input as a file. With a pipe, a command that does not read it would cause EPIPE here."""
        if hasattr(os, "memfd_create"):
            file = os.memfd_create("stdin")
        else:
            with tempfile.TemporaryFile(dir=self._directory) as unlinked:
                file = os.dup(unlinked.fileno())
        resources.theirs.append(file)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.lseek(file, 0, os.SEEK_SET)
        return file


def _base(
    environ: Mapping[bytes, bytes], store: str | None, pipe: Path | None, *, clean: bool
) -> dict[bytes, bytes]:
    """The environment that all commands of a worker share. `store`: a URL without secrets; `pipe`: for the progress."""
    names = {key: key.decode("ascii", "replace") for key in environ}
    base = {
        key: value
        for key, value in environ.items()
        if (names[key] in _MINIMAL if clean else names[key] not in _INTERNAL)
    }
    if store is not None:
        base[b"QUEUECTL_STORE"] = os.fsencode(store)
    base.pop(_PIPE, None)  # of another worker, whose job started this one
    if pipe is not None:
        base[_PIPE] = os.fsencode(pipe)
    return base


class _Resources:
    """The descriptors and files of a command. They are closed and deleted if the command cannot be started."""

    __slots__ = ("ours", "script", "theirs")

    def __init__(self) -> None:
        self.ours: dict[int, int] = {}
        self.theirs: list[int] = []
        self.script: str | None = None

    def open_pipes(self, split: bool) -> list[int]:
        """Open the pipes; return the command's ends. The holder's ends are kept by stream: 0 for both, or 1 and 2."""
        for stream in (1, 2) if split else (0,):
            self.ours[stream], writer = os.pipe()
            self.theirs.append(writer)
            os.set_blocking(self.ours[stream], False)
        return self.theirs[-len(self.ours) :]

    def close_theirs(self) -> None:
        """Close the command's ends in this process, because the command has its own copies."""
        for descriptor in self.theirs:
            os.close(descriptor)
        self.theirs = []

    def discard(self) -> None:
        """Close and delete everything, because the command was not started."""
        self.close_theirs()
        for descriptor in self.ours.values():
            os.close(descriptor)
        script_file.remove(self.script)


def _shell(words: str) -> list[bytes]:
    shell = [os.fsencode(word) for word in shlex.split(words)]
    if not shell:
        raise SpawnError(errno.EINVAL, "the shell is empty")
    return shell


def _interpreter(command: bytes) -> list[bytes]:
    """The words of a #! line as the kernel splits them: a program and at most one argument."""
    line = command[2:].split(b"\n", 1)[0].strip() if command.startswith(b"#!") else b""
    return line.split(None, 1)


def _find(program: bytes, env: Mapping[bytes, bytes]) -> bytes:
    """The file of a program, searched in the PATH of the job. A name with a slash is a path."""
    if b"/" in program:
        return program
    not_executable = None
    for folder in env.get(b"PATH", _DEFAULT_PATH.encode()).split(b":"):
        path = os.path.join(folder or b".", program)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
        not_executable = not_executable or (path if os.path.isfile(path) else None)
    if not_executable:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _enter(cwd: str) -> None:
    try:
        os.chdir(cwd)
    except OSError as error:
        number = error.errno or errno.EIO
        reasons = {
            errno.ENOENT: "does not exist",
            errno.ENOTDIR: "is not a directory",
            errno.EACCES: "may not be entered",
        }
        reason = reasons.get(number, f"cannot be entered: {error.strerror}")
        raise SpawnError(number, f"the working directory {cwd!r} {reason}") from error


def _explained(error: OSError, program: bytes) -> SpawnError:
    number = error.errno or errno.EIO
    name = os.fsdecode(program)
    sentences = {
        errno.ENOENT: f"{name}: not found (the program, or the interpreter that its first line names)",
        errno.EACCES: f"{name}: not executable",
        errno.ENOEXEC: f"{name}: exec format error: no program for this machine, no script with a #! line",
        errno.E2BIG: "arguments and environment are together too long for this system, or one of them is",
        errno.ENOTDIR: f"{name}: a part of its path is not a directory",
    }
    return SpawnError(number, sentences.get(number, f"{name}: {os.strerror(number)}"))
